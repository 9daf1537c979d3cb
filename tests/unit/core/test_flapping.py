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


"""A source that flips too often is told of once, and never forgotten."""

import itertools
import math

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_vmhealth.core import flapping
from nova_vmhealth.core import page
from nova_vmhealth.core import transitions
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Health
from tests.unit.core.story import ALL
from tests.unit.core.story import BEATS
from tests.unit.core.story import begun
from tests.unit.core.story import CHANNEL
from tests.unit.core.story import DESTROYED
from tests.unit.core.story import details
from tests.unit.core.story import ended
from tests.unit.core.story import EPOCH
from tests.unit.core.story import fault
from tests.unit.core.story import line
from tests.unit.core.story import REBOOTED
from tests.unit.core.story import recovered
from tests.unit.core.story import saw
from tests.unit.core.story import STARTED
from tests.unit.core.story import Story

LOST = fault('heartbeat_lost')
EXITED = fault('agent_exited', reason='bye')
UNWELL = fault('guest_unhealthy', 'db')
WELL = recovered('guest_unhealthy', 'db')

# The damper alone

RULE = {'flips': 2, 'window_s': 10.0, 'quiet_s': 4.0}


@pytest.mark.parametrize('cause,subject,source', [
    (Cause.HEARTBEAT_LOST, '', 'heartbeat'),
    (Cause.AGENT_EXITED, '', 'heartbeat'),
    (Cause.GUEST_UNHEALTHY, '', 'audit:'),
    (Cause.GUEST_UNHEALTHY, 'db', 'audit:db'),
    (Cause.GUEST_DEGRADED, 'db', 'audit:db'),
    (Cause.HEARTBEAT_NOT_ESTABLISHED, '', ''),
    (Cause.IO_ERROR, 'vda', ''),
    (Cause.FLAPPING, 'heartbeat', ''),
])
def test_sources(cause, subject, source):
    assert flapping.FlapDamper(**RULE).source_of(cause, subject) == source
    off = flapping.FlapDamper(**{**RULE, 'flips': 0})
    assert off.source_of(cause, subject) == ''


@pytest.mark.parametrize('times,flaps', [
    ([0, 1], False),
    ([0, 1, 2], True),
    ([0, 1, 9.75], True),
    ([0, 1, 10], False),
    ([0, 1, 10, 10.75], True),
    ([0, 6, 12, 18, 24], False),
])
def test_too_often_within_the_window(times, flaps):
    damper = flapping.FlapDamper(**RULE)
    told = [damper.raises('heartbeat', now) for now in times]
    assert told == [False] * (len(times) - 1) + [flaps]
    assert damper.flaps('heartbeat') is flaps
    assert not damper.flaps('audit:db')


def test_it_flaps_until_it_keeps_still():
    damper = flapping.FlapDamper(**RULE)
    damper.changes('heartbeat', 0)
    assert damper.deadline() == math.inf
    for now in (0, 1, 2):
        damper.raises('heartbeat', now)
    assert damper.deadline() == 6.0
    damper.changes('heartbeat', 5)
    damper.changes('audit:db', 8)
    assert damper.over(8.875) == []
    assert damper.over(9) == ['heartbeat']
    damper.end('heartbeat')
    assert damper.deadline() == math.inf
    # and has all its flips again
    assert not damper.raises('heartbeat', 9)


def test_what_has_no_source_never_flaps():
    damper = flapping.FlapDamper(**RULE)
    assert not any(damper.raises('', now) for now in range(10))


def test_a_guest_cannot_name_audits_without_end():
    damper = flapping.FlapDamper(**RULE)
    damper.raises('heartbeat', 0)
    names = [damper.source_of(Cause.GUEST_UNHEALTHY, str(number))
             for number in range(100) if not damper.raises(
                 damper.source_of(Cause.GUEST_UNHEALTHY, str(number)), 0)]
    assert set(names) == {'audit:%d' % number for number in range(16)} | {
        'audit:'}
    assert len(damper._sources) == flapping.MAX_SOURCES
    # the next window has room for others
    damper.raises('heartbeat', 10)
    assert damper.source_of(Cause.GUEST_UNHEALTHY, '99') == 'audit:99'


# In the ledger

def flip(story, *seen, times=1, every=2.0):
    """See it all again and again; return what was told."""
    told = []
    for _ in range(times):
        for one in seen:
            told += story.tell(one)
            told += story.wait(every / len(seen))
    return told


FIVE_TIMES = ['raised heartbeat_lost', 'cleared heartbeat_lost'] * 5


def test_a_flapping_heartbeat_is_told_once():
    story = Story()
    story.tell(BEATS)
    told = flip(story, LOST, BEATS, times=300, every=4.0)
    assert told == FIVE_TIMES + ['raised flapping heartbeat']
    assert story.active() == ['flapping heartbeat']


def test_what_flapping_says():
    story = Story(flap_flips=1, flap_window_s=7.5)
    flip(story, EXITED, BEATS)
    event, = story.see(EXITED)
    assert (event.cause, event.subject) == (Cause.FLAPPING, 'heartbeat')
    assert event.details == {
        'cause': 'agent_exited', 'flips': '2', 'window_s': '7.5'}
    assert event.occurred_at == EPOCH + 1.75
    assert event.detected_at == EPOCH + 2
    assert event.health is Health.DEGRADED
    assert [c.cause for c in event.conditions] == [Cause.FLAPPING]


@pytest.mark.parametrize('seen,well,health', [
    (LOST, BEATS, Health.UNHEALTHY),
    (EXITED, BEATS, Health.DEGRADED),
    (UNWELL, WELL, Health.UNHEALTHY),
    (fault('guest_degraded', 'db'), recovered('guest_degraded', 'db'),
     Health.DEGRADED),
])
def test_health_is_that_of_what_is_not_told(seen, well, health):
    story = Story(flap_flips=1)
    flip(story, BEATS, seen, well)
    flapping_raised, = story.see(seen)
    assert flapping_raised.health is health
    assert [c.cause for c in flapping_raised.conditions] == [Cause.FLAPPING]
    story.tell(well)
    assert story.ledger.health('vm') is Health.DEGRADED
    story.tell(seen)
    assert story.ledger.health('vm') is health
    cleared, raised = [event for _, event in story.wait_for_events(60)]
    assert cleared.cause is Cause.FLAPPING
    assert [cleared.health, raised.previous_health, raised.health] == [
        health] * 3
    story.tell(well)
    assert story.ledger.health('vm') is Health.HEALTHY


def test_what_an_operation_may_explain_has_no_weight():
    story = Story()
    flip(story, BEATS, LOST, UNWELL, WELL, times=6)
    story.tell(BEATS, LOST, begun())
    assert story.ledger.health('vm') is Health.DEGRADED
    # no operation makes a guest say that
    story.tell(UNWELL)
    assert story.ledger.health('vm') is Health.UNHEALTHY
    story.tell(WELL, ended())
    story.wait(10)
    assert story.ledger.health('vm') is Health.UNHEALTHY


def test_what_is_held_for_other_reasons_has_no_weight():
    story = Story()
    story.tell(UNWELL, WELL, UNWELL)
    assert story.active() == []
    assert story.ledger.health('vm') is Health.UNKNOWN


@pytest.mark.parametrize('last,truth', [
    (BEATS, []),
    (LOST, ['raised heartbeat_lost']),
    (EXITED, ['raised agent_exited']),
    (saw('agent_disconnected', channel=CHANNEL), ['raised agent_exited']),
])
def test_its_end_is_the_truth(last, truth):
    story = Story()
    flip(story, BEATS, LOST, times=8)
    assert story.tell(BEATS, last) == []
    assert story.wait(59.875) == []
    assert story.wait(0.125) == ['cleared flapping heartbeat'] + truth
    assert story.wait(1000) == []


def test_what_is_raised_in_the_end_began_when_it_began():
    story = Story()
    flip(story, BEATS, LOST, times=8)
    story.tell(BEATS)
    story.now = 100.0
    story.tell(fault('heartbeat_lost', misses='3'),
               details('heartbeat_lost', port='closed'))
    story.now = story.ledger.next_deadline()
    assert story.now == 160.0
    cleared, raised = story.ledger.handle_timer(160.0, EPOCH + 160)
    assert cleared.occurred_at == EPOCH + 160
    assert raised.occurred_at == EPOCH + 99.75
    assert raised.conditions[0].since == EPOCH + 99.75
    assert raised.details == {'misses': '3', 'port': 'closed'}


@pytest.mark.parametrize('seen', [BEATS, LOST])
def test_a_change_makes_it_wait_again(seen):
    story = Story()
    flip(story, BEATS, LOST, times=6)
    story.tell(*([BEATS] if seen is LOST else [BEATS, LOST]))
    story.wait(59)
    assert story.tell(seen) == []
    assert story.wait(59.875) == []
    assert story.wait(0.125)[0] == 'cleared flapping heartbeat'


def test_a_repeated_word_is_no_change():
    story = Story()
    flip(story, BEATS, LOST, times=6)
    story.tell(BEATS)
    told = flip(story, BEATS, times=31)
    assert told == ['cleared flapping heartbeat']


def test_its_flips_begin_anew_after_the_end():
    story = Story(flap_quiet_s=1.0)
    story.tell(BEATS)
    flip(story, LOST, BEATS, times=6, every=1.25)
    assert story.wait(2) == ['cleared flapping heartbeat']
    assert flip(story, LOST, BEATS, times=6, every=3.0) == (
        FIVE_TIMES + [
            'raised flapping heartbeat', 'cleared flapping heartbeat',
            'raised heartbeat_lost', 'cleared heartbeat_lost'])


def test_slow_flips_are_each_told():
    story = Story()
    assert flip(story, LOST, BEATS, times=20, every=12.0) == FIVE_TIMES * 4


def test_audits_flap_each_on_its_own():
    story = Story()
    told = flip(story, UNWELL, WELL, times=6)
    assert told[-1] == 'raised flapping audit:db'
    assert story.tell(fault('guest_unhealthy', 'disk'), LOST) == [
        'raised guest_unhealthy disk', 'raised heartbeat_lost']
    assert story.active() == [
        'flapping audit:db', 'guest_unhealthy disk', 'heartbeat_lost']


def test_changes_between_unhealthy_and_degraded_are_flips():
    story = Story()
    told = flip(story, fault('guest_degraded', 'db'), UNWELL, times=10)
    assert told[-2:] == ['cleared guest_degraded db',
                         'raised flapping audit:db']
    assert story.active() == ['flapping audit:db']
    assert story.wait(60) == ['cleared flapping audit:db',
                              'raised guest_unhealthy db']


def test_flapping_takes_the_place_of_what_is_active():
    story = Story(flap_flips=2)
    flip(story, LOST, BEATS)
    # the exit of an agent that is lost already
    assert story.tell(LOST, EXITED) == [
        'raised heartbeat_lost', 'raised flapping heartbeat',
        'cleared heartbeat_lost']
    assert story.wait(60) == ['cleared flapping heartbeat',
                              'raised heartbeat_lost',
                              'raised agent_exited']


def test_what_is_told_no_more_is_cleared_and_says_so():
    story = Story(flap_flips=2)
    flip(story, LOST, BEATS)
    story.tell(fault('heartbeat_lost', misses='3'))
    began = EPOCH + story.now - 0.25
    story.now = 8.0
    raised, cleared = story.see(EXITED)
    assert cleared.cause is Cause.HEARTBEAT_LOST
    assert cleared.details == {'misses': '3', 'flapping': 'true'}
    assert transitions.is_withdrawn(cleared)
    assert (cleared.occurred_at, cleared.detected_at) == (
        EPOCH + 7.75, EPOCH + 8)
    assert [c.cause for c in cleared.conditions] == [Cause.FLAPPING]
    assert raised.health is cleared.health is Health.UNHEALTHY
    # what is raised in the end is as it was
    again = [event for _, event in story.wait_for_events(60)
             if event.cause is Cause.HEARTBEAT_LOST]
    assert [event.details for event in again] == [{'misses': '3'}]
    assert again[0].occurred_at == began
    # and what is over is over
    ended_now = story.see(BEATS)
    assert [line(event) for event in ended_now] == [
        'cleared heartbeat_lost', 'cleared agent_exited']
    assert not any(map(transitions.is_withdrawn, ended_now))


@pytest.mark.parametrize('options', [
    {'wanted': ALL - {Cause.FLAPPING}}, {'flap_flips': 0}])
def test_damping_can_be_declined(options):
    story = Story(**options)
    assert flip(story, LOST, BEATS, times=20) == FIVE_TIMES * 4


def test_damping_that_is_declined_later_ends():
    story = Story()
    flip(story, BEATS, LOST, times=6)
    story.wanted = ALL - {Cause.FLAPPING}
    told = flip(story, BEATS, LOST, times=35)
    assert told[:2] == ['raised heartbeat_lost', 'cleared heartbeat_lost']
    assert told.count('cleared flapping heartbeat') == 1
    assert story.active() == ['heartbeat_lost']


# With what else happens

def test_planned_operations_hold_what_they_may_explain():
    story = Story()
    flip(story, BEATS, LOST, times=6)
    story.tell(BEATS, begun(), LOST)
    assert story.wait(60) == ['cleared flapping heartbeat during reboot']
    assert story.tell(ended()) == []
    assert story.wait(9.875) == []
    assert story.wait(0.125) == ['raised heartbeat_lost']


def test_flips_that_an_operation_explains_do_not_count():
    story = Story()
    story.tell(BEATS)
    assert flip(story, begun(), LOST, BEATS, ended(), times=20) == []
    assert story.wait(100) == []


def test_a_guest_cannot_end_it_by_a_reboot():
    story = Story()
    story.tell(BEATS)
    told = flip(story, UNWELL, REBOOTED, times=100)
    told += flip(story, UNWELL, STARTED, times=100)
    assert len(told) == 11
    assert story.active() == ['flapping audit:db']


def test_novas_stop_ends_it():
    story = Story()
    flip(story, BEATS, LOST, UNWELL, WELL, times=6)
    assert story.active() == ['flapping heartbeat', 'flapping audit:db']
    assert story.tell(begun('power_off'), DESTROYED, ended('power_off')) == [
        'cleared flapping heartbeat during power_off',
        'cleared flapping audit:db during power_off']
    story.wait(11)
    assert story.ledger.next_deadline() is None
    # all flips again
    assert story.tell(STARTED, BEATS, LOST) == ['raised heartbeat_lost']


def test_the_hosts_own_action_does_not():
    story = Story()
    flip(story, BEATS, LOST, times=6)
    assert story.tell(begun('action_reset'), REBOOTED, DESTROYED) == []
    assert story.active() == ['flapping heartbeat']


def test_forgotten_ends_it():
    story = Story()
    flip(story, BEATS, LOST, times=6)
    assert story.tell(saw('forgotten')) == ['cleared flapping heartbeat']
    assert story.ledger.next_deadline() is None


def test_nobody_else_can_end_it():
    story = Story()
    flip(story, BEATS, LOST, times=6)
    assert story.tell(recovered('flapping'),
                      recovered('flapping', 'heartbeat'),
                      details('flapping', 'heartbeat', cause='none')) == []
    assert story.active() == ['flapping heartbeat']


def test_many_sources_share_one_condition():
    story = Story(flap_flips=1)
    story.tell(*(fault('io_error', 'vd%d' % number, action='pause')
                 for number in range(page.MAX_CONDITIONS)))
    for name in ('db', 'disk'):
        flip(story, fault('guest_unhealthy', name),
             recovered('guest_unhealthy', name), times=1)
    story.wait(1)
    # one has no room for its subject, like its audit
    flip(story, LOST, BEATS, times=2)
    flip(story, UNWELL, WELL, times=3)
    assert len(story.active()) <= page.MAX_CONDITIONS
    assert 'flapping' in story.active()
    told = story.wait(60)
    assert [each.split(' x')[0] for each in told
            if 'flapping' in each][-1] == 'cleared flapping'
    assert 'flapping' not in story.active()


# Whatever the order and the pace

FLIPS, WINDOW_S, QUIET_S = 2, 60.0, 60.0
GRACE_S = 3.0
SUBJECTS = ('', 'db')
# the heartbeat as often as the audits, its end as often as its beginning
words = st.sampled_from([
    *(BEATS, LOST, BEATS, EXITED) * 2,
    *(make(cause, subject) for make, cause, subject in itertools.product(
        (fault, recovered), ('guest_unhealthy', 'guest_degraded'),
        SUBJECTS)),
])
# Eighths of a second, so that sums and differences are exact. Now and then
# it is so long that what flaps keeps still.
pauses = st.one_of(
    *[st.integers(0, 16)] * 9,
    st.integers(8, 500)).map(lambda eighths: eighths / 8)
stories = st.lists(st.tuples(pauses, words), min_size=40, max_size=120)


class Truth:
    """What is wrong with the guest, by the plainest of rules."""

    def __init__(self):
        self.wrong = {}

    def note(self, kind, cause, subject):
        if kind is BEATS[0]:
            for name in ('heartbeat_lost', 'agent_exited'):
                self.wrong.pop(name, None)
        elif kind is LOST[0]:
            other = {Cause.GUEST_UNHEALTHY: Cause.GUEST_DEGRADED,
                     Cause.GUEST_DEGRADED: Cause.GUEST_UNHEALTHY}.get(cause)
            if other:
                self.wrong.pop(_name(other, subject), None)
            self.wrong[_name(cause, subject)] = _source(cause, subject)
        else:
            self.wrong.pop(_name(cause, subject), None)


def _name(cause, subject):
    return ('%s %s' % (cause.value, subject)).strip()


def _source(cause, subject):
    damper = flapping.FlapDamper(**RULE)
    return 'flapping ' + damper.source_of(cause, subject)


def _play(story, truth, steps):
    """Yield when, and what was told."""
    for pause, word in steps:
        for event in story.wait_for_events(pause):
            yield event
        truth.note(*word[:3])
        for event in story.see(word):
            yield story.now, event
    for event in story.wait_for_events(QUIET_S + 1):
        yield event


def _new_story():
    return Story(flap_flips=FLIPS, flap_window_s=WINDOW_S,
                 flap_quiet_s=QUIET_S, planned_grace_s=GRACE_S)


@settings(max_examples=60, deadline=None)
@given(stories)
def test_in_the_end_what_is_told_is_what_is_wrong(steps):
    story, truth = _new_story(), Truth()
    for _ in _play(story, truth, steps):
        pass
    assert set(story.active()) == set(truth.wrong)


@settings(max_examples=60, deadline=None)
@given(stories)
def test_it_is_never_silent_about_what_is_wrong(steps):
    """All that is wrong for a second is told, or said to be flapping."""
    story, truth = _new_story(), Truth()
    for pause, word in steps:
        story.wait(pause)
        if pause >= 1.0:
            active = set(story.active())
            for name, source in truth.wrong.items():
                assert name in active or source in active
        truth.note(*word[:3])
        story.see(word)


@settings(max_examples=60, deadline=None)
@given(stories)
def test_a_flipping_source_makes_few_events(steps):
    told = {}
    for now, event in _play(_new_story(), Truth(), steps):
        if event.transition.value == 'updated':
            continue
        source = (event.subject if event.cause is Cause.FLAPPING
                  else _source(event.cause, event.subject)[9:])
        told.setdefault(source, []).append(now)
    # Each raise of the window with its end, the end of one that was raised
    # before it, and the beginning or the end of flapping.
    most = 2 * FLIPS + 4
    for times in told.values():
        for first, last in zip(times, times[most:], strict=False):
            assert last - first >= WINDOW_S


def test_at_the_fastest_a_source_makes_few_events():
    story = Story()
    told = flip(story, UNWELL, WELL, fault('guest_degraded', 'db'),
                recovered('guest_degraded', 'db'), times=1000, every=0.5)
    assert len(told) == 2 * 5 + 1
