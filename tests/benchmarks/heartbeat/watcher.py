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


"""The process under test: HeartbeatMonitor and nothing else of the project.

    python -m tests.benchmarks.heartbeat.watcher OPTIONS

OPTIONS is a JSON object: ``eventlet`` and ``no_orjson`` (booleans). Prints
``ready`` once its modules are there; then a JSON line on stdin is a command,
``[name, arguments]``, and gets a JSON line as its answer.

Its wall clock is the monotonic one, as the heartbeat's thread read it last:
so what an observation says of the past is exact, and the time of its delivery
can be compared with it.
"""

import json
import resource
import sys

OPTIONS = json.loads(sys.argv[1])
if OPTIONS['no_orjson']:
    sys.modules['orjson'] = None        # an ImportError for who asks
if OPTIONS['eventlet']:
    import eventlet
    eventlet.monkey_patch()

from nova_vmhealth.core import policy  # noqa: E402, H306
from nova_vmhealth.core.vocabulary import Cause  # noqa: E402
from nova_vmhealth.core.vocabulary import Kind  # noqa: E402
from nova_vmhealth.virt import heartbeat  # noqa: E402
from nova_vmhealth.virt import native  # noqa: E402

# In eventlet mode sleep() would be the greenthreads' own.
time = native.original('time')
POLICY = {'heartbeat': True, 'interval_ms': 1000, 'timeout_ms': 1000,
          'misses': 3, 'boot_deadline_s': 0, 'panic_device': False,
          'events': frozenset()}
# As many guests as connect before the next ones: listen()'s backlog is
# bounded, and a refused guest waits for its next attempt.
CONNECT_AT_ONCE = 500
CONNECT_EVERY_S = 0.05
# About the length of the path that libvirt makes for a channel.
PATH_LENGTH = 95
BUSY_S = 0.010
STOP_S = 10
# Lines of the log that are shown: floods make hundreds.
SHOWN = 3


class Clock:
    """time.monotonic(), and what it said last."""

    def __init__(self):
        self.latest = 0.0

    def monotonic(self):
        self.latest = time.monotonic()
        return self.latest

    def wall(self):
        return self.latest


class Watcher:
    """The commands. Guests are named <way to behave>-<number>."""

    def __init__(self):
        self._threading = native.original('threading')
        self._thread = None     # the heartbeat's, by its identity
        self._names = []
        self._established = 0
        self._lost = []
        self._missed = set()
        self._logged = 0
        self._monitor = None

    def do_start(self):
        clock = Clock()
        self._monitor = heartbeat.HeartbeatMonitor(
            self._deliver, monotonic=clock.monotonic, wall=clock.wall,
            log=self._log)
        self._monitor.start()

    def do_watch(self, folder, guests):
        """Watch guests.

        :param folder: of the sockets
        :param guests: how many, by their way to behave
        """
        for mode, count in guests.items():
            for number in range(count):
                # An instance has all of this for itself in Nova too.
                name = '%s-%030d' % (mode, number)
                path = '%s/%s' % (folder, mode)
                path = path.replace('/', '/.' * (
                    (PATH_LENGTH - len(path)) // 2) + '/', 1)
                self._names.append(name)
                self._monitor.watch(name, path, policy.Policy(**POLICY))
                if number % CONNECT_AT_ONCE == 0:
                    time.sleep(CONNECT_EVERY_S)

    def do_busy(self):
        """Keep another thread busy half of the time from now on."""
        self._threading.Thread(target=_be_busy, daemon=True).start()

    def do_established(self):
        """How many guests were heard."""
        return self._established

    def do_clocks(self):
        """The time, and what was used of the processor; seconds."""
        return {'at': time.monotonic(), 'process': time.process_time(),
                'thread': self._thread_s()}

    def do_counts(self):
        """What there was so far."""
        return {'voided': self._monitor.statistics()['voided_rounds'],
                'logged': self._logged}

    def do_losses(self):
        """Name, first missed challenge and delivery of each loss."""
        return self._lost

    def do_missed(self):
        """Names of the guests that missed any round."""
        now = {name for name in self._names
               if self._monitor.status(name).misses}
        return sorted(self._missed | now)

    def do_stop(self):
        """Stop the heartbeat; return whether it has."""
        return self._monitor.stop(STOP_S)

    def do_json(self):
        """The name of the JSON library that reads the guests' lines."""
        return next((name for name in ('orjson', 'msgspec')
                     if sys.modules.get(name)), 'json')

    def _thread_s(self):
        if self._thread is None:
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread))

    def _deliver(self, observation):
        delivered_at = time.monotonic()
        if observation.kind is Kind.HEARTBEAT_ESTABLISHED:
            self._thread = self._threading.get_ident()
            self._established += 1
        elif observation.kind is Kind.HEARTBEAT_MISSED:
            self._missed.add(observation.instance_uuid)
        elif (observation.kind is Kind.FAULT
              and observation.cause is Cause.HEARTBEAT_LOST):
            self._lost.append((observation.instance_uuid,
                               observation.occurred_at, delivered_at))

    def _log(self, level, text):
        self._logged += 1
        if self._logged <= SHOWN:
            sys.stderr.write('%s%s\n' % (
                text, ' (and no more of the log)'
                if self._logged == SHOWN else ''))


def _be_busy():
    while True:
        until = time.monotonic() + BUSY_S
        number = 0
        while time.monotonic() < until:
            number += 1
        time.sleep(BUSY_S)


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    watcher = Watcher()
    print('ready', flush=True)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        answer = getattr(watcher, 'do_' + name)(**arguments)
        print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    main()
