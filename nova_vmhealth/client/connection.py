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

"""A connection to the broker for calls that end, one way or the other."""

from oslo_log import log as logging
import oslo_messaging

from nova_vmhealth import broker
from nova_vmhealth.client import limit
from nova_vmhealth.core import protocol
from nova_vmhealth import exception

LOG = logging.getLogger(__name__)

# To connect, besides the time that an answer may take: kombu allows each
# broker of the URL 5 s.
_CONNECT_S = 6
_CLOSE_S = 5
# More than a person reads of an error at the other end.
_MAX_ERROR = 255


class Failed(Exception):
    """Who answers could not do what was asked.

    :ivar kind: the name of the error there
    :ivar text: what it says, fit to be shown
    """

    def __init__(self, kind, text):
        # oslo.messaging puts the other end's traceback behind it.
        first, *_ = str(text).splitlines() or ['']
        self.kind = str(kind).removesuffix('_Remote')
        self.text = protocol.clean_text(first, _MAX_ERROR)
        super().__init__(protocol.clean_text(
            f'{self.kind}: {self.text}', _MAX_ERROR))


class Connection:
    """Connected to the broker, as long as it is open; a context manager.

    :param transport: oslo.messaging's for RPC; it is closed with this
    :raises nova_vmhealth.exception.BrokerUnreachable: the broker does not take
        us
    """

    def __init__(self, transport):
        self._transport = transport
        broker.reach(transport)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def broker(self):
        """The broker's URL, without its passwords."""
        return broker.shown(self._transport._driver._url)

    def ask(self, answer_s, call):
        """Have somebody do something.

        :param answer_s: how long the answer may take, seconds
        :param call: makes the call
        :returns: the answer
        :raises oslo_messaging.MessagingTimeout: nobody answers
        :raises Failed: it could not be done there
        :raises nova_vmhealth.exception.BrokerUnreachable: the broker is gone
        """
        try:
            return limit.within(_CONNECT_S + answer_s, call)
        except oslo_messaging.MessagingTimeout:
            raise
        except oslo_messaging.RemoteError as error:
            raise Failed(error.exc_type, error.value) from error
        except (oslo_messaging.MessagingException, limit.GivenUp) as error:
            raise exception.BrokerUnreachable(
                broker=self.broker, reason=error) from error
        # Python's own errors come as they were raised at the other end.
        except Exception as error:
            raise Failed(type(error).__name__, error) from error

    def close(self):
        """Close the connection, whatever the broker says to it."""
        try:
            limit.within(_CLOSE_S, self._transport.cleanup)
        # Of kombu, amqp, ssl or socket: nothing can be done about it.
        except Exception as error:
            LOG.debug('The connection was not closed: %s', error)
