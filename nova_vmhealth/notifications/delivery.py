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

import copy

from oslo_log import log as logging
import oslo_messaging
from oslo_messaging.notify import messaging
from oslo_serialization import jsonutils
from oslo_utils import timeutils

LOG = logging.getLogger(__name__)

# A broker that died without closing its connection, or a network that lets
# nothing through: after so many seconds without a word an attempt has failed.
# oslo.messaging then waits as long for an answer to the end of the channel,
# and of the connection; all further attempts fail within kombu's 5 s for a
# new one. Its own default is 60, which makes three minutes.
SILENCE_S = 10
_RABBIT = ('rabbit', 'kombu')


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
        match on the project
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
            'publisher_id': self._notifier.publisher_id,
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
    """Make one like it that gives up on a silent broker in time.

    The query of a transport's URL goes before the configuration. An operator
    who wants it sooner keeps that.
    """
    url = copy.copy(transport._driver._url)
    # The URL's and not the transport's: that has a query of its own, which
    # would go before this one's.
    conf = url.conf
    if url.transport.partition('+')[0] in _RABBIT:
        url.query = {**_silence(conf.oslo_messaging_rabbit), **url.query}
    return oslo_messaging.get_notification_transport(conf, url=url)


def _silence(options):
    if 0 < options.heartbeat_timeout_threshold <= SILENCE_S:
        return {}
    return {'heartbeat_timeout_threshold': str(SILENCE_S),
            # as often as it takes, for a connection that is mostly idle
            'heartbeat_rate': '2'}
