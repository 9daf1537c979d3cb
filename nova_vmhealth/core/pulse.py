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


"""What the host makes of one guest's answers and of its silence."""

import math
from typing import Optional, Union

from nova_vmhealth.core.challenges import Challenge
from nova_vmhealth.core.outcomes import Established
from nova_vmhealth.core.outcomes import Lost
from nova_vmhealth.core.outcomes import Missed
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core.session_table import Event
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.session_table import Link
from nova_vmhealth.core.session_table import step

_HELD = (Link.HELD, Link.HELD_OPEN)
_NEVER_SEEN = (Guest.WAITING, Guest.OVERDUE)
# The first miss is told at most once in this many seconds: a guest may well
# answer every other challenge.
_MISSED_EVERY_S = 1.0
# One object for thousands of guests, as in the modules beside this one.
_LONG_AGO = -math.inf


class Pulse:
    """Whether a guest beats, and how many challenges it has missed.

    Times are monotonic seconds.

    :ivar guest: its state in the session's table
    :ivar misses: in a row, until now
    :param guest: how it stood when an earlier run of the host left it
    :param most_misses: it is lost with this miss in a row
    :param recover_beats: valid answers in a row that end a loss
    """

    __slots__ = ('guest', 'misses', '_taken_up', '_most_misses',
                 '_recover_beats', '_good_beats', '_beat_needs_sequence',
                 '_first_missed_at', '_missed_from', '_boot_deadline')

    def __init__(self, guest: Guest, most_misses: int,
                 recover_beats: int) -> None:
        self.guest = guest
        # It beats, as somebody else has seen.
        self._taken_up = guest is Guest.BEATING
        self.misses = 0
        self._most_misses = most_misses
        self._recover_beats = recover_beats
        self._good_beats = 0
        self._beat_needs_sequence = 0
        self._first_missed_at = self._missed_from = _LONG_AGO
        self._boot_deadline = math.inf

    @property
    def established(self) -> bool:
        """Whether the guest ever gave a valid answer."""
        return self.guest not in _NEVER_SEEN

    def answered(self, challenge: Challenge, now: float,
                 latest: int) -> Optional[Established]:
        """Take in a valid answer.

        :param challenge: what it answers
        :param latest: sequence of the latest challenge
        :returns: that the guest beats, if that is new
        """
        self.misses = 0
        previous = self.guest
        self.guest = step(previous, self._beat(challenge, now, latest))
        if self.guest is not Guest.BEATING:
            return None
        is_news = previous is not Guest.BEATING or self._taken_up
        self._taken_up = False
        return Established(previous) if is_news else None

    def _beat(self, challenge: Challenge, now: float, latest: int) -> Event:
        """Tell which event a valid answer is.

        To end a loss an answer must be in time, and each must answer a
        challenge that was sent after the one before had come: what a thawed
        guest answers in one breath is one beat.
        """
        if self.guest is not Guest.LOST:
            return Event.BEAT
        if (now <= challenge.deadline
                and challenge.sequence > self._beat_needs_sequence):
            self._good_beats += 1
            self._beat_needs_sequence = latest
        if self._good_beats < self._recover_beats:
            return Event.BEAT
        return Event.RECOVERY

    def missed(self, challenge: Challenge, now: float, latest: int,
               silent_s: float) -> Optional[Union[Lost, Missed]]:
        """Take note that a challenge was not answered in time.

        :param latest: sequence of the latest challenge
        :param silent_s: seconds since the last answer
        :returns: what is to be told of it
        """
        if self.guest in (Guest.BEATING, Guest.LOST):
            self.misses += 1
            if self.misses == 1:
                self._first_missed_at = challenge.sent_at
        lost = (self.guest is Guest.BEATING
                and self.misses >= self._most_misses)
        self.guest = step(self.guest, Event.LOSS if lost else Event.MISS)
        self._good_beats = 0
        if lost:
            self._beat_needs_sequence = latest
            return Lost(self.misses, self._first_missed_at, silent_s)
        if self.guest is Guest.BEATING and self._is_worth_telling(now):
            return Missed(self.misses, silent_s)
        return None

    def _is_worth_telling(self, now: float) -> bool:
        if self.misses == 1 and now >= self._missed_from:
            self._missed_from = now + _MISSED_EVERY_S
            return True
        return 1 < self.misses == self._most_misses - 1

    def wait(self, policy: Policy, now: float) -> None:
        """Count the time for the first answer from now on, anew."""
        seconds = policy.boot_deadline_s
        self._boot_deadline = now + seconds if seconds else math.inf

    def deadline(self, link: Link) -> float:
        """Return when :meth:`overdue` is to be called; inf for never."""
        if self.guest is Guest.WAITING and link not in _HELD:
            return self._boot_deadline
        return math.inf

    def overdue(self) -> None:
        """The time for the first answer is over."""
        self.guest = step(self.guest, Event.BOOT_DEADLINE)

    def left(self) -> bool:
        """The agent is gone; return whether it was there until now."""
        previous = self.guest
        self.guest = step(previous, Event.EXIT)
        if self.guest is not Guest.EXITED:
            return False
        self.misses = 0
        return previous is not Guest.EXITED
