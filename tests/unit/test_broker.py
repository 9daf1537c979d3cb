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

"""Connections that notice when there is no broker."""

from oslo_config import cfg
import oslo_messaging
import pytest

from nova_vmhealth import broker
from nova_vmhealth import configuration
from nova_vmhealth import exception
from nova_vmhealth import rpcapi


@pytest.mark.parametrize('url, shown', [
    ('rabbit://user:secret@broker:5672/cell1', 'rabbit://broker:5672/cell1'),
    ('rabbit://user:secret@a:1,user:secret@b/', 'rabbit://a:1,b/'),
    ('rabbit://user:secret@[::1]:5672/', 'rabbit://[::1]:5672/'),
    ('rabbit://', 'rabbit:///'),
])
def test_shown_without_its_passwords(url, shown):
    assert broker.shown(oslo_messaging.TransportURL.parse(
        configuration.load([]), url)) == shown


@pytest.mark.parametrize('conf', [cfg.ConfigOpts(), cfg.CONF])
def test_an_rpc_client_has_all_options_that_it_looks_at(conf):
    conf([], default_config_files=[], default_config_dirs=[])
    transport = broker.rpc_transport(conf, 'fake://')
    # and not oslo.config.cfg.NoSuchOptError
    with pytest.raises(oslo_messaging.MessagingTimeout):
        rpcapi.ComputeAPI(transport).show('compute-1', timeout_s=0.01)
    # Nova's own tests, in this process, want one that was not parsed.
    conf.reset()


@pytest.mark.parametrize('text, query, seconds', [
    ('', '', 60),
    ('rabbit_transient_queues_ttl = 1800', '', 60),
    ('rabbit_transient_queues_ttl = 0', '', 60),
    ('rabbit_transient_queues_ttl = 20', '', 20),
    ('', '?rabbit_transient_queues_ttl=90', 90),
])
def test_queues_of_a_process_that_ended_do_not_last(
        text, query, seconds, tmp_path):
    path = tmp_path / 'nova.conf'
    path.write_text('[oslo_messaging_rabbit]\n' + text)
    transport = broker.rpc_transport(
        configuration.load([path]), 'rabbit://user:secret@a:1/' + query)
    options = transport._driver.conf.oslo_messaging_rabbit
    assert options.rabbit_transient_queues_ttl == seconds


class Driver:
    """A driver of oslo.messaging, until it connects."""

    def __init__(self, url, error=None):
        self._url = oslo_messaging.TransportURL.parse(
            configuration.load([]), url)
        self._error = error
        self.retries = []
        self.given_back = 0

    def _get_connection(self, retry):
        self.retries.append(retry)
        if self._error is not None:
            raise self._error
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.given_back += 1


class Transport:
    def __init__(self, driver):
        self._driver = driver


@pytest.mark.parametrize('url, retries', [
    ('rabbit://u:p@a/', 0), ('rabbit://u:p@a,u:p@b,u:p@c/', 2),
    ('rabbit://', 0)])
def test_reach_tries_each_broker_once(url, retries):
    driver = Driver(url)
    broker.reach(Transport(driver))
    assert driver.retries == [retries]
    assert driver.given_back == 1


@pytest.mark.parametrize('error', [OSError('refused'), ValueError('odd')])
def test_reach_says_what_is_wrong(error):
    driver = Driver('rabbit://user:secret@a:1/', error)
    with pytest.raises(exception.BrokerUnreachable) as raised:
        broker.reach(Transport(driver))
    assert str(raised.value) == (
        f'The message broker rabbit://a:1/ cannot be reached: {error}')


def test_reach_what_lies_in_the_process():
    broker.reach(broker.rpc_transport(configuration.load([]), 'fake://'))


def test_reach_in_earnest():
    """The real driver has what this stands on."""
    transport = broker.rpc_transport(
        configuration.load([]), 'rabbit://user:secret@127.0.0.1:1/')
    with pytest.raises(exception.BrokerUnreachable, match='(?i)refused'):
        broker.reach(transport)
