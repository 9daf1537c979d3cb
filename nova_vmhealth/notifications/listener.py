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

"""Listen for what this package tells over the bus, for consumers.

That is ``instance.health``, ``host.health`` and ``instance.maintenance``.

A listener has a pool, that is a queue, of its own: it gets a copy of each
notification and takes none from Ceilometer or another listener. It needs
neither Nova nor libvirt on its machine.

The queue outlives the listener. It outlives a restart of the broker only if
``[oslo_messaging_rabbit]`` makes it a durable or a quorum queue.
"""

import collections
import dataclasses
import re
import socket
import threading
import time
from typing import Any, Callable, Optional

from oslo_config import cfg
from oslo_log import log as logging
import oslo_messaging
from oslo_messaging import opts as messaging_opts

from nova_vmhealth import exception
from nova_vmhealth.notifications import parsing
from nova_vmhealth.notifications.payload import EVENT_TYPE
from nova_vmhealth.notifications.payload import HOST_EVENT_TYPE
from nova_vmhealth.notifications.payload import MAINTENANCE_EVENT_TYPE
from nova_vmhealth.notifications.received import EventFilter
from nova_vmhealth.notifications.received import HostEventFilter
from nova_vmhealth.notifications.received import MaintenanceFilter
from nova_vmhealth.notifications.received import ReceivedEvent
from nova_vmhealth.notifications.received import ReceivedHostEvent
from nova_vmhealth.notifications.received import ReceivedMaintenance
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

__all__ = ('BrokerUnreachable', 'EventFilter', 'HostEventFilter', 'Listener',
           'MaintenanceFilter', 'ReceivedEvent', 'ReceivedHostEvent',
           'ReceivedMaintenance')

TOPICS = ('versioned_notifications',)
EXCHANGE = 'nova'

# A sender repeats an event within seconds of the first time, so what matters
# is the recent past; this many ids are about 1.5 MiB.
REMEMBERED_IDS = 10000

# With these a callback that fails holds the others up for 7.5 s.
ATTEMPTS = 5
BACKOFF_S = 0.5

# Messages that RabbitMQ hands out ahead of the callback, each of some KiB;
# oslo.messaging's default is all there are. Any number keeps one worker busy.
PREFETCH = 100

# A closed listener that nobody stops gets a message back as soon as it has
# returned it; this makes it ten a second instead of a busy loop.
RETURN_PAUSE_S = 0.1

LOG_PERIOD_S = 60


class BrokerUnreachable(exception.VMHealthError):
    """The listener has no connection to the message broker."""

    msg_fmt = 'The message broker cannot be used: %(reason)s'


@dataclasses.dataclass(frozen=True, slots=True)
class _Route:
    """What becomes of the notifications of one event type."""

    parse: Callable[..., Any]
    matches: Callable[[Any], bool]
    callback: Optional[Callable[[Any], None]]


class _Endpoint:
    """What oslo.messaging calls.

    It binds a queue for each priority that is a method here: a publisher that
    follows severity uses all three.

    :param event_types: those to be called for
    """

    def __init__(self, take, event_types):
        self.filter_rule = oslo_messaging.NotificationFilter(
            event_type='^(%s)$' % '|'.join(map(re.escape, event_types)))
        self.info = self.warn = self.error = take


class _Recent:
    """The last ids that were handled."""

    def __init__(self, most):
        self._most = most
        self._ids = collections.OrderedDict()

    def __contains__(self, event_id):
        return event_id in self._ids

    def add(self, event_id):
        self._ids[event_id] = None
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)


def default_pool():
    """Name the pool of a consumer that names none.

    The same each time on one machine: the broker keeps a pool's queue, and
    what arrives in it, until somebody deletes it, or until the broker itself
    restarts where the queue is neither durable nor a quorum queue.
    """
    return f'nova-vmhealth-{socket.gethostname()}'


def bound_prefetch(conf):
    """Make PREFETCH the default, unless somebody chose a number.

    Registers the group as the driver for RabbitMQ does, which reads it when
    it is made. A number in the query of the transport URL goes before.

    :param conf: an oslo.config ConfigOpts
    """
    group, name = 'oslo_messaging_rabbit', 'rabbit_qos_prefetch_count'
    conf.register_opts(dict(messaging_opts.list_opts())[group], group=group)
    if conf.get_location(name, group).location is cfg.Locations.opt_default:
        conf.set_default(name, PREFETCH, group=group)


class Listener:
    """Call a function for each health event on the bus.

    One event at a time, in the order of arrival. An event is acknowledged when
    the function has returned; one for which it fails is tried again in the
    process, later ones waiting, and after the last attempt is logged and given
    up, since a broker would hand it out again without end. An event that
    arrives twice is handed over once, as far as this process remembers.

    :param conf: an oslo.config ConfigOpts; where nobody has chosen a
        ``[oslo_messaging_rabbit]rabbit_qos_prefetch_count``, its default
        becomes PREFETCH
    :param callback: called with the ReceivedEvent of an instance, on a thread
        of the listener; None: those are left alone
    :param transport_url: of the broker; None: conf's
    :param topics: those of ``[notifications]versioned_notifications_topics``
        of the computes
    :param exchange: their ``control_exchange``
    :param pool: a name for the consumer; all listeners of one name share the
        events among them; None: one for each machine
    :param filter: an EventFilter; None hands over all
    :param host_callback: called as callback is, with the ReceivedHostEvent of
        a host; None: those are left alone
    :param host_filter: a HostEventFilter; None hands over all
    :param maintenance_callback: called as callback is, with each
        ReceivedMaintenance; None: those are left alone
    :param maintenance_filter: a MaintenanceFilter; None hands over all
    :param attempts: how often the callback is tried for one event
    :param backoff_s: seconds before the second attempt; doubles with each
    """

    def __init__(self, conf, callback, *, transport_url=None, topics=TOPICS,
                 exchange=EXCHANGE, pool=None, filter=None,
                 host_callback=None, host_filter=None,
                 maintenance_callback=None, maintenance_filter=None,
                 attempts=ATTEMPTS, backoff_s=BACKOFF_S):
        self.pool = pool or default_pool()
        self.handled = 0
        self.duplicates = 0
        self.unreadable = 0
        self.given_up = 0
        routes = {
            EVENT_TYPE: _Route(
                parsing.parse, (filter or EventFilter()).matches, callback),
            HOST_EVENT_TYPE: _Route(
                parsing.parse_host,
                (host_filter or HostEventFilter()).matches, host_callback),
            MAINTENANCE_EVENT_TYPE: _Route(
                parsing.parse_maintenance,
                (maintenance_filter or MaintenanceFilter()).matches,
                maintenance_callback)}
        self._routes = {event_type: route
                        for event_type, route in routes.items()
                        if route.callback is not None}
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._recent = _Recent(REMEMBERED_IDS)
        self._closed = threading.Event()
        self._stopping = threading.Event()
        self._may_log_unreadable = throttle.Throttle(LOG_PERIOD_S)
        bound_prefetch(conf)
        self._transport = oslo_messaging.get_notification_transport(
            conf, url=transport_url)
        self._server = oslo_messaging.get_notification_listener(
            self._transport,
            [oslo_messaging.Target(topic=topic, exchange=exchange)
             for topic in topics],
            [_Endpoint(self.take, self._routes)], allow_requeue=True,
            pool=self.pool)

    def start(self, timeout_s=10.0):
        """Connect and begin to listen; returns at once after that.

        A connection that is lost later is made again by oslo.messaging.

        :param timeout_s: seconds to wait for the first connection, which
            oslo.messaging would try without end
        :raises BrokerUnreachable: there is none by then, or the broker refuses
            it; the listener cannot be used any more
        """
        errors = []
        starter = threading.Thread(
            target=self._connect, args=(errors,), daemon=True,
            name='vmhealth-listener-start')
        starter.start()
        starter.join(timeout_s)
        if starter.is_alive():
            self._closed.set()
            raise BrokerUnreachable(
                reason=f'no connection within {timeout_s:g} s')
        if errors:
            raise BrokerUnreachable(reason=errors[0]) from errors[0]

    def _connect(self, errors):
        try:
            # One worker, or the events of an instance would change places.
            self._server.start(override_pool_size=1)
        # Handed to the thread that waits: amqp, kombu and oslo.messaging all
        # raise errors of their own for a refused connection.
        except Exception as error:
            errors.append(error)
        else:
            if self._closed.is_set():
                self._server.stop()

    def close(self):
        """Take no more events; what arrives is left to the queue.

        May be called from the callback, as :meth:`stop` may not, which is to
        follow.
        """
        self._closed.set()

    def stop(self):
        """End listening; waits for the callback, not for its retries."""
        self.close()
        self._stopping.set()
        self._server.stop()
        self._server.wait()
        self._transport.cleanup()

    def take(self, ctxt, publisher_id, event_type, payload, metadata):
        """Handle one message; the signature is oslo.messaging's."""
        if self._closed.is_set():
            self._stopping.wait(RETURN_PAUSE_S)
            return oslo_messaging.NotificationResult.REQUEUE
        route = self._routes[event_type]
        event = self._parse(route, publisher_id, payload, metadata)
        if event is None or not route.matches(event):
            return oslo_messaging.NotificationResult.HANDLED
        if event.event_id in self._recent:
            self.duplicates += 1
            return oslo_messaging.NotificationResult.HANDLED
        return self._hand_over(route, event)

    def _parse(self, route, publisher_id, payload, metadata):
        try:
            return route.parse(
                payload, publisher_id, time.time(), metadata.get('timestamp'))
        except exception.InvalidPayload as error:
            self.unreadable += 1
            if self._may_log_unreadable.ready():
                LOG.error('Ignoring a notification from %(publisher)s, '
                          '%(count)d so far: %(error)s',
                          {'publisher': publisher_id,
                           'count': self.unreadable, 'error': error})
            return None

    def _hand_over(self, route, event):
        for attempt in range(1, self._attempts + 1):
            try:
                route.callback(event)
            # A consumer's callback may fail in any way; the events after this
            # one are not to suffer from it.
            except Exception:
                LOG.exception(
                    'Attempt %(attempt)d of %(most)d to handle health event '
                    '%(id)s failed',
                    {'attempt': attempt, 'most': self._attempts,
                     'id': event.event_id})
            else:
                self.handled += 1
                self._recent.add(event.event_id)
                return oslo_messaging.NotificationResult.HANDLED
            if attempt < self._attempts and self._closed.wait(
                    self._backoff_s * 2 ** (attempt - 1)):
                return oslo_messaging.NotificationResult.REQUEUE
        self.given_up += 1
        LOG.error('Health event %s is given up', event.event_id)
        return oslo_messaging.NotificationResult.HANDLED
