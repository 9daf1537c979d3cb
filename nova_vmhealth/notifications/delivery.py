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

"""Hand an event to the bus, and know whether the bus has it.

oslo.messaging swallows errors in two places: its messaging drivers catch what
their transport raises, and Notifier catches what a driver raises. The seam
used here is below both: ``_send_notification()`` of a notification transport,
which waits for the broker's confirm and raises where there is none. It is what
the drivers themselves call, with the same arguments since oslo.messaging 5;
Nova 31 to 34 have 16 to 18.
"""

from oslo_log import log as logging
import oslo_messaging
from oslo_messaging.notify import messaging
from oslo_serialization import jsonutils
from oslo_utils import timeutils

from nova_vmhealth import broker
from nova_vmhealth.notifications import payload

LOG = logging.getLogger(__name__)


class BadEvent(Exception):
    """The event itself cannot be sent, now or ever."""


class Delivery:
    """Sends one event at a time, in one attempt each.

    The transport is one of its own, with the notifier's configuration. In
    Nova's a thread of oslo.messaging may hold a connection for as long as it
    takes to make it anew, and whoever sends would wait for that.

    Not safe from more than one thread at a time.

    :param notifier: an oslo_messaging.Notifier: its drivers, topics,
        serializer and publisher_id are used. Or what has its ``info``,
        ``warn`` and ``error``
    :param new_context: gives the request context for a user's and a
        project's id, either of which may be None; consumers such as Mistral
        match on the project. What the notifier's serializer takes
    """

    def __init__(self, notifier, new_context):
        self._notifier = notifier
        self._new_context = new_context
        self._transport = None

    def send(self, row):
        """Send an event and wait for the broker's confirm.

        :param row: nova_vmhealth.notifications.outbox.Row
        :raises BadEvent: no message can be made of it
        :raises Exception: the bus did not confirm it, or the service could
            not make a context: whatever may be well again the next time
        """
        context = self._new_context(row.user_id, row.project_id)
        if not isinstance(self._notifier, oslo_messaging.Notifier):
            getattr(self._notifier, row.priority)(
                context, row.event_type, _payload(row))
            return
        context, message = self._message(row, context)
        # The bus first: another driver has told of it once, however often the
        # bus was tried.
        for extension in sorted(self._notifier._driver_mgr or (),
                                key=lambda each: not _is_messaging(each.obj)):
            self._notify(extension.obj, context, message)

    def close(self):
        """End the connection; the next event makes a new one."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        try:
            transport.cleanup()
        # A connection that is broken may fail in any way when it is closed.
        except Exception as error:
            LOG.debug('The connection to the bus was not closed: %s', error)

    def _message(self, row, context):
        """Make what Notifier would have made."""
        serializer = self._notifier._serializer
        # Older releases have no such method, and take the context whole.
        redacted = getattr(context, 'redacted_copy', lambda: context)()
        return serializer.serialize_context(redacted), {
            # The same each time, for those who drop repeats by it.
            'message_id': row.event_id,
            'publisher_id': _publisher_id(row, self._notifier.publisher_id),
            'event_type': row.event_type,
            'priority': row.priority.upper(),
            # Nova's serializer of entities makes primitive types of them,
            # and what was read from JSON is that.
            'payload': _payload(row),
            'timestamp': str(timeutils.utcnow())}

    def _notify(self, driver, context, message):
        if not _is_messaging(driver):
            # "routing" has messaging drivers of its own, and does not tell
            # what they swallow: as many tries as Nova is told to make.
            driver.notify(context, message, message['priority'],
                          self._notifier.retry)
            return
        if self._transport is None:
            self._transport = _own_transport(self._notifier.transport)
        for topic in driver.topics:
            target = oslo_messaging.Target(
                topic='%s.%s' % (topic, message['priority'].lower()))
            try:
                # A copy: the transport puts the context into it.
                self._transport._send_notification(
                    target, context, dict(message), version=driver.version,
                    retry=0)
            except BaseException:
                # In a broken connection kombu would make the next attempt
                # wait for a new one without end and without a word.
                self.close()
                _check(context, message)
                raise


def _publisher_id(row, publisher_id):
    """Leave out which one it is where tenants read the message.

    They are not to know hosts by name.
    """
    if row.event_type == payload.MAINTENANCE_EVENT_TYPE:
        return publisher_id.partition(':')[0]
    return publisher_id


def _payload(row):
    try:
        return jsonutils.loads(row.payload)
    except ValueError as error:
        raise BadEvent(str(error)) from error


def _check(context, message):
    """See whether the message was at fault, where the transport failed.

    A context that is no dict is left to the transport to take apart.

    :raises BadEvent: it was
    """
    try:
        jsonutils.dumps(message)
        jsonutils.dumps(context if isinstance(context, dict) else {})
    except (TypeError, ValueError, RecursionError) as error:
        raise BadEvent(str(error)) from error


def _is_messaging(driver):
    return isinstance(driver, messaging.MessagingDriver)


def _own_transport(transport):
    """Make one like it, apart from it."""
    # The URL's conf and not the transport's: that has a query of its own,
    # which would go before this one's.
    url = transport._driver._url
    return oslo_messaging.get_notification_transport(
        url.conf, url=broker.impatient(url))
