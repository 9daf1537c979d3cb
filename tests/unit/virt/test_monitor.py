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

"""The wiring: who is told of what, in which order, and who is forgotten."""

import types

import pytest

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt import channel_trouble
from nova_vmhealth.virt import host
from nova_vmhealth.virt import metrics
from nova_vmhealth.virt import monitor
from nova_vmhealth.virt import reconcile_jobs
from nova_vmhealth.virt import reporting
from tests.unit.virt import fakes
from tests.unit.virt.fakes import entry
from tests.unit.virt.fakes import OTHER
from tests.unit.virt.fakes import see
from tests.unit.virt.fakes import UUID

OPTIONS = types.SimpleNamespace(
    planned_grace_s=10.0, event_queue_size=3, update_interval_s=1.0,
    io_error_quiet_s=60.0, recover_beats=2, flap_flips=5, flap_window_s=60.0,
    flap_quiet_s=60.0, mass_loss_guests=5, mass_loss_percent=20,
    mass_loss_window_s=10.0, max_actions=3, action_window_s=3600.0,
    action_delay_s=5.0, notice_timeout_ms=100, open_channel=True,
    reconcile_interval_s=60.0, metrics_port=0, metrics_address='127.0.0.1',
    on_libvirt_lost='none', on_storage_fault='disable',
    on_memory_failure='none', on_many_guests_lost='none',
    on_reported_fault='none', host_fault_quiet_s=0.0,
    storage_fault_instances=2, storage_fault_window_s=60.0,
    memory_failure_quiet_s=3600.0)


class Instance(types.SimpleNamespace):
    """As Nova's, it says which of its attributes are loaded."""

    def __contains__(self, name):
        return hasattr(self, name)


INSTANCE = Instance(uuid=UUID, task_state=None)


class Parts:
    """A monitor among stand-ins, and a clock that the test turns."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(monitor.heartbeat, 'HeartbeatMonitor',
                            fakes.Heartbeat)
        monkeypatch.setattr(monitor.background, 'Background',
                            fakes.Background)
        monkeypatch.setattr(monitor.losses.corroboration, 'Corroborator',
                            fakes.Corroborator)
        monkeypatch.setattr(monitor.stream_channel, 'StreamChannels',
                            lambda *neighbours: self)
        monkeypatch.setattr(monitor.time, 'monotonic', lambda: self.now)
        # no thread runs
        monkeypatch.setattr(monitor.worker.Worker, 'call',
                            lambda worker, function, timeout_s: function())
        self.queued = []
        self.cache, self.publisher = fakes.Cache(), fakes.Publisher()
        self.cache.entries[UUID] = entry(UUID)
        self.monitor = monitor.HealthMonitor(
            types.SimpleNamespace(queue_event=self.queued.append), 'compute1',
            OPTIONS, self.cache, self.publisher, lambda *_arguments: None,
            fakes.Beacon())
        self.heartbeat = self.monitor._heartbeat
        self.conductor = self.monitor._conductor
        self.libvirt = self.monitor._libvirt
        self.openings = self.monitor._openings

    def open(self, uuid):
        return 'stream'

    def drain(self):
        """Let the worker handle all that waits in its inbox."""
        while self.monitor._inbox.depth:
            self.step(self.monitor._inbox.get(0))

    def step(self, item):
        """Let the worker handle an item, and what is due."""
        self.monitor._worker.step(item)
        self.monitor._worker.attend()

    def finish(self, operation, succeeded=True):
        """An operation of Nova's, and what the driver learns after it."""
        self.monitor.begin(INSTANCE, operation)
        self.monitor.end(INSTANCE, operation, succeeded)
        self.drain()
        self.conductor.run()
        self.drain()


@pytest.fixture
def parts(monkeypatch):
    return Parts(monkeypatch)


# -- what Nova does ----------------------------------------------------------

@pytest.mark.parametrize('operation, reason', [
    ('destroy', 'destroyed'), ('reboot', 'shutdown'),
    ('migrate_disk_and_power_off', 'destroyed'),
    ('live_migration', 'migrated')])
@pytest.mark.parametrize('here', [True, False])
def test_after_an_operation_nova_conductor_says_who_left(
        parts, operation, reason, here):
    if here:
        parts.cache.loadable[UUID] = entry(UUID)
    parts.finish(operation)
    parts.now += 9.0
    parts.step(see(Kind.STOPPED, reason=reason))
    assert parts.cache.get(UUID) is not None     # libvirt's last word is late
    parts.now += 1.0
    parts.step(None)
    assert (parts.cache.get(UUID) is not None) is here
    assert parts.publisher.events == []


@pytest.mark.parametrize('succeeded, grace_s', [(True, 600.0), (False, 10.0)])
def test_an_operation_is_over_with_its_end_and_its_grace(
        parts, succeeded, grace_s):
    parts.cache.loadable[UUID] = entry(UUID)
    parts.monitor.begin(INSTANCE, 'trigger_crash_dump')
    parts.drain()
    parts.now += 100_000.0
    parts.step(None)
    assert parts.monitor._ledger.is_planned(UUID)
    parts.monitor.end(INSTANCE, 'trigger_crash_dump', succeeded)
    parts.drain()
    parts.now += grace_s - 1.0
    parts.step(None)
    assert parts.monitor._ledger.is_planned(UUID)
    parts.now += 1.0
    parts.step(None)
    assert not parts.monitor._ledger.is_planned(UUID)
    assert not parts.monitor._steering.is_planned(UUID)


def test_an_operation_that_hangs_holds_the_guest_for_so_long(
        parts, monkeypatch):
    monkeypatch.setattr(parts.monitor._steering, '_monotonic',
                        lambda: parts.now)
    parts.monitor.begin(INSTANCE, 'snapshot')
    parts.drain()
    parts.now += 100_000.0
    assert parts.heartbeat.calls[-1] == ('hold',)
    parts.step(None)
    assert parts.heartbeat.calls[-1] == ('release',)
    assert parts.monitor._steering.is_planned(UUID)


def test_an_instance_takes_its_number_along(parts):
    moving = Instance(uuid=UUID, task_state='migrating', system_metadata={})
    fault = see(Kind.FAULT, cause=Cause.WATCHDOG_EXPIRED)
    parts.step(fault)
    parts.monitor.begin(moving, 'post_live_migration')
    parts.monitor.end(moving, 'post_live_migration', succeeded=False)
    assert moving.system_metadata == {}
    parts.monitor.end(moving, 'post_live_migration', succeeded=True)
    assert moving.system_metadata == {'vmhealth_passport': 'v1 2 0'}
    parts.drain()
    moving.system_metadata = {'vmhealth_passport': 'v1 7 0'}
    parts.monitor.begin(moving, 'post_live_migration_at_destination')
    parts.drain()
    parts.step(fault)
    assert parts.publisher.sequences == [1, 2, 8]


def test_an_instance_that_comes_back_is_not_forgotten(parts):
    parts.step(see(Kind.FORGOTTEN))
    parts.monitor.begin(INSTANCE, 'spawn')
    parts.drain()
    parts.now += 100.0
    parts.step(None)
    assert parts.cache.get(UUID) is not None


def test_nor_when_what_brought_it_back_has_ended(parts):
    parts.cache.loadable[UUID] = entry(UUID)
    parts.step(see(Kind.FORGOTTEN))
    parts.finish('spawn')
    parts.now += 100.0
    parts.step(None)
    assert parts.cache.get(UUID) is not None


def test_every_part_forgets_who_left(parts, monkeypatch):
    forgot = []
    for name in ('_losses', '_trouble', '_notices', '_reporter'):
        monkeypatch.setattr(getattr(parts.monitor, name), 'forget',
                            lambda uuid, *now, n=name: forgot.append(n))
    parts.step(see(Kind.FORGOTTEN))
    parts.now += 10.0
    parts.step(None)
    assert sorted(forgot) == [
        '_losses', '_notices', '_reporter', '_trouble']


def test_an_instance_under_an_operation_is_not_forgotten(parts):
    """Its begin has not come to the worker yet."""
    parts.step(see(Kind.FORGOTTEN))
    parts.monitor.begin(INSTANCE, 'spawn')
    parts.now += 100.0
    parts.step(None)
    assert parts.cache.get(UUID) is not None


def test_what_was_wrong_with_an_instance_that_left_is_over(parts):
    parts.step(see(Kind.FAULT, cause=Cause.WATCHDOG_EXPIRED))
    parts.step(see(Kind.FORGOTTEN))
    parts.now += 10.0
    parts.step(None)
    assert parts.publisher.events == [
        (Transition.RAISED, Cause.WATCHDOG_EXPIRED),
        (Transition.CLEARED, Cause.WATCHDOG_EXPIRED)]


def test_a_planned_stop_is_no_fault_and_an_unplanned_one_is(parts):
    parts.monitor.begin(INSTANCE, 'power_off')
    parts.monitor.observe(see(Kind.STOPPED, reason='destroyed'))
    parts.drain()
    assert parts.publisher.events == []
    parts.cache.entries[OTHER] = entry(OTHER)
    parts.step(see(Kind.STOPPED, OTHER, reason='destroyed'))
    assert parts.publisher.events == [
        (Transition.RAISED, Cause.STOPPED_UNEXPECTEDLY)]


def test_a_failed_migration_to_this_host_is_no_fault(parts):
    parts.cache.entries[UUID] = entry(UUID, host='source')
    parts.step(see(Kind.STARTED, reason='migrated'))
    parts.step(see(Kind.STOPPED, reason='failed'))
    assert parts.publisher.events == []
    assert not parts.heartbeat.watched


def test_the_guest_is_told_of_the_outermost_operation(parts):
    parts.step(see(Kind.STARTED))
    parts.monitor.begin(INSTANCE, 'reboot')
    parts.monitor.begin(INSTANCE, 'destroy')
    parts.monitor.end(INSTANCE, 'destroy', True)
    parts.monitor.end(INSTANCE, 'reboot', True)
    assert parts.heartbeat.notices == [('reboot', 100)]


def test_the_guest_is_told_once_its_operation_is_planned(parts):
    """What it does because it was told is no fault."""
    def notice(uuid, operation, timeout_ms):
        seen.append(parts.monitor._inbox.depth)
        assert parts.heartbeat.calls[-1] == ('hold',)
    seen = []
    parts.step(see(Kind.STARTED))
    parts.heartbeat.notice = notice
    parts.monitor.begin(INSTANCE, 'reboot')
    assert seen == [1]


@pytest.mark.parametrize('succeeded', [True, False])
@pytest.mark.parametrize('first', [True, False])
def test_the_guest_is_told_of_what_has_happened(parts, first, succeeded):
    """Whether libvirt tells of its start before Nova is done, or after."""
    parts.cache.loadable[UUID] = entry(UUID)
    if first:
        parts.step(see(Kind.STARTED, reason='restored'))
    parts.finish('resume', succeeded)
    if not first:
        parts.step(see(Kind.STARTED, reason='restored'))
    assert parts.heartbeat.notices == [('resumed', None)] * succeeded


# -- what is seen ------------------------------------------------------------

def test_the_heartbeat_follows_the_domain(parts):
    parts.step(see(Kind.STARTED, reason='booted'))
    assert parts.heartbeat.watched == {UUID}
    parts.step(see(Kind.STOPPED, reason='failed'))
    assert parts.heartbeat.watched == set()


def test_running_domains_are_watched_again_after_a_restart(parts):
    parts.cache.entries['paused'] = entry('paused')
    parts.step(reconcile_jobs.Stocktaken())
    parts.step(reconcile_jobs.Look(
        {UUID: (1, 1), OTHER: (1, 1), 'paused': (3, 1)},
        parts.monitor._reconciler._looking_since))
    assert parts.heartbeat.watched == {UUID}     # the other is not Nova's


def test_an_unknown_instance_is_looked_up_and_its_events_wait(parts):
    parts.step(see(Kind.FAULT, OTHER, Cause.WATCHDOG_EXPIRED))
    assert parts.publisher.events == []
    parts.cache.loadable[OTHER] = entry(OTHER)
    parts.conductor.run()
    parts.drain()
    assert parts.publisher.events == [
        (Transition.RAISED, Cause.WATCHDOG_EXPIRED)]


def test_a_domain_that_is_not_novas_is_dropped(parts):
    parts.step(see(Kind.FAULT, OTHER, Cause.WATCHDOG_EXPIRED))
    parts.conductor.run()
    parts.drain()
    assert parts.publisher.events == []


def test_what_waited_comes_before_what_is_new(parts):
    parts.step(see(Kind.STARTED, OTHER))
    parts.cache.entries[OTHER] = entry(OTHER)     # the look-up is under way
    parts.step(see(Kind.STOPPED, OTHER, reason='failed'))
    assert [call[0] for call in parts.heartbeat.calls] == [
        'watch', 'unwatch']


def test_a_control_error_is_asked_about(parts):
    parts.step(see(Kind.FAULT, UUID, Cause.CONTROL_ERROR))
    assert list(parts.libvirt.jobs) == [f'asking libvirt about {UUID}']


@pytest.mark.parametrize('details, way', [
    ({}, 'socket'), ({'way': 'libvirt'}, 'libvirt')])
def test_the_log_says_which_way_the_heartbeat_took(
        parts, monkeypatch, details, way):
    said = []
    monkeypatch.setattr(parts.monitor._reporter, 'established',
                        lambda *said_: said.append(said_))
    parts.step(see(Kind.HEARTBEAT_ESTABLISHED, **details))
    assert said == [(UUID, way, parts.now)]


def test_a_guest_that_was_started_anew_is_news_to_the_log(
        parts, monkeypatch):
    said = []
    monkeypatch.setattr(reporting.LOG, 'info',
                        lambda text, of: said.append(text % of))
    for kind in (Kind.STARTED, Kind.HEARTBEAT_ESTABLISHED,
                 Kind.HEARTBEAT_ESTABLISHED, Kind.STARTED,
                 Kind.HEARTBEAT_ESTABLISHED):
        parts.step(see(kind))
    assert said == 2 * ['[instance: %s] heartbeat established, way: socket'
                        % UUID]


# -- what goes wrong with guests and channels --------------------------------

def lose(parts, **extra_specs):
    parts.cache.entries[UUID] = entry(UUID, **extra_specs)
    parts.step(see(Kind.STARTED))
    parts.heartbeat.established, parts.heartbeat.misses = True, 3
    parts.step(see(Kind.FAULT, cause=Cause.HEARTBEAT_LOST))


def test_an_action_is_taken_when_it_is_due(parts):
    lose(parts, action='reset')
    assert parts.publisher.details == [
        {'action': 'reset', 'action_state': 'pending'}]
    assert parts.monitor._worker._patience() == pytest.approx(5.0)
    parts.now += 5.0
    parts.step(None)
    assert list(parts.libvirt.jobs) == [f'reset of instance {UUID}']


def test_an_operation_waits_for_an_action_under_way(parts, monkeypatch):
    def wait(uuid):
        assert parts.monitor._steering.is_planned(uuid)
        assert parts.heartbeat.notices == []
        waited.append(uuid)
    waited = []
    parts.step(see(Kind.STARTED))
    monkeypatch.setattr(parts.monitor._steering, 'wait_for_action', wait)
    parts.monitor.begin(INSTANCE, 'reboot')
    assert waited == [UUID]
    assert parts.heartbeat.notices == [('reboot', 100)]


def test_an_action_that_is_withheld_late_wakes_the_worker(parts):
    lose(parts, action='reset')
    parts.now += 5.0
    parts.step(None)
    parts.heartbeat.misses = 0
    parts.libvirt.run()
    parts.drain()
    assert parts.publisher.details[-1]['action_reason'] == 'recovered'


def test_the_background_threads_are_tended(parts):
    parts.step(None)
    assert parts.libvirt.tended == 1


def test_who_wants_an_action_is_told_of_it(parts):
    lose(parts, action='reset', events='io_error')
    assert parts.publisher.events == [
        (Transition.RAISED, Cause.HEARTBEAT_LOST)]


def test_who_wants_no_events_and_no_action_is_told_nothing(parts):
    lose(parts, events='io_error')
    assert parts.publisher.events == []


def test_many_lost_guests_are_told_of_as_one(parts):
    parts.heartbeat.count = 5
    for number in range(5):
        uuid = 'guest-%d' % number
        parts.cache.entries[uuid] = entry(uuid)
        parts.step(see(Kind.FAULT, uuid, Cause.HEARTBEAT_LOST))
    ((transition, compute_host, projects),) = parts.publisher.host_events
    assert transition is Transition.RAISED
    assert compute_host == 'compute1'
    assert len(projects) == 5
    assert 'host_event' in parts.publisher.details[4]
    # and that each of them is on a host that is suspected
    parts.step(None)
    assert parts.publisher.events[5:] == [
        (Transition.RAISED, Cause.HOST_FAULT)] * len(parts.cache.entries)


def test_the_second_way_is_asked_for_through_novas_queue(parts):
    """The heartbeat's thread may not touch what greenthreads use."""
    parts.monitor._ask_for_second_way(UUID, '/path', 'EACCES')
    (event,) = parts.queued
    assert isinstance(event, host.RequestEvent)
    parts.monitor.request(event.item)
    parts.drain()
    parts.openings.run()
    assert ('offer', UUID, 'stream') in parts.heartbeat.calls


def test_no_second_way_to_a_guest_that_nova_may_be_ending(parts):
    parts.monitor.begin(INSTANCE, 'destroy')
    parts.step(channel_trouble.Unreachable(UUID, 1.0, '/path', 'no'))
    assert not parts.openings.jobs


def test_observations_and_lines_go_through_novas_queue(parts):
    parts.monitor._deliver(see(Kind.HEARTBEAT_ESTABLISHED))
    parts.monitor._log_from_native_thread(30, 'a line')
    assert [type(event) for event in parts.queued] == [
        host.ObservationEvent, host.LogEvent]


def test_a_silent_channel_is_looked_into(parts):
    parts.step(see(Kind.HEARTBEAT_UNHEARD))
    assert list(parts.openings.jobs) == [
        'looking for who holds the channels']


def test_a_request_for_the_second_way_is_no_observation(parts):
    parts.step(channel_trouble.Unreachable(UUID, 1.0, '/path', 'no'))
    assert parts.publisher.events == []


class Hanging:
    """A thread that ends at none of its calls of stop()."""

    def __init__(self, name, world):
        self._name, self._world = name, world

    def stop(self, timeout_s=0.0):
        self._world.now += timeout_s
        self._world.told.append(self._name)

    close = stop


def test_all_threads_are_told_to_stop_before_one_is_waited_for(parts):
    began, parts.told, watch = parts.now, [], parts.monitor
    watch._backgrounds = [Hanging(name, parts) for name in 'abc']
    for name in ('exporter', 'server', 'heartbeat', 'beacon', 'worker',
                 'publisher', 'streams'):
        setattr(watch, '_' + name, Hanging(name, parts))
    watch.stop(5.0)
    assert parts.told == [
        'exporter', 'server', 'heartbeat', 'a', 'b', 'c', 'beacon',
        'heartbeat', 'worker', 'publisher', 'streams', 'server', 'a', 'b',
        'c']
    assert parts.now == began + 5.0


def test_what_the_worker_gives_up_is_counted(parts):
    parts.monitor._worker.given_up = 2
    assert parts.monitor.statistics()['notifications_failed'] == 2


def test_every_metric_has_its_statistics(parts):
    parts.monitor.observe(see(Kind.STARTED))
    found = parts.monitor.statistics()
    assert found['observations_waiting'] == 1
    assert found['notifications_sent'] == 0
    assert set(found) == set(metrics.METRICS)


def test_libvirts_end_is_told_of_the_host_and_numbered(parts):
    for loss, up in ((0, False), (1, True)):
        parts.monitor.request(host.LinkChanged(up, 1.0, loss=loss))
        parts.drain()
    assert parts.publisher.host_events == [
        (Transition.RAISED, 'compute1', {UUID: 'project'}),
        (Transition.CLEARED, 'compute1', {UUID: 'project'})]
    assert parts.publisher.events == [
        (Transition.RAISED, Cause.HOST_FAULT),
        (Transition.CLEARED, Cause.HOST_FAULT)]


def test_a_libvirt_that_hangs_is_told_of_the_host(parts, monkeypatch):
    link = parts.monitor._link
    monkeypatch.setattr(link, '_monotonic', lambda: parts.now)
    parts.monitor._host.get_connection = lambda: None

    def question(_connection):
        parts.now += 30.0
        parts.drain()

    link.ask(question)
    parts.step(None)
    assert [transition for transition, _, _ in parts.publisher.host_events
            ] == [Transition.RAISED, Transition.CLEARED]


def test_novas_connection_is_left_alone_while_it_is_lost(parts):
    """Nova logs a trace for each attempt."""
    parts.step(see(Kind.FAULT, cause=Cause.CONTROL_ERROR))
    parts.step(host.LinkChanged(False, 1.0))
    parts.monitor._host.get_connection = pytest.fail
    parts.libvirt.run()
    assert parts.libvirt.jobs


def test_one_that_has_left_while_nobody_looked_is_cleared(monkeypatch):
    before = Parts(monkeypatch)
    before.step(see(Kind.FAULT, cause=Cause.GUEST_CRASHED))
    saved = before.monitor._saved.changes(before.now, 1.0)

    parts = Parts(monkeypatch)
    parts.cache.entries.clear()
    parts.monitor._saved.restore(saved, parts.now, 1.0)
    [uuid] = parts.monitor._saved.instances()
    parts.step(see(Kind.FORGOTTEN, uuid))
    parts.now += 10.0
    parts.step(None)
    assert parts.publisher.events == [
        (Transition.CLEARED, Cause.GUEST_CRASHED)]
    assert parts.cache.get(UUID) is None
    assert parts.monitor._saved.changes(parts.now, 1.0)[UUID] is None
