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


"""Whatever happens in whatever order, some things hold of the ledger.

What consumers are told is replayed here by a reader that knows no rules: it
must find a story without gaps or contradictions.
"""

import collections
import itertools

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nova_vmhealth.core import ledger
from nova_vmhealth.core import page
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.core.vocabulary import Severity
from nova_vmhealth.core.vocabulary import Transition

EPOCH = 1_000_000.0
WANTED = frozenset(Cause) - {Cause.MEMORY_FAILURE}
SETTINGS = ledger.Settings(
    update_interval_s=1.0, planned_grace_s=3.0, io_error_quiet_s=5.0,
    flap_flips=2, flap_window_s=8.0, flap_quiet_s=4.0)
HIDDEN_BY_A_PLAN = {
    Cause.HEARTBEAT_LOST, Cause.HEARTBEAT_NOT_ESTABLISHED,
    Cause.AGENT_EXITED, Cause.STOPPED_UNEXPECTEDLY, Cause.GUEST_SHUTDOWN,
}
REASONS = ('shutdown', 'destroyed', 'crashed', 'migrated', 'failed',
           'paused', 'ioerror', 'api_error', 'unknown', 'new one')

details = st.fixed_dictionaries({}, optional={
    'reason': st.sampled_from(REASONS),
    'action': st.sampled_from(('none', 'pause', 'report')),
    'operation': st.sampled_from(('reboot', 'power_off')),
    'channel': st.just('org.openstack.vmhealth.0'),
    'by': st.sampled_from(('guest', 'host')),
})
# mostly few subjects, that they meet; sometimes more than there is room for
subjects = st.one_of(
    st.sampled_from(('', 'vda', 'db')),
    st.integers(0, 200).map('audit{}'.format))
kinds = st.one_of(
    st.sampled_from((Kind.FAULT, Kind.RECOVERED)),
    st.sampled_from([kind for kind in Kind if kind is not Kind.FORGOTTEN]))
observations = st.builds(
    Observation,
    kind=kinds,
    instance_uuid=st.sampled_from(('a', 'b')),
    occurred_at=st.just(EPOCH),
    cause=st.sampled_from(Cause),
    subject=subjects,
    details=details)
# one guest's sources that come and go until they flap
flips = st.builds(
    Observation,
    kind=st.sampled_from((Kind.FAULT, Kind.RECOVERED)),
    instance_uuid=st.just('a'),
    occurred_at=st.just(EPOCH),
    cause=st.sampled_from((Cause.HEARTBEAT_LOST, Cause.GUEST_DEGRADED,
                           Cause.GUEST_UNHEALTHY)),
    details=details)
# Eighths of a second, so that sums and differences are exact.
pauses = st.integers(0, 12).map(lambda eighths: eighths / 8)
steps = st.one_of(
    st.lists(st.tuples(pauses, st.one_of(st.none(), observations, flips)),
             max_size=120),
    # nothing in between, or none would flap for long
    st.lists(st.tuples(pauses, flips), min_size=20, max_size=60))


class Reader:
    """A consumer: believes the events and nothing else."""

    def __init__(self):
        self.sequence = 0
        self.health = None
        self.active = {}
        self.flapping = False
        self.told_at = collections.defaultdict(dict)

    def read(self, event, now):
        key = event.cause, event.subject
        self.sequence += 1
        assert event.sequence == self.sequence
        assert event.cause in WANTED
        getattr(self, 'read_' + event.transition.value)(event, key)
        counts = {(c.cause, c.subject): c.count for c in event.conditions}
        assert counts.keys() == self.active.keys()
        # more where the update is still to come
        assert all(counts[key] >= told for key, told in self.active.items())
        assert len(event.conditions) <= page.MAX_CONDITIONS
        self.check_health(event)
        self.check_rate(event, key, now)

    def read_raised(self, event, key):
        assert key not in self.active
        self.active[key] = event.count

    def read_updated(self, event, key):
        # the same count where more became known
        assert event.count >= self.told_at[key]['count']
        assert key in self.active
        self.active[key] = event.count

    def read_cleared(self, event, key):
        assert event.count >= self.active.pop(key)

    def check_health(self, event):
        severities = {c.severity for c in event.conditions}
        weighed = {Health.UNHEALTHY, Health.DEGRADED}
        flapped = self.flapping
        self.flapping = any(c.cause is Cause.FLAPPING
                            for c in event.conditions)
        if Severity.CRITICAL in severities:
            assert event.health is Health.UNHEALTHY
        elif self.flapping or flapped:
            # as bad as what is not told
            assert event.health in weighed or not self.flapping
        elif Severity.WARNING in severities:
            assert event.health is Health.DEGRADED
        else:
            assert event.health in (Health.HEALTHY, Health.UNKNOWN)
        # only between healthy and unknown is there a change without event,
        # and while the source of an untold one flaps
        if not flapped and (self.health in weighed
                            or event.previous_health in weighed):
            assert event.previous_health is self.health
        self.health = event.health

    def check_rate(self, event, key, now):
        told = self.told_at[key]
        before = [told[t] for t in (Transition.RAISED, event.transition)
                  if t in told]
        if event.transition is not Transition.CLEARED:
            assert all(now - at >= 1.0 for at in before)
        told[event.transition] = now
        told['count'] = event.count


def _wait(book, now, until):
    """Yield what the timer tells, called exactly when it asks to be."""
    while (deadline := book.next_deadline()) is not None:
        if deadline > until:
            break
        now = max(now, deadline)
        for event in book.handle_timer(now, EPOCH + now):
            yield event, now
        again = book.next_deadline()
        assert again is None or again > now


def _ledger():
    ids = itertools.count()
    return ledger.Ledger(SETTINGS, lambda: str(next(ids)))


def _run(book, story):
    """Yield every event that the story makes, and when."""
    now = 0.0
    for pause, obs in story:
        for event, at in _wait(book, now, now + pause):
            yield event, at
        now += pause
        if obs is not None:
            planned = book.is_planned(obs.instance_uuid)
            for event in book.observe(obs, now, EPOCH + now, WANTED):
                if planned and event.transition is Transition.RAISED:
                    assert event.cause not in HIDDEN_BY_A_PLAN
                    assert event.operation
                yield event, now


@settings(max_examples=120, deadline=None)
@given(steps)
def test_a_reader_of_the_events_finds_no_contradiction(story):
    book = _ledger()
    readers = collections.defaultdict(Reader)
    ids = []
    for event, now in _run(book, story):
        readers[event.instance_uuid].read(event, now)
        ids.append(event.event_id)
    assert len(set(ids)) == len(ids)
    for uuid, reader in readers.items():
        assert {(c.cause, c.subject)
                for c in book.conditions(uuid)} == set(reader.active)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(
    st.sampled_from((Kind.FAULT, Kind.RECOVERED)),
    st.sampled_from((Cause.GUEST_UNHEALTHY, Cause.IO_ERROR)),
    st.integers(0, 10 ** 6).map(str)), min_size=50, max_size=300))
def test_a_guest_cannot_make_the_ledger_grow(seen):
    """Named subjects without end, within one second."""
    book = _ledger()
    told = []
    for kind, cause, subject in seen:
        obs = Observation(kind, 'vm', EPOCH, cause, subject)
        told += book.observe(obs, 0.0, EPOCH, WANTED)
        assert len(book.conditions('vm')) <= page.MAX_CONDITIONS
        assert len(book._pages['vm']._entries) <= page.MAX_CONDITIONS
    # each condition may be raised, and cleared, once
    assert len(told) <= 2 * page.MAX_CONDITIONS
