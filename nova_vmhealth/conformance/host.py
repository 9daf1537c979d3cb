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

"""The host's side of the talk with an agent, as the checks drive it."""

import math
import secrets
from typing import Callable, Iterable, Optional

from nova_vmhealth.conformance import links
from nova_vmhealth.conformance import record
from nova_vmhealth.conformance.record import Challenge
from nova_vmhealth.core import protocol
from nova_vmhealth import exception

# Seconds that the agent may take to read what a check writes.
_WRITE_S = 5.0
# Seconds between looks at what no read tells of: the end of a process.
_LOOK_S = 0.1
# Seconds between two challenges to an agent that may just be starting.
_MEET_EVERY_S = 0.25
# Seconds of silence after which nothing late is expected any more, and the
# longest wait for them.
_QUIET_S = 0.05
_SETTLE_S = 0.5
# Bytes of the host's nonces, as nova-compute makes them.
_NONCE_BYTES = 16


class Failed(exception.VMHealthError):
    """The agent does not do what a check asks for."""


class Skipped(exception.VMHealthError):
    """A check cannot be made, or does not concern this agent."""


class Host:
    """Sends to one agent, and waits for what it sends.

    :param link: the way to the agent, as in ``links``
    :param process: the agent, as in ``process``, where we have started it
    :param timeout_s: how long an answer may take, seconds
    :param wait_s: how long to wait for an agent to come or to come back
    """

    def __init__(self, link, process=None, timeout_s: float = 1.0,
                 wait_s: float = 10.0) -> None:
        self.link = link
        self.process = process
        self.timeout_s = timeout_s
        self.wait_s = wait_s
        self.record = record.Record()
        self._sequence = 0

    # -- the connection ------------------------------------------------------

    def begin(self) -> None:
        """Start the agent where that is ours to do, and get through to it.

        :raises nova_vmhealth.conformance.links.Unavailable: no connection
        :raises Failed: it answers no challenge
        """
        self._connect()
        self.meet(self.wait_s)

    def recover(self) -> None:
        """Begin again after a check that failed; raises what begin does."""
        self.link.close()
        self._connect()
        if not self.link.can_reopen:
            # The agent has seen no end of what the check had begun.
            self.send(b'\n')
        self.meet(self.wait_s)

    def go_away(self, seconds: float) -> None:
        """Close the connection, and open it again after some seconds."""
        self.link.close()
        self.link.sleep(seconds)
        self._connect()

    def _connect(self) -> None:
        if self.process is not None and not self.process.running:
            self.process.start()
        self.link.open(self.link.now() + self.wait_s)
        self.record.reconnected()
        self.count_anew()

    def count_anew(self) -> None:
        """Number challenges from 1 again, as a new nova-compute does."""
        self._sequence = 0

    def meet(self, seconds: float) -> None:
        """Challenge the agent again and again until it answers.

        :raises Failed: it does not
        """
        deadline = self.link.now() + seconds
        answers = self.record.answers
        while self.link.now() < deadline and not self._ended():
            self.challenge()
            if self.wait_for(lambda: self.record.answers > answers,
                             _MEET_EVERY_S):
                return
        raise Failed('no answer to any challenge in %g s%s' % (
            seconds, self._ended()))

    def settle(self) -> None:
        """Take in what the last check still leads to: late answers."""
        deadline = self.link.now() + _SETTLE_S
        while self.link.now() < deadline and self._read(
                self.link.now() + _QUIET_S):
            pass

    # -- sending -------------------------------------------------------------

    def send(self, data: bytes, seconds: float = _WRITE_S) -> None:
        """Write bytes.

        :param seconds: how long the agent may take to read them
        :raises Failed: it does not read them
        """
        deadline = self.link.now() + seconds
        while data:
            now = self.link.now()
            if now >= deadline or self._ended():
                raise Failed('it does not read%s' % self._ended())
            data = self.link.write(data, min(deadline, now + _LOOK_S))

    def new_challenge(self, sequence: Optional[int] = None,
                      nonce: Optional[str] = None) -> Challenge:
        """Return a challenge that the record waits for.

        :param sequence: None for the next one
        :param nonce: None for a new one
        """
        if sequence is None:
            self._sequence += 1
            sequence = self._sequence
        challenge = Challenge(sequence,
                              nonce or secrets.token_hex(_NONCE_BYTES),
                              self.link.now())
        self.record.sent(challenge)
        return challenge

    def challenge(self, **what) -> Challenge:
        """Send a challenge; arguments as of :meth:`new_challenge`."""
        challenge = self.new_challenge(**what)
        self.send(encode(challenge))
        return challenge

    # -- waiting -------------------------------------------------------------

    def listen(self, seconds: float) -> None:
        """Take in what comes for some seconds."""
        self.wait_for(lambda: False, seconds)

    def wait_for(self, happened: Callable[[], bool], seconds: float) -> bool:
        """Take in what comes until something has happened.

        :returns: whether it has
        """
        deadline = self.link.now() + seconds
        while not happened() and self.link.now() < deadline:
            self._read(min(deadline, self.link.now() + _LOOK_S))
        return happened()

    def hear_out(self, seconds: float) -> bool:
        """Take in the last words of the process that we have started.

        :returns: whether it has ended within so many seconds
        """
        deadline = self.link.now() + seconds
        try:
            self.wait_for(lambda: not self.process.running, seconds)
            while self._read(self.link.now() + _QUIET_S):
                pass
        except links.Gone:
            # A process closes its files a little before it has ended.
            while self.process.running and self.link.now() < deadline:
                self.link.sleep(_QUIET_S)
        return not self.process.running

    def expect(self, challenges: Iterable[Challenge],
               seconds: Optional[float] = None) -> str:
        """Wait for the answers.

        :param seconds: how long each may take from its sending; None for
            the timeout
        :returns: words for the slowest
        :raises Failed: one is missing, or late
        """
        seconds = self.timeout_s if seconds is None else seconds
        took = [self._time_of(challenge, seconds) for challenge in challenges]
        return _slowest(max(took))

    def _time_of(self, challenge: Challenge, seconds: float) -> float:
        left = challenge.sent_at + seconds - self.link.now()
        self.wait_for(lambda: challenge.answered_at is not None
                      or self._ended(), left)
        if challenge.answered_at is None:
            raise Failed('no answer to sequence %d within %d ms%s' % (
                challenge.sequence, 1000 * seconds, self._ended()))
        took = challenge.answered_at - challenge.sent_at
        if took > seconds:
            raise Failed('the answer to sequence %d took %d ms' % (
                challenge.sequence, 1000 * took))
        return took

    def expect_beats(self, challenges: list[Challenge]) -> str:
        """Wait for answers as nova-compute does: one settles those before.

        :param challenges: in the order in which they were sent
        :returns: words for the slowest
        :raises Failed: one is neither answered nor settled in time
        """
        self.expect(challenges[-1:])
        settled_at = math.inf
        slowest = 0.0
        for challenge in reversed(challenges):
            if challenge.answered_at is not None:
                settled_at = min(settled_at, challenge.answered_at)
            slowest = max(slowest, settled_at - challenge.sent_at)
        if slowest > self.timeout_s:
            raise Failed('after a challenge no answer came for %d ms' % (
                1000 * slowest))
        return _slowest(slowest)

    def _ended(self) -> str:
        """Return words for how the agent's process has ended, if it has."""
        if self.process is None or self.process.running:
            return ''
        return '; the agent has ended: ' + self.process.status

    def converse(self, rounds: int = 2,
                 seconds: Optional[float] = None) -> str:
        """Challenge the agent, one challenge after the other's answer.

        :returns: words for the slowest answer
        :raises Failed: one is missing, or late
        """
        challenges = []
        for _ in range(rounds):
            challenges.append(self.challenge())
            words = self.expect(challenges, seconds)
        return words

    def _read(self, deadline: float) -> bool:
        data = self.link.read(deadline)
        self.record.take(data, self.link.now())
        return bool(data)


def _slowest(seconds: float) -> str:
    return 'slowest answer %d ms' % (1000 * seconds)


def encode(challenge: Challenge) -> bytes:
    """Return the challenge's line as nova-compute writes it."""
    return protocol.challenge(challenge.sequence, challenge.nonce)
