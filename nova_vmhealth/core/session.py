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


"""The host's side of one heartbeat: bytes and time in, outcomes out.

Its states and what leads from one to the next stand in ``session_table``, its
outcomes in ``outcomes``. A challenge goes out every interval. One that is not
answered within the timeout is a miss, and the policy's number of misses in a
row is a loss, so a loss is told at most ``misses * interval + timeout`` after
the guest's last answer. The challenges keep to a grid of the interval from
``phase`` on, whatever happens.
"""

import collections
import dataclasses
import math
from typing import Callable, Optional, Union

from nova_vmhealth.core import audits
from nova_vmhealth.core import flow
from nova_vmhealth.core.outcomes import AgentExited
from nova_vmhealth.core.outcomes import Complaint
from nova_vmhealth.core.outcomes import Established
from nova_vmhealth.core.outcomes import Lost
from nova_vmhealth.core.outcomes import NotEstablished
from nova_vmhealth.core.outcomes import Outcome
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core import protocol
from nova_vmhealth.core.session_table import Event
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.session_table import Link
from nova_vmhealth.core.session_table import step
from nova_vmhealth import exception

_HELD = (Link.HELD, Link.HELD_OPEN)
_NEVER_SEEN = (Guest.WAITING, Guest.OVERDUE)

# A challenge that goes out this late, seconds, still counts as sent in time:
# it is the width of the caller's slots.
_SLACK_S = 0.010
# Deadlines are sums of floats; this much before one is the same moment.
_EPSILON_S = 1e-6
# Unanswered challenges that are kept, whatever the policy: an operator's
# limits may allow a timeout of an hour at ten challenges a second.
MAX_UNANSWERED = 1024
# The guest gets at most one nack, and one init_ack, in this many seconds.
_REPLY_EVERY_S = 1.0
# A guest whose channel is full for this long, seconds, does not read. Shorter
# than that it may still be booting.
UNREAD_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge that waits for its answer; times in monotonic seconds."""

    sequence: int
    nonce: str
    sent_at: float
    deadline: float


class Session:
    """The heartbeat of one guest.

    The caller owns the clock and the channel: it feeds what happens, writes
    :meth:`data_to_send`, and calls :meth:`handle_timer` not before
    :meth:`next_deadline`. Every ``now`` is monotonic time in seconds.

    :param policy: interval, timeout, misses and boot deadline
    :param new_nonce: returns fresh hexadecimal digits from a CSPRNG
    :param now: the boot deadline counts from here
    :param established: whether the guest is known to have answered before
        (an earlier process of the host saw it): silence is a loss at once
    :param recover_beats: valid answers in a row that end a loss
    :param phase: a moment on the grid of challenges
    """

    def __init__(self, policy: Policy, new_nonce: Callable[[], str],
                 now: float, *, established: bool = False,
                 recover_beats: int = 2, phase: float = 0.0) -> None:
        self._interval = policy.interval_ms / 1000
        self._timeout = policy.timeout_ms / 1000
        self.policy = policy
        self._new_nonce = new_nonce
        self._recover_beats = recover_beats
        self._phase = phase
        self.link = Link.CONNECTING
        self.guest = Guest.BEATING if established else Guest.WAITING
        self._boot_deadline = self._boot_deadline_from(now)
        self._challenge_at = math.inf
        self._sequence = 0
        # Both in the order of their sequence: what an answer may answer, and
        # the part of it whose deadline is still to come.
        self._unanswered: dict[int, Challenge] = {}
        self._undecided: collections.deque[Challenge] = collections.deque()
        self._most_unanswered = min(
            MAX_UNANSWERED,
            policy.misses + math.ceil(self._timeout / self._interval) + 2)
        self._good_beats = 0
        self._beat_needs_sequence = 0
        self._first_missed_at = now
        self._alive_at = now
        self._board = audits.AuditBoard()
        self._framer = protocol.Framer()
        self._allowance = flow.Allowance()
        self._queue = flow.SendQueue()
        self._full_since: Optional[float] = None
        self._ack_wanted = False
        self._ack_from = self._nack_from = -math.inf
        self._complained = False
        self.misses = 0
        self.last_answer_at: Optional[float] = None

    # -- the channel ---------------------------------------------------------

    def connected(self, now: float) -> None:
        """The channel is there; challenges begin with the grid's next point.

        :raises nova_vmhealth.exception.IllegalTransition: it already was
        """
        self.link = step(self.link, Event.CONNECTED)
        self._alive_at = now
        self._plan_challenge(now)

    def disconnected(self, now: float) -> None:
        """The channel is gone, and with it whatever was under way in it.

        :raises nova_vmhealth.exception.IllegalTransition: there was none
        """
        self.link = step(self.link, Event.DISCONNECTED)
        self._framer = protocol.Framer()
        self._queue.clear()
        self._unanswered.clear()
        self._undecided.clear()
        self._full_since = None
        self._plan_challenge(now)

    def hold(self, now: float) -> None:
        """Send and judge nothing until :meth:`release`.

        :raises nova_vmhealth.exception.IllegalTransition: it holds already
        """
        self.link = step(self.link, Event.HOLD)
        self._undecided.clear()
        self._queue.put_challenge(b'')
        self._plan_challenge(now)

    def release(self, now: float) -> None:
        """Go on, with no miss counted and the boot deadline anew.

        :raises nova_vmhealth.exception.IllegalTransition: it does not hold
        """
        self.link = step(self.link, Event.RELEASE)
        self.misses = 0
        self._boot_deadline = self._boot_deadline_from(now)
        self._plan_challenge(now)

    def void_round(self, now: float) -> None:
        """Judge no challenge that is under way: the host itself stalled.

        Answers to them still count. A challenge that is overdue goes out with
        the next :meth:`handle_timer`.
        """
        self._undecided.clear()

    # -- bytes ---------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Outcome]:
        """Take in what the guest wrote.

        :param data: bytes, split anyhow
        :returns: what follows from them
        """
        outcomes: list[Outcome] = []
        lines, dropped = self._framer.feed(data, self._allowance.lines(now))
        self._allowance.use(len(lines), len(data))
        for line in lines:
            self._take_line(line, now, outcomes)
        if dropped:
            self._allowance.use(flow.LINES_PER_S, 0)
        if self._allowance.resumes_at(now) is not None:
            self._complain('it sends more than %d lines or %d bytes a second'
                           % (flow.LINES_PER_S, flow.BYTES_PER_S), outcomes)
        return outcomes

    def reading_resumes_at(self, now: float) -> Optional[float]:
        """Return when to read on from a guest that sends too much.

        :returns: monotonic seconds, None for at once
        """
        return self._allowance.resumes_at(now)

    def data_to_send(self) -> bytes:
        """Return what to write next, at most three lines."""
        return self._queue.peek()

    def sent(self, size: int) -> None:
        """The channel took this many bytes of :meth:`data_to_send`."""
        self._queue.sent(size)

    def _take_line(self, line: bytes, now: float,
                   outcomes: list[Outcome]) -> None:
        try:
            message = protocol.parse_line(line)
        except exception.ProtocolError as error:
            self._complain('it sends what is no message: %s' % error.reason,
                           outcomes)
            if now >= self._nack_from:
                self._nack_from = now + _REPLY_EVERY_S
                self._queue.put_other(protocol.nack(error.reason))
            return
        if isinstance(message, protocol.ChallengeResponse):
            if self._take_answer(message, now, outcomes):
                self._take_health(message, now, outcomes)
        elif isinstance(message, protocol.Report):
            self._take_health(message, now, outcomes)
        elif isinstance(message, protocol.Init):
            self._ack_wanted = True
            self._acknowledge(now)
        else:
            self._take_exit(message, outcomes)

    def _take_answer(self, answer: protocol.ChallengeResponse, now: float,
                     outcomes: list[Outcome]) -> bool:
        """Count a valid answer; return whether it was one."""
        challenge = self._unanswered.get(answer.sequence)
        if challenge is None or challenge.nonce != answer.nonce:
            # A replay, or an old challenge that lay in the channel while the
            # port was closed: worth nothing, not even a complaint.
            return False
        self._discharge(challenge.sequence)
        self.last_answer_at = self._alive_at = now
        self.misses = 0
        previous = self.guest
        self.guest = step(previous, self._beat(challenge, now))
        if self.guest is Guest.BEATING and previous is not Guest.BEATING:
            outcomes.append(Established(previous))
        return True

    def _discharge(self, sequence: int) -> None:
        """Drop an answered challenge and all before it: it lived after."""
        while self._unanswered:
            oldest = next(iter(self._unanswered))
            if oldest > sequence:
                break
            del self._unanswered[oldest]
        while self._undecided and self._undecided[0].sequence <= sequence:
            self._undecided.popleft()

    def _beat(self, challenge: Challenge, now: float) -> Event:
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
            self._beat_needs_sequence = self._sequence
        if self._good_beats < self._recover_beats:
            return Event.BEAT
        return Event.RECOVERY

    def _take_health(
            self, message: Union[protocol.ChallengeResponse, protocol.Report],
            now: float, outcomes: list[Outcome]) -> None:
        outcomes.extend(
            self._board.take(message.health, message.audits, now))
        if self._board.ignored:
            self._complain('it has more than %d audits' % audits.MAX_AUDITS,
                           outcomes)

    def _take_exit(self, message: protocol.Exit,
                   outcomes: list[Outcome]) -> None:
        previous = self.guest
        self.guest = step(previous, Event.EXIT)
        if self.guest is Guest.EXITED and previous is not Guest.EXITED:
            self.misses = 0
            outcomes.append(AgentExited(message.reason))

    def _acknowledge(self, now: float) -> None:
        """Answer an Init; when it is too soon, with a later challenge."""
        if self._ack_wanted and now >= self._ack_from:
            self._ack_wanted = False
            self._ack_from = now + _REPLY_EVERY_S
            self._queue.put_other(protocol.init_ack(
                self.policy.interval_ms, self.policy.timeout_ms))

    def _complain(self, reason: str, outcomes: list[Outcome]) -> None:
        if not self._complained:
            self._complained = True
            outcomes.append(Complaint(reason))

    # -- time ----------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when :meth:`handle_timer` has something to do.

        :returns: monotonic seconds, infinity for never
        """
        deadline = min(self._challenge_at, self._boot_deadline_at(),
                       self._board.next_deadline())
        if self._undecided:
            deadline = min(deadline, self._undecided[0].deadline)
        return deadline

    def handle_timer(self, now: float) -> list[Outcome]:
        """Judge what is overdue, then send what is due.

        The caller reads what the guest has written before it calls this.

        :returns: what follows
        """
        now += _EPSILON_S
        outcomes: list[Outcome] = list(self._board.flush(now))
        while self._undecided and self._undecided[0].deadline <= now:
            self._miss(self._undecided.popleft(), now, outcomes)
        if self._boot_deadline_at() <= now:
            self.guest = step(self.guest, Event.BOOT_DEADLINE)
            outcomes.append(NotEstablished(self.policy.boot_deadline_s))
        if self._challenge_at <= now:
            self._acknowledge(now)
            self._challenge(now, outcomes)
            self._plan_challenge(now)
        return outcomes

    def _boot_deadline_from(self, now: float) -> float:
        return now + (self.policy.boot_deadline_s or math.inf)

    def _boot_deadline_at(self) -> float:
        if self.guest is Guest.WAITING and self.link not in _HELD:
            return self._boot_deadline
        return math.inf

    def _plan_challenge(self, now: float) -> None:
        """Set the next challenge to the grid's next point, or to never."""
        if self.link is not Link.OPEN:
            self._challenge_at = math.inf
            return
        rounds = math.floor((now + _EPSILON_S - self._phase) / self._interval)
        self._challenge_at = self._phase + (rounds + 1) * self._interval

    def _challenge(self, now: float, outcomes: list[Outcome]) -> None:
        if len(self._undecided) >= MAX_UNANSWERED:
            return
        self._sequence += 1
        in_time = now - self._challenge_at <= _SLACK_S
        sent_at = self._challenge_at if in_time else now
        challenge = Challenge(self._sequence, self._new_nonce(), sent_at,
                              sent_at + self._timeout)
        self._unanswered[self._sequence] = challenge
        self._undecided.append(challenge)
        if len(self._unanswered) > self._most_unanswered:
            del self._unanswered[next(iter(self._unanswered))]
        replaced = self._queue.put_challenge(
            protocol.challenge(self._sequence, challenge.nonce))
        self._watch_reading(replaced, now, outcomes)

    def _watch_reading(self, replaced: bool, now: float,
                       outcomes: list[Outcome]) -> None:
        """Complain of a guest whose channel stays full."""
        if not replaced:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since >= UNREAD_S:
            self._complain('it does not read: the channel is full', outcomes)

    def _miss(self, challenge: Challenge, now: float,
              outcomes: list[Outcome]) -> None:
        if self.guest in (Guest.BEATING, Guest.LOST):
            self.misses += 1
            if self.misses == 1:
                self._first_missed_at = challenge.sent_at
        lost = (self.guest is Guest.BEATING
                and self.misses >= self.policy.misses)
        self.guest = step(self.guest, Event.LOSS if lost else Event.MISS)
        self._good_beats = 0
        if lost:
            self._beat_needs_sequence = self._sequence
            outcomes.append(Lost(self.misses, self._first_missed_at,
                                 now - self._alive_at))

    @property
    def established(self) -> bool:
        """Whether the guest ever gave a valid answer."""
        return self.guest not in _NEVER_SEEN
