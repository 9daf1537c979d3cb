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

"""The wiring: what steers the heartbeat, what waits, what is dropped."""

import types

import pytest

from nova_vmhealth.core import policy
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.notifications import identity
from nova_vmhealth.virt import identity as virt_identity
from nova_vmhealth.virt import monitor

UUID = '6f70656e-7374-6163-6b20-6865616c7468'
OTHER = '6f70656e-7374-6163-6b20-6f7468657273'
LIMITS = policy.Limits(
    interval_ms=policy.Bounds(100, 10000), timeout_ms=policy.Bounds(100, 9999),
    misses=policy.Bounds(1, 10), boot_deadline_s=policy.Bounds(0, 100),
    default_events=frozenset(Cause))


class Heartbeat:
    """Records what the monitor asks of the heartbeat's thread."""

    def __init__(self, deliver, **_kwargs):
        self.calls = []
        self.watched = set()

    def watch(self, uuid, path, policy, established=False):
        self.calls.append(('watch', path.rsplit('/', 1)[-1]))
        self.watched.add(uuid)
        self.established = established

    def unwatch(self, uuid):
        self.calls.append(('unwatch',))
        self.watched.discard(uuid)

    def hold(self, _uuid):
        self.calls.append(('hold',))

    def release(self, _uuid):
        self.calls.append(('release',))

    def status(self, uuid):
        return self if uuid in self.watched else None


class Background:
    """Keeps the jobs for the test to run."""

    def __init__(self):
        self.jobs = {}

    def submit(self, key, function, delay_s=0.0):
        self.jobs[key] = function
        return True

    def run(self):
        """Do every job that is queued now."""
        jobs, self.jobs = self.jobs, {}
        for job in jobs.values():
            job()


class Cache:
    def __init__(self):
        self.entries = {}
        self.loadable = {}
        self.busy = False

    def get(self, uuid):
        return self.entries.get(uuid)

    def put(self, instance):
        self.entries[instance.uuid] = entry(instance.uuid)

    def load(self, uuid, host):
        if uuid in self.loadable:
            self.entries[uuid] = self.loadable[uuid]
        return virt_identity.Whereabouts(uuid in self.loadable, self.busy)

    def forget(self, uuid):
        self.entries.pop(uuid, None)


class Publisher:
    def __init__(self):
        self.events = []

    def submit(self, event, _identity, _heartbeat):
        self.events.append((event.transition, event.cause))


def entry(uuid, heartbeat='true', host='compute1'):
    parsed, _ = policy.parse({'vmhealth:heartbeat': heartbeat}, {}, LIMITS)
    names = dict.fromkeys(identity.InstanceIdentity.__dataclass_fields__)
    return virt_identity.Entry(
        'instance-1', identity.InstanceIdentity(
            **{**names, 'uuid': uuid, 'extra_specs': {}, 'metadata': {},
               'host': host}),
        parsed)


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.setattr(monitor.heartbeat, 'HeartbeatMonitor', Heartbeat)
    monkeypatch.setattr(monitor.background, 'Background', Background)
    options = types.SimpleNamespace(
        planned_grace_s=10.0, event_queue_size=3, update_interval_s=1.0,
        io_error_quiet_s=60.0, recover_beats=2)
    cache, publisher = Cache(), Publisher()
    cache.entries[UUID] = entry(UUID)
    watch = monitor.HealthMonitor(None, 'compute1', options, cache, publisher)
    return types.SimpleNamespace(
        monitor=watch, cache=cache, publisher=publisher,
        heartbeat=watch._heartbeat, background=watch._background)


def see(kind, uuid=UUID, cause=None, **details):
    return Observation(kind, uuid, 1.0, cause, '', details)


def drain(parts):
    """Let the worker handle all that waits in its inbox."""
    inbox = parts.monitor._inbox._queue
    while not inbox.empty():
        parts.monitor.step(inbox.get_nowait())


@pytest.mark.parametrize('kinds, calls', [
    ([Kind.STARTED], [('watch', 'org.openstack.vmhealth.0.instance-1.sock')]),
    ([Kind.PAUSED], [('hold',)]),
    ([Kind.PAUSED, Kind.PAUSED, Kind.RESUMED],
     [('hold',), ('watch', 'org.openstack.vmhealth.0.instance-1.sock'),
      ('hold',), ('release',)]),
    ([Kind.STARTED, Kind.STOPPED],
     [('watch', 'org.openstack.vmhealth.0.instance-1.sock'), ('unwatch',)]),
    ([Kind.REBOOTED],
     [('watch', 'org.openstack.vmhealth.0.instance-1.sock')]),
])
def test_heartbeat_follows_the_domain(parts, kinds, calls):
    for kind in kinds:
        parts.monitor.step(see(kind, reason='paused'))
    assert parts.heartbeat.calls == calls


def test_no_heartbeat_unless_asked_for(parts):
    parts.cache.entries[UUID] = entry(UUID, heartbeat='false')
    parts.monitor.step(see(Kind.STARTED))
    assert parts.heartbeat.watched == set()


def test_a_paused_guest_stays_held_after_the_operation(parts):
    instance = types.SimpleNamespace(uuid=UUID)
    parts.monitor.begin(instance, 'pause')
    parts.monitor.step(see(Kind.PAUSED, reason='paused'))
    parts.monitor.end(instance, 'pause')
    assert parts.heartbeat.calls[-1] == ('hold',)
    parts.monitor.step(see(Kind.RESUMED))
    assert parts.heartbeat.calls[-1] == ('release',)


def test_nested_operations_hold_until_the_last_ends(parts):
    instance = types.SimpleNamespace(uuid=UUID)
    parts.monitor.begin(instance, 'reboot')
    parts.monitor.begin(instance, 'power_on')
    parts.monitor.end(instance, 'power_on')
    assert ('release',) not in parts.heartbeat.calls
    parts.monitor.end(instance, 'reboot')
    assert parts.heartbeat.calls[-1] == ('release',)


def finish(parts, operation):
    """An operation of Nova's, and what the driver learns after it."""
    instance = types.SimpleNamespace(uuid=UUID)
    parts.monitor.begin(instance, operation)
    parts.monitor.end(instance, operation)
    drain(parts)
    parts.background.run()
    drain(parts)


@pytest.mark.parametrize('operation', [
    'destroy', 'reboot', 'confirm_migration', 'live_migration'])
@pytest.mark.parametrize('here', [True, False])
def test_after_an_operation_nova_conductor_says_who_left(
        parts, monkeypatch, operation, here):
    clock = [100.0]
    monkeypatch.setattr(monitor.time, 'monotonic', lambda: clock[0])
    if here:
        parts.cache.loadable[UUID] = entry(UUID)
    finish(parts, operation)
    clock[0] += 9.0
    parts.monitor.step(see(Kind.STOPPED, reason='destroyed'))
    assert parts.cache.get(UUID) is not None     # libvirt's last word is late
    clock[0] += 1.0
    parts.monitor.step(None)
    assert (parts.cache.get(UUID) is not None) is here
    assert not parts.monitor._holds
    assert parts.publisher.events == []


def test_nobody_is_forgotten_while_nova_is_at_work(parts):
    parts.cache.busy = True
    finish(parts, 'pre_live_migration')
    assert not parts.monitor._forget_at
    assert list(parts.background.jobs) == [f'reading instance {UUID}']
    parts.cache.busy = False
    parts.background.run()
    drain(parts)
    assert list(parts.monitor._forget_at) == [UUID]


def test_what_was_wrong_with_an_instance_that_left_is_over(
        parts, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(monitor.time, 'monotonic', lambda: clock[0])
    parts.monitor.step(see(Kind.FAULT, cause=Cause.WATCHDOG_EXPIRED))
    parts.monitor.step(see(Kind.FORGOTTEN))
    clock[0] += 10.0
    parts.monitor.step(None)
    assert parts.publisher.events == [
        (Transition.RAISED, Cause.WATCHDOG_EXPIRED),
        (Transition.CLEARED, Cause.WATCHDOG_EXPIRED)]


def test_a_failed_migration_to_this_host_is_no_fault(parts):
    parts.cache.entries[UUID] = entry(UUID, host='source')
    parts.monitor.step(see(Kind.STARTED, reason='migrated'))
    assert parts.heartbeat.calls[-1] == ('hold',)
    parts.monitor.step(see(Kind.STOPPED, reason='failed'))
    assert parts.publisher.events == []
    assert not parts.heartbeat.watched and not parts.monitor._holds


@pytest.mark.parametrize('saved, restored, established', [
    ('saved', 'restored', True), ('saved', 'booted', False),
    ('destroyed', 'restored', False)])
def test_a_guest_that_was_beating_when_saved_is_expected_to_beat(
        parts, saved, restored, established):
    parts.monitor.step(see(Kind.STARTED, reason='booted'))
    parts.heartbeat.established = True
    parts.monitor.step(see(Kind.STOPPED, reason=saved))
    parts.monitor.step(see(Kind.STARTED, reason=restored))
    assert parts.heartbeat.established is established


def test_a_planned_stop_is_no_fault_and_an_unplanned_one_is(parts):
    instance = types.SimpleNamespace(uuid=UUID)
    parts.monitor.begin(instance, 'power_off')
    parts.monitor.observe(see(Kind.STOPPED, reason='destroyed'))
    drain(parts)
    assert parts.publisher.events == []
    parts.cache.entries[OTHER] = entry(OTHER)
    parts.monitor.step(see(Kind.STOPPED, OTHER, reason='destroyed'))
    assert parts.publisher.events == [
        (Transition.RAISED, Cause.STOPPED_UNEXPECTEDLY)]


def test_an_unknown_instance_is_looked_up_and_its_events_wait(parts):
    fault = see(Kind.FAULT, OTHER, Cause.WATCHDOG_EXPIRED, action='none')
    parts.monitor.step(fault)
    assert parts.publisher.events == []
    parts.cache.loadable[OTHER] = entry(OTHER)
    (job,) = parts.background.jobs.values()
    job()
    drain(parts)
    assert parts.publisher.events == [
        (Transition.RAISED, Cause.WATCHDOG_EXPIRED)]


def test_a_domain_that_is_not_novas_is_dropped(parts):
    parts.monitor.step(see(Kind.FAULT, OTHER, Cause.WATCHDOG_EXPIRED))
    (job,) = parts.background.jobs.values()
    job()
    drain(parts)
    assert parts.publisher.events == []
    assert parts.monitor._parked == {}
    # and is not looked up for each of its events
    parts.background.jobs.clear()
    parts.monitor.step(see(Kind.FAULT, OTHER, Cause.WATCHDOG_EXPIRED))
    assert not parts.background.jobs


def test_a_foreign_domain_is_looked_up_again_in_time(parts, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(monitor.time, 'monotonic', lambda: clock[0])
    monkeypatch.setattr(monitor.background, 'MAX_JOBS', 2)
    for uuid in 'abc':
        parts.monitor.step(monitor._Looked(uuid, False))
    assert len(parts.monitor._foreign) <= 2          # bounded
    parts.monitor.step(see(Kind.STARTED, 'c'))
    assert not parts.background.jobs
    clock[0] += monitor.FOREIGN_S
    parts.monitor.step(see(Kind.STARTED, 'c'))
    assert parts.background.jobs


def test_what_waited_comes_before_what_is_new(parts):
    parts.monitor.step(see(Kind.STARTED, OTHER))
    parts.cache.entries[OTHER] = entry(OTHER)     # the look-up is under way
    parts.monitor.step(see(Kind.STOPPED, OTHER, reason='failed'))
    assert [call[0] for call in parts.heartbeat.calls] == [
        'watch', 'unwatch']


def test_what_waits_for_a_look_up_is_bounded(parts):
    for _ in range(3 * monitor.MAX_PARKED):
        parts.monitor.step(see(Kind.FAULT, OTHER, Cause.WATCHDOG_EXPIRED))
    assert len(parts.monitor._parked[OTHER]) == monitor.MAX_PARKED


def test_full_inbox_drops_what_repeats_and_counts_it(parts):
    for _ in range(5):
        parts.monitor.observe(see(Kind.FAULT, cause=Cause.IO_ERROR))
    instance = types.SimpleNamespace(uuid=UUID)
    parts.monitor.begin(instance, 'pause')      # never dropped
    parts.monitor.observe(see(Kind.STOPPED, reason='failed'))
    assert parts.monitor._inbox.dropped == 2
    assert parts.monitor._inbox._queue.qsize() == 5


def test_drops_are_told_once_a_minute(parts, monkeypatch):
    lines = []
    monkeypatch.setattr(monitor.LOG, 'warning',
                        lambda *args: lines.append(args[1]))
    for now, dropped in ((0.0, 1), (1.0, 2), (59.0, 3), (61.0, 4)):
        parts.monitor._inbox.dropped = dropped
        parts.monitor._tell_drops(now)
    assert lines == [{'new': 1, 'all': 1}, {'new': 3, 'all': 4}]


def test_an_instance_that_comes_back_is_not_forgotten(parts, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(monitor.time, 'monotonic', lambda: clock[0])
    parts.monitor.step(see(Kind.FORGOTTEN))
    parts.monitor.begin(types.SimpleNamespace(uuid=UUID), 'spawn')
    drain(parts)
    clock[0] += 100.0
    parts.monitor.step(None)
    assert parts.cache.get(UUID) is not None


def test_control_error_ends_when_the_domain_answers(parts):
    parts.monitor._host = types.SimpleNamespace(
        get_connection=lambda: types.SimpleNamespace(
            lookupByUUIDString=lambda uuid: types.SimpleNamespace(
                info=lambda: [1])))
    parts.monitor.step(see(Kind.FAULT, UUID, Cause.CONTROL_ERROR))
    (job,) = parts.background.jobs.values()
    job()
    drain(parts)
    assert parts.publisher.events == [
        (Transition.RAISED, Cause.CONTROL_ERROR),
        (Transition.CLEARED, Cause.CONTROL_ERROR)]


def test_running_domains_are_watched_again_after_a_restart(parts):
    parts.monitor.step(monitor._Present(UUID, True))
    parts.monitor.step(monitor._Present(OTHER, True))      # not Nova's
    assert parts.heartbeat.watched == {UUID}
