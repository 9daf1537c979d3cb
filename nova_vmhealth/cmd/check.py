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

from nova_vmhealth import broker
from nova_vmhealth import conf as health_conf
from nova_vmhealth import configuration

COLUMNS = ('Option', 'Value', 'Result', 'What is wrong')

# What nova-compute looks at too, when it starts.
_OPTIONS = (
    ('notifications', 'notification_format'),
    ('notifications', 'versioned_notifications_topics'),
    ('oslo_messaging_notifications', 'driver'),
)

# Transports that end in the process.
_LOCAL = ('fake', 'kombu+memory')


def _options(conf):
    problems = health_conf.check_notifications(conf)
    for group, name in _OPTIONS:
        option, value = f'[{group}]{name}', conf[group][name]
        wrong = [problem.removeprefix(option).strip() for problem in problems
                 if problem.startswith(option)]
        yield (option, value if isinstance(value, str) else ', '.join(value),
               '; '.join(wrong))


def _transport_url(conf):
    name = '[DEFAULT]transport_url'
    url = configuration.transport_url(conf)
    if url is None:
        return (name, '', 'is not set: name the message broker')
    try:
        parsed = oslo_messaging.TransportURL.parse(conf, url)
    except (oslo_messaging.InvalidTransportURL, ValueError) as error:
        return (name, 'unreadable', f'correct it: {error}')
    return (name, broker.shown(parsed),
            'name a broker that other processes can reach'
            if parsed.transport in _LOCAL else '')


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
        results = [*_options(conf), _transport_url(conf)]
        self._failed = any(wrong for _, _, wrong in results)
        return COLUMNS, [
            (name, value, 'FAILED' if wrong else 'ok', wrong)
            for name, value, wrong in results]

    def run(self, parsed_args):
        return super().run(parsed_args) or int(self._failed)
