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


"""The ledgers of two hosts, and an instance that moves between them."""

import pytest

from nova_vmhealth.core import arrival
from nova_vmhealth.core.session_table import Guest
from tests.unit.core.story import BEATS
from tests.unit.core.story import EPOCH
from tests.unit.core.story import fault
from tests.unit.core.story import line
from tests.unit.core.story import recovered
from tests.unit.core.story import RESUMED
from tests.unit.core.story import saw
from tests.unit.core.story import STARTED
from tests.unit.core.story import Story

LOST = fault('heartbeat_lost')
MIGRATED_AWAY = saw('stopped', reason='migrated')
MIGRATED_HERE = saw('resumed', reason='migrated')
FORGOTTEN = saw('forgotten')


def numbered(events):
    return [(event.sequence, line(event)) for event in events]


def leave(story):
    events, sequence = story.ledger.leave('vm', story.now, EPOCH + story.now)
    return numbered(events), sequence


def adopt(story, sequence):
    return numbered(story.ledger.adopt('vm', sequence))


def records(story):
    return {
        uuid: record for each in story.ledger.touched()
        for uuid, record in story.ledger.changed(
            each, story.now, EPOCH + story.now).items()}


# -- the host that it leaves -------------------------------------------------

def test_what_was_wrong_ends_and_its_number_goes_along():
    story = Story()
    story.tell(STARTED, BEATS, LOST)
    assert leave(story) == ([(2, 'cleared heartbeat_lost')], 2)
    assert story.active() == []


def test_who_was_never_told_of_leaves_with_nothing():
    assert leave(Story()) == ([], 0)


@pytest.mark.parametrize('seen', [
    LOST, BEATS, saw('stopped', reason='failed'), MIGRATED_AWAY,
    saw('planned_ended', operation='post_live_migration')])
def test_nothing_more_is_told_of_who_has_left(seen):
    story = Story()
    story.tell(STARTED, BEATS, LOST)
    leave(story)
    assert story.tell(seen, LOST) == []
    assert story.wait(100) == []
    assert story.tell(FORGOTTEN) == []


def test_who_is_started_again_has_not_left():
    story = Story()
    story.tell(STARTED, BEATS, LOST)
    leave(story)
    assert numbered(story.see(STARTED) + story.see(LOST)) == [
        (3, 'raised heartbeat_lost')]


def test_who_comes_back_is_told_of_again():
    story = Story()
    story.tell(STARTED, BEATS, LOST)
    leave(story)
    assert adopt(story, 7) == []
    assert numbered(story.see(LOST)) == [(8, 'raised heartbeat_lost')]


@pytest.mark.parametrize('seen, guest', [
    ([BEATS], Guest.BEATING), ([BEATS, LOST], Guest.LOST),
    ([], Guest.WAITING)])
def test_the_guest_stands_as_it_stood_before_it_migrated(seen, guest):
    story = Story()
    story.tell(STARTED, *seen, MIGRATED_AWAY)
    assert story.ledger.guest('vm') is guest


# -- the host that it comes to -----------------------------------------------

@pytest.mark.parametrize('own, passport, then', [
    (0, 7, 8), (0, 0, 1), (1, 7, 8), (2, 1, 3)])
def test_the_numbers_go_on_and_never_back(own, passport, then):
    story = Story()
    for number in range(own):
        story.tell(fault('guest_unhealthy', str(number)))
    assert adopt(story, passport) == []
    assert [event.sequence for event in story.see(LOST)] == [then]


def test_what_happens_before_the_passport_is_told_after_it():
    story = Story()
    story.ledger.defer('vm')
    assert story.tell(STARTED, MIGRATED_HERE, LOST) == []
    assert story.active() == ['heartbeat_lost']      # it is known all the same
    story.now += 2
    assert story.tell(recovered('heartbeat_lost')) == []
    assert adopt(story, 7) == [(8, 'raised heartbeat_lost'),
                               (9, 'cleared heartbeat_lost')]
    assert numbered(story.see(fault('watchdog_expired'))) == [
        (10, 'raised watchdog_expired')]


def test_numbers_of_an_earlier_stay_here_are_not_used_again():
    story = Story()
    story.tell(fault('watchdog_expired'))
    leave(story)
    story.ledger.defer('vm')
    story.tell(STARTED, MIGRATED_HERE, LOST)
    assert adopt(story, 0) == [(3, 'raised heartbeat_lost')]


def test_who_is_expected_again_is_heard_from_its_first_word_on():
    story = Story()
    leave(story)
    story.ledger.defer('vm')
    story.tell(fault('watchdog_expired'))
    assert adopt(story, 7) == [(8, 'raised watchdog_expired')]


def test_an_update_that_is_due_by_time_waits_too():
    story = Story()
    story.ledger.defer('vm')
    disk = fault('io_error', 'vda', action='report')
    story.tell(STARTED, MIGRATED_HERE, disk, disk)
    assert story.wait(1.5) == []
    assert adopt(story, 7) == [(8, 'raised io_error vda'),
                               (9, 'updated io_error vda x2')]


def test_a_passport_that_never_comes_is_not_waited_for():
    story = Story()
    story.ledger.defer('vm')
    assert story.tell(STARTED) == []
    assert story.wait(3600) == []          # a long migration
    assert story.tell(MIGRATED_HERE, LOST) == []
    assert story.wait(arrival.KEEP_S - 1) == []
    assert story.wait(1) == ['raised heartbeat_lost']
    assert story.tell(fault('watchdog_expired')) == [
        'raised watchdog_expired']
    assert adopt(story, 7) == []


def test_nor_where_its_old_host_died_before_it_ran_here():
    story = Story()
    story.ledger.defer('vm')
    assert story.tell(STARTED, LOST) == []
    assert story.wait(arrival.KEEP_S - 1) == []
    assert story.wait(1) == ['raised heartbeat_lost']
    assert 'vm' in records(story)


def test_not_more_is_kept_than_has_a_place():
    story = Story()
    story.ledger.defer('vm')
    told = []
    for number in range(arrival.MAX_KEPT + 1):
        assert told == []
        story.now += 0.55
        told = story.tell(
            fault('watchdog_expired') if number % 2 == 0
            else recovered('watchdog_expired'))
    assert len(told) == arrival.MAX_KEPT + 1


def test_of_who_did_not_come_nobody_is_told():
    story = Story()
    story.ledger.defer('vm')
    assert story.tell(STARTED, MIGRATED_HERE, LOST, FORGOTTEN) == []
    assert story.wait(100) == []
    assert story.tell(LOST) == ['raised heartbeat_lost']


def test_who_leaves_again_before_its_passport_came_is_told_of():
    story = Story()
    story.ledger.defer('vm')
    story.tell(STARTED, MIGRATED_HERE, LOST)
    assert leave(story) == ([(1, 'raised heartbeat_lost'),
                             (2, 'cleared heartbeat_lost')], 2)


def test_what_is_not_told_yet_is_not_on_disk_either():
    story = Story()
    story.ledger.defer('vm')
    story.tell(STARTED, MIGRATED_HERE)
    assert records(story)['vm']['entries'] == []
    story.tell(LOST)
    assert records(story) == {}
    adopt(story, 7)
    assert records(story)['vm']['sequence'] == 8
    assert records(story) == {}


def test_where_it_has_left_its_number_is_on_disk():
    story = Story()
    story.tell(LOST)
    leave(story)
    record = records(story)['vm']
    assert (record['sequence'], record['entries']) == (2, [])
    story.tell(FORGOTTEN)
    assert records(story) == {'vm': None}


def test_a_resumption_only_starts_the_clock_once():
    story = Story()
    story.ledger.defer('vm')
    story.tell(STARTED, MIGRATED_HERE, LOST)
    story.wait(arrival.KEEP_S - 1)
    story.tell(RESUMED)
    assert story.wait(1) == ['raised heartbeat_lost']
