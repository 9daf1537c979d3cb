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


"""What one guest is told of Nova's doings, and which of it it acknowledged."""

from typing import Optional

from nova_vmhealth.core import protocol

# A guest that was resumed or migrated is told so when its agent is back, if
# that is within this many seconds: later it is no news.
KEEP_S = 60.0


class Notices:
    """The notices of one session.

    :ivar declared: whether the guest asked for notices on this channel
    """

    __slots__ = ('declared', '_number', '_awaited', '_kept', '_kept_until')

    def __init__(self) -> None:
        self.declared = False
        self._number = 0
        self._awaited = False
        self._kept: Optional[str] = None
        self._kept_until = 0.0

    def make(self, operation: str, timeout_ms: int) -> tuple[int, bytes]:
        """Return the next notice's number and its line.

        :param operation: a fixed name of ours
        :param timeout_ms: how long its answer is waited for, milliseconds
        """
        self._number += 1
        self._awaited = True
        return self._number, protocol.notice(self._number, operation,
                                             timeout_ms)

    def acknowledge(self, number: Optional[int]) -> Optional[int]:
        """Take in an answer; only the first to the latest notice counts.

        :param number: of the notice; None when the guest did not say
        :returns: the notice's number, None when the answer is worth nothing
        """
        if not self._awaited or number not in (None, self._number):
            return None
        self._awaited = False
        return self._number

    def keep(self, operation: str, now: float) -> None:
        """Remember what to tell a guest that is not there yet.

        :param now: monotonic seconds
        """
        self._kept = operation
        self._kept_until = now + KEEP_S

    def inherit(self, earlier: 'Notices') -> None:
        """Take over what was kept in an earlier session with the guest."""
        self._kept = earlier._kept
        self._kept_until = earlier._kept_until

    def declare(self, wanted: bool, now: float) -> Optional[str]:
        """Take in an agent's introduction.

        :param now: monotonic seconds
        :returns: what was kept for it and is still news, None for nothing
        """
        self.declared = wanted
        if not wanted:
            return None
        kept, self._kept = self._kept, None
        return kept if now <= self._kept_until else None

    def channel_ended(self) -> None:
        """Forget what the agent on the other end of the channel asked for."""
        self.declared = False
        self._awaited = False
