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


"""The challenges of one guest that wait for an answer, or for judgement."""

import math
from typing import NamedTuple, Optional

# Unanswered challenges that are kept, whatever the policy: an operator's
# limits may allow a timeout of an hour at ten challenges a second.
MAX_UNANSWERED = 1024


# Shared by all guests of which nothing is awaited; never changed.
_NONE: list['Challenge'] = []


class Challenge(NamedTuple):
    """A challenge that waits for its answer; times in monotonic seconds."""

    sequence: int
    nonce: str
    sent_at: float
    deadline: float


class Challenges:
    """What was asked and not answered, in the order of the sequence.

    The sequences have no gaps: an answer discharges all before it. Only the
    last of them are still to be judged.

    :param most: keep at most this many
    """

    __slots__ = ('_most', '_waiting', '_undecided')

    def __init__(self, most: int) -> None:
        self._most = min(most, MAX_UNANSWERED)
        self._waiting: list[Challenge] = _NONE
        self._undecided = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether as many wait for judgement as are ever kept."""
        return self._undecided >= MAX_UNANSWERED

    def add(self, challenge: Challenge) -> None:
        """Take in the next challenge; the oldest may be forgotten for it."""
        if self._waiting is _NONE:
            self._waiting = []
        self._waiting.append(challenge)
        self._undecided += 1
        if len(self._waiting) > self._most:
            del self._waiting[0]
            self._undecided = min(self._undecided, len(self._waiting))

    def find(self, sequence: int, nonce: str) -> Optional[Challenge]:
        """Return the challenge that has both; None when there is none."""
        if not self._waiting:
            return None
        index = sequence - self._waiting[0].sequence
        if not 0 <= index < len(self._waiting):
            return None
        challenge = self._waiting[index]
        return challenge if challenge.nonce == nonce else None

    def discharge(self, sequence: int) -> None:
        """Drop an answered challenge and all before it: it lived after."""
        if sequence == self._waiting[-1].sequence:
            self.clear()
            return
        del self._waiting[:sequence + 1 - self._waiting[0].sequence]
        self._undecided = min(self._undecided, len(self._waiting))

    def clear(self) -> None:
        """Drop all of them."""
        self._waiting = _NONE
        self._undecided = 0

    def spare(self) -> None:
        """Judge none of them; answers to them still count."""
        self._undecided = 0

    def next_deadline(self) -> float:
        """Return when the next of them is to be judged.

        :returns: monotonic seconds, infinity for never
        """
        if not self._undecided:
            return math.inf
        return self._waiting[-self._undecided].deadline

    def judge(self, now: float) -> Optional[Challenge]:
        """Return the next one whose time is over, once; None for none."""
        if self.next_deadline() > now:
            return None
        challenge = self._waiting[-self._undecided]
        self._undecided -= 1
        return challenge
