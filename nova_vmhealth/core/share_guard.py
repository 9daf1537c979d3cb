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

"""How many hosts may be marked down: a broken network is no broken cloud."""

import collections
import math


class ShareGuard:
    """Counts the hosts that were marked down; it is not thread safe.

    Times are seconds, on the caller's one clock.

    :param percent: of the hosts that are watched
    :param window_s: marks count for so long
    """

    def __init__(self, percent: float, window_s: float) -> None:
        self._percent = percent
        self._window_s = window_s
        # (time, host), the oldest first but for what others marked earlier
        self._marks: collections.deque[tuple[float, str]] = (
            collections.deque())

    def marked(self, host: str, time: float) -> None:
        """Take in that a host was marked down."""
        self.forget(host)
        self._marks.append((time, host))

    def forget(self, host: str) -> None:
        """Take in that a host is no longer marked down."""
        self._marks = collections.deque(
            each for each in self._marks if each[1] != host)

    def recent(self, time: float) -> frozenset[str]:
        """Return the hosts that were marked down within the window."""
        self._marks = collections.deque(
            each for each in self._marks if each[0] > time - self._window_s)
        return frozenset(host for _, host in self._marks)

    def limit(self, watched: int) -> int:
        """Return how many hosts may be down at once.

        :param watched: how many there are
        """
        return max(1, math.floor(watched * self._percent / 100))
