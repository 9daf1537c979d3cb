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


"""What one guest can make the host read, parse, keep and write: the bounds."""

from typing import Optional

# An agent at the shortest interval, 100 ms, answers ten times a second and
# reports at times; ten times that much is a flood.
LINES_PER_S = 100
# Twenty times the same number of lines of the greatest length: a line of 10
# MiB is thrown away before the guest's silence becomes a loss, at about a
# hundred reads a second.
BYTES_PER_S = 8 << 20
_WINDOW_S = 1.0


class Allowance:
    """How much of a guest's input is still looked at in this second."""

    __slots__ = ('_ends_at', '_lines', '_bytes')

    def __init__(self) -> None:
        self._ends_at = float('-inf')
        self._lines = 0
        self._bytes = 0

    def lines(self, now: float) -> int:
        """Return how many lines may be looked at.

        :param now: monotonic time, seconds
        """
        if now >= self._ends_at:
            self._ends_at = now + _WINDOW_S
            self._lines = LINES_PER_S
            self._bytes = BYTES_PER_S
        return self._lines

    def use(self, lines: int, size: int) -> None:
        """Count what was read.

        :param lines: how many lines
        :param size: bytes
        """
        self._lines = max(0, self._lines - lines)
        self._bytes -= size

    def resumes_at(self, now: float) -> Optional[float]:
        """Return when reading may go on; None when it may at once.

        :param now: monotonic time, seconds
        """
        if now >= self._ends_at or (self._lines > 0 and self._bytes > 0):
            return None
        return self._ends_at


class SendQueue:
    """The lines for one guest that the channel has not taken yet.

    At most three: the one being written, which has to be finished before
    another begins, the newest challenge, and the newest other line. A guest
    that does not read makes lines replace each other, not pile up.
    """

    __slots__ = ('_begun', '_challenge', '_other')

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: the channel it was for is gone."""
        self._begun = b''
        self._challenge = b''
        self._other = b''

    def put_challenge(self, line: bytes) -> bool:
        """Queue a challenge; return whether an unsent one was replaced."""
        replaced = bool(self._challenge)
        self._challenge = line
        return replaced

    def put_other(self, line: bytes) -> None:
        """Queue a line that is no challenge in the place of an unsent one."""
        self._other = line

    def peek(self) -> bytes:
        """Return the bytes to write next, empty when there are none."""
        return self._begun + self._other + self._challenge

    def sent(self, size: int) -> None:
        """Take out what the channel took.

        :param size: bytes of what :meth:`peek` returned
        """
        for name in ('_begun', '_other', '_challenge'):
            line = getattr(self, name)
            if size == 0:
                return
            setattr(self, name, b'')
            if size < len(line):
                self._begun = line[size:]
                return
            size -= len(line)
