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

"""Where the commands get their broker from."""

import argparse

import oslo_messaging
import pytest

from nova_vmhealth.cmd import bus
from nova_vmhealth import exception

OTHER = 'rabbit://guest:secret@other:5672/'


@pytest.fixture
def parse(tmp_path):
    """A function that parses arguments; FILE stands for a file."""
    path = tmp_path / 'nova.conf'
    path.write_text('[DEFAULT]\ntransport_url=fake://rpc/\n'
                    '[oslo_messaging_notifications]\n'
                    'transport_url=fake://notifications/\n')
    parser = argparse.ArgumentParser()
    bus.add_bus_arguments(parser)
    return lambda *argv: parser.parse_args(
        [str(path) if each == 'FILE' else each for each in argv])


@pytest.mark.parametrize('argv, configured, url', [
    ([], OTHER, OTHER),
    (['--transport-url', 'fake://'], OTHER, 'fake://'),
    (['--transport-url', 'fake://'], None, 'fake://')])
def test_the_argument_goes_before_the_file(parse, argv, configured, url):
    assert bus.given_url(parse(*argv), configured) == url


def test_says_how_to_name_a_broker(parse):
    with pytest.raises(exception.VMHealthError, match='--transport-url'):
        bus.given_url(parse(), None)
    with pytest.raises(exception.VMHealthError, match='--config-file'):
        bus.rpc_transport(parse())


@pytest.mark.parametrize('argv, host', [
    (['--config-file', 'FILE'], 'rpc'),
    (['--config-file', 'FILE', '--transport-url', 'fake://given/'], 'given')])
def test_calls_go_where_rpc_goes(parse, argv, host):
    transport = bus.rpc_transport(parse(*argv))
    assert isinstance(transport, oslo_messaging.transport.RPCTransport)
    assert transport._driver._url.hosts[0].hostname == host
    assert transport.conf.control_exchange == 'nova'
