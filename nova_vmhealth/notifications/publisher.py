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

"""Take events from whoever has them, send them from a thread of its own.

What goes wrong on the bus stays here: a broker that is away holds up the
sender thread and nobody else, and the queue before it is bounded.
"""

import collections
import dataclasses
import threading
from typing import Any, Callable, Union

from oslo_log import log as logging

from nova_vmhealth.core import vocabulary
from nova_vmhealth.notifications import identity as identity_lib
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

# An event is a few KiB: this many are some tens of MiB, and minutes of the
# worst storm that a compute node's guests can make.
MAX_QUEUE = 10000

# A full queue or a dead broker fails for each event alike.
LOG_PERIOD_S = 60

_METHOD_OF = {
    vocabulary.Severity.INFO: 'info',
    vocabulary.Severity.WARNING: 'warn',
    vocabulary.Severity.CRITICAL: 'error',
}

# Stands for the host's events: a host is of no project and no user.
_NOBODY = identity_lib.InstanceIdentity(uuid='')


@dataclasses.dataclass(frozen=True, slots=True)
class _Waiting:
    """An event in the queue, with what becomes of it on the sender's thread.

    :ivar about: what it is about, for the log
    :ivar identity: whose context it is sent in
    :ivar build: makes the payload
    """

    event: Union[vocabulary.HealthEvent, vocabulary.HostEvent]
    event_type: str
    about: str
    identity: identity_lib.InstanceIdentity
    build: Callable[[], dict[str, Any]]


class Publisher:
    """Publish health events in the order in which they were submitted.

    :param notifier: an oslo_messaging.Notifier, or what has its ``info``,
        ``warn`` and ``error``
    :param new_context: gives the request context for an InstanceIdentity;
        consumers such as Mistral match on its project
    :param max_queue: how many events may wait; what comes beyond is dropped
    :param priority: ``info`` for all events, or ``severity`` to follow the
        condition's (critical: error, warning: warn), for ``cleared`` too, so
        that who hears of a fault hears of its end
    :raises ValueError: for any other priority
    """

    def __init__(self, notifier, new_context, *, max_queue=MAX_QUEUE,
                 priority='info'):
        if priority not in ('info', 'severity'):
            raise ValueError(f'priority: info or severity, not {priority!r}')
        self._notifier = notifier
        self._new_context = new_context
        self._max_queue = max_queue
        self._follow_severity = priority == 'severity'
        self._waiting = collections.deque()
        # Guards the queue and everything below it.
        self._changed = threading.Condition()
        self._thread = None
        self._stopping = False
        self._dropped = 0
        self._sent = 0
        self._failed = 0
        self._may_log_drop = throttle.Throttle(LOG_PERIOD_S)
        self._may_log_failure = throttle.Throttle(LOG_PERIOD_S)

    @property
    def dropped(self):
        """How many events found the queue full, or no sender any more."""
        return self._dropped

    @property
    def sent(self):
        """How many events the notifier took.

        oslo.messaging's swallows the errors of its drivers: this many were
        handed over, not necessarily delivered.
        """
        return self._sent

    @property
    def failed(self):
        """How many events could not be sent and were given up."""
        return self._failed

    @property
    def depth(self):
        """How many events wait."""
        return len(self._waiting)

    def start(self):
        """Start the sender thread, once.

        What was submitted before is sent too.
        """
        self._thread = threading.Thread(
            target=self._run, name='vmhealth-sender', daemon=True)
        self._thread.start()

    def stop(self, timeout_s):
        """Send what waits, then end the sender thread.

        :param timeout_s: seconds to wait for that. What is not sent by then
            is given up, counted as dropped and logged; a send that hangs is
            left behind in its daemon thread.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
            self._dropped += left
        if left:
            LOG.error('%d health events were not sent before the stop', left)

    def saved_pages(self):
        """Return what :meth:`commit` of an earlier run wrote down.

        :returns: instance uuid -> text
        """
        return {}

    def commit(self, pages):
        """Write down what was submitted since the last commit, then send it.

        :param pages: instance uuid -> text to keep with it, None to drop it
        """

    def submit(self, event, identity, heartbeat):
        """Queue an event for sending; never blocks and never raises.

        Where eventlet has patched threading, call it from a green thread.

        :param event: a HealthEvent
        :param identity: the InstanceIdentity of its instance
        :param heartbeat: the instance's HeartbeatStatus, or None
        :returns: False when the queue is full or the publisher stopped, and
            the event is dropped
        """
        return self._submit(_Waiting(
            event, payload.EVENT_TYPE, f'instance {event.instance_uuid}',
            identity,
            lambda: payload.payload_of(event, identity, heartbeat)))

    def submit_host(self, event, host, projects):
        """Queue an event of the host itself, as :meth:`submit` does.

        Its context has no project: it is about those of many.

        :param event: a HostEvent
        :param host: name of the compute service that it is about
        :param projects: instance uuid -> its project, for the instances that
            the event names
        :returns: as :meth:`submit`
        """
        return self._submit(_Waiting(
            event, payload.HOST_EVENT_TYPE, f'host {host}', _NOBODY,
            lambda: payload.host_payload_of(event, host, projects)))

    def _submit(self, waiting):
        with self._changed:
            accepted = (not self._stopping
                        and len(self._waiting) < self._max_queue)
            if accepted:
                self._waiting.append(waiting)
                self._changed.notify()
            else:
                self._dropped += 1
        if not accepted and self._may_log_drop.ready():
            LOG.error('A health event was dropped, %(dropped)d so far: the '
                      'queue of %(most)d is full or the publisher stopped',
                      {'dropped': self._dropped, 'most': self._max_queue})
        return accepted

    def _run(self):
        while self._wait():
            self.send_one()

    def _wait(self):
        """Wait for something to send; false once there will be nothing."""
        with self._changed:
            while not self._waiting and not self._stopping:
                self._changed.wait()
            return bool(self._waiting)

    def send_one(self):
        """Send the oldest waiting event: the sender thread's one step.

        :returns: whether there was one
        """
        try:
            waiting = self._waiting.popleft()
        except IndexError:
            return False
        try:
            self._send(waiting)
        # One event that cannot be sent, be it the notifier, the context or a
        # value in the payload, must not end the thread that sends the others.
        except Exception:
            self._failed += 1
            if self._may_log_failure.ready():
                LOG.exception(
                    'Health event %(id)s of %(about)s was not sent, '
                    '%(failed)d so far',
                    {'id': waiting.event.event_id, 'about': waiting.about,
                     'failed': self._failed})
        else:
            self._sent += 1
        return True

    def _send(self, waiting):
        priority = 'info'
        if self._follow_severity:
            priority = _METHOD_OF[waiting.event.severity]
        getattr(self._notifier, priority)(
            self._new_context(waiting.identity), waiting.event_type,
            waiting.build())
