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

import uuid

import pytest

from nova_vmhealth.core import maintenance
from nova_vmhealth import exception
from nova_vmhealth.inspector import enquiries
from nova_vmhealth.inspector import maintenance as keeping
from tests.unit.inspector import world

NOW = world.EPOCH
HOST = 'compute-1'
HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def cloud():
    cloud = world.Cloud()
    cloud.servers[HOST] = [world.server('r1', 'red', 'web'),
                           world.server('r2', 'red')]
    return cloud


@pytest.fixture
def one(cloud):
    return world.Inspector(cloud)


@pytest.fixture
def two(cloud):
    return world.Inspector(cloud, 'two')


def window(**given):
    return {'host': HOST, 'starts_at': NOW + HOUR, 'ends_at': NOW + 2 * HOUR,
            'reason': 'new memory', **given}


def in_an_hour(inspector, wall=NOW, **given):
    return inspector.keeper.set(window(**given), wall)['id']


def change(inspector, window_id, wall, **given):
    return inspector.keeper.set({'id': window_id, **given}, wall)


# -- setting and listing ------------------------------------------------------

def test_a_new_window(one):
    record = one.keeper.set(window(source='x', created_at=7, id=None), NOW)
    uuid.UUID(record['id'])
    assert record == {
        **window(), 'id': record['id'], 'source': 'operator',
        'created_at': NOW, 'stage': None, 'projects': []}
    assert one.keeper.list(None, NOW) == [record]
    assert one.keeper.list(HOST, NOW) == [record]
    assert one.keeper.list('compute-2', NOW) == []
    restored = maintenance.Window.restored(record)
    assert one.keeper.windows_of(HOST, NOW) == (restored,)
    assert one.keeper.digest_of(HOST, NOW) == maintenance.digest([restored])
    assert one.keeper.windows_of('compute-2', NOW) == ()
    assert one.keeper.digest_of('compute-2', NOW) == ''


def test_a_new_window_starts_now_and_has_no_end(one):
    record = one.keeper.set({'host': HOST}, NOW)
    assert (record['starts_at'], record['ends_at'], record['reason']) == (
        NOW, None, '')


def test_says_whether_a_host_is_in_a_window(one):
    window_id = in_an_hour(one)
    found = [one.keeper.active(HOST, NOW + after)
             for after in (0, HOUR, 2 * HOUR)]
    assert [each and each.id for each in found] == [None, window_id, None]
    assert one.keeper.windows_of(HOST, NOW + 2 * HOUR) == ()
    assert one.keeper.digest_of(HOST, NOW + 2 * HOUR) == ''
    assert one.keeper.list(HOST, NOW + 2 * HOUR) == []


@pytest.mark.parametrize('record, reason', [
    (None, 'it is no object'),
    ({}, 'bad field host'),
    ({'host': HOST, 'starts_at': 'soon'}, 'bad field starts_at'),
    (window(ends_at=NOW), 'its end is not after its start'),
    (window(starts_at=NOW - 9, ends_at=NOW), 'it is over already'),
    (window(id='11111111-1111-4111-8111-111111111111'),
     "there is no window '11111111-1111-4111-8111-111111111111'"),
    (window(id=7), 'there is no window 7'),
])
def test_refuses_what_cannot_be_used(one, record, reason):
    with pytest.raises(exception.InvalidRecord, match=reason):
        one.keeper.set(record, NOW)
    assert one.replica.records() == {}


def test_a_change_keeps_what_it_does_not_name(one):
    window_id = in_an_hour(one)
    before, = one.keeper.list(HOST, NOW)
    after = change(one, window_id, NOW + 1, ends_at=None, source='fenix',
                   created_at=1.0)
    assert after == {**before, 'ends_at': None}
    after = change(one, window_id, NOW + 2, reason='x', host=HOST)
    assert after == {**before, 'ends_at': None, 'reason': 'x'}


@pytest.mark.parametrize('given, reason', [
    ({'host': 'compute-2'}, 'is a window of host compute-1'),
    ({'ends_at': NOW}, 'its end is not after its start'),
    ({'starts_at': NOW - 9, 'ends_at': NOW - 1}, 'it is over already'),
])
def test_refuses_changes_that_cannot_be(one, given, reason):
    window_id = in_an_hour(one)
    before = one.replica.records()
    with pytest.raises(exception.InvalidWindow, match=reason):
        change(one, window_id, NOW, **given)
    assert one.replica.records() == before


def test_what_changes_nothing_is_not_written_down(one):
    window_id = in_an_hour(one)
    before = one.replica.records()
    change(one, window_id, NOW + 5, reason='new memory')
    assert one.replica.records() == before


def test_withdraws_one_or_all_of_a_host(one):
    first, second = in_an_hour(one), in_an_hour(one)
    other = in_an_hour(one, host='compute-2')
    records = one.keeper.list(HOST, NOW)
    assert one.keeper.unset(None, first, NOW) == [
        each for each in records if each['id'] == first]
    assert [each['id'] for each in one.keeper.unset(HOST, None, NOW)] == [
        second]
    assert one.keeper.unset(HOST, None, NOW) == []
    assert [each['id'] for each in one.keeper.list(None, NOW)] == [other]


@pytest.mark.parametrize('host, window_id, reason', [
    (None, None, 'name a host, or an id'),
    ('', None, 'name a host, or an id'),
    (None, 'x', "there is no window 'x'"),
])
def test_refuses_to_withdraw_what_is_not_there(one, host, window_id, reason):
    with pytest.raises(exception.InvalidWindow, match=reason):
        one.keeper.unset(host, window_id, NOW)


def test_refuses_to_withdraw_a_window_of_another_host(one):
    window_id = in_an_hour(one)
    with pytest.raises(exception.InvalidWindow, match='of host compute-1'):
        one.keeper.unset('compute-2', window_id, NOW)
    assert one.keeper.list(HOST, NOW)


def test_a_host_has_so_many_windows(one):
    for _ in range(maintenance.MAX_WINDOWS):
        window_id = in_an_hour(one)
    with pytest.raises(exception.InvalidWindow, match='100 windows already'):
        in_an_hour(one)
    change(one, window_id, NOW, reason='x')
    in_an_hour(one, host='compute-2')
    one.keeper.unset(None, window_id, NOW)
    in_an_hour(one)


def test_says_that_there_is_no_room(one, monkeypatch):
    monkeypatch.setattr(one.replica, 'put', lambda *_: False)
    with pytest.raises(exception.InvalidWindow, match='no room'):
        in_an_hour(one)


# -- telling ------------------------------------------------------------------

def test_tells_announcement_start_and_end(one):
    window_id = in_an_hour(one)
    assert one.keeper.next_deadline(NOW) == NOW
    assert one.turn(NOW) == ['red announced']
    assert one.keeper.next_deadline(NOW) == NOW + HOUR
    assert one.turn(NOW + HOUR - 1) == []
    assert one.turn(NOW + HOUR) == ['red started']
    assert one.keeper.list(HOST, NOW + HOUR)[0]['stage'] == 'started'
    assert one.keeper.list(HOST, NOW + HOUR)[0]['projects'] == ['red']
    assert one.turn(NOW + 2 * HOUR) == ['red ended']
    over = NOW + 2 * HOUR + keeping.LINGER_S
    assert one.keeper.next_deadline(NOW + 2 * HOUR) == over
    assert one.turn(over) == []
    assert one.replica.items('') == {}
    assert one.replica.dropped_at('window/' + window_id) == over
    assert one.keeper.next_deadline(over) is None


def test_tells_who_is_there(one, cloud):
    in_an_hour(one)
    one.keeper.handle_timer(NOW)
    one.run_jobs()
    one.keeper.handle_timer(NOW)
    event, = cloud.told
    assert event.instances == {'r1': 'web', 'r2': None}
    assert event.host_id == maintenance.host_id('red', HOST)


def test_an_instance_of_no_project_is_left_alone(one, cloud):
    cloud.servers[HOST] = [world.server('x', None), world.server('y', 'red')]
    in_an_hour(one)
    assert one.turn(NOW) == ['red announced']


def test_a_start_in_the_past(one):
    in_an_hour(one, starts_at=NOW - 9)
    assert one.turn(NOW) == ['red announced', 'red started']


def test_a_withdrawn_window_is_told_and_forgotten(one):
    window_id = in_an_hour(one)
    one.turn(NOW)
    one.keeper.unset(HOST, None, NOW + 60)
    assert one.turn(NOW + 60) == ['red cancelled']
    one.turn(NOW + 60 + keeping.LINGER_S)
    assert one.keeper.list(None, NOW) == []
    assert one.replica.dropped_at('window/' + window_id)


def test_nothing_is_asked_on_the_thread_that_calls(one, cloud):
    in_an_hour(one)
    one.keeper.handle_timer(NOW)
    assert cloud.asked == []
    assert len(one.jobs) == 1
    # Nor is it asked twice.
    assert one.keeper.next_deadline(NOW) > NOW
    one.keeper.handle_timer(NOW)
    assert len(one.jobs) == 1


def test_asks_again_when_nova_does_not_answer(one, cloud):
    in_an_hour(one)
    cloud.failure = RuntimeError('no')
    assert one.turn(NOW) == []
    again = NOW + enquiries.RETRY_S
    assert one.keeper.next_deadline(NOW) == again
    cloud.failure = None
    assert one.turn(again - 0.1) == []
    assert one.turn(again) == ['red announced']


def test_gives_up_a_job_that_does_not_come_back(one):
    in_an_hour(one)
    one.keeper.handle_timer(NOW)
    job, = one.jobs
    one.jobs.clear()
    lost = NOW + enquiries.LOST_S
    assert one.keeper.next_deadline(NOW) == lost
    assert one.turn(lost) == ['red announced']
    # It comes back after all.
    job()
    one.keeper.handle_timer(lost)
    assert one.cloud.words() == []


def test_a_change_while_nova_is_asked(one):
    window_id = in_an_hour(one)
    one.keeper.handle_timer(NOW)
    one.keeper.unset(None, window_id, NOW)
    assert one.turn(NOW) == []
    # Nobody was told, so nobody hears that it is not to be.
    assert one.keeper.list(None, NOW) == []


def test_what_was_changed_meanwhile_does_not_wait_for_nova(one, cloud):
    window_id = in_an_hour(one)
    one.turn(NOW)
    change(one, window_id, NOW + 1, reason='x')
    cloud.failure = RuntimeError('no')
    one.turn(NOW + 1)
    cloud.failure = None
    change(one, window_id, NOW + 2, reason='y')
    assert one.turn(NOW + 2) == ['red changed']


def test_two_changes_of_one_moment_are_two(one):
    window_id = in_an_hour(one)
    one.turn(NOW)
    for reason in 'xyx':
        change(one, window_id, NOW + 1, reason=reason)
        assert one.turn(NOW + 1) == ['red changed']


def test_what_nobody_was_told_of_is_kept_a_little_longer(one, cloud):
    cloud.servers[HOST] = []
    in_an_hour(one)
    for wall in (NOW, NOW + HOUR, NOW + 2 * HOUR,
                 NOW + 2 * HOUR + keeping.LINGER_S):
        assert one.turn(wall) == []
    assert one.replica.items('window/')
    one.turn(NOW + 2 * HOUR + keeping.UNTOLD_S)
    assert one.replica.items('') == {}


def test_without_room_nothing_is_told_again_and_again(one, monkeypatch):
    in_an_hour(one)
    put = one.replica.put
    monkeypatch.setattr(
        one.replica, 'put',
        lambda key, *rest: not key.startswith('told/') and put(key, *rest))
    assert one.turn(NOW) == []
    assert one.keeper.next_deadline(NOW) == NOW + keeping.NO_ROOM_S
    monkeypatch.undo()
    assert one.turn(NOW + keeping.NO_ROOM_S) == ['red announced']


def test_windows_of_many_hosts_at_once(one, cloud):
    for number in range(50):
        cloud.servers[f'host-{number}'] = [world.server('r', 'red')]
        in_an_hour(one, host=f'host-{number}')
    assert one.turn(NOW) == ['red announced'] * 50
    assert one.turn(NOW + HOUR) == ['red started'] * 50
    assert one.turn(NOW + 2 * HOUR) == ['red ended'] * 50
    one.turn(NOW + 2 * HOUR + keeping.LINGER_S)
    assert one.replica.items('') == {}


# -- over a restart, and of several -------------------------------------------

def test_a_restart_tells_nothing_twice_and_skips_nothing(one):
    in_an_hour(one)
    one.turn(NOW)
    one = one.again()
    assert one.turn(NOW + 1) == []
    assert one.turn(NOW + HOUR) == ['red started']
    one = one.again()
    assert one.turn(NOW + HOUR) == []
    assert one.turn(NOW + 5 * HOUR) == ['red ended']


def test_what_ended_while_none_ran_is_told_at_the_next_start(one):
    in_an_hour(one)
    one.turn(NOW)
    assert one.again().turn(NOW + DAY) == ['red started', 'red ended']


def test_a_restart_while_nova_is_asked(one):
    in_an_hour(one)
    one.keeper.handle_timer(NOW)
    assert one.again().turn(NOW + 1) == ['red announced']


def test_one_of_two_tells(one, two):
    in_an_hour(one)
    one.sync(two, NOW)
    one.keeper.handle_timer(NOW)
    two.keeper.handle_timer(NOW)
    # Both are asking; the other has the lock.
    with one.cloud.lock('window-' + one.keeper.list(None, NOW)[0]['id']):
        two.run_jobs()
    one.run_jobs()
    assert one.turn(NOW) == ['red announced']
    one.sync(two, NOW)
    assert two.keeper.next_deadline(NOW + 1) is not None
    assert two.turn(NOW + enquiries.HELD_S) == []
    assert two.cloud.asked == [HOST]
    assert two.turn(NOW + HOUR) == ['red started']


def test_the_other_goes_on_where_one_died_with_the_lock(one, two):
    in_an_hour(one)
    one.sync(two, NOW)
    with one.cloud.lock('window-' + one.keeper.list(None, NOW)[0]['id']):
        assert two.turn(NOW) == []
    assert two.keeper.next_deadline(NOW) == NOW + enquiries.HELD_S
    assert two.turn(NOW + enquiries.HELD_S) == ['red announced']


def test_two_that_tell_all_the_same_tell_the_same(one, two):
    in_an_hour(one)
    one.sync(two, NOW)
    for each in (one, two):
        each.keeper.handle_timer(NOW)
        each.run_jobs()
        each.keeper.handle_timer(NOW)
    first, second = one.cloud.told
    assert first == second


def test_who_withdraws_is_not_written_over_by_who_tells(one, two):
    in_an_hour(one)
    one.sync(two, NOW)
    one.turn(NOW)
    two.keeper.unset(HOST, None, NOW)
    # Told later, and not in the know.
    one.turn(NOW + HOUR)
    for source, target in ((one, two), (two, one)):
        source.sync(target, NOW + HOUR)
    assert one.keeper.list(None, NOW) == two.keeper.list(None, NOW) == []
    assert one.turn(NOW + HOUR + 1) == ['red ended']


def test_what_another_has_forgotten_is_not_told(one, two):
    window_id = in_an_hour(one)
    one.sync(two, NOW)
    one.keeper.handle_timer(NOW)
    two.replica.drop('window/' + window_id, NOW + 1, NOW + DAY)
    two.sync(one, NOW + 1)
    assert one.turn(NOW + 1) == []


def test_a_window_set_elsewhere_wakes_this_one(one, two):
    assert two.keeper.next_deadline(NOW) is None
    in_an_hour(one)
    one.sync(two, NOW)
    assert two.keeper.next_deadline(NOW) == NOW
    assert len(two.keeper.windows_of(HOST, NOW)) == 1


def test_who_was_away_brings_nothing_back(one, two):
    in_an_hour(one, ends_at=None)
    one.turn(NOW)
    one.sync(two, NOW)
    one.keeper.unset(HOST, None, NOW + 1)
    one.turn(NOW + 1)
    one.turn(NOW + 2 + keeping.LINGER_S)
    later = NOW + 29 * DAY
    one.replica.expire(later)
    two.sync(one, later)
    assert one.keeper.list(None, later) == []
    one.sync(two, later)
    assert two.keeper.list(None, later) == []


def test_who_was_away_for_long_does_not_tell_old_news(one, two):
    in_an_hour(one)
    one.turn(NOW)
    one.sync(two, NOW)
    assert two.turn(NOW + 9 * DAY) == []
    assert two.replica.items('') == {}


def test_extended_at_the_last_moment(one, two):
    window_id = in_an_hour(one)
    one.turn(NOW)
    one.turn(NOW + HOUR)
    one.sync(two, NOW + HOUR)
    end = NOW + 2 * HOUR
    change(two, window_id, end - 0.1, ends_at=end + HOUR)
    assert one.turn(end) == ['red ended']
    two.sync(one, end)
    one.sync(two, end)
    assert one.turn(end + 1) == ['red announced', 'red started']
    assert one.keeper.active(HOST, end + 1).id == window_id


def test_ignores_what_others_cannot_have_meant(one):
    in_an_hour(one)
    before = one.keeper.list(None, NOW)
    strange = one.replica.items('window/').popitem()[1]
    for key, value in (('window/x', strange), ('window/y', {}),
                       ('told/' + before[0]['id'], {'stage': 'x'}),
                       ('told/%s/x' % before[0]['id'], {'stage': 'changed'}),
                       ('told/', {}),
                       ('told/z', {})):
        one.replica.put(key, value, NOW)
    assert one.keeper.list(None, NOW) == before
    assert one.turn(NOW) == ['red announced']


# -- windows that begin and end elsewhere -------------------------------------

def fenix(starts_at=NOW, ends_at=NOW + DAY):
    return maintenance.Window(
        '44444444-4444-4444-8444-444444444444', HOST, starts_at, ends_at,
        'Fenix', 'fenix', NOW)


def test_begins_and_ends(one):
    one.keeper.begin(fenix(), NOW)
    assert one.turn(NOW) == ['red announced', 'red started']
    assert one.keeper.list(HOST, NOW)[0]['source'] == 'fenix'
    assert one.keeper.end(fenix().id, NOW + 60)
    assert one.turn(NOW + 60) == ['red ended']
    assert one.keeper.end(fenix().id, NOW + 61)


def test_an_end_of_what_is_not_known(one):
    assert not one.keeper.end(fenix().id, NOW)
    assert one.replica.records() == {}


def test_begun_twice_it_begins_once(one):
    one.keeper.begin(fenix(), NOW)
    before = one.replica.records()
    one.keeper.begin(fenix(), NOW + 1)
    one.keeper.begin(fenix(starts_at=NOW + 0.5), NOW + 1)
    assert one.replica.records() == before


@pytest.mark.parametrize('after', [2.0, 2 * keeping.LINGER_S])
def test_a_late_begin_does_not_open_what_is_over(one, after):
    one.keeper.begin(fenix(), NOW)
    one.turn(NOW)
    one.keeper.end(fenix().id, NOW + 1)
    one.turn(NOW + 1)
    one.turn(NOW + after)
    one.keeper.begin(fenix(), NOW + after)
    assert one.keeper.list(HOST, NOW + after) == []
    assert one.keeper.end(fenix().id, NOW + after)


@pytest.mark.parametrize('after', [2.0, 2 * keeping.LINGER_S])
def test_it_may_begin_anew(one, after):
    one.keeper.begin(fenix(), NOW)
    one.turn(NOW)
    one.keeper.end(fenix().id, NOW + 1)
    one.turn(NOW + 1)
    one.turn(NOW + after - 0.1)
    one.keeper.begin(fenix(starts_at=NOW + after), NOW + after)
    assert one.turn(NOW + after) == ['red announced', 'red started']


def test_an_operator_may_withdraw_it(one):
    one.keeper.begin(fenix(), NOW)
    one.turn(NOW)
    one.keeper.unset(HOST, None, NOW + 1)
    assert one.turn(NOW + 1) == ['red ended']
    one.keeper.begin(fenix(), NOW + 2)
    assert one.keeper.list(HOST, NOW + 2) == []
