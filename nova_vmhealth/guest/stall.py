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


"""Whether a thread came late: it, or the whole guest, did not run.

A guest that was paused, migrated or starved of CPU goes on as if nothing had
been. What it then holds is old: challenges that waited, deadlines that passed
while nobody could keep them.
"""

import time

# A thread is woken at least this often, seconds.
TICK_SECONDS = 1.0
# It is late, and not merely busy, by more than this, seconds.
LATE_SECONDS = 2.0

# Unlike the monotonic clock it goes on while the guest itself sleeps (S3);
# Python 3.6 has no name for it.
_BOOTTIME = getattr(time, 'CLOCK_BOOTTIME', 7)


def boottime():
    """Return the seconds since the guest's boot, its sleep included."""
    return time.clock_gettime(_BOOTTIME)


class Punctuality:
    """Judges how late a thread comes that ought to come every tick."""

    def __init__(self):
        self._expected = None

    def came(self, now):
        """Note that the thread is here.

        :param now: seconds of a clock that never goes back
        :returns: by how many seconds it is late, 0.0 if not worth mention
        """
        expected, self._expected = self._expected, now + TICK_SECONDS
        if expected is None or now - expected <= LATE_SECONDS:
            return 0.0
        return now - expected


class Deadline:
    """A moment that moves when the thread that keeps it did not run.

    :param at: when it is, in monotonic seconds
    """

    def __init__(self, at):
        self._at = at
        self._punctuality = Punctuality()

    def left(self, now):
        """Return the seconds that are left; call it at least every tick."""
        self._at += self._punctuality.came(now)
        return self._at - now
