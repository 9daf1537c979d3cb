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


"""The latest results of the audits, and whether anybody still runs them."""

import collections
import threading

from nova_vmhealth.guest.audits import timeout_message
from nova_vmhealth.guest.health import DEGRADED
from nova_vmhealth.guest.health import HEALTHY
from nova_vmhealth.guest.health import MAX_AUDITS
from nova_vmhealth.guest.health import Result
from nova_vmhealth.guest.health import Snapshot
from nova_vmhealth.guest.health import UNHEALTHY
from nova_vmhealth.guest.health import worst

# The audits' thread looks after them at least every second. After so many
# seconds without a look it hangs, as in listing a directory on a dead disk,
# and results that nobody renews are no sign of health.
LOOK_LATE_SECONDS = 10.0
# The name under which the agent tells that.
OWN_AUDIT = 'vmhealth-guest'


def audits_run(snapshot):
    """Whether the audits' thread was alive when the Snapshot was taken."""
    return all(result.health == HEALTHY for result in snapshot.results
               if result.name == OWN_AUDIT)


class Board:
    """The latest results, shared by the audits' threads and the talk.

    :param wake: called without arguments, on any thread, after a change
    """

    def __init__(self, wake):
        self._wake = wake
        self._lock = threading.Lock()
        self._results = collections.OrderedDict()
        self._running = {}
        self._names = None
        self._looked_at = None
        self._was_late = False

    def looked(self, now):
        """Note that the audits' thread looks after them, or begins to."""
        with self._lock:
            self._looked_at = now

    def begin(self, audit, now):
        """Note that an audit starts; False if its last run still goes on."""
        with self._lock:
            if audit.name in self._running:
                return False
            self._running[audit.name] = (now + audit.timeout, audit)
            return True

    def finish(self, result):
        """Take the result of a run that was begun."""
        with self._lock:
            self._running.pop(result.name, None)
            self._results[result.name] = result
        self._wake()

    def keep(self, names):
        """Say which audits there are.

        One that is gone stays as a healthy one while there is room: the
        host clears a fault only when told so, and may be away right now.
        """
        with self._lock:
            self._names = set(names)
            gone = [n for n in self._results if n not in self._names]
            for name in gone:
                self._results[name] = Result(name, HEALTHY, 'audit removed')
            for name in gone[:max(0, len(self._results) - MAX_AUDITS)]:
                del self._results[name]

    def excuse(self, late, now):
        """Move all deadlines: for some seconds nobody could keep them.

        Those of what has begun since then stay where they are.
        """
        with self._lock:
            if self._looked_at is not None:
                self._looked_at = min(self._looked_at + late, now)
            for name, (deadline, audit) in self._running.items():
                deadline = min(deadline + late, now + audit.timeout)
                self._running[name] = (deadline, audit)

    def snapshot(self, now):
        """Return the Snapshot at a time of the monotonic clock, in seconds.

        An audit that is overdue is unhealthy even while its thread still
        hangs in starting or killing it, as it does on a dead disk.
        """
        with self._lock:
            results = dict(self._results)
            for name, (deadline, audit) in self._running.items():
                if now >= deadline and name in (self._names or ()):
                    results[name] = Result(name, UNHEALTHY,
                                           timeout_message(audit))
            complete = self._names is not None and self._names <= set(results)
            self._judge_thread(results, now)
        results = tuple(results[name] for name in sorted(results))
        health = worst(result.health for result in results)
        if health == HEALTHY and not complete:
            health = None
        return Snapshot(health, results)

    def _judge_thread(self, results, now):
        if self._looked_at is None:
            return
        away = now - self._looked_at
        if away >= LOOK_LATE_SECONDS:
            self._was_late = True
            results[OWN_AUDIT] = Result(
                OWN_AUDIT, DEGRADED,
                'nobody has looked after the audits for %d s' % away)
        elif self._was_late:
            # For the reason that keep() gives.
            results.setdefault(OWN_AUDIT, Result(OWN_AUDIT, HEALTHY, ''))

    def next_deadline(self, now):
        """Return when the next running audit gets overdue, None if never."""
        with self._lock:
            deadlines = [d for d, _ in self._running.values() if d > now]
        return min(deadlines, default=None)
