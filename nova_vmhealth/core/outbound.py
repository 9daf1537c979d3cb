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


"""What the host has to say to one guest, and how much of it can wait."""

import math

from nova_vmhealth.core import protocol

_LONG_AGO = -math.inf
# The guest gets at most one nack, and one init_ack, in this many seconds.
REPLY_EVERY_S = 1.0
# A guest whose channel is full for this long, seconds, does not read. Shorter
# than that it may still be booting.
UNREAD_S = 60.0


class Outbound:
    """The lines for one guest that the channel has not taken yet.

    At most four: the one being written, which has to be finished before
    another begins, the newest notice, the newest challenge, and the newest
    other line. A guest that does not read makes lines replace each other, not
    pile up. Times are monotonic seconds.
    """

    __slots__ = ('_begun', '_notice', '_other', '_challenge', '_full_since',
                 '_ack_wanted', '_ack_from', '_nack_from')

    def __init__(self) -> None:
        self._ack_wanted = False
        self._ack_from = self._nack_from = _LONG_AGO
        self.clear()

    def clear(self) -> None:
        """Forget everything: the channel it was for is gone."""
        self._begun = self._notice = self._other = self._challenge = b''
        self._full_since = math.inf

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to write, now or later."""
        return not (self._ack_wanted or self.peek())

    def put_challenge(self, line: bytes, now: float) -> bool:
        """Queue a challenge in the place of an unsent one.

        :returns: whether the guest has not read for a long time
        """
        if not self._challenge:
            self._full_since = now
        self._challenge = line
        return now - self._full_since >= UNREAD_S

    def put_rest(self, line: bytes, written: int) -> None:
        """Queue what a full channel left of a line.

        :param line: a challenge
        :param written: bytes of it that the channel took
        """
        if written:
            self._begun = line[written:]
        else:
            self._challenge = line

    def drop_challenge(self) -> None:
        """Forget an unsent challenge."""
        self._challenge = b''

    def put_notice(self, line: bytes) -> None:
        """Queue a notice in the place of an unsent one."""
        self._notice = line

    def refuse(self, reason: str, now: float) -> None:
        """Tell the guest what was wrong with a line, if it may be told yet.

        :param reason: the reason of a ProtocolError
        """
        if now >= self._nack_from:
            self._nack_from = now + REPLY_EVERY_S
            self._other = protocol.nack(reason)

    def want_ack(self) -> None:
        """An Init is to be answered, by the next :meth:`acknowledge`."""
        self._ack_wanted = True

    def acknowledge(self, interval_ms: int, timeout_ms: int,
                    now: float) -> None:
        """Answer an Init if there is one and it may be answered yet."""
        if self._ack_wanted and now >= self._ack_from:
            self._ack_wanted = False
            self._ack_from = now + REPLY_EVERY_S
            self._other = protocol.init_ack(interval_ms, timeout_ms)

    def peek(self) -> bytes:
        """Return the bytes to write next, empty when there are none."""
        return self._begun + self._notice + self._other + self._challenge

    def sent(self, size: int) -> None:
        """Take out what the channel took.

        :param size: bytes of what :meth:`peek` returned
        """
        for name in ('_begun', '_notice', '_other', '_challenge'):
            line = getattr(self, name)
            if size == 0:
                return
            setattr(self, name, b'')
            if size < len(line):
                self._begun = line[size:]
                return
            size -= len(line)
