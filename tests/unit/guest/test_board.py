# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


"""What the board of results says at a time."""

import pytest

from nova_vmhealth.guest import board
from nova_vmhealth.guest.health import Result
from tests.unit.guest.test_audits import make_audit

OWN = board.OWN_AUDIT


def make_board(*names):
    made = board.Board(lambda: None)
    made.keep(names)
    return made


def healths(made, now=0.0):
    """Return the health and each audit's, by name."""
    health, results = made.snapshot(now)
    return health, {r.name: r.health for r in results}


@pytest.mark.parametrize('names, results, expected', [
    ([], {}, 'healthy'),
    (['a'], {}, None),
    (['a', 'b'], {'a': 'healthy'}, None),
    (['a', 'b'], {'a': 'degraded'}, 'degraded'),
    (['a', 'b'], {'a': 'healthy', 'b': 'healthy'}, 'healthy'),
    (['a', 'b'], {'a': 'unhealthy', 'b': 'degraded'}, 'unhealthy'),
])
def test_healthy_is_said_only_when_every_audit_has_ended(
        names, results, expected):
    made = make_board(*names)
    for name, health in results.items():
        made.finish(Result(name, health, ''))

    assert healths(made) == (expected, results)


def test_nothing_is_healthy_before_the_directory_was_read():
    assert healths(board.Board(lambda: None)) == (None, {})


def test_an_overdue_audit_is_unhealthy_though_its_thread_hangs():
    made = make_board('db')
    made.finish(Result('db', 'healthy', ''))
    made.begin(make_audit(timeout=5.0), now=100.0)

    assert made.next_deadline(100.0) == 105.0
    assert healths(made, 104.9) == ('healthy', {'db': 'healthy'})
    assert healths(made, 105.0) == ('unhealthy', {'db': 'unhealthy'})
    assert made.next_deadline(105.0) is None
    made.finish(Result('db', 'healthy', ''))
    assert healths(made, 105.1) == ('healthy', {'db': 'healthy'})


def test_an_audit_does_not_run_twice_at_a_time():
    made = make_board('db')

    assert made.begin(make_audit(), now=0.0)
    assert not made.begin(make_audit(), now=60.0)
    made.finish(Result('db', 'healthy', ''))
    assert made.begin(make_audit(), now=60.0)


def test_a_removed_audit_is_told_as_healthy():
    made = make_board('db', 'disk')
    made.finish(Result('db', 'unhealthy', 'gone'))
    made.finish(Result('disk', 'degraded', 'slow'))

    made.keep(['disk'])

    assert healths(made) == (
        'degraded', {'db': 'healthy', 'disk': 'degraded'})


def test_removed_audits_do_not_pile_up():
    made = make_board()
    for number in range(50):
        made.finish(Result('%02d' % number, 'unhealthy', ''))
        made.keep([])

    health, results = made.snapshot(0.0)
    assert health == 'healthy'
    assert [r.name for r in results] == ['%02d' % n for n in range(35, 50)]


def test_a_result_wakes_the_talk():
    woken = []
    made = board.Board(lambda: woken.append(True))

    made.finish(Result('db', 'healthy', ''))

    assert woken == [True]


@pytest.mark.parametrize('looks, now, expected', [
    ([], 1000.0, ('healthy', {})),
    ([100.0], 109.9, ('healthy', {})),
    ([100.0], 110.0, ('degraded', {OWN: 'degraded'})),
    ([100.0, 105.0], 110.0, ('healthy', {})),
])
def test_a_guest_whose_audits_nobody_runs_is_degraded(looks, now, expected):
    made = make_board()
    for at in looks:
        made.looked(at)

    assert healths(made, now) == expected
    assert board.audits_run(made.snapshot(now)) is (
        expected[0] == 'healthy')


def test_it_is_told_as_healthy_when_they_are_run_again():
    made = make_board('db')
    made.finish(Result('db', 'unhealthy', ''))
    made.looked(100.0)

    [_, own] = made.snapshot(112.0).results
    made.looked(113.0)

    assert own == (OWN, 'degraded',
                   'nobody has looked after the audits for 12 s')
    assert healths(made, 113.0) == (
        'unhealthy', {'db': 'unhealthy', OWN: 'healthy'})


def test_an_audit_of_that_name_is_not_hidden():
    made = make_board(OWN)
    made.finish(Result(OWN, 'unhealthy', ''))
    made.looked(100.0)

    made.snapshot(111.0)
    made.looked(112.0)

    assert healths(made, 112.0) == ('unhealthy', {OWN: 'unhealthy'})


def test_nobody_is_blamed_for_a_time_in_which_the_guest_did_not_run():
    made = make_board('old', 'new')
    for name in ('old', 'new'):
        made.finish(Result(name, 'healthy', ''))
    made.begin(make_audit('old'), now=100.0)
    made.begin(make_audit('new'), now=160.0)
    made.looked(160.0)

    made.excuse(60.0, now=160.5)

    assert healths(made, 160.5) == (
        'healthy', {'old': 'healthy', 'new': 'healthy'})
    assert healths(made, 165.0)[1]['old'] == 'unhealthy'
    # What began afterwards gets no more than its time from now on.
    assert healths(made, 165.5)[1]['new'] == 'unhealthy'
    assert OWN in healths(made, 170.5)[1]


def test_the_audits_thread_did_not_run_either():
    made = make_board()
    made.looked(100.0)
    made.excuse(60.0, now=160.5)

    assert healths(made, 169.9) == ('healthy', {})
    assert OWN in healths(made, 170.0)[1]
