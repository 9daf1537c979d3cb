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

"""The host's conditions: when each is told, and what it does to the record.

Time is an argument, and whoever has the service record follow is the test.
"""

import dataclasses
import itertools
import json
import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_vmhealth.core import host_page
from nova_vmhealth.core.host_page import HostFault
from nova_vmhealth.core.host_page import SETTLE_S
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostEvent
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth.core.vocabulary import Severity
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth import exception

LOST, STORAGE = HostCause.LIBVIRT_LOST, HostCause.STORAGE_FAULT
MANY, REPORTED = HostCause.MANY_GUESTS_LOST, HostCause.REPORTED_FAULT
NONE, DISABLE, FORCE_DOWN = HostAction
RAISED, UPDATED, CLEARED = Transition
UP, MAINTENANCE = HostStatus.UP, HostStatus.MAINTENANCE
EPOCH = 1_000_000.0
QUIET_S = 10.0


class World:
    """A page, and a clock that the test turns."""

    def __init__(self):
        self.now = 100.0
        self.page = self.new_page()
        self.told = []

    def new_page(self):
        # Other ids in each run, as uuids are.
        numbers = itertools.count(round(self.now) * 10)
        return host_page.HostPage(
            lambda: f'id-{next(numbers)}', lambda: ['a', 'b'])

    @property
    def wall(self):
        return self.now + EPOCH

    def wait(self, seconds):
        self.now += seconds

    def wrong(self, cause=LOST, subject='', reason='eof', **given):
        given = {'action': DISABLE, 'quiet_s': QUIET_S, **given}
        return self.page.wrong(
            HostFault(cause, self.wall - 1.0, reason, subject=subject,
                      **given), self.now, self.wall)

    def over(self, cause=LOST, subject='', **given):
        self.page.over(cause, subject, self.now, **given)

    def attend(self, in_time):
        """What time does, and the record as it is; the events."""
        is_due = self.page.handle_timer(self.now)
        events = self.page.settled(self.now, self.wall, MAINTENANCE, False,
                                   in_time=in_time)
        self.told += events
        return is_due, [(each.transition, each.cause, each.subject)
                        for each in events]

    def settle(self):
        """The record is as wanted."""
        return self.attend(True)[1]

    def raise_it(self, *args, **given):
        assert self.wrong(*args, **given)
        assert len(self.settle()) == 1

    def restart(self):
        """Another run's page, with what this one has written down."""
        record = json.loads(json.dumps(self.page.snapshot()))
        self.now += 1000.0
        self.page = self.new_page()
        if record is not None:
            self.page.restore(record, self.now)


@pytest.fixture
def world():
    return World()


# -- one condition -----------------------------------------------------------

def test_is_told_once_the_record_is_as_wanted(world):
    assert world.wrong(details={'reason': 'eof'})
    assert world.page.waits
    assert world.page.next_deadline() == world.now + SETTLE_S
    assert world.attend(in_time=False) == (False, [])
    world.wait(0.25)
    (event,) = world.page.settled(world.now, world.wall, MAINTENANCE, True,
                                  in_time=True)
    assert event == HostEvent(
        event_id='id-1000', sequence=1, transition=RAISED, cause=LOST,
        severity=Severity.CRITICAL, occurred_at=EPOCH + 99.0,
        detected_at=EPOCH + 100.0, instance_uuids=('a', 'b'),
        details={'reason': 'eof', 'host_event': 'id-1000'}, instance_count=2,
        subject='', reason='eof', status=MAINTENANCE, action=DISABLE,
        suppressed=True)
    assert not world.page.waits
    assert world.page.next_deadline() is None
    assert world.settle() == []


def test_is_news_once(world):
    assert world.wrong()
    assert not world.wrong()
    world.settle()
    assert not world.wrong()
    assert world.page.has(LOST)
    assert not world.page.has(STORAGE)


@pytest.mark.parametrize('waited_s, told', [
    (0.0, []), (SETTLE_S - 0.01, []), (SETTLE_S, [(RAISED, LOST, '')]),
])
def test_does_not_wait_for_ever_for_the_record(world, waited_s, told):
    world.wrong()
    world.wait(waited_s)
    assert world.attend(in_time=False) == (False, told)


def test_is_updated_when_the_record_follows_later(world):
    world.wrong()
    world.wait(SETTLE_S)
    world.attend(in_time=False)
    assert world.page.waits
    # Nothing is due meanwhile: only the record's answer is waited for.
    assert world.page.next_deadline() is None
    assert world.attend(in_time=False) == (False, [])
    world.wait(7.0)
    assert world.settle() == [(UPDATED, LOST, '')]
    raised, updated = world.told
    assert (updated.sequence, updated.occurred_at) == (2, world.wall)
    assert updated.event_id != raised.event_id
    assert updated.details['host_event'] == raised.event_id
    assert not world.page.waits


def test_what_does_nothing_to_the_record_is_not_updated(world):
    world.wrong(action=NONE)
    world.wait(SETTLE_S)
    world.attend(in_time=False)
    assert not world.page.waits
    assert world.settle() == []


@pytest.mark.parametrize('quiet, waited_s, ends', [
    (True, 0.0, False), (True, QUIET_S - 0.1, False), (True, QUIET_S, True),
    (False, 0.0, True),
])
def test_ends_when_it_has_been_over_for_a_quiet_time(
        world, quiet, waited_s, ends):
    world.raise_it()
    world.over(quiet=quiet)
    assert world.page.next_deadline() == world.now + QUIET_S * quiet
    world.wait(waited_s)
    assert world.page.handle_timer(world.now) is ends
    assert world.page.has(LOST) is not ends
    assert (world.page.wanted[0] is NONE) is ends


def test_the_end_waits_for_the_record_too(world):
    world.raise_it(details={'reason': 'eof'})
    world.wait(7.0)
    world.over(details={'by': 'somebody'}, quiet=False)
    assert world.attend(in_time=False) == (True, [])
    assert world.page.waits
    assert world.page.next_deadline() == world.now + SETTLE_S
    assert world.attend(in_time=False) == (False, [])
    world.wait(0.25)
    assert world.settle() == [(CLEARED, LOST, '')]
    raised, cleared = world.told
    assert cleared.event_id != raised.event_id
    assert (cleared.sequence, cleared.occurred_at, cleared.detected_at) == (
        2, world.wall, world.wall)
    assert cleared.details == {'reason': 'eof', 'by': 'somebody',
                               'host_event': raised.event_id}
    assert world.page.conditions == []
    assert world.page.next_deadline() is None


def test_nor_is_it_kept_back_for_ever(world):
    world.raise_it()
    world.over(quiet=False)
    world.attend(in_time=False)
    world.wait(SETTLE_S)
    assert world.attend(in_time=False) == (False, [(CLEARED, LOST, '')])
    assert not world.page.waits


def test_wrong_again_before_it_has_been_quiet_is_as_if_it_was_never_over(
        world):
    world.raise_it()
    world.over()
    world.wait(QUIET_S - 1.0)
    assert not world.wrong()
    assert world.page.next_deadline() is None
    world.wait(QUIET_S)
    assert world.attend(in_time=True) == (False, [])
    # and the next time it has all of the quiet time before it
    world.over()
    assert world.page.next_deadline() == world.now + QUIET_S


def test_over_twice_is_over_since_the_first_time(world):
    world.raise_it()
    world.over()
    world.wait(4.0)
    world.over()
    assert world.page.next_deadline() == world.now + QUIET_S - 4.0


def test_wrong_again_while_it_ends_is_news_to_the_record_only(world):
    world.raise_it()
    world.over(quiet=False)
    world.attend(in_time=False)
    assert world.page.wanted[0] is NONE
    assert world.wrong()
    assert world.page.wanted[0] is DISABLE
    assert world.page.has(LOST)
    assert world.settle() == []
    world.wait(100.0)
    assert world.attend(in_time=True) == (False, [])


def test_over_before_it_is_told_is_told_all_the_same(world):
    world.wrong()
    world.over()
    world.wait(0.25)
    assert world.settle() == [(RAISED, LOST, '')]
    world.wait(QUIET_S - 0.25)
    assert world.settle() == [(CLEARED, LOST, '')]


@pytest.mark.parametrize('cause, subject', [(STORAGE, ''), (LOST, 'x')])
def test_what_is_not_wrong_cannot_end(world, cause, subject):
    world.raise_it()
    world.over(cause, subject, quiet=False)
    assert world.settle() == []
    assert world.page.has(LOST)


# -- several -----------------------------------------------------------------

def test_several_subjects_are_conditions_of_their_own(world):
    world.raise_it(STORAGE, 'nfs:a')
    world.raise_it(STORAGE, 'nfs:b')
    assert world.page.has(STORAGE, 'nfs:a')
    assert not world.page.has(STORAGE)
    world.over(STORAGE, 'nfs:a', quiet=False)
    assert world.settle() == [(CLEARED, STORAGE, 'nfs:a')]
    assert [each.fault.subject for each in world.page.conditions] == ['nfs:b']
    assert [each.sequence for each in world.told] == [1, 2, 3]


def test_told_are_those_that_are_raised_and_not_cleared(world):
    assert world.page.told == {}
    world.wrong(STORAGE, 'nfs:a')
    assert world.page.told == {}
    world.settle()
    world.raise_it(STORAGE, 'nfs:b')
    assert world.page.told[STORAGE].fault.subject == 'nfs:a'
    world.over(STORAGE, 'nfs:a', quiet=False)
    world.attend(in_time=False)
    # It is on its way, and whoever heard of it has not heard of its end.
    assert world.page.told[STORAGE].fault.subject == 'nfs:a'
    world.settle()
    assert world.page.told[STORAGE].fault.subject == 'nfs:b'


@pytest.mark.parametrize('actions, wanted, which', [
    ([], NONE, None),
    ([NONE], NONE, 0),
    ([NONE, DISABLE], DISABLE, 1),
    ([DISABLE, NONE], DISABLE, 0),
    # The first of equals, so that the reason in the record stays.
    ([DISABLE, DISABLE], DISABLE, 0),
    ([DISABLE, FORCE_DOWN, DISABLE], FORCE_DOWN, 1),
])
def test_the_strongest_action_is_wanted(world, actions, wanted, which):
    for number, action in enumerate(actions):
        world.wrong(STORAGE, f'nfs:{number}', action=action)
    text = '' if which is None else f'storage_fault (nfs:{which}): eof'
    assert world.page.wanted == (wanted, text)


def test_a_text_without_a_subject_has_none(world):
    world.wrong()
    assert world.page.wanted == (DISABLE, 'libvirt_lost: eof')


def test_what_is_ending_wants_nothing(world):
    world.raise_it(action=FORCE_DOWN)
    world.raise_it(STORAGE, 'nfs:a', action=DISABLE)
    world.over(quiet=False)
    world.page.handle_timer(world.now)
    assert world.page.wanted == (DISABLE, 'storage_fault (nfs:a): eof')


@pytest.mark.parametrize('first, second, is_news', [
    (NONE, NONE, False), (NONE, DISABLE, True), (NONE, FORCE_DOWN, True),
    (DISABLE, NONE, False), (DISABLE, DISABLE, False),
    (DISABLE, FORCE_DOWN, True), (FORCE_DOWN, DISABLE, False),
])
def test_is_told_again_when_it_does_more_and_never_does_less(
        world, first, second, is_news):
    world.raise_it(action=first)
    assert world.wrong(action=second) is is_news
    assert world.page.waits is is_news
    assert world.attend(in_time=False) == (False, [])
    assert world.settle() == [(UPDATED, LOST, '')] * is_news
    assert world.page.wanted[0] is max(first, second,
                                       key=list(HostAction).index)
    assert world.told[-1].action is world.page.wanted[0]


@pytest.mark.parametrize('action', HostAction)
def test_is_told_again_for_another_reason(world, action):
    world.raise_it(action=action, details={'by': 'me', 'more': 'x'})
    assert world.wrong(action=NONE, reason='no answer',
                       details={'by': 'you', 'host_event': 'another'})
    assert world.page.wanted == (action, 'libvirt_lost: no answer')
    assert world.settle() == [(UPDATED, LOST, '')]
    raised, updated = world.told
    assert (updated.reason, updated.action) == ('no answer', action)
    assert updated.details == {'by': 'you', 'more': 'x',
                               'host_event': raised.event_id}
    assert not world.wrong(action=action, reason='no answer',
                           details={'by': 'them'})


def test_what_does_more_before_it_is_told_is_told_once(world):
    world.wrong()
    assert world.wrong(action=FORCE_DOWN)
    assert world.settle() == [(RAISED, LOST, '')]
    assert world.told[0].action is FORCE_DOWN


def test_a_part_may_say_more_of_what_is_told(world):
    more = HostEvent('x', 99, UPDATED, MANY, Severity.CRITICAL, 1.0, 2.0,
                     ('c',), {'lost_in_all': '7'}, 1)
    assert world.page.update(more, UP, True) is None
    world.wrong(MANY)
    assert world.page.update(more, UP, True) is None        # not told yet
    world.settle()
    assert world.page.update(more, UP, True) == dataclasses.replace(
        more, sequence=2, reason='eof', status=UP, action=DISABLE,
        suppressed=True)
    world.over(MANY, quiet=False)
    world.page.handle_timer(world.now)
    assert world.page.update(more, UP, True) is None        # it is ending
    assert world.settle() == [(CLEARED, MANY, '')]
    assert world.told[-1].sequence == 3


def test_names_the_instances_that_it_is_about_and_at_its_end_all(world):
    world.raise_it(MANY, named=('c',), event_id='storm')
    world.over(MANY, quiet=False)
    world.settle()
    raised, cleared = world.told
    assert (raised.event_id, raised.details['host_event']) == ('storm',
                                                               'storm')
    assert (raised.instance_uuids, raised.instance_count) == (('c',), 1)
    assert (cleared.instance_uuids, cleared.instance_count) == (
        ('a', 'b'), 2)


# -- limits ------------------------------------------------------------------

def test_names_so_many_instances_and_counts_all(world):
    many = [str(number) for number in range(host_page.MAX_NAMED + 500)]
    world.page = host_page.HostPage(lambda: 'id', lambda: many)
    world.raise_it()
    (event,) = world.told
    assert event.instance_uuids == tuple(many[:host_page.MAX_NAMED])
    assert event.instance_count == len(many)


def test_keeps_so_many_conditions(world):
    for number in range(host_page.MAX_CONDITIONS):
        assert world.wrong(STORAGE, str(number))
    assert not world.wrong(STORAGE, 'one more')
    assert len(world.settle()) == host_page.MAX_CONDITIONS
    assert not world.page.has(STORAGE, 'one more')
    # What is known still counts.
    assert world.wrong(STORAGE, '7', action=FORCE_DOWN)
    world.over(STORAGE, '0', quiet=False)
    world.settle()
    assert world.wrong(STORAGE, 'one more')


# -- over a restart ----------------------------------------------------------

def test_nothing_is_kept_before_there_is_something(world):
    assert world.page.snapshot() is None
    world.wrong()
    assert world.page.snapshot() is not None


def test_the_sequence_goes_on_when_nothing_is_wrong(world):
    world.raise_it()
    world.over(quiet=False)
    world.settle()
    world.restart()
    world.raise_it()
    assert [each.sequence for each in world.told] == [1, 2, 3]


def test_what_waits_to_be_told_still_does(world):
    world.wrong(details={'reason': 'eof'}, subject='x')
    world.restart()
    assert world.page.waits
    assert world.page.wanted[0] is DISABLE
    assert world.page.next_deadline() == world.now + SETTLE_S
    assert world.attend(in_time=False) == (False, [])
    assert world.settle() == [(RAISED, LOST, 'x')]
    (event,) = world.told
    assert (event.event_id, event.sequence) == ('id-1000', 1)
    assert (event.occurred_at, event.detected_at) == (
        EPOCH + 99.0, EPOCH + 100.0)
    assert event.details == {'reason': 'eof', 'host_event': 'id-1000'}


def test_what_is_told_is_not_told_again(world):
    world.raise_it()
    world.restart()
    assert not world.page.waits
    assert world.page.next_deadline() is None
    assert not world.wrong()
    assert world.settle() == []
    assert LOST in world.page.told
    world.over()
    world.wait(QUIET_S)
    assert world.settle() == [(CLEARED, LOST, '')]
    assert world.told[-1].details['host_event'] == world.told[0].event_id


def test_what_was_told_before_the_record_followed_is_yet_updated(world):
    world.wrong()
    world.wait(SETTLE_S)
    world.attend(in_time=False)
    world.restart()
    assert world.page.waits
    assert world.settle() == [(UPDATED, LOST, '')]


def test_what_was_over_is_to_be_quiet_for_all_of_the_time(world):
    world.raise_it()
    world.over()
    world.wait(QUIET_S - 1.0)
    world.restart()
    assert world.page.next_deadline() == world.now + QUIET_S
    assert world.page.has(LOST)


def test_what_was_ending_ends(world):
    world.raise_it()
    world.over(quiet=False)
    world.attend(in_time=False)
    world.restart()
    assert world.page.waits
    assert world.page.wanted[0] is NONE
    assert world.page.next_deadline() == world.now + SETTLE_S
    assert world.settle() == [(CLEARED, LOST, '')]
    assert [each.sequence for each in world.told] == [1, 2]


CONDITION = {
    'cause': 'storage_fault', 'occurred_at': 1.0, 'reason': 'eio',
    'action': 'disable', 'subject': 'nfs:a', 'details': {},
    'quiet_s': 10.0, 'event_id': 'id-6', 'detected_at': 2.0,
    'phase': 'active', 'over': False, 'untold': False}


@pytest.mark.parametrize('record', [
    None, [], {}, {'sequence': 1}, {'conditions': []},
    *({'sequence': number, 'conditions': []}
      for number in ('1', True, -1, 1.5, 2 ** 70)),
    {'sequence': 1, 'conditions': {}}, {'sequence': 1, 'conditions': [7]},
    *({'sequence': 1, 'conditions': [{**CONDITION, name: value}]}
      for name, value in (
          ('cause', None), ('occurred_at', 'now'), ('reason', 7),
          ('action', 'explode'), ('subject', None), ('details', []),
          ('details', {'a': 1}), ('quiet_s', math.nan), ('event_id', 6),
          ('detected_at', None), ('phase', 'over'), ('over', 1),
          ('untold', 'no'))),
    *({'sequence': 1, 'conditions': [
        {key: value for key, value in CONDITION.items() if key != name}]}
      for name in CONDITION),
])
def test_a_bad_record_changes_nothing(world, record):
    world.raise_it()
    before = world.page.snapshot()
    with pytest.raises(exception.InvalidRecord):
        world.page.restore(record, world.now)
    assert world.page.snapshot() == before


def test_what_only_a_later_release_knows_costs_nothing_else(world):
    world.page.restore({'sequence': 7, 'more': True, 'conditions': [
        {**CONDITION, 'cause': 'host_on_fire', 'degrees': 800},
        {**CONDITION, 'degrees': 20}]}, world.now)
    assert [each.fault.cause for each in world.page.conditions] == [STORAGE]
    world.over(STORAGE, 'nfs:a', quiet=False)
    world.settle()
    assert world.told[-1].sequence == 8
    assert world.page.snapshot() == {'sequence': 8, 'conditions': []}


# -- whatever happens --------------------------------------------------------

class Reader:
    """A consumer: believes the events and nothing else."""

    def __init__(self):
        self.sequence = 0
        self.raised = {}
        self.ids = set()

    def read(self, event):
        key = event.cause, event.subject
        self.sequence += 1
        assert event.sequence == self.sequence
        assert event.event_id not in self.ids
        self.ids.add(event.event_id)
        if event.transition is RAISED:
            assert key not in self.raised
            self.raised[key] = event.event_id
            assert event.details['host_event'] == event.event_id
            return
        assert event.details['host_event'] == self.raised[key]
        if event.transition is CLEARED:
            del self.raised[key]


keys = st.sampled_from([(LOST, ''), (STORAGE, 'nfs:a'), (STORAGE, 'nfs:b')])
operations = st.one_of(
    st.tuples(st.just('wrong'), keys, st.sampled_from(HostAction),
              st.sampled_from((0.0, 0.25, 2.0)),
              st.sampled_from(('eof', 'no answer'))),
    st.tuples(st.just('over'), keys, st.booleans()),
    st.tuples(st.just('settle'), st.booleans()),
    st.tuples(st.just('restart')))
# Eighths of a second, so that sums are exact.
steps = st.lists(st.tuples(
    st.integers(0, 12).map(lambda eighths: eighths / 8), operations),
    max_size=60)


def attend(world, reader, in_time):
    already = len(world.told)
    # What is over before it is told ends in the next turn.
    for _ in range(2):
        world.attend(in_time)
    for event in world.told[already:]:
        reader.read(event)
    # What was due is done: nobody who waits for the next time spins.
    at = world.page.next_deadline()
    assert at is None or at > world.now
    assert not (in_time and world.page.waits)


@given(steps)
def test_a_story_without_gaps_that_always_ends(story):
    world, reader = World(), Reader()
    for pause, (name, *arguments) in story:
        world.wait(pause)
        if name == 'wrong':
            (cause, subject), action, quiet_s, reason = arguments
            world.wrong(cause, subject, reason, action=action,
                        quiet_s=quiet_s)
        elif name == 'over':
            (cause, subject), quiet = arguments
            world.over(cause, subject, quiet=quiet)
        elif name == 'settle':
            attend(world, reader, *arguments)
        else:
            world.restart()
    for each in world.page.conditions:
        world.over(each.fault.cause, each.fault.subject)
    # However bad nova-conductor is: each has at most three times of its own.
    for _ in range(3 * 3 + 1):
        at = world.page.next_deadline()
        if at is None:
            break
        world.now = max(world.now, at)
        attend(world, reader, False)
    assert reader.raised == {}
    assert not world.page.waits
    assert world.page.snapshot() in (
        None, {'sequence': reader.sequence, 'conditions': []})
