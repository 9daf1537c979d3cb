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

import dataclasses
import threading
import types

import pytest

from nova_vmhealth.core import actions as core_actions
from nova_vmhealth.core import ledger
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt import actions
from nova_vmhealth.virt import background
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

    def __init__(self, action='reset', max_actions=2, delay_s=DELAY_S):
        self.domain = Domain()
        self.suspected = False
        self.heartbeat = fakes.Heartbeat()
        self.background = fakes.Background()
        self.seen = []
        self.woken = []
        self.now = 0.0
        self.ledger = ledger.Ledger(ledger.Settings(), iter(map(
            str, range(1000))).__next__)
        self.steering = steering.Steering(self.heartbeat, fakes.Saved())
        self.policy = fakes.parse(heartbeat='true', action=action)
        self.steering.watch(UUID, fakes.entry(UUID), Guest.BEATING)
        self.actions = actions.Actions(
            core_actions.Governor(max_actions, 100.0, delay_s),
            self.ledger, self.steering, lambda: self.suspected,
            lambda: types.SimpleNamespace(
                lookupByUUIDString=lambda uuid: self.domain),
            self.background.submit, self.seen.append,
            lambda: self.woken.append(1), lambda: self.now)

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
    ('host_suspected', lambda parts: setattr(parts, 'suspected', True)),
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
    assert parts.woken and parts.states == []
    parts.actions.handle_timer(parts.DELAY_S)       # the worker, when woken
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


@pytest.mark.parametrize('events, action, causes', [
    ('io_error', 'none', {Cause.IO_ERROR}),
    ('none', 'none', set()),
    ('heartbeat_lost', 'none', {Cause.HEARTBEAT_LOST, Cause.AGENT_EXITED}),
    ('io_error', 'reset', {Cause.IO_ERROR, Cause.HEARTBEAT_LOST,
                           Cause.AGENT_EXITED}),
])
def test_who_is_told_of_a_loss_is_told_of_an_exit(events, action, causes):
    assert actions.wanted(fakes.parse(
        heartbeat='true', events=events, action=action)) == causes


def test_a_loss_that_is_told_no_more_as_it_flaps_is_no_recovery(parts):
    (lost,) = parts.lose()
    withdrawn = dataclasses.replace(
        lost, transition=Transition.CLEARED, details={'flapping': 'true'})
    assert parts.actions.told(withdrawn, parts.policy, 1.0) is withdrawn
    parts.actions.handle_timer(parts.DELAY_S)
    parts.background.run()
    assert parts.domain.calls == [('reset', 0)]


def test_other_causes_are_nobodys_business(parts):
    (event,) = parts.observe(Kind.FAULT, 0.0, cause=Cause.WATCHDOG_EXPIRED)
    assert dict(event.details) == {}
    assert parts.actions.next_deadline() is None


# -- reasons that pass -------------------------------------------------------

def recover_for_a_moment(parts):
    parts.heartbeat.misses = 0


def fall_silent_again(parts):
    parts.heartbeat.misses = 3


@pytest.mark.parametrize('begins, ends', [
    (recover_for_a_moment, fall_silent_again),
    (lambda parts: parts.steering.hold(UUID, 'snapshot'),
     lambda parts: parts.steering.release(UUID, 'snapshot')),
])
@pytest.mark.parametrize('late', [False, True])
def test_a_reason_that_passes_only_puts_it_off(parts, begins, ends, late):
    """Whether it is seen when the action is due, or at the last moment."""
    parts.heartbeat.lost = True
    parts.lose()
    now = parts.DELAY_S
    if late:
        parts.actions.handle_timer(now)
    begins(parts)
    for _ in range(3):                  # put off again and again
        parts.actions.handle_timer(now)
        parts.background.run()
        parts.actions.handle_timer(now)
        assert parts.actions.next_deadline() == now + parts.DELAY_S
        now += parts.DELAY_S
    ends(parts)
    parts.actions.handle_timer(now)
    parts.background.run()
    assert parts.domain.calls == [('reset', 0)]
    assert parts.states == [('done', None)]
    assert parts.actions.next_deadline() is None


def test_what_is_put_off_is_dropped_when_the_loss_is_over(parts):
    parts.heartbeat.lost = True
    parts.lose()
    parts.heartbeat.misses = 0
    parts.actions.handle_timer(parts.DELAY_S)
    (cleared,) = parts.beat(6.0)
    assert cleared.details['action_reason'] == 'recovered'
    assert parts.actions.next_deadline() is None


def test_putting_off_does_not_spin_where_there_is_no_delay():
    parts = Parts(delay_s=0.0)
    parts.heartbeat.lost = True
    parts.lose()
    parts.heartbeat.misses = 0
    parts.actions.handle_timer(0.0)
    assert parts.actions.next_deadline() == actions.RETRY_S


def test_what_is_withheld_at_the_last_moment_costs_nothing():
    parts = Parts(max_actions=1)
    for now, happens in ((0.0, Domain(state=PAUSED)), (20.0, Domain())):
        parts.domain = happens
        parts.lose(now)
        parts.actions.handle_timer(now + parts.DELAY_S)
        parts.background.run()
        parts.actions.handle_timer(now + parts.DELAY_S)
        parts.beat(now + 10.0)
    assert parts.states == [('withheld', 'not_running'), ('done', None)]


# -- beside Nova, and with a QEMU that hangs ---------------------------------

def test_nova_waits_for_an_action_under_way(parts):
    """And an action does not begin under its operation."""
    claimed = []

    class Looks(Domain):
        def reset(self, _flags):
            claimed.append(UUID in parts.steering._claimed)
    parts.domain = Looks()
    parts.lose()
    parts.actions.handle_timer(parts.DELAY_S)
    parts.background.run()
    assert claimed == [True] and not parts.steering._claimed


def test_an_operation_that_begins_after_the_last_look(parts, monkeypatch):
    monkeypatch.setattr(parts.actions, '_second_thoughts', lambda uuid: None)
    parts.lose()
    parts.actions.handle_timer(parts.DELAY_S)
    parts.steering.hold(UUID, 'reboot')
    parts.background.run()
    parts.actions.handle_timer(parts.DELAY_S)
    assert parts.domain.calls == []
    assert parts.states == [('withheld', 'planned')]
    assert not parts.steering._claimed


class Hangs(Domain):
    """Its QEMU does not answer until the test lets it."""

    def __init__(self):
        super().__init__()
        self.begun, self.gate = threading.Event(), threading.Event()

    def reset(self, _flags):
        self.begun.set()
        assert self.gate.wait(30)


def test_a_call_that_does_not_return_is_told_as_failed_once(parts):
    parts.domain = Hangs()
    parts.lose()
    parts.actions.handle_timer(parts.DELAY_S)
    parts.now = 10.0
    (job,) = parts.background.jobs.values()
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    try:
        assert parts.domain.begun.wait(30)
        given_up = 10.0 + background.STUCK_S
        assert parts.actions.next_deadline() == given_up
        parts.actions.handle_timer(given_up - 0.1)
        assert parts.states == [] and parts.steering._claimed
        parts.actions.handle_timer(given_up)
        parts.actions.handle_timer(given_up + 1.0)
        told = [('failed', 'libvirt gives no answer')]
        assert parts.states == told
        assert not parts.steering._claimed
        # The next loss does not send one more thread after it.
        parts.background.jobs.clear()
        parts.beat(given_up + 2.0)
        parts.lose(given_up + 20.0)
        parts.actions.handle_timer(given_up + 30.0)
        assert not parts.background.jobs
        assert parts.states == told * 2
    finally:
        parts.domain.gate.set()
        thread.join(30)
    assert parts.states == told * 2         # its late return says nothing
    kinds = [seen.kind for seen in parts.seen]
    assert kinds.count(Kind.PLANNED_ENDED) == 1
    assert parts.actions.next_deadline() is None
    assert not parts.actions._hung


def test_a_call_of_an_instance_that_left_is_not_told_of(parts):
    parts.actions._under_way[UUID] = (Action.RESET, 1.0)
    parts.actions.forget(UUID)
    parts.actions.handle_timer(100.0)
    assert parts.states == []
