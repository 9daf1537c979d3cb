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

"""Listen to Fenix, which maintains one host after the other.

Its notifications ``maintenance.host`` say which host is IN_MAINTENANCE, and
with MAINTENANCE_COMPLETE that it is not any more. They have no envelope of a
version, the priority ``info``, the publisher ``fenix`` and a payload of
``project_id`` (Fenix's own), ``host`` (name of the compute service),
``state`` and ``session_id``.

Fenix's own states of other kinds, such as HOST_ADDED, are left alone.
"""

import datetime
import threading
import time
from typing import NamedTuple, Optional
import uuid

from oslo_log import log as logging
import oslo_messaging

from nova_vmhealth import broker
from nova_vmhealth.core import maintenance
from nova_vmhealth import exception
from nova_vmhealth.notifications import listener
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

EVENT_TYPE = 'maintenance.host'

_BEGUN, _ENDED = 'IN_MAINTENANCE', 'MAINTENANCE_COMPLETE'

# Ids of windows are made in this namespace, so that they are no others'.
_NAMESPACE = uuid.UUID('5b0e8f2e-94f6-4f43-8c3e-55d0f7a4c1b6')

# A uuid. It is no longer in the reason that tenants read.
_MAX_SESSION = 64
# The end of a window may come to an inspector before another has told it of
# the begin: for so long, seconds, it is tried again.
PATIENCE_S = 60.0
_PAUSE_S = 1.0
LOG_PERIOD_S = 60


class Word(NamedTuple):
    """What Fenix says of a host."""

    window_id: str
    host: str
    session_id: str
    begun: bool


def read(payload) -> Optional[Word]:
    """Read the payload of a ``maintenance.host``.

    :param payload: anything
    :returns: None where it says something else than begin or end
    :raises nova_vmhealth.exception.InvalidPayload: it is no such payload
    """
    if not isinstance(payload, dict):
        raise exception.InvalidPayload(reason='it is no object')
    state = _text(payload, 'state', _MAX_SESSION)
    host = _text(payload, 'host', maintenance.MAX_HOST)
    session_id = _text(payload, 'session_id', _MAX_SESSION)
    if state not in (_BEGUN, _ENDED):
        return None
    return Word(str(uuid.uuid5(_NAMESPACE, f'{session_id}/{host}')), host,
                session_id, state == _BEGUN)


def _text(payload, name, most):
    text = payload.get(name)
    if (not isinstance(text, str) or not 0 < len(text) <= most
            or not text.isprintable()):
        raise exception.InvalidPayload(reason=f'bad field {name}')
    return text


def sent_at(timestamp, wall):
    """Return when a notification was sent, seconds since the epoch.

    :param timestamp: as oslo.messaging has it, in UTC without saying so
    :param wall: what it is where that is no time, or one to come
    """
    try:
        when = datetime.datetime.fromisoformat(timestamp)
    except (TypeError, ValueError):
        return wall
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.timezone.utc)
    return min(when.timestamp(), wall)


class FenixListener:
    """Has windows begin and end as Fenix says.

    :param conf: an oslo.config ConfigOpts
    :param options: the group ``[vmhealth_inspector]``, with ``fenix_topics``
    :param begin: called on a thread of the listener with a
        core.maintenance.Window; see MaintenanceKeeper.begin
    :param end: called so with a window's id; see MaintenanceKeeper.end
    :param transport_url: of the broker; None: conf's. The option goes before
    :param wall_clock: gives seconds since the epoch
    """

    def __init__(self, conf, options, begin, end, *, transport_url=None,
                 wall_clock=time.time):
        self.unreadable = 0
        self._begin = begin
        self._end = end
        self._wall_clock = wall_clock
        self._max_s = options.fenix_max_hours * 3600
        self._stopping = threading.Event()
        self._starter = None
        self._started = False
        self._may_log_unreadable = throttle.Throttle(LOG_PERIOD_S)
        # What oslo.messaging looks at and calls.
        self.filter_rule = oslo_messaging.NotificationFilter(
            event_type=r'^maintenance\.host$')
        self.info = self.take
        listener.bound_prefetch(conf)
        url = oslo_messaging.TransportURL.parse(
            conf, options.fenix_transport_url or transport_url)
        self._transport = oslo_messaging.get_notification_transport(
            conf, url=broker.impatient(url))
        self._server = oslo_messaging.get_notification_listener(
            self._transport,
            [oslo_messaging.Target(topic=topic,
                                   exchange=options.fenix_exchange)
             for topic in options.fenix_topics],
            [self], allow_requeue=True, pool=options.fenix_pool)

    def start(self):
        """Begin to listen; returns at once, whether there is a broker or not.

        oslo.messaging tries until there is one.
        """
        self._starter = threading.Thread(
            target=self._run, daemon=True, name='vmhealth-fenix-start')
        self._starter.start()

    def _run(self):
        # One worker, or begin and end would change places.
        self._server.start(override_pool_size=1)
        self._started = True

    def stop(self, timeout_s=5.0):
        """End listening; what is not handled is left to the others.

        :param timeout_s: seconds to wait for a connection that is being made
        """
        self._stopping.set()
        if self._starter is not None:
            self._starter.join(timeout_s)
        if self._started:
            self._server.stop()
            self._server.wait()
        self._transport.cleanup()

    def take(self, ctxt, publisher_id, event_type, payload, metadata):
        """Handle one message; the signature is oslo.messaging's."""
        wall = self._wall_clock()
        at = sent_at(metadata.get('timestamp'), wall)
        try:
            word = read(payload)
        except exception.InvalidPayload as error:
            self._ignore(publisher_id, error)
            return oslo_messaging.NotificationResult.HANDLED
        if (word is None or self._is_settled(word, at, wall)
                or wall - at >= PATIENCE_S):
            return oslo_messaging.NotificationResult.HANDLED
        self._stopping.wait(_PAUSE_S)
        return oslo_messaging.NotificationResult.REQUEUE

    def _is_settled(self, word, at, wall):
        if self._stopping.is_set():
            return False
        try:
            return self._hand_over(word, at, wall)
        except exception.InvalidWindow as error:
            LOG.error('What Fenix says of host %(host)s is ignored: %(error)s',
                      {'host': word.host, 'error': error})
            return True
        # Whatever keeps the inspector from taking it: another one may, or this
        # one a little later.
        except Exception:
            LOG.exception('What Fenix says of host %s is not taken', word.host)
            return False

    def _hand_over(self, word, at, wall):
        if not word.begun:
            return self._end(word.window_id)
        if at + self._max_s <= wall:
            LOG.warning('Fenix said long ago that host %s is in maintenance: '
                        'that is ignored', word.host)
            return True
        self._begin(maintenance.Window(
            id=word.window_id, host=word.host, starts_at=at,
            ends_at=at + self._max_s,
            reason=f'Maintenance session {word.session_id} of Fenix',
            source=maintenance.FENIX, created_at=wall))
        return True

    def _ignore(self, publisher_id, error):
        self.unreadable += 1
        if self._may_log_unreadable.ready():
            LOG.warning('Ignoring a %(type)s from %(publisher)r, %(count)d so '
                        'far: %(error)s',
                        {'type': EVENT_TYPE, 'publisher': publisher_id,
                         'count': self.unreadable, 'error': error})
