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

"""Wires the parts: observations in, ledger, notifications out.

One worker thread owns the ledger. Everything that sees something, libvirt's
event thread, the heartbeat's thread, Nova's own threads, puts it into the
worker's inbox and goes on; RPC and libvirt calls are made by the background
thread, sending by the publisher's.
"""

import collections
import dataclasses
import logging as py_logging
import queue
import threading
import time

from nova.compute import power_state
from nova import exception as nova_exception
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_vmhealth.core import ledger
from nova_vmhealth.core import vocabulary
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.virt import background
from nova_vmhealth.virt import channel
from nova_vmhealth.virt import heartbeat
from nova_vmhealth.virt import host as host_lib

LOG = logging.getLogger(__name__)

# Nova writes an instance's new state after the driver's method returned; the
# identity is read again this many seconds later, and then at this period for
# as long as Nova is still at work on the instance.
REFRESH_DELAY_S = 3.0
REFRESH_AGAIN_S = 10.0
# A domain that is not Nova's is not looked up again for this many seconds.
FOREIGN_S = 60.0
# After a control error the domain is asked this many seconds later whether it
# answers again.
PROBE_DELAY_S = 5.0
# Observations kept of one instance while it is looked up: libvirt tells a few
# for one fault, more is a storm.
MAX_PARKED = 100
DROP_LOG_INTERVAL_S = 60.0
# Why a heartbeat holds, besides the names of planned operations.
_PAUSED = 'paused'


# What a guest or a disk can repeat without end. The rest, lifecycle and
# heartbeat, is told once by those who see it, and bounded by them.
_REPEATING = frozenset({Cause.IO_ERROR, Cause.MEMORY_FAILURE,
                        Cause.WATCHDOG_EXPIRED, Cause.CONTROL_ERROR})
_STOPS = (Kind.STOPPED, Kind.SHUTDOWN_BY_GUEST, Kind.SHUTDOWN_BY_HOST)


@dataclasses.dataclass(frozen=True, slots=True)
class _Looked:
    """Background's answer: whether an unknown instance is one of ours."""

    instance_uuid: str
    found: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Present:
    """A domain that libvirt has when nova-compute starts."""

    instance_uuid: str
    running: bool


class Inbox:
    """The worker's queue: bounded, never blocks the one who puts.

    Only the faults that repeat are bounded: of the others each one counts.
    """

    def __init__(self, size):
        self._size = size
        self._queue = queue.Queue()
        self.dropped = 0

    def put_observation(self, observation):
        """Queue an observation, or count it as dropped when full."""
        if (observation.kind is Kind.FAULT and observation.cause in _REPEATING
                and self._queue.qsize() >= self._size):
            self.dropped += 1
            return
        self._queue.put(observation)

    def put(self, item):
        """Queue what must not be lost."""
        self._queue.put(item)

    def get(self, timeout_s):
        """Return the next item, or raise queue.Empty after timeout_s."""
        return self._queue.get(timeout=timeout_s)


class HealthMonitor:
    """Health of all instances of one compute host.

    :param host: HealthHost
    :param compute_host: this host's name, as instances carry it
    :param options: the option group [vmhealth]
    :param cache: nova_vmhealth.virt.identity.InstanceCache
    :param publisher: nova_vmhealth.notifications.publisher.Publisher
    """

    def __init__(self, host, compute_host, options, cache, publisher):
        self._host = host
        self._compute_host = compute_host
        self._cache = cache
        self._publisher = publisher
        self._grace_s = options.planned_grace_s
        self._inbox = Inbox(options.event_queue_size)
        self._ledger = ledger.Ledger(
            ledger.Settings(update_interval_s=options.update_interval_s,
                            planned_grace_s=options.planned_grace_s,
                            io_error_quiet_s=options.io_error_quiet_s),
            uuidutils.generate_uuid)
        self._heartbeat = heartbeat.HeartbeatMonitor(
            self._deliver, log=self._log_from_native_thread,
            recover_beats=options.recover_beats)
        self._background = background.Background()
        self._thread = None
        self._stopping = False
        # uuid -> observations waiting until the instance is looked up
        self._parked = {}
        # uuid -> monotonic time when an instance that left is forgotten
        self._forget_at = {}
        # uuid of a domain that is not Nova's -> monotonic time until when
        self._foreign = {}
        # guests that were beating when Nova saved them to disk
        self._beating_when_saved = set()
        # uuid -> why its heartbeat holds: _PAUSED, and one per planned
        # operation; Nova's threads and the worker both change it.
        self._holds = collections.defaultdict(list)
        self._holds_lock = threading.Lock()
        self._drops_told = 0
        self._drops_told_at = float('-inf')

    # -- called by the driver ------------------------------------------------

    def start(self):
        """Start the threads and look up what runs on this host."""
        self._publisher.start()
        self._heartbeat.start()
        self._background.start()
        self._thread = threading.Thread(
            target=self._run, name='vmhealth-worker', daemon=True)
        self._thread.start()
        self._background.submit('reading the instances of this host',
                                self._take_stock)

    def stop(self, timeout_s=5.0):
        """Stop the threads; waits at most about timeout_s for each.

        :param timeout_s: seconds
        """
        self._stopping = True
        self._heartbeat.stop(timeout_s)
        self._background.stop(timeout_s)
        self._inbox.put(None)
        if self._thread:
            self._thread.join(timeout_s)
        self._publisher.stop(timeout_s)

    def observe(self, observation):
        """Take in an observation; returns at once, from any thread.

        :param observation: nova_vmhealth.core.vocabulary.Observation
        """
        self._inbox.put_observation(observation)

    def begin(self, instance, operation):
        """Nova begins to change an instance: what follows is no fault.

        :param instance: nova.objects.Instance
        :param operation: name of the driver's method
        """
        # In this order: what is held is not forgotten.
        self._hold(instance.uuid, operation)
        self._cache.put(instance)
        self._inbox.put(Observation(
            Kind.PLANNED_BEGUN, instance.uuid, time.time(),
            details={'operation': operation}))

    def end(self, instance, operation):
        """Nova is done with what begin() announced.

        Whether the instance is still here only nova-conductor knows, once
        Nova has written down what it did.

        :param instance: nova.objects.Instance
        :param operation: name of the driver's method
        """
        self._inbox.put(Observation(
            Kind.PLANNED_ENDED, instance.uuid, time.time(),
            details={'operation': operation}))
        self._release(instance.uuid, operation)
        self._refresh_later(instance.uuid, REFRESH_DELAY_S)

    # -- heartbeats ----------------------------------------------------------

    def _deliver(self, observation):
        """Called on the heartbeat's native thread."""
        self._host.queue_event(host_lib.ObservationEvent(observation))

    def _log_from_native_thread(self, level, message):
        self._host.queue_event(host_lib.LogEvent(level, message))

    # The heartbeat only takes note of what it is asked, so it is asked with
    # the lock held: in the order in which the reasons change.

    def _hold(self, uuid, reason):
        with self._holds_lock:
            if reason == _PAUSED and reason in self._holds[uuid]:
                return
            self._holds[uuid].append(reason)
            self._heartbeat.hold(uuid)

    def _release(self, uuid, reason):
        with self._holds_lock:
            reasons = self._holds.get(uuid, [])
            if reason not in reasons:
                return
            reasons.remove(reason)
            if not reasons:
                del self._holds[uuid]
                self._heartbeat.release(uuid)

    def _watch(self, uuid, entry, established=False):
        """Begin the heartbeat of a domain that has just started."""
        if not entry.policy.heartbeat:
            return
        with self._holds_lock:
            self._heartbeat.watch(
                uuid, channel.socket_path(entry.domain_name), entry.policy,
                established)
            if uuid in self._holds:
                self._heartbeat.hold(uuid)

    def _steer_heartbeat(self, observation, entry):
        """Let the heartbeat follow what libvirt says of the domain."""
        uuid, kind = observation.instance_uuid, observation.kind
        reason = observation.details.get('reason')
        if kind in (Kind.STARTED, Kind.REBOOTED):
            saved = uuid in self._beating_when_saved
            self._beating_when_saved.discard(uuid)
            self._release(uuid, _PAUSED)
            self._watch(uuid, entry, saved and reason == 'restored')
            if reason == 'migrated':      # it runs on the source until resumed
                self._hold(uuid, _PAUSED)
        elif kind is Kind.PAUSED:
            self._hold(uuid, _PAUSED)
        elif kind is Kind.RESUMED:
            if self._heartbeat.status(uuid) is None:
                self._watch(uuid, entry)
            self._release(uuid, _PAUSED)
        elif kind is Kind.STOPPED:
            status = self._heartbeat.status(uuid)
            if reason == 'saved' and status and status.established:
                self._beating_when_saved.add(uuid)
            self._heartbeat.unwatch(uuid)
            self._release(uuid, _PAUSED)

    # -- the background's jobs -----------------------------------------------

    def _take_stock(self):
        """Learn at start which instances are here and which of them run."""
        self._cache.load_all(self._compute_host)
        for guest in self._host.list_guests(only_running=False):
            try:
                state = guest.get_power_state(self._host)
            except nova_exception.InstanceNotFound:     # just deleted
                continue
            self._inbox.put(
                _Present(guest.uuid, state == power_state.RUNNING))

    def _refresh_later(self, uuid, delay_s):
        self._background.submit(f'reading instance {uuid}',
                                lambda: self._refresh(uuid), delay_s)

    def _refresh(self, uuid):
        """Read an instance again, and forget it once it has left this host."""
        if self._cache.get(uuid) is None:
            return
        found = self._cache.load(uuid, self._compute_host)
        if found.busy:
            self._refresh_later(uuid, REFRESH_AGAIN_S)
        elif not found.here:
            self._inbox.put(Observation(Kind.FORGOTTEN, uuid, time.time()))

    def _look_up(self, uuid):
        self._inbox.put(
            _Looked(uuid, self._cache.load(uuid, self._compute_host).here))

    def _probe(self, uuid):
        """See whether libvirt gets an answer about a domain again."""
        if self._cache.get(uuid) is None:
            return
        self._host.get_connection().lookupByUUIDString(uuid).info()
        self._inbox.put(Observation(Kind.RECOVERED, uuid, time.time(),
                                    Cause.CONTROL_ERROR))

    # -- the worker ----------------------------------------------------------

    def _run(self):
        while not self._stopping:
            try:
                item = self._inbox.get(self._patience())
            except queue.Empty:
                item = None
            try:
                self.step(item)
            except Exception:
                # A defect in handling one item must not end the watch over
                # all instances; the trace says where it is.
                LOG.exception('Cannot handle %s', item)

    def _patience(self):
        """Seconds until something is due, at most a minute."""
        due = [self._ledger.next_deadline(), *self._forget_at.values()]
        due = [at for at in due if at is not None]
        if not due:
            return DROP_LOG_INTERVAL_S
        return max(0.0, min(min(due) - time.monotonic(), DROP_LOG_INTERVAL_S))

    def step(self, item):
        """Handle one item of the inbox, and what is due.

        :param item: an Observation, an answer of the background thread, or
            None when only deadlines are to be looked at
        """
        now = time.monotonic()
        if isinstance(item, Observation):
            self._take(item, now)
        elif isinstance(item, _Looked):
            parked = self._parked.pop(item.instance_uuid, ())
            for observation in parked if item.found else ():
                self._take(observation, now)
            if not item.found:
                if len(self._foreign) >= background.MAX_JOBS:
                    self._foreign.clear()
                self._foreign[item.instance_uuid] = now + FOREIGN_S
        elif isinstance(item, _Present):
            self._take_present(item)
        self._publish(self._ledger.handle_timer(now, time.time()))
        for uuid in [u for u, at in self._forget_at.items() if at <= now]:
            self._forget(uuid, now)
        self._tell_drops(now)

    def _take(self, observation, now):
        uuid = observation.instance_uuid
        if observation.kind is Kind.FORGOTTEN:
            # libvirt's last events of the domain are still under way.
            self._forget_at[uuid] = now + self._grace_s
            return
        entry = self._cache.get(uuid)
        if entry is None:
            self._park(observation, now)
            return
        for older in self._parked.pop(uuid, ()):
            self._take(older, now)
        if (observation.kind in _STOPS
                and entry.identity.host not in (None, self._compute_host)):
            # A live migration to this host that failed: the instance runs on
            # where it was.
            self._heartbeat.unwatch(uuid)
            self._release(uuid, _PAUSED)
            return
        if observation.kind in (Kind.PLANNED_BEGUN, Kind.STARTED):
            self._forget_at.pop(uuid, None)       # it is back
        self._steer_heartbeat(observation, entry)
        if observation.cause is Cause.CONTROL_ERROR \
                and observation.kind is Kind.FAULT:
            self._background.submit(f'asking libvirt about {uuid}',
                                    lambda: self._probe(uuid), PROBE_DELAY_S)
        if observation.kind is Kind.HEARTBEAT_ESTABLISHED:
            LOG.info('[instance: %s] heartbeat established', uuid)
        self._publish(self._ledger.observe(
            observation, now, time.time(), entry.policy.events))

    def _take_present(self, present):
        """Resume the watch over a domain that was here before us."""
        entry = self._cache.get(present.instance_uuid)
        # Taking stock is tried again when it fails half-way.
        if (entry is not None and present.running
                and self._heartbeat.status(present.instance_uuid) is None):
            self._watch(present.instance_uuid, entry)

    def _park(self, observation, now):
        uuid = observation.instance_uuid
        parked = self._parked.get(uuid)
        if parked is None:
            if self._foreign.get(uuid, now) > now:
                return
            if not self._background.submit(f'looking up instance {uuid}',
                                           lambda: self._look_up(uuid)):
                return
            parked = self._parked[uuid] = []
        if len(parked) < MAX_PARKED:
            parked.append(observation)

    def _forget(self, uuid, now):
        del self._forget_at[uuid]
        with self._holds_lock:
            if set(self._holds.get(uuid, ())) - {_PAUSED}:
                return                  # it is on its way back
            self._holds.pop(uuid, None)
            self._heartbeat.unwatch(uuid)
            entry = self._cache.get(uuid)
            self._cache.forget(uuid)
        self._beating_when_saved.discard(uuid)
        wall = time.time()
        self._publish(self._ledger.observe(
            Observation(Kind.FORGOTTEN, uuid, wall), now, wall, frozenset()),
            entry)

    def _publish(self, events, last_entry=None):
        for event in events:
            entry = self._cache.get(event.instance_uuid) or last_entry
            if entry is None:
                continue
            self._publisher.submit(event, entry.identity,
                                   self._heartbeat.status(event.instance_uuid))
            LOG.log(_level(event),
                    '[instance: %(uuid)s] %(cause)s%(subject)s '
                    '%(transition)s, health %(health)s: %(details)s',
                    {'uuid': event.instance_uuid, 'cause': event.cause.value,
                     'subject': f' ({event.subject})' if event.subject else '',
                     'transition': event.transition.value,
                     'health': event.health.value,
                     'details': dict(event.details)})

    def _tell_drops(self, now):
        dropped = self._inbox.dropped
        if dropped == self._drops_told \
                or now - self._drops_told_at < DROP_LOG_INTERVAL_S:
            return
        LOG.warning('%(new)d observations dropped since the last such line, '
                    '%(all)d in all: the queue was full. Raise '
                    '[vmhealth]event_queue_size if this goes on.',
                    {'new': dropped - self._drops_told, 'all': dropped})
        self._drops_told, self._drops_told_at = dropped, now


def _level(event):
    if event.transition is vocabulary.Transition.RAISED \
            and event.severity is vocabulary.Severity.CRITICAL:
        return py_logging.WARNING
    return py_logging.INFO
