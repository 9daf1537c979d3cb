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

"""Acting upon a guest that is lost: planned, decided, taken, told."""

import types

import pytest

from nova_vmhealth.core import actions as core_actions
from nova_vmhealth.core import ledger
from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt import actions
from nova_vmhealth.virt import steering
from tests.unit.virt import fakes
from tests.unit.virt.fakes import see
from tests.unit.virt.fakes import UUID

RUNNING, BLOCKED, PAUSED, SHUTOFF = 1, 2, 3, 5
LOST = {'cause': Cause.HEARTBEAT_LOST, 'misses': '3'}


class Refused(Exception):
    """What libvirt says no with."""


class Domain:
    def __init__(self, state=RUNNING, fails=None):
        self.calls = []
        self._state = state
        self._fails = fails

    def info(self):
        return [self._state, 1 << 20, 1 << 20, 1, 0]

    def __getattr__(self, name):
        def called(*arguments):
            if self._fails:
                raise self._fails
            self.calls.append((name, *arguments))
        return called


class Parts:
    """Actions over a real ledger, and a domain that the test chooses."""

    DELAY_S = 5.0

    def __init__(self, action='reset', max_actions=2):
        self.domain = Domain()
        self.suspected = False
        self.heartbeat = fakes.Heartbeat()
        self.background = fakes.Background()
        self.seen = []
        self.ledger = ledger.Ledger(ledger.Settings(), iter(map(
            str, range(1000))).__next__)
        self.steering = steering.Steering(self.heartbeat)
        self.policy = fakes.parse(heartbeat='true', action=action)
        self.steering.watch(UUID, fakes.entry(UUID), established=True)
        self.actions = actions.Actions(
            core_actions.Governor(max_actions, 100.0, self.DELAY_S),
            self.ledger, self.steering, lambda: self.suspected,
            lambda: types.SimpleNamespace(
                lookupByUUIDString=lambda uuid: self.domain),
            self.background.submit, self.seen.append)

    def observe(self, kind, now, **details):
        """What the worker does with an observation; what is told."""
        cause = details.pop('cause', None)
        if cause is Cause.HEARTBEAT_LOST:
            details.update(self.actions.details(UUID, self.policy))
        return [self.actions.told(event, self.policy, now)
                for event in self.ledger.observe(
                    see(kind, UUID, cause, **details), now, now,
                    frozenset(Cause))]

    def lose(self, now=0.0):
        self.heartbeat.misses = 3
        return self.observe(Kind.FAULT, now, **LOST)

    def beat(self, now):
        self.heartbeat.misses = 0
        return self.observe(Kind.HEARTBEAT_ESTABLISHED, now)

    @property
    def states(self):
        """What was said of the action, in order."""
        return [(seen.details['action_state'],
                 seen.details.get('action_reason'))
                for seen in self.seen if seen.kind is Kind.DETAILS]


@pytest.fixture
def parts():
    return Parts()


@pytest.mark.parametrize('action, calls', [
    ('inject_nmi', [('injectNMI', 0)]),
    ('reset', [('reset', 0)]),
    ('poweroff', [('destroy',)]),
    ('pause', [('suspend',)]),
])
def test_taken_after_the_delay(action, calls):
    parts = Parts(action)
    (lost,) = parts.lose()
    assert lost.details['action'] == action
    assert lost.details['action_state'] == 'pending'
    parts.actions.handle_timer(parts.DELAY_S - 0.1)
    assert not parts.background.jobs
    parts.actions.handle_timer(parts.DELAY_S)
    parts.background.run()
    assert parts.domain.calls == calls
    assert [(seen.kind, dict(seen.details)) for seen in parts.seen] == [
        (Kind.PLANNED_BEGUN, {'operation': 'action_' + action}),
        (Kind.PLANNED_ENDED, {'operation': 'action_' + action}),
        (Kind.DETAILS, {'action': action, 'action_state': 'done'})]
    assert parts.seen[-1].cause is Cause.HEARTBEAT_LOST


def test_every_action_has_its_call():
    assert set(actions._CALLS) == set(Action) - {Action.NONE}


def test_none_asked_for():
    parts = Parts('none')
    (lost,) = parts.lose()
    assert dict(lost.details) == {'misses': '3'}
    assert parts.actions.next_deadline() is None


def test_a_loss_that_is_told_already_promises_nothing_new(parts):
    parts.lose()
    assert parts.actions.details(UUID, parts.policy) == {}


@pytest.mark.parametrize('reason, happens', [
    ('planned', lambda parts: parts.observe(
        Kind.PLANNED_BEGUN, 1.0, operation='snapshot')),
    ('host_suspected', lambda parts: setattr(parts, 'suspected', True)),
    ('not_running', lambda parts: parts.steering.leave(UUID)),
    ('not_running', lambda parts: parts.steering.follow(
        see(Kind.PAUSED), None)),
    # it answers, if not often enough yet to be well
    ('recovered', lambda parts: setattr(parts.heartbeat, 'misses', 0)),
    # somebody has reset it already
    ('recovered', lambda parts: parts.steering.follow(
        see(Kind.REBOOTED), fakes.entry(UUID))),
])
def test_withheld_when_it_is_due(parts, reason, happens):
    parts.lose()
    happens(parts)
    parts.actions.handle_timer(parts.DELAY_S)
    assert not parts.background.jobs
    assert parts.states == [('withheld', reason)]


def test_quota(parts):
    for round_, state in enumerate([('done', None), ('done', None),
                                    ('withheld', 'quota')]):
        now = 20.0 * round_
        parts.lose(now)
        parts.actions.handle_timer(now + parts.DELAY_S)
        parts.background.run()
        assert parts.states[-1] == state
        parts.beat(now + 10.0)
    assert parts.domain.calls == [('reset', 0)] * 2


@pytest.mark.parametrize('first, reason', [
    ([], 'recovered'),
    ([(Kind.PLANNED_BEGUN, {'operation': 'power_off'})], 'planned'),
])
def test_dropped_when_the_loss_is_over(parts, first, reason):
    parts.lose()
    for kind, details in first:
        parts.observe(kind, 1.0, **details)
    (cleared,) = parts.beat(2.0)
    assert cleared.details['action_state'] == 'withheld'
    assert cleared.details['action_reason'] == reason
    assert parts.actions.next_deadline() is None
    parts.actions.handle_timer(100.0)
    assert not parts.background.jobs and not parts.seen


@pytest.mark.parametrize('reason, happens', [
    ('recovered', lambda parts: setattr(parts.heartbeat, 'misses', 0)),
    ('not_running', lambda parts: parts.steering.leave(UUID)),
    ('planned', lambda parts: parts.steering.hold(UUID, 'reboot')),
    ('not_running', lambda parts: setattr(
        parts, 'domain', Domain(state=PAUSED))),
    ('not_running', lambda parts: setattr(
        parts, 'domain', Domain(state=SHUTOFF))),
])
def test_withheld_at_the_last_moment(parts, reason, happens):
    """The thread may have been busy since it was decided."""
    parts.lose()
    parts.actions.handle_timer(parts.DELAY_S)
    happens(parts)
    parts.background.run()
    assert parts.states == [('withheld', reason)]
    assert parts.domain.calls == []
    begun = [seen.kind for seen in parts.seen]
    assert begun.count(Kind.PLANNED_BEGUN) == begun.count(Kind.PLANNED_ENDED)


@pytest.mark.parametrize('action, follows', [
    ('poweroff', (Kind.STOPPED, 'destroyed')),
    ('pause', (Kind.PAUSED, 'paused')),
    ('reset', (Kind.REBOOTED, '')),
])
def test_its_side_effects_are_no_fault_and_end_nothing(action, follows):
    parts = Parts(action)
    parts.lose()
    parts.actions.handle_timer(parts.DELAY_S)
    parts.background.run()
    begun, ended, done = parts.seen
    kind, reason = follows
    wall = parts.DELAY_S
    told = []
    for observation in (begun, see(kind, UUID, reason=reason), ended, done):
        told += parts.ledger.observe(observation, wall, wall,
                                     frozenset(Cause))
    (event,) = told
    assert event.cause is Cause.HEARTBEAT_LOST
    assert event.transition is Transition.UPDATED
    assert event.details['action_state'] == 'done'
    assert [each.cause for each in event.conditions] == [Cause.HEARTBEAT_LOST]


def test_a_blocked_domain_runs(parts):
    parts.domain = Domain(state=BLOCKED)
    parts.lose()
    parts.actions.handle_timer(parts.DELAY_S)
    parts.background.run()
    assert parts.domain.calls == [('reset', 0)]


@pytest.mark.parametrize('error, said', [
    (Refused('libvirt says no'), 'libvirt says no'),
    (Refused('x' * 1000), 'x' * 255),
    (Refused(), 'Refused()'),
])
def test_a_failure_is_told_and_not_tried_again(parts, error, said):
    parts.domain = Domain(fails=error)
    parts.lose()
    parts.actions.handle_timer(parts.DELAY_S)
    parts.background.run()
    assert parts.states == [('failed', said)]
    assert parts.seen[-2].kind is Kind.PLANNED_ENDED
    assert not parts.background.jobs


def test_too_much_to_do(parts):
    parts.background.full = True
    parts.lose()
    parts.actions.handle_timer(parts.DELAY_S)
    ((state, reason),) = parts.states
    assert state == 'failed' and 'too much' in reason


def test_nothing_is_left_of_an_instance_that_left(parts):
    parts.lose()
    parts.actions.forget(UUID)
    assert parts.actions.next_deadline() is None


def test_other_causes_are_nobodys_business(parts):
    (event,) = parts.observe(Kind.FAULT, 0.0, cause=Cause.WATCHDOG_EXPIRED)
    assert dict(event.details) == {}
    assert parts.actions.next_deadline() is None
