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

"""``nova-vmhealth check``: does a configuration let events out?"""

from cliff import lister
import oslo_messaging

from nova_vmhealth.cmd import configuration

COLUMNS = ('Option', 'Value', 'Result', 'What to do')

# The drivers of oslo.messaging that reach a broker; "log", "noop", "routing"
# and "test" do not, or not by themselves.
_DRIVERS = ('messagingv2', 'messaging')

# Transports that end in the process.
_LOCAL = ('fake', 'kombu+memory')


def _notification_format(conf):
    value = conf.notifications.notification_format
    good = value in ('versioned', 'both')
    return ('[notifications]notification_format', value, good,
            'set it to "both" or "versioned": Nova sends no versioned '
            'notification otherwise')


def _topics(conf):
    topics = conf.notifications.versioned_notifications_topics
    return ('[notifications]versioned_notifications_topics',
            ', '.join(topics), bool(topics), 'name at least one topic')


def _driver(conf):
    drivers = conf.oslo_messaging_notifications.driver
    return ('[oslo_messaging_notifications]driver', ', '.join(drivers),
            any(driver in _DRIVERS for driver in drivers),
            'set it to "messagingv2": events go nowhere otherwise')


def _transport_url(conf):
    name = '[DEFAULT]transport_url'
    url = configuration.transport_url(conf)
    if url is None:
        return (name, '', False, 'name the message broker')
    try:
        parsed = oslo_messaging.TransportURL.parse(conf, url)
    except (oslo_messaging.InvalidTransportURL, ValueError) as error:
        return (name, 'unreadable', False, f'correct it: {error}')
    # Not the URL itself, which holds a password.
    hosts = ', '.join(f'{host.hostname}:{host.port}' for host in parsed.hosts)
    return (name, f'{parsed.transport}://{hosts}',
            parsed.transport not in _LOCAL,
            'name a broker that other processes can reach')


CHECKS = (_notification_format, _topics, _driver, _transport_url)


class Check(lister.Lister):
    """Say whether nova-compute's configuration lets health events out.

    Exits with 1 if it does not. Nothing is sent, nothing is connected to.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--config-file', metavar='FILE', action='append', required=True,
            help='a configuration file of nova-compute; may be repeated')
        return parser

    def take_action(self, parsed_args):
        conf = configuration.load(parsed_args.config_file)
        results = [check(conf) for check in CHECKS]
        self._failed = not all(good for _, _, good, _ in results)
        return COLUMNS, [
            (name, value, 'ok' if good else 'FAILED', '' if good else advice)
            for name, value, good, advice in results]

    def run(self, parsed_args):
        return super().run(parsed_args) or int(self._failed)
