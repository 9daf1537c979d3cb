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

"""The Host subclass: subscribes to libvirt's fault events."""

import dataclasses
import threading
import time

from nova.virt import event as virtevent
from nova.virt.libvirt import host
from oslo_log import log as logging

from nova_vmhealth.virt import libvirt_events

LOG = logging.getLogger(__name__)


class ObservationEvent(virtevent.InstanceEvent):
    """Carries an observation through Nova's own event queue.

    It must be an InstanceEvent: whatever else Nova's queue is given it takes
    for a closed connection (Host._dispatch_events).
    """

    def __init__(self, observation):
        super().__init__(observation.instance_uuid, observation.occurred_at)
        self.observation = observation


class LogEvent(virtevent.InstanceEvent):
    """Carries a log line off a native thread, where eventlet forbids it."""

    def __init__(self, level, message):
        super().__init__(None)
        self.level = level
        self.message = message


class RequestEvent(virtevent.InstanceEvent):
    """Carries what a native thread asks of the worker."""

    def __init__(self, item):
        super().__init__(item.instance_uuid, item.occurred_at)
        self.item = item


@dataclasses.dataclass(frozen=True, slots=True)
class LinkChanged:
    """The connection to libvirt was lost, or made.

    :ivar occurred_at: wall clock, seconds since the epoch
    :ivar reason: libvirt's virConnectCloseReason by name; '' if it is up
    :ivar loss: which loss an attempt to reconnect has ended, counted from 1
    """

    up: bool
    occurred_at: float
    reason: str = ''
    loss: int = 0
    # it is about no instance
    instance_uuid: None = None


# virConnectCloseReason
_CLOSE_REASONS = ('error', 'eof', 'keepalive', 'client')

OUR_EVENTS = (ObservationEvent, LogEvent, RequestEvent)


def _callback(translate):
    """Make the callback that libvirt's event-loop thread calls.

    It copies what it needs, queues it and returns: no log line, no lock of
    ours, no call into libvirt (UUIDString reads the object at hand).
    """
    def callback(_conn, dom, *args):
        health_host = args[-1]
        observation = translate(dom.UUIDString(), time.time(), *args[:-1])
        if observation is not None:
            health_host.queue_event(ObservationEvent(observation))
    return callback


_tell_lifecycle = _callback(libvirt_events.lifecycle)


def _lifecycle_callback(conn, dom, event, detail, opaque):
    """Listen in on LIFECYCLE: first ours, then Nova's own callback.

    Nova's may do RPC on this thread, so ours does not wait for it; whatever
    ours meets, Nova's runs.
    """
    try:
        _tell_lifecycle(conn, dom, event, detail, opaque)
    finally:
        # The class's: the instance's may still be ours, see below.
        type(opaque)._event_lifecycle_callback(conn, dom, event, detail,
                                               opaque)


class HealthHost(host.Host):
    """Nova's libvirt Host that also listens to the fault events.

    It adds no state of its own, so that an existing Host can become one by
    changing its class.
    """

    def _get_new_connection(self):
        # Safe on Nova 31-34: same name, no argument, called with Nova's lock
        # held, returns the connection with Nova's own callbacks in place, on
        # every (re)connect.
        # Before initialize() no event loop runs and nobody could listen.
        if not self._initialized:
            return super()._get_new_connection()
        # All register self._event_lifecycle_callback, and libvirt's binding
        # takes one callback of a kind on a connection: ours stands in its
        # place while Nova registers it, and calls it.
        self._event_lifecycle_callback = _lifecycle_callback
        try:
            wrapped_conn = super()._get_new_connection()
        finally:
            del self._event_lifecycle_callback
        self._subscribe(wrapped_conn)
        # Whoever made Nova reconnect, what was missed is to be looked for.
        self.queue_event(RequestEvent(LinkChanged(True, time.time())))
        return wrapped_conn

    def _close_callback(self, conn, reason, opaque):
        # Safe on Nova 31-34: same name and arguments, called on libvirt's
        # event-loop thread. Nova first: with native threads it has let go of
        # the connection when this returns, and nobody reconnects before.
        try:
            super()._close_callback(conn, reason, opaque)
        finally:
            self.queue_event(RequestEvent(LinkChanged(
                False, time.time(), _CLOSE_REASONS[reason]
                if 0 <= reason < len(_CLOSE_REASONS) else str(reason))))

    def mend_lock(self):
        """Have Nova's lock on its connection taken twice by one thread.

        libvirt calls the close callback also on a thread whose call fails with
        the connection. In Nova's get_connection() that thread has the lock
        which the callback takes, and nova-compute waits for it for ever. Only
        before the first connection.
        """
        # Safe on Nova 31-34: the lock is made with the Host, has the same name
        # and is only taken by "with". Under eventlet Nova queues what the
        # callback tells, and its lock is left alone.
        handler = getattr(host, '_ThreadingLibvirtEventHandler', ())
        if isinstance(getattr(self, '_event_handler', None), handler):
            self._wrapped_conn_lock = threading.RLock()

    def try_to_connect(self):
        """Connect to libvirt once, aside from Nova's own connection.

        Nova's get_connection() logs a trace and notifies for each failure.
        Not for libvirt's event thread.

        :raises libvirtError: it cannot be reached
        """
        # Safe on Nova 31-34: same arguments; under eventlet a native thread
        # makes the call, and the connection comes wrapped.
        self._connect(self._uri, self._read_only).close()

    def _subscribe(self, wrapped_conn):
        libvirt = host.libvirt      # at call time: Nova imports it lazily
        for subscription in libvirt_events.SUBSCRIPTIONS:
            event_id = getattr(libvirt, subscription.event_id, None)
            if event_id is None:
                LOG.debug('This libvirt binding has no %s',
                          subscription.event_id)
                continue
            try:
                wrapped_conn.domainEventRegisterAny(
                    None, event_id, _callback(subscription.translate), self)
            except libvirt.libvirtError as error:
                LOG.warning('libvirt refuses %(event)s, what it tells will be '
                            'missed: %(error)s',
                            {'event': subscription.event_id, 'error': error})

    def queue_event(self, event):
        """Hand an event of ours from any native thread to the driver.

        :param event: one of OUR_EVENTS
        """
        # Safe on Nova 31-34: the queue lives on the Host in 31 and 32 and on
        # its _event_handler from 33 on, with the same method.
        getattr(self, '_event_handler', self)._queue_event(event)

    def _event_emit_delayed(self, event):
        # Safe on Nova 31-34: 31 and 32 would cancel a pending STOPPED of the
        # same instance for any event, 33 and 34 only for lifecycle events;
        # ours must never touch it.
        if isinstance(event, OUR_EVENTS):
            self._event_emit(event)
        else:
            super()._event_emit_delayed(event)
