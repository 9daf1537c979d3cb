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

"""Connections of our own to the message broker, which notice when it is gone.

Those that oslo.messaging keeps for Nova may be held by a thread of its own for
as long as it takes to make them anew, and wait a minute or more for a broker
that says nothing.
"""

import copy
import importlib

import oslo_messaging
from oslo_messaging import opts as messaging_opts
from oslo_utils import netutils

from nova_vmhealth import exception

# A broker that died without closing its connection, or a network that lets
# nothing through: after so many seconds without a word an attempt has failed.
# oslo.messaging then waits as long for an answer to the end of the channel,
# and of the connection; all further attempts fail within kombu's 5 s for a
# new one. Its own default is 60, which makes three minutes.
SILENCE_S = 10
# A queue for answers or for what is told to all outlives its process so long,
# and takes in all beacons of the cell meanwhile: with 1000 hosts some 100,000
# in this time. oslo.messaging's own default is half an hour.
QUEUES_S = 60
_RABBIT = ('rabbit', 'kombu')
_GROUP = 'oslo_messaging_rabbit'

# Options that the RPC client reads from the conf that it is given, while the
# library registers them in oslo.config's global one alone: module, and name of
# the group and of the list. Releases differ in which of them there are.
_UNLISTED = (
    ('oslo_messaging._metrics.client', 'oslo_messaging_metrics'),
    ('oslo_messaging._tracing.client', 'oslo_messaging_tracing'),
)


def impatient(url):
    """Make a transport's URL one that gives up on a silent broker in time.

    The query of a URL goes before the configuration. An operator who wants it
    sooner keeps that.

    :param url: oslo_messaging.TransportURL, which is left as it is
    :returns: another one
    """
    url = copy.copy(url)
    if _is_rabbit(url):
        # As the driver does, which does so later.
        url.conf.register_opts(
            dict(messaging_opts.list_opts())[_GROUP], group=_GROUP)
        url.query = {**_silence(url.conf[_GROUP]), **url.query}
    return url


def rpc_transport(conf, transport_url=None):
    """Connect to the broker for RPC, apart from everybody else.

    :param conf: an oslo.config ConfigOpts
    :param transport_url: of the broker; None: conf's
    :returns: oslo.messaging's transport; its cleanup() is due
    """
    _register_unlisted(conf)
    url = impatient(oslo_messaging.TransportURL.parse(conf, transport_url))
    if _is_rabbit(url):
        url.query = {**_lifetime(url.conf[_GROUP]), **url.query}
    return oslo_messaging.get_rpc_transport(conf, url=url)


def reach(transport):
    """Connect now, or say that it cannot be done.

    Without this the first call would try for ever. The connection stays for
    what is sent later.

    :param transport: of :func:`rpc_transport`
    :raises nova_vmhealth.exception.BrokerUnreachable: no broker of its URL
        takes it
    """
    driver = transport._driver
    # The one for tests has none, and other transports have no broker.
    connect = getattr(driver, '_get_connection', None)
    if connect is None:
        return
    url = driver._url
    try:
        # Once each: kombu goes on to the next with each attempt.
        with connect(retry=max(0, len(url.hosts) - 1)):
            pass
    # Of kombu, amqp, ssl or socket, and each of them has several.
    except Exception as error:
        raise exception.BrokerUnreachable(
            broker=shown(url), reason=error) from error


def shown(url):
    """Write a transport's URL for people, without its passwords.

    :param url: oslo_messaging.TransportURL
    """
    hosts = ','.join(
        netutils.escape_ipv6(host.hostname)
        + (f':{host.port}' if host.port else '') for host in url.hosts)
    return f'{url.transport}://{hosts}/{url.virtual_host or ""}'


def _register_unlisted(conf):
    for module, group in _UNLISTED:
        try:
            options = getattr(importlib.import_module(module), group)
        except (ImportError, AttributeError):
            continue
        conf.register_opts(options, group=group)


def _is_rabbit(url):
    return url.transport.partition('+')[0] in _RABBIT


def _lifetime(options):
    if 0 < options.rabbit_transient_queues_ttl <= QUEUES_S:
        return {}
    return {'rabbit_transient_queues_ttl': str(QUEUES_S)}


def _silence(options):
    if 0 < options.heartbeat_timeout_threshold <= SILENCE_S:
        return {}
    return {'heartbeat_timeout_threshold': str(SILENCE_S),
            # as often as it takes, for a connection that is mostly idle
            'heartbeat_rate': '2'}
