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


"""What one guest says, and how much of it is looked at."""

import math
from typing import Optional

from nova_vmhealth.core.outbound import Outbound
from nova_vmhealth.core.outcomes import Complaint
from nova_vmhealth.core.outcomes import Outcome
from nova_vmhealth.core import protocol
from nova_vmhealth import exception

_LONG_AGO = -math.inf
# The time, seconds, in which what follows is counted: short, so that a guest
# that floods costs a little often and never much at once.
WINDOW_S = 0.1
# An agent at the shortest interval, 100 ms, answers once in it and reports at
# times; more than ten lines are a flood.
LINES = 10
# Most of it is thrown away while a line goes on that is too long already: one
# of 10 MiB is over before the guest's silence becomes a loss at the defaults.
BYTES = 384 << 10
# An agent that writes byte by byte is read less often than this.
READS = 256
# Bytes of a line that count as one more: the longest line counts nine times,
# and an agent may still send one in each window.
_LONG = 512

class Allowance:
    """How much of a guest's input is still looked at in this window.

    :param phase: the windows are counted from here, seconds; with a phase of
        its own for each guest, those that flood do not all come back at once
    """

    __slots__ = ('_phase', '_window', '_lines', '_bytes')

    def __init__(self, phase: float = 0.0) -> None:
        self._phase = phase
        self._window: float = _LONG_AGO
        self._lines = LINES
        self._bytes = BYTES

    def lines(self, now: float) -> int:
        """Return how many lines may be looked at.

        :param now: monotonic time, seconds
        """
        window = self._number(now)
        if window > self._window:
            self._window = window
            self._lines = LINES
            self._bytes = BYTES
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
        if ((self._lines > 0 and self._bytes > 0)
                or self._number(now) > self._window):
            return None
        return self._phase + (self._window + 1) * WINDOW_S

    def _number(self, now: float) -> int:
        # The epsilon of a float that stands for the window's very beginning.
        return math.floor((now + 1e-6 - self._phase) / WINDOW_S)


class Inbound:
    """Makes messages of a guest's bytes, within bounds.

    Times are monotonic seconds.

    :ivar refused: how many lines were no message
    :param phase: of the allowance's windows, seconds
    """

    __slots__ = ('refused', '_framer', '_allowance', '_complained')

    def __init__(self, phase: float) -> None:
        self.refused = 0
        self._framer = protocol.Framer()
        self._allowance = Allowance(phase)
        self._complained = False

    @property
    def idle(self) -> bool:
        """Whether what comes next is the beginning of a line."""
        return self._framer.idle

    def restart(self) -> None:
        """Forget a line that has begun: its channel is gone."""
        self._framer = protocol.Framer()

    def read(self, data: bytes, now: float, outbound: Outbound,
             outcomes: list[Outcome],
             ) -> list[tuple[protocol.Message, bytes]]:
        """Take in what was read.

        :param data: bytes, split anyhow
        :param outbound: gets an answer to what is no message
        :param outcomes: gets a complaint, if there is a first one
        :returns: messages, each with the line that it was
        """
        lines, dropped = self._framer.feed(data, self._allowance.lines(now))
        # A long line costs as much as many short ones, a read of one byte as
        # much as any other.
        self._allowance.use(
            LINES if dropped
            else sum(1 + len(line) // _LONG for line in lines),
            max(len(data), BYTES // READS))
        messages = []
        for line in lines:
            try:
                messages.append((protocol.parse_line(line), line))
            except exception.ProtocolError as error:
                self.refused += 1
                self.complain('it sends what is no message: %s'
                              % error.reason, outcomes)
                outbound.refuse(error.reason, now)
        if self._allowance.resumes_at(now) is not None:
            self.complain('it sends more than %d lines or %d bytes in %d ms'
                          % (LINES, BYTES, WINDOW_S * 1000), outcomes)
        return messages

    def resumes_at(self, now: float) -> Optional[float]:
        """Return when to read on; None for at once."""
        return self._allowance.resumes_at(now)

    def complain(self, reason: str, outcomes: list[Outcome]) -> None:
        """Say what the guest does wrong, once and never again."""
        if not self._complained:
            self._complained = True
            outcomes.append(Complaint(reason))
