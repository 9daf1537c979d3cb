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

"""What hangs on a loss: corroboration, the host's part, the action."""

import types

import pytest

from nova_vmhealth.core import ledger
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt import losses
from nova_vmhealth.virt import steering
from tests.unit.virt import fakes
from tests.unit.virt.fakes import see
from tests.unit.virt.fakes import UUID

OPTIONS = types.SimpleNamespace(
    mass_loss_guests=3, mass_loss_percent=20, mass_loss_window_s=10.0,
    max_actions=1, action_window_s=100.0, action_delay_s=5.0)


class Parts:
    def __init__(self, monkeypatch, action='reset'):
        monkeypatch.setattr(losses.corroboration, 'Corroborator',
                            fakes.Corroborator)
        self.heartbeat = fakes.Heartbeat()
        self.heartbeat.count = 10
        self.background = fakes.Background()
        self.seen, self.told_of_host = [], []
        self.policy = fakes.parse(heartbeat='true', action=action)
        self.ledger = ledger.Ledger(ledger.Settings(), iter(map(
            str, range(1000))).__next__)
        self.steering = steering.Steering(self.heartbeat, fakes.Saved())
        self.losses = losses.build(
            OPTIONS, self.ledger, self.heartbeat, self.steering, lambda: None,
            self.background.submit, self.background.submit, self.seen.append,
            self.told_of_host.append, lambda: None)
        self.corroborator = self.losses._corroborator

    def see(self, observation, now=0.0):
        """What the worker does with an observation; what is told."""
        observation = self.losses.observed(observation, self.policy, now, now)
        return [self.losses.told(event, self.policy, now, now)
                for event in self.ledger.observe(observation, now, now,
                                                 frozenset(Cause))]


@pytest.fixture
def parts(monkeypatch):
    return Parts(monkeypatch)


def lost(uuid=UUID):
    return see(Kind.FAULT, uuid, Cause.HEARTBEAT_LOST, misses='3')


def test_a_loss_says_all_that_is_known(parts):
    parts.corroborator.known = {'assessment': 'guest_stalled'}
    (event,) = parts.see(lost())
    assert dict(event.details) == {
        'misses': '3', 'assessment': 'guest_stalled', 'action': 'reset',
        'action_state': 'pending'}
    assert parts.corroborator.calls == [('lost', UUID)]


@pytest.mark.parametrize('observation, calls', [
    (see(Kind.HEARTBEAT_MISSED, misses='1', silent_ms='1500'),
     [('suspect', UUID, 1.5)]),
    (see(Kind.STOPPED, reason='destroyed'), [('forget', UUID)]),
    (see(Kind.PAUSED), []),
    (see(Kind.FAULT, cause=Cause.WATCHDOG_EXPIRED), []),
])
def test_what_is_looked_at(parts, observation, calls):
    parts.see(observation)
    assert parts.corroborator.calls == calls


def test_no_action_while_the_host_is_suspected(parts):
    for uuid in ('a', 'b', UUID):
        parts.steering.watch(uuid, fakes.entry(uuid), Guest.BEATING)
    parts.heartbeat.misses = 3
    told = [event for uuid in ('a', 'b', UUID)
            for event in parts.see(lost(uuid))]
    assert [event.transition for event in parts.told_of_host] == [
        Transition.RAISED]
    assert told[-1].details['host_event'] == parts.told_of_host[0].event_id
    parts.losses.handle_timer(OPTIONS.action_delay_s, 0.0)
    assert not parts.background.jobs
    assert {seen.details['action_reason'] for seen in parts.seen} == {
        'host_suspected'}


def test_a_guest_that_stopped_is_not_lost(parts):
    for uuid in ('a', 'b'):
        parts.see(lost(uuid))
    parts.see(see(Kind.STOPPED, 'a', reason='destroyed'))
    parts.see(lost())
    assert parts.told_of_host == []


def test_the_host_is_suspected_before_actions_are_decided(parts, monkeypatch):
    """Both are due in one moment."""
    calls = []
    for part in (parts.losses._mass_loss, parts.losses._actions):
        monkeypatch.setattr(part, 'handle_timer',
                            lambda *now, p=part: calls.append(p))
    parts.losses.handle_timer(0.0, 0.0)
    assert calls == [parts.losses._mass_loss, parts.losses._actions]


def test_deadlines(parts):
    assert parts.losses.next_deadline() is None
    parts.see(lost())
    assert parts.losses.next_deadline() <= OPTIONS.action_delay_s


def test_nothing_is_left_of_an_instance_that_left(parts):
    parts.see(lost())
    parts.losses.forget(UUID, 1.0, 1.0)
    parts.losses.handle_timer(100.0, 100.0)
    assert parts.losses.next_deadline() is None
    assert parts.corroborator.calls[-1] == ('forget', UUID)
    assert not parts.background.jobs and not parts.seen
