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


"""A watcher at work on guests: connect, measure, hang, judge."""

import contextlib
import dataclasses
import time
from typing import Callable, Optional

from tests.benchmarks.heartbeat import figures
from tests.benchmarks.heartbeat import processes

MISSES, INTERVAL_S, TIMEOUT_S = 3, 1.0, 1.0     # the watcher's and floor's
# From a guest's hang to its loss at the latest, and some time for a late one.
JUDGED_S = MISSES * INTERVAL_S + TIMEOUT_S + 3
# Guests hang one after the other, a hundred a second: a slow host's day, and
# no storm in which they would wait for each other.
HANGS_PER_S = 100
LEAST_HANG_S = 2.0
SETTLE_S = 3.0
CONNECTED_S = 60.0
PROGRESS_S = 30.0


@dataclasses.dataclass
class Run:
    """One run of the benchmark.

    :ivar folder: of the programs, and of the guests' sockets
    :ivar say: called with a text on how far it is
    :ivar guests: how many; None for a scenario's own number
    :ivar seconds: how long CPU is measured; None for a scenario's own time
    :ivar answers: what guests answer, ``plain`` or ``full``
    :ivar options: of the watcher
    :ivar floor_cpu: percent of one core, None before it was measured
    """

    folder: str
    say: Callable
    guests: Optional[int]
    seconds: Optional[float]
    answers: str
    options: dict
    floor_cpu: Optional[float] = None

    def share(self, guests, **percents):
        """Return how many guests behave in which way; the rest is good."""
        total = self.guests or guests
        counts = {mode: total * percent // 100
                  for mode, percent in percents.items()}
        return {'good': total - sum(counts.values()), **counts}

    def wait(self, seconds, what):
        """Sleep, and say so."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.say('%s: %d s left' % (what, left + 0.5))
            time.sleep(min(left, PROGRESS_S))


def hang_s(count):
    """Return within how many seconds so many guests hang."""
    return max(LEAST_HANG_S, count / HANGS_PER_S)


@contextlib.contextmanager
def watching(run, counts):
    """Start guests and a watcher of theirs; yields a Watch.

    :param run: Run
    :param counts: guests by their way to behave
    """
    with processes.Guests(run.folder, run.answers) as guests, \
            processes.Watcher(run.options) as watcher:
        yield Watch(run, counts, guests, watcher)


class Watch:
    """What :func:`watching` yields.

    :ivar watcher: processes.Watcher
    """

    def __init__(self, run, counts, guests, watcher):
        self.watcher = watcher
        self._run = run
        self._counts = counts
        self._guests = guests
        self._hung_from = None

    def connect(self):
        """Connect all; wait until all that answer were heard."""
        self._run.say('connecting %d guests' % sum(self._counts.values()))
        self.watcher.do('start')
        self.watcher.do('watch', folder=self._run.folder, guests=self._counts)
        wanted = self._counts['good'] + self._counts.get('hang', 0)
        end = time.monotonic() + CONNECTED_S
        while (heard := self.watcher.do('established')) < wanted:
            assert time.monotonic() < end, 'only %d were heard' % heard
            time.sleep(0.5)
        self._run.wait(SETTLE_S, 'settling')

    def measure(self, seconds):
        """Print what a window costs.

        :param seconds: its length
        :returns: CPU of the process, percent of one core
        """
        self._guests.mark()
        # The counts outside of the clocks: to ask for them costs something.
        counts = self.watcher.do('counts')
        before = self.watcher.do('clocks')
        self._run.wait(seconds, 'measuring')
        after = self.watcher.do('clocks')
        passed = after['at'] - before['at']
        used = [(after[key] - before[key]) / passed * 100
                for key in ('process', 'thread')]
        figures.show('CPU of the process, of its thread',
                     '%.2f %%, %.2f %% of one core' % tuple(used))
        grown = self.watcher.do('counts')
        figures.show('rounds voided, lines logged', '%d, %d' % tuple(
            grown[key] - counts[key] for key in ('voided', 'logged')))
        return used[0]

    def hang(self):
        """Let those that hang do so; wait until all must have been told."""
        over_s = hang_s(self._counts['hang'])
        self._hung_from = time.monotonic()
        self._guests.hang(over_s)
        with processes.Sleeper(self._run.folder) as sleeper:
            self._run.wait(over_s + JUDGED_S, 'guests hang')
            figures.show('the machine itself too late',
                         figures.spread(sleeper.finish()))

    def judge_losses(self, limit_ms, most_ms=None):
        """Print the verdicts; the guests are gone then.

        :param limit_ms: that p99 of the lateness has to keep to
        :param most_ms: that every loss has to keep to, None for none
        :returns: names of the guests that missed a round without hanging
        """
        losses = self.watcher.do('losses')
        missed = [name for name in self.watcher.do('missed')
                  if not name.startswith('hang-')]
        assert self.watcher.do('stop')
        seen = self._guests.finish()
        true = [loss for loss in losses if self._is_true(*loss)]
        late = _after_deadline(loss[1:] for loss in true)
        if 'hang' in self._counts:
            figures.show('told after the deadline', figures.spread(late))
            self._compare(true, sorted(seen['hung_at']))
            self._judge_late(late, limit_ms, most_ms)
        figures.show('longest time between two challenges',
                     '%.1f ms' % (seen['longest_gap_s'] * 1000))
        figures.judge('false losses', len(losses) - len(true), 0)
        return missed

    def _judge_late(self, late, limit_ms, most_ms):
        if late:
            figures.judge('p99 past the deadline',
                          figures.percentile(late, 99), limit_ms, 'ms')
        if late and most_ms:
            figures.judge('the latest of all', max(late), most_ms, 'ms')
        figures.judge('hung and not told', self._counts['hang'] - len(late),
                      0)

    def _compare(self, true, hung):
        """Print the same by the guests' clock: when a challenge got there.

        Guests cannot be told apart there: the n-th that hung is taken for
        the n-th that was told.
        """
        told = sorted(delivered_at for _, _, delivered_at in true)
        if len(hung) == len(told):
            figures.show('the same by the guests\' own clock',
                         figures.spread(_after_deadline(
                             zip(hung, told, strict=True))))

    def _is_true(self, name, first_missed_at, delivered_at):
        return (name.startswith('hang-') and self._hung_from is not None
                and first_missed_at > self._hung_from)


def _after_deadline(losses):
    """Return how long after their deadlines losses were delivered, ms.

    :param losses: pairs of when the first missed challenge was due and when
        the loss was delivered, monotonic seconds
    """
    patience_s = (MISSES - 1) * INTERVAL_S + TIMEOUT_S
    return [(delivered_at - first_missed_at - patience_s) * 1000
            for first_missed_at, delivered_at in losses]
