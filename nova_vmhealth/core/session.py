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

There are thousands of sessions on a host, and nearly all that they do is to
send a challenge and to see it answered in the words of the last answer. A
session that has nothing else to do is calm, and those two take short ways:
:meth:`Session.next_challenge` queues nothing, and :meth:`Session.receive`
compares bytes and parses nothing. Whatever else happens ends the calm first.
"""

import math
from typing import Callable, Mapping, Optional, Sequence, Union

from nova_vmhealth.core import audits
from nova_vmhealth.core.challenges import Challenge
from nova_vmhealth.core.challenges import Challenges
from nova_vmhealth.core.inbound import Inbound
from nova_vmhealth.core.notices import Notices
from nova_vmhealth.core.outbound import Outbound
from nova_vmhealth.core.outcomes import AgentExited
from nova_vmhealth.core.outcomes import Established
from nova_vmhealth.core.outcomes import NotEstablished
from nova_vmhealth.core.outcomes import NoticeAcked
from nova_vmhealth.core.outcomes import Outcome
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core.presence import Presence
from nova_vmhealth.core import protocol
from nova_vmhealth.core.pulse import Pulse
from nova_vmhealth.core.session_table import Event
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.session_table import Link
from nova_vmhealth.core.session_table import step
from nova_vmhealth.core.sharing import known_tail
from nova_vmhealth.core.sharing import NUMBERS
from nova_vmhealth.core.sharing import one
from nova_vmhealth.core.vocabulary import Health

# A challenge that goes out this late, seconds, still counts as sent in time:
# it is the width of the caller's slots.
_SLACK_S = 0.010
# Deadlines are sums of floats; this much before one is the same moment.
_EPSILON_S = 1e-6

# Looked up once, for the short ways.
_challenge_line = protocol.challenge
_ANSWER = protocol.ANSWER_HEAD
_BODY = protocol.CHALLENGE_BODY

# What :meth:`Session.receive` returns for a beat that changed nothing: no
# deadline has come nearer and there is nothing to send.
QUIET: tuple[Outcome, ...] = ()


class Session:
    """The heartbeat of one guest.

    The caller owns the clock and the channel: it feeds what happens, writes
    :meth:`data_to_send`, and calls :meth:`handle_timer` not before
    :meth:`next_deadline`. Every ``now`` is monotonic time in seconds.

    :param policy: interval, timeout, misses and boot deadline
    :param new_nonce: returns fresh hexadecimal digits from a CSPRNG
    :param now: the boot deadline counts from here
    :param guest: how the guest stood when an earlier session of it ended, in
        an earlier process of the host maybe: the silence of one that was
        beating is a loss at once
    :param said: what the guest said there that is not well: name of the
        audit, empty for the guest as a whole -> health
    :param recover_beats: valid answers in a row that end a loss
    :param phase: a moment on the grid of challenges
    :ivar wake_ms: after :meth:`next_challenge`, what :meth:`next_deadline`
        would say, in milliseconds
    """

    # First what every beat looks at: it is close together in memory then, and
    # for thousands of guests that is half of a beat's cost.
    __slots__ = (
        'policy', '_calm', '_asked', '_due_ms', '_sequence', 'wake_ms',
        '_early_ms', '_tail', 'last_answer_at', '_new_nonce',
        'link', 'notices', '_phase_ms', '_challenges', '_pulse', '_presence',
        '_board', '_inbound', '_outbound')

    def __init__(self, policy: Policy, new_nonce: Callable[[], str],
                 now: float, *, guest: Guest = Guest.WAITING,
                 said: Mapping[str, Health] = audits.NOTHING_SAID,
                 recover_beats: int = 2, phase: float = 0.0) -> None:
        self.policy = policy
        self._new_nonce = new_nonce
        self._pulse = Pulse(guest, policy.misses, recover_beats)
        # The grid is counted in whole milliseconds: sums of floats wander.
        self._phase_ms = round(phase * 1000)
        self.link = Link.CONNECTING
        self._pulse.wait(policy, now)
        self._due_ms: Optional[int] = None
        self.wake_ms = 0
        # How long before the next challenge one is judged.
        self._early_ms = max(0, policy.interval_ms - policy.timeout_ms)
        self._sequence = 0
        self._challenges = Challenges(
            policy.misses
            + math.ceil(policy.timeout_ms / policy.interval_ms) + 2)
        self._presence = Presence(now)
        self._board = audits.AuditBoard(said)
        self._inbound = Inbound(phase)
        self._outbound = Outbound()
        self.notices = Notices()
        # While it is calm the latest challenge is here and nowhere else, None
        # when it was answered.
        self._calm = False
        self._asked: Optional[bytes] = None
        # What followed the nonce in the last answer, if it was of the usual
        # spelling: the guest's health, in words that are known already.
        self._tail: Optional[bytes] = None
        self.last_answer_at: Optional[float] = None

    # -- the channel ---------------------------------------------------------

    def connected(self, now: float) -> None:
        """The channel is there; challenges begin with the grid's next point.

        :raises nova_vmhealth.exception.IllegalTransition: it already was
        """
        self.link = step(self.link, Event.CONNECTED)
        self._presence.came(now)
        self._plan_challenge(now)

    def disconnected(self, now: float) -> None:
        """The channel is gone, and with it whatever was under way in it.

        :raises nova_vmhealth.exception.IllegalTransition: there was none
        """
        self.link = step(self.link, Event.DISCONNECTED)
        self._stir()
        self._presence.went(now)
        self._inbound.restart()
        self._outbound.clear()
        self._challenges.clear()
        self.notices.channel_ended()
        self._plan_challenge(now)

    def hold(self, now: float) -> None:
        """Send and judge nothing until :meth:`release`; notices still go.

        :raises nova_vmhealth.exception.IllegalTransition: it holds already
        """
        self.link = step(self.link, Event.HOLD)
        self._stir()
        self._challenges.spare()
        self._outbound.drop_challenge()
        self._plan_challenge(now)

    def release(self, now: float) -> None:
        """Go on, with no miss counted and the boot deadline anew.

        :raises nova_vmhealth.exception.IllegalTransition: it does not hold
        """
        self.link = step(self.link, Event.RELEASE)
        self._pulse.misses = 0
        if self.link is Link.CONNECTING:
            self._presence.went(now)
        self._pulse.wait(self.policy, now)
        self._plan_challenge(now)

    def void_round(self, now: float) -> None:
        """Judge no challenge that is under way: the host itself stalled.

        Answers to them still count. A challenge that is overdue goes out with
        the next :meth:`handle_timer`.
        """
        self._stir()
        self._challenges.spare()

    def port_closed(self) -> None:
        """The guest closed its end: its agent is gone, which is no hang.

        Its silence is not judged until it answers again. That it is gone is
        told by whoever saw it.
        """
        self._stir()
        self._pulse.left()

    def notice(self, operation: str, timeout_ms: int,
               now: float) -> Optional[int]:
        """Tell the guest what Nova does to it, if it wants to know.

        :param operation: a fixed name of ours
        :param timeout_ms: how long somebody waits for the answer,
            milliseconds; 0 that nobody does, and that a guest that is not
            there yet is told when it is
        :returns: the number that a :class:`NoticeAcked` will bear; None when
            the guest is not told now
        """
        if self.link in (Link.OPEN, Link.HELD_OPEN) and self.notices.declared:
            self._stir()
            number, line = self.notices.make(operation, timeout_ms)
            self._outbound.put_notice(line)
            return number
        if timeout_ms == 0:
            self.notices.keep(operation, now)
        return None

    # -- bytes ---------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> Sequence[Outcome]:
        """Take in what the guest wrote.

        :param data: bytes, split anyhow
        :returns: what follows from them; :data:`QUIET` itself for a beat that
            changed nothing
        """
        asked = self._asked
        if (asked is not None
                and data == _ANSWER + asked[_BODY] + self._tail):
            # One answer to a challenge takes this way: no flood can.
            self._asked = None
            self.last_answer_at = now
            return QUIET
        return self._receive(data, now)

    def _receive(self, data: bytes, now: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        self._stir()
        self._presence.heard()
        for message, line in self._inbound.read(data, now, self._outbound,
                                                outcomes):
            self._take(message, line, now, outcomes)
        self._calm = self._may_be_calm()
        return outcomes

    def reading_resumes_at(self, now: float) -> Optional[float]:
        """Return when to read on from a guest that sends too much.

        :returns: monotonic seconds, None for at once
        """
        return self._inbound.resumes_at(now)

    def data_to_send(self) -> bytes:
        """Return what to write next, at most four lines."""
        return self._outbound.peek()

    def sent(self, size: int) -> None:
        """The channel took this many bytes of :meth:`data_to_send`."""
        self._outbound.sent(size)

    def unsent(self, line: bytes, written: int) -> None:
        """The channel took only a part of :meth:`next_challenge`'s line.

        The rest is in :meth:`data_to_send` from now on.

        :param written: bytes, 0 where the channel was full
        """
        self._stir()
        self._outbound.put_rest(line, written)

    def _take(self, message: protocol.Message, line: bytes, now: float,
              outcomes: list[Outcome]) -> None:
        if isinstance(message, protocol.ChallengeResponse):
            if self._take_answer(message, now, outcomes):
                self._take_health(message, now, outcomes)
                self._tail = known_tail(line, message)
        elif isinstance(message, protocol.Report):
            self._take_health(message, now, outcomes)
            self._tail = None
        elif isinstance(message, protocol.Init):
            self._take_init(message, now)
        elif isinstance(message, protocol.NoticeAck):
            number = self.notices.acknowledge(message.sequence)
            if number is not None:
                outcomes.append(NoticeAcked(number))
        else:
            if self._pulse.left():
                outcomes.append(AgentExited(message.reason))

    def _take_answer(self, answer: protocol.ChallengeResponse, now: float,
                     outcomes: list[Outcome]) -> bool:
        """Count a valid answer; return whether it was one."""
        challenge = self._challenges.find(answer.sequence, answer.nonce)
        if challenge is None:
            # A replay, or an old challenge that lay in the channel while the
            # port was closed: worth nothing, not even a complaint.
            return False
        self._challenges.discharge(challenge.sequence)
        self.last_answer_at = now
        established = self._pulse.answered(challenge, now, self._sequence)
        if established is None and self._presence.missed:
            established = Established(Guest.BEATING)
        if established is not None:
            self._presence.missed = False
            outcomes.append(established)
        return True

    def _take_health(
            self, message: Union[protocol.ChallengeResponse, protocol.Report],
            now: float, outcomes: list[Outcome]) -> None:
        outcomes.extend(
            self._board.take(message.health, message.audits, now))
        if self._board.ignored:
            self._inbound.complain(
                'it has more than %d audits' % audits.MAX_AUDITS, outcomes)

    def _take_init(self, message: protocol.Init, now: float) -> None:
        self._outbound.want_ack()
        self._acknowledge(now)
        kept = self.notices.declare(message.notices, now)
        if kept is not None:
            self.notice(kept, 0, now)

    def _acknowledge(self, now: float) -> None:
        """Answer an Init; when it is too soon, with a later challenge."""
        self._outbound.acknowledge(self.policy.interval_ms,
                                   self.policy.timeout_ms, now)

    def _deadline_of(self, sent_at: float) -> float:
        return sent_at + self.policy.timeout_ms / 1000

    # -- calm ----------------------------------------------------------------

    def _may_be_calm(self) -> bool:
        """Say whether nothing is under way but challenges and answers."""
        return (self.guest is Guest.BEATING and self.link is Link.OPEN
                and self._pulse.misses == 0 and not len(self._challenges)
                and self._tail is not None and self._inbound.idle
                and self._outbound.at_rest
                and self._board.next_deadline() == math.inf)

    def _stir(self) -> None:
        """End the calm: the latest challenge joins the others."""
        if self._calm:
            self._calm = False
            if self._asked is not None:
                sent_at = (self._due_ms - self.policy.interval_ms) / 1000
                self._challenges.add(Challenge(
                    self._sequence, protocol.nonce_of(self._asked), sent_at,
                    self._deadline_of(sent_at)))
                self._asked = None

    # -- time ----------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when :meth:`handle_timer` has something to do.

        :returns: monotonic seconds, infinity for never
        """
        if self._calm:
            return (self._due_ms if self._asked is None
                    else self.wake_ms) / 1000
        return min(self._challenge_at(), self._challenges.next_deadline(),
                   self._pulse.deadline(self.link),
                   self._board.next_deadline(), self._absent_until())

    def next_challenge(self, now: float) -> Optional[bytes]:
        """Do what :meth:`handle_timer` would do of a session that is calm.

        :returns: a line to write before anything else; None when there is
            something else to do than to challenge, and handle_timer() does it
        """
        if not self._calm or self._asked is not None:
            return None
        due_ms = self._due_ms
        if not -_EPSILON_S <= now - due_ms / 1000 <= _SLACK_S:
            return None
        number = due_ms + self.policy.interval_ms
        self._due_ms = self.wake_ms = NUMBERS.get(number) or one(number)
        if self._early_ms:
            self.wake_ms = one(number - self._early_ms)
        number = self._sequence + 1
        self._sequence = number = NUMBERS.get(number) or one(number)
        self._asked = line = _challenge_line(number, self._new_nonce())
        return line

    def handle_timer(self, now: float) -> list[Outcome]:
        """Judge what is overdue, then send what is due.

        The caller reads what the guest has written before it calls this.

        :returns: what follows
        """
        now += _EPSILON_S
        outcomes: list[Outcome] = []
        if self._calm and self.next_deadline() > now:
            return outcomes
        self._stir()
        if self._board.next_deadline() <= now:
            outcomes.extend(self._board.flush(now))
        while (missed := self._challenges.judge(now)) is not None:
            self._miss(missed, now, outcomes)
        if self._pulse.deadline(self.link) <= now:
            self._pulse.overdue()
            outcomes.append(NotEstablished(self.policy.boot_deadline_s))
        if self._absent_until() <= now:
            outcomes.append(self._presence.absent(now))
        if self._challenge_at() <= now:
            self._acknowledge(now)
            self._challenge(now, outcomes)
            self._plan_challenge(now)
        return outcomes

    def _absent_until(self) -> float:
        return self._presence.deadline(self.policy, self.link, self.guest)

    def _challenge_at(self) -> float:
        return math.inf if self._due_ms is None else self._due_ms / 1000

    def _plan_challenge(self, now: float) -> None:
        """Set the next challenge to the grid's next point, or to never."""
        if self.link is not Link.OPEN:
            self._due_ms = None
            return
        now_ms = math.floor((now + _EPSILON_S) * 1000) - self._phase_ms
        rounds = now_ms // self.policy.interval_ms + 1
        self._due_ms = self._phase_ms + rounds * self.policy.interval_ms

    def _challenge(self, now: float, outcomes: list[Outcome]) -> None:
        if self._challenges.full:
            return
        self._sequence += 1
        due_at = self._challenge_at()
        sent_at = due_at if now - due_at <= _SLACK_S else now
        nonce = self._new_nonce()
        self._challenges.add(Challenge(self._sequence, nonce, sent_at,
                                       self._deadline_of(sent_at)))
        if self._outbound.put_challenge(
                protocol.challenge(self._sequence, nonce), now):
            self._inbound.complain(
                'it does not read: the channel is full', outcomes)

    def _miss(self, challenge: Challenge, now: float,
              outcomes: list[Outcome]) -> None:
        silent_s = now - max(self._presence.since, self.last_answer_at or 0.0)
        for told in (self._presence.unheard(now),
                     self._pulse.missed(challenge, now, self._sequence,
                                        silent_s)):
            if told is not None:
                outcomes.append(told)

    # -- what is known -------------------------------------------------------

    @property
    def guest(self) -> Guest:
        """What the host knows of the guest."""
        return self._pulse.guest

    @property
    def misses(self) -> int:
        """How many challenges in a row were not answered."""
        return self._pulse.misses

    def counts(self) -> dict[str, int]:
        """Return what was counted since the beginning."""
        return {'challenges': self._sequence,
                'refused_lines': self._inbound.refused}

    @property
    def established(self) -> bool:
        """Whether the guest ever gave a valid answer."""
        return self._pulse.established
