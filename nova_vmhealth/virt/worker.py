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


"""The worker: the one thread that owns the ledger.

It takes what waits in the inbox, lets every part have its say, and writes what
is to be told and what the ledger knows to disk in one transaction, before it
takes more. Only what is written is sent.
"""

import dataclasses
import math
import queue
import threading
import time
from typing import Any, Callable

from oslo_log import log as logging

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.virt import actions
from nova_vmhealth.virt import channel_trouble
from nova_vmhealth.virt import enquiries
from nova_vmhealth.virt import host_status

LOG = logging.getLogger(__name__)

# The worker looks at its deadlines at least this often, seconds.
PATIENCE_S = 60.0
# Items share a transaction for so long at most, seconds: what was told first
# does not wait for what comes last in a burst.
MAX_TURN_S = 0.020

# What could not be written is tried again after so long, seconds.
BEHIND_S = 0.5

_STOPS = (Kind.STOPPED, Kind.SHUTDOWN_BY_GUEST, Kind.SHUTDOWN_BY_HOST)


class Call:
    """A function that another thread wants run on the worker.

    :param function: called without arguments
    :ivar done: set once it has run and what came of it is on disk
    :ivar result: what it returned; None when it failed
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = threading.Event()
        self.result = None


@dataclasses.dataclass(frozen=True)
class Parts:
    """What the worker lets have its say; each has its own module."""

    inbox: Any
    cache: Any
    ledger: Any
    saved: Any
    publisher: Any
    reporter: Any
    steering: Any
    enquiries: Any
    reconciler: Any
    arrivals: Any
    losses: Any
    notices: Any
    trouble: Any
    host_faults: Any
    backgrounds: tuple


class Worker:
    """Takes the inbox's items one after the other.

    :ivar given_up: how many events were not told, since nobody knew their
        instance
    :param parts: Parts
    :param compute_host: this host's name, as instances carry it
    :param grace_s: an instance that left is forgotten after so long, seconds
    """

    def __init__(self, parts, compute_host, grace_s):
        self._parts = parts
        self._compute_host = compute_host
        self._grace_s = grace_s
        self._thread = None
        self._stopping = False
        self.given_up = 0
        # calls that have run, and wait for the disk
        self._calls = []
        # uuid -> monotonic time when an instance that left is forgotten
        self._forget_at = {}

    def start(self):
        """Start the thread."""
        self._thread = threading.Thread(
            target=self._run, name='vmhealth-worker', daemon=True)
        self._thread.start()

    def stop(self, timeout_s):
        """Stop once what waits is handled.

        :param timeout_s: longest wait, seconds
        """
        self._stopping = True
        self._parts.inbox.put(None)
        if self._thread:
            self._thread.join(timeout_s)

    def call(self, function, timeout_s):
        """Run a function on the worker and wait for what comes of it.

        Not for libvirt's event thread, nor for the worker itself.

        :param function: called without arguments
        :param timeout_s: longest wait, seconds
        :returns: its result; None when it failed or took too long: what came
            of it may not be on disk then
        """
        asked = Call(function)
        self._parts.inbox.put(asked)
        return asked.result if asked.done.wait(timeout_s) else None

    def post(self, function):
        """Have a function run on the worker; returns at once.

        :param function: called without arguments
        """
        self._parts.inbox.put(Call(function))

    # -- the thread ----------------------------------------------------------

    def tell(self, events):
        """Have events published; for functions that run on the worker.

        :param events: nova_vmhealth.core.vocabulary.HealthEvent, in order
        """
        self._publish(events, time.monotonic(), time.time())

    def _run(self):
        # What was observed before the stop is written down, to be told by the
        # next run at the latest.
        while not self._stopping or self._parts.inbox.depth:
            self.turn(self._patience())

    def turn(self, timeout_s):
        """Handle what waits, and write down what came of it.

        :param timeout_s: how long to wait for the first item, seconds
        """
        try:
            item = self._parts.inbox.get(timeout_s)
            until = time.monotonic() + MAX_TURN_S
            self._safely(self.step, item)
            while time.monotonic() < until:
                self._safely(self.step, self._parts.inbox.get(0))
        except queue.Empty:
            pass
        self._safely(self.attend)
        self._safely(self._commit)
        # Between two turns of a burst others get their turn: greenthreads,
        # which nothing above lets run, and whoever waits for Python's lock.
        time.sleep(0)

    def _safely(self, function, *item):
        try:
            function(*item)
        except Exception:
            # A defect in handling one item must not end the watch over
            # all instances; the trace says where it is.
            LOG.exception('Failed in %s%s', function.__name__, item)

    def _commit(self):
        """Write down what the turn brought, then answer who waits for that."""
        is_written = self._write()
        if self._parts.publisher.was_renewed():
            self.tell(self._parts.saved.go_on_after(
                self._parts.publisher.take_found()))
            self._parts.saved.rewrite_all()
            is_written = self._write()
        if is_written:
            calls, self._calls = self._calls, []
            for call in calls:
                call.done.set()

    def _write(self):
        return self._parts.publisher.commit(
            self._parts.saved.changes(time.monotonic(), time.time()))

    def _patience(self):
        """Seconds until something is due, at most a minute."""
        if self._parts.publisher.is_behind:
            return BEHIND_S
        due = [self._parts.ledger.next_deadline(),
               self._parts.losses.next_deadline(),
               self._parts.host_faults.next_deadline(),
               self._parts.reconciler.next_deadline(),
               *self._forget_at.values()]
        soonest = min((at for at in due if at is not None),
                      default=math.inf)
        return max(0.0, min(soonest - time.monotonic(), PATIENCE_S))

    def step(self, item):
        """Handle one item of the inbox.

        :param item: an Observation, an answer of a background thread, a
            request of the heartbeat, a Call, or None, which only wakes
        """
        now, wall = time.monotonic(), time.time()
        if isinstance(item, Observation):
            self._take(item, now, wall)
        elif isinstance(item, enquiries.Looked):
            for observation in self._parts.arrivals.looked(
                    item.instance_uuid, item.found, now):
                self._take(observation, now, wall)
        elif isinstance(item, channel_trouble.Unreachable):
            # Nova may be ending the domain. If not, the heartbeat asks again.
            if not self._parts.steering.is_planned(item.instance_uuid):
                self._parts.trouble.unreachable(item)
        elif isinstance(item, Call):
            self._calls.append(item)
            item.result = item.function()
        elif isinstance(item, host_status.Settled):
            self._parts.host_faults.settle(item)
        elif item is not None:
            for observation in self._parts.reconciler.take(item, now, wall):
                self._take(observation, now, wall)

    def attend(self):
        """Do what is due."""
        now, wall = time.monotonic(), time.time()
        self._publish(self._parts.ledger.handle_timer(now, wall), now, wall)
        self._parts.losses.handle_timer(now, wall)
        self._parts.reconciler.handle_timer(now)
        self._parts.steering.handle_timer(now)
        # After those that see what is wrong with the host.
        for observation in self._parts.host_faults.handle_timer(now, wall):
            self._take(observation, now, wall)
        for uuid in [u for u, at in self._forget_at.items() if at <= now]:
            self._forget(uuid, now, wall)
        self._parts.inbox.tell_drops(now)
        for thread in self._parts.backgrounds:
            thread.tend()

    def _take(self, observation, now, wall):
        uuid, kind = observation.instance_uuid, observation.kind
        if kind is Kind.FORGOTTEN:
            # libvirt's last events of the domain are still under way.
            self._forget_at[uuid] = now + self._grace_s
            return
        entry = self._parts.cache.get(uuid)
        if entry is None:
            self._parts.arrivals.park(observation, now)
            return
        for older in self._parts.arrivals.claim(uuid):
            self._take(older, now, wall)
        if (kind in _STOPS
                and entry.identity.host not in (None, self._compute_host)):
            # A live migration to this host that failed: the instance runs on
            # where it was.
            self._parts.steering.leave(uuid)
            return
        if kind in (Kind.PLANNED_BEGUN, Kind.STARTED):
            self._forget_at.pop(uuid, None)       # it is back
        self._parts.reconciler.observed(observation, now)
        self._parts.steering.follow(observation, entry)
        self._parts.host_faults.observed(observation, now, wall)
        self._attend(observation, entry, now)
        observation = self._parts.losses.observed(
            observation, entry.policy, now, wall)
        self._publish(self._parts.ledger.observe(
            observation, now, wall, actions.wanted(entry.policy)), now, wall)

    def _attend(self, observation, entry, now):
        """Do what an observation asks for besides the ledger's part."""
        uuid, kind = observation.instance_uuid, observation.kind
        if kind is Kind.STARTED:
            self._parts.notices.watched(uuid)
            self._parts.reporter.forget(uuid)     # its heartbeat begins anew
        elif kind is Kind.HEARTBEAT_ESTABLISHED:
            self._parts.reporter.established(
                uuid, observation.details.get('way', 'socket'), now)
        elif kind is Kind.HEARTBEAT_UNHEARD:
            self._parts.trouble.unheard(uuid, entry.domain_name)
        elif kind is Kind.FAULT and observation.cause is Cause.CONTROL_ERROR:
            self._parts.enquiries.probe_later(uuid)

    def _forget(self, uuid, now, wall):
        del self._forget_at[uuid]
        entry = self._parts.cache.get(uuid)
        if not self._parts.steering.forget(
                uuid, lambda: self._parts.cache.forget(uuid)):
            return                  # it is on its way back
        self._publish(self._parts.ledger.observe(
            Observation(Kind.FORGOTTEN, uuid, wall), now, wall, frozenset()),
            now, wall, entry)
        self._parts.losses.forget(uuid, now, wall)
        self._parts.host_faults.left(uuid, now)
        self._parts.trouble.forget(uuid)
        self._parts.notices.forget(uuid)
        self._parts.reporter.forget(uuid)

    def _publish(self, events, now, wall, last_entry=None):
        for event in events:
            entry = self._parts.cache.get(event.instance_uuid) or last_entry
            if entry is None:
                self._give_up(event)
                continue
            self._parts.reporter.tell(
                self._parts.losses.told(event, entry.policy, now, wall), entry)

    def _give_up(self, event):
        # Its number is used: consumers find a gap, which this explains.
        self.given_up += 1
        LOG.error('Health event %(id)s, %(transition)s %(cause)s, number '
                  '%(sequence)d of %(uuid)s, is given up: nobody knows the '
                  'instance any more',
                  {'id': event.event_id, 'transition': event.transition.value,
                   'cause': event.cause.value, 'sequence': event.sequence,
                   'uuid': event.instance_uuid})
