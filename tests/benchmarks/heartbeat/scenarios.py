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


"""What is measured: one function a scenario."""

from tests.benchmarks.heartbeat import figures
from tests.benchmarks.heartbeat import processes
from tests.benchmarks.heartbeat.watch import hang_s
from tests.benchmarks.heartbeat.watch import JUDGED_S
from tests.benchmarks.heartbeat.watch import SETTLE_S
from tests.benchmarks.heartbeat.watch import watching

GUESTS = 10000
FEW_GUESTS = 1000
SECONDS = 30
SATURATED_S = 600

CPU_PERCENT = 10
CPU_TIMES_FLOOR = 2
MEMORY_MIB = 25
ALONE_MS = 2
BUSY_MS = 50


def floor(run):
    """C at its least: what the monitor is compared with."""
    _floor(run, run.share(GUESTS, hang=10))


def _floor(run, counts):
    found = []
    for reading in ('batch', 'each'):
        cpu, late = _floor_once(run, counts, reading)
        found.append(cpu)
        figures.show('CPU of the floor, reading %s' % reading,
                     '%.2f %% of one core' % cpu)
        if late:
            figures.show('told after the deadline', figures.spread(late))
    run.floor_cpu = min(found)


def _floor_once(run, counts, reading):
    over_s = hang_s(counts['hang'])
    judge_s = over_s + JUDGED_S if counts['hang'] else 0
    times = (SETTLE_S, run.seconds or SECONDS, judge_s)
    with processes.Guests(run.folder, run.answers) as guests, \
            processes.Floor(run.folder, counts['good'], counts['hang'],
                            times, reading) as process:
        run.say('floor: %d s left' % sum(times))
        cpu = process.read_json()['cpu'] * 100
        guests.hang(over_s)
        return cpu, process.read_json()['lateness_ms']


def monitor(run):
    """HeartbeatMonitor with the process to itself."""
    counts = run.share(GUESTS, hang=10)
    if run.floor_cpu is None:
        _floor(run, run.share(GUESTS, hang=0))
    idle = processes.idle_memory()
    with watching(run, counts) as watch:
        figures.show('JSON read by', watch.watcher.do('json'))
        imported = watch.watcher.memory()
        watch.connect()
        cpu = watch.measure(run.seconds or SECONDS)
        full = watch.watcher.memory()
        watch.hang()
        figures.judge('CPU', cpu, CPU_PERCENT, '%')
        figures.judge('CPU against the floor\'s', cpu / run.floor_cpu,
                      CPU_TIMES_FLOOR, 'x')
        for name, sizes in (('an idle interpreter', idle),
                            ('the modules, no guest', imported),
                            ('all guests', full)):
            figures.show('memory: ' + name,
                         '%.1f MiB resident, %.1f proportional' % sizes)
        figures.judge('memory above an idle interpreter',
                      full[0] - idle[0], MEMORY_MIB, 'MiB')
        figures.judge('memory above the modules',
                      full[0] - imported[0], MEMORY_MIB, 'MiB')
        watch.judge_losses(ALONE_MS)


def busy(run):
    """The same, with another thread that works 10 ms and sleeps 10 ms."""
    with watching(run, run.share(GUESTS, hang=10)) as watch:
        watch.connect()
        watch.watcher.do('busy')
        watch.measure(run.seconds or SECONDS)
        watch.hang()
        watch.judge_losses(BUSY_MS)


def hostile(run):
    """Of 1,000 guests 300 hang, 100 flood and 100 never read."""
    counts = run.share(FEW_GUESTS, hang=30, flood=10, deaf=10)
    with watching(run, counts) as watch:
        watch.connect()
        watch.measure(run.seconds or SECONDS)
        watch.hang()
        missed = watch.judge_losses(ALONE_MS, ALONE_MS)
        figures.judge('good guests that missed any round',
                      sum(name.startswith('good-') for name in missed), 0)


def saturated(run):
    """1,000 guests, and as many busy processes as processors."""
    with watching(run, run.share(FEW_GUESTS)) as watch:
        watch.connect()
        with processes.saturation() as count:
            figures.show('busy processes', count)
            watch.measure(run.seconds or SATURATED_S)
            missed = watch.judge_losses(ALONE_MS)
        figures.show('guests that missed any round', len(missed))


SCENARIOS = {scenario.__name__: scenario
             for scenario in (floor, monitor, busy, hostile, saturated)}
