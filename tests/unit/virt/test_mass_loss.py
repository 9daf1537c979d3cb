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

"""Feeding the storm: which losses count, and what is told of the host."""

import dataclasses

import pytest

from nova_vmhealth.core import ledger
from nova_vmhealth.core import storm
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt import mass_loss
from tests.unit.virt.fakes import see

GUESTS = ['guest-%d' % number for number in range(3)]


class Many:
    """Three guests of twelve are a storm; the host's events as they come."""

    def __init__(self, **settings):
        self.told = []
        self.counted = 0
        self.planned = set()
        self.watch = mass_loss.MassLoss(
            storm.Storm(3, 20, 10.0, iter('abcdef').__next__), self._count,
            self.planned.__contains__, self.told.append)
        self.ledger = ledger.Ledger(ledger.Settings(**settings), iter(map(
            str, range(100))).__next__)

    def _count(self):
        self.counted += 1
        return 12

    def see(self, observation, now=0.0, wanted=frozenset(Cause)):
        self.watch.observed(observation, now, now)
        return [self.watch.told(event, now, now)
                for event in self.ledger.observe(observation, now, now,
                                                 wanted)]

    @property
    def transitions(self):
        return [event.transition for event in self.told]


def lost(uuid):
    return see(Kind.FAULT, uuid, Cause.HEARTBEAT_LOST)


@pytest.fixture
def many():
    return Many()


def test_told_once_and_named_by_those_that_are_lost(many):
    told = [event for uuid in GUESTS for event in many.see(lost(uuid))]
    assert many.watch.suspected
    assert many.transitions == [Transition.RAISED]
    assert sorted(many.told[0].instance_uuids) == GUESTS
    assert [event.details.get('host_event') for event in told] == [
        None, None, many.told[0].event_id]


_BEAT = [see(Kind.HEARTBEAT_ESTABLISHED, uuid) for uuid in GUESTS]
_STOPPED_BY_NOVA = [observation for uuid in GUESTS for observation in (
    see(Kind.PLANNED_BEGUN, uuid, operation='power_off'),
    see(Kind.STOPPED, uuid, reason='destroyed'))]


@pytest.mark.parametrize('wanted, end', [
    (frozenset(Cause), _BEAT), (frozenset(), _BEAT),
    (frozenset(Cause), _STOPPED_BY_NOVA)])
def test_over_when_they_are_lost_no_more(many, wanted, end):
    for uuid in GUESTS:
        many.see(lost(uuid), wanted=wanted)
    for observation in end:
        many.see(observation, 20.0, wanted)
    at = many.watch.next_deadline()
    many.watch.handle_timer(at, at)
    assert at < 100.0                   # not for want of news alone
    assert many.transitions[-1] is Transition.CLEARED
    assert not many.watch.suspected


def test_who_is_told_of_no_more_for_its_flapping_is_lost_all_the_same():
    many = Many(flap_flips=1)
    for uuid in GUESTS:
        many.see(lost(uuid))
    for uuid in GUESTS:
        events = many.see(see(Kind.FAULT, uuid, Cause.AGENT_EXITED))
        assert [(event.cause, event.transition) for event in events] == [
            (Cause.FLAPPING, Transition.RAISED),
            (Cause.HEARTBEAT_LOST, Transition.CLEARED)]
        # and it still names the host's event
        assert events[1].details['host_event'] == many.told[0].event_id
    many.watch.handle_timer(20.0, 20.0)
    assert many.watch.suspected


def test_a_loss_counts_even_where_it_is_not_told(many):
    for uuid in GUESTS:
        assert many.see(lost(uuid), wanted=frozenset()) == []
    assert many.watch.suspected


def test_a_loss_that_nova_explains_does_not_count(many):
    many.planned.update(GUESTS)
    for uuid in GUESTS:
        many.watch.observed(lost(uuid), 0.0, 0.0)
    assert not many.watch.suspected


def test_a_loss_that_outlives_its_operation_counts(many):
    """The ledger raises it when the grace is over."""
    many.planned.update(GUESTS)
    for uuid in GUESTS:
        many.see(see(Kind.PLANNED_BEGUN, uuid, operation='snapshot'))
        many.see(lost(uuid))
        many.see(see(Kind.PLANNED_ENDED, uuid, operation='snapshot'))
    assert not many.watch.suspected
    for event in many.ledger.handle_timer(10.0, 10.0):
        many.watch.told(event, 10.0, 10.0)
    assert many.watch.suspected


def test_who_left_does_not_count(many):
    for uuid in GUESTS[:2]:
        many.see(lost(uuid))
        many.watch.forget(uuid, 1.0, 1.0)
    many.see(lost(GUESTS[2]), 1.0)
    assert not many.watch.suspected


def test_other_causes_pass_untouched(many):
    for uuid in GUESTS:
        many.see(lost(uuid))
    (event,) = many.see(see(Kind.FAULT, GUESTS[0], Cause.WATCHDOG_EXPIRED))
    assert dict(event.details) == {}


def test_the_guests_are_counted_once_a_second(many):
    for uuid in GUESTS:
        many.see(lost(uuid), 0.5)
    assert many.counted == 1
    many.see(lost('another'), 0.5 + mass_loss.COUNT_EVERY_S)
    assert many.counted == 2


def test_the_details_of_the_ledger_stay_as_they_are(many):
    for uuid in GUESTS:
        many.see(lost(uuid))
    event = dataclasses.replace(
        many.see(lost('another'))[0], details={'misses': '3'})
    assert many.watch.told(event, 0.0, 0.0).details['misses'] == '3'
