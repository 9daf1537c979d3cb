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


"""How long a burst of I/O errors holds libvirt's event loop.

    python -m tests.benchmarks.burst [--events N] [--instances N]

By hand, on an idle machine: a private broker, and a process with the driver in
it (``burst_driver.py``). The floor, taken in turns in the same loop and under
the same load, is a callback that does nothing: what Python's lock alone costs.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile

from tests.integration import clients
from tests.integration import processes
from tests.integration import services

EVENTS, INSTANCES = 10000, 500
PERCENTS = (50, 99, 99.9)
HOST = 'vmhealth-burst'

_NOVA_CONF = """\
[DEFAULT]
host = %(host)s
state_path = %(folder)s
transport_url = %(url)s
[libvirt]
connection_uri = test:///default
[notifications]
notification_format = versioned
[oslo_messaging_notifications]
driver = messagingv2
[oslo_concurrency]
lock_path = %(folder)s/lock
"""


class BurstDriver:
    """The process of ``burst_driver.py``.

    :ivar first: uuid of the instance that :meth:`one` is about
    """

    def __init__(self, folder, url, events=EVENTS, instances=INSTANCES):
        os.makedirs(folder)
        path = os.path.join(folder, 'nova.conf')
        with open(path, 'w') as f:
            f.write(_NOVA_CONF % {'folder': folder, 'url': url,
                                  'host': HOST})
        self._process = processes.Process(
            [sys.executable, '-m', 'tests.benchmarks.burst_driver',
             '--config-file', path, '--events', str(events),
             '--instances', str(instances)],
            os.path.join(folder, 'driver.log'), pipes=True,
            cwd=clients.REPOSITORY)
        self.first = self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        assert line, 'it ended:\n' + self.logged()[-3000:]
        return json.loads(line)

    def logged(self):
        return self._process.logged()

    def one(self):
        """Have one error of an instance that takes no part in the burst."""
        return self._do('one')

    def burst(self):
        """Let it in; what ``burst_driver.burst`` returns."""
        return self._do('burst')

    def _do(self, command):
        self._process.stdin.write(command + '\n')
        return self._answer()

    def stop(self):
        self._process.stop()


def percentile_ms(seconds, percent):
    """Milliseconds that so many percent do not exceed."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1,
                       int(len(ordered) * percent / 100))] * 1000


def spread(seconds):
    """Describe times in one line."""
    return '  '.join('p%g %.3f' % (percent, percentile_ms(seconds, percent))
                     for percent in PERCENTS) + '  max %.3f ms' % (
        max(seconds) * 1000)


def show(found):
    for what, name in (('callback holds the loop', 'held'),
                       ('of which within it', 'inside'),
                       ('floor: one that does nothing', 'floor')):
        print('%-29s %s' % (what, spread(found[name])))
    print('held, as ratio to the floor:  p99 %.1f  max %.1f' % (
        percentile_ms(found['held'], 99) / percentile_ms(found['floor'], 99),
        max(found['held']) / max(found['floor'])))
    print('memory grew by %.1f MiB, all was sent after %.1f s, %d dropped' % (
        found['grown_mib'], found['seconds'], found['dropped']))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--events', type=int, default=EVENTS)
    parser.add_argument('--instances', type=int, default=INSTANCES)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix='vmhealth-'))
        broker = services.Broker(os.path.join(folder, 'mq'))
        stack.callback(broker.stop)
        driver = BurstDriver(os.path.join(folder, 'nova'), broker.url,
                             args.events, args.instances)
        stack.callback(driver.stop)
        driver.one()
        show(driver.burst())


if __name__ == '__main__':
    main()
