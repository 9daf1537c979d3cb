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

"""How the commands reach the message broker."""

from nova_vmhealth import broker
from nova_vmhealth import configuration
from nova_vmhealth import exception


def add_bus_arguments(parser):
    """Add the options that say where the broker is.

    :param parser: of a command
    """
    parser.add_argument(
        '--config-file', metavar='FILE', action='append',
        help="a configuration file with the broker's transport_url; may be "
             'repeated')
    parser.add_argument('--transport-url', metavar='URL',
                        help='the broker, before that of any file')


def given_url(parsed_args, configured):
    """Say which broker a command is to use.

    :param parsed_args: with the options of :func:`add_bus_arguments`
    :param configured: the URL of the configuration, None for none
    :returns: its URL
    :raises nova_vmhealth.exception.VMHealthError: there is none
    """
    url = parsed_args.transport_url or configured
    if url is None:
        raise exception.VMHealthError(
            'No message broker: give --transport-url, or a --config-file with '
            'a transport_url')
    return url


def rpc_transport(parsed_args):
    """Connect to the broker for calls to nova-compute and to inspectors.

    :param parsed_args: with the options of :func:`add_bus_arguments`
    :returns: oslo.messaging's transport; its cleanup() is due
    :raises nova_vmhealth.exception.VMHealthError: no broker is given
    """
    conf = configuration.load(parsed_args.config_file)
    return broker.rpc_transport(
        conf, given_url(parsed_args, configuration.rpc_url(conf)))
