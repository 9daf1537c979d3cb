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


"""A heartbeat session under watch: every rule is checked at every step.

The judge knows of the session only what a caller knows: what it was told, what
it returned, and the nonces that it was given.
"""

import collections
import hashlib
import json
import math
import re

from nova_vmhealth.core import audits
from nova_vmhealth.core import outcomes
from nova_vmhealth.core.presence import UNREACHABLE_S
from nova_vmhealth.core import protocol
from nova_vmhealth.core.session import Session
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Health
from tests.fuzz.footprint import footprint

# A challenge may leave this much after its place on the grid, seconds, and is
# judged as if it had left there.
SLACK_S = 0.011
# Time passes with all that is read: what was accepted shows by its time.
TICK_S = 0.0001
RECOVER_BEATS = 2
# The begun line, a notice, an answer to an init or a bad line, a challenge.
MOST_TO_SEND = 4 * protocol.MAX_HOST_LINE
# A session with sixteen audits that have messages of four-byte characters,
# and a line begun.
MOST_MEMORY = 96 << 10
_NONCE = re.compile(rb'[0-9a-f]{32}')


class Judge:
    """A session, its clock and its guest; raises AssertionError.

    :param policy: the session's
    :param established: the session's
    :param jitter: how late the caller's timer always is, seconds
    :param room: how much the channel holds that the guest has not read, bytes
    """

    def __init__(self, policy, established=False, jitter=0.0, room=8192):
        self.policy = policy
        self.room = room
        self.pipe = b''
        self.jitter = jitter
        self.interval = policy.interval_ms / 1000
        self.timeout = policy.timeout_ms / 1000
        self.began = self.now = 1000.0
        self.nonces = {}            # nonce: sequence, of every challenge
        self.open = self.held = False
        self.beating = established
        self.unreachable = False
        self.untold = established   # that it beats, as it did before
        self.known = established    # whether a loss would be true
        self.counts = collections.Counter()
        self.told = {}              # audit: when it was told last, and how
        self.worthless = 0          # answers up to this sequence are
        self.challenges = []        # those that the guest has read, decoded
        self.half = b''             # of a line of the host
        self.begun = b''            # of a line of the guest
        self.sent = {}              # sequence: when, while it is to be judged
        self.misses = 0             # the most that can have been counted
        self.sure_misses = 0        # the least
        self.beats = 0              # since it was lost
        self.lost_after = 0         # the latest sequence when it was lost
        self.quiet_since = math.inf
        self.heard = False          # in this connection
        self.session = Session(policy, self._nonce, self.now,
                               guest=(Guest.BEATING if established
                                      else Guest.WAITING), phase=0.003,
                               recover_beats=RECOVER_BEATS)

    def _nonce(self):
        sequence = len(self.nonces) + 1
        nonce = hashlib.sha256(b'%d' % sequence).hexdigest()[:32]
        self.nonces[nonce] = sequence
        self.sent[sequence] = self.now
        return nonce

    # -- what can happen -----------------------------------------------------

    def connect(self):
        if not self.open:
            self.open, self.heard = True, False
            self.counts['connected'] += 1
            self.session.connected(self.now)
            self._calm()

    def disconnect(self):
        if self.open:
            self.open = False
            self.begun = self.half = self.pipe = b''
            self.worthless = len(self.nonces)
            self._spare()
            self.session.disconnected(self.now)
            self._calm()

    def hold(self):
        if not self.held:
            self.held = True
            self._spare()
            self.session.hold(self.now)
            self._calm()

    def release(self):
        if self.held:
            self.held = False
            self._forgive()
            self.session.release(self.now)
            self._calm()

    def stall(self, seconds):
        """The host stands still, and then judges nobody for it."""
        self.now += seconds
        self._spare()
        self.session.void_round(self.now)
        self._calm()
        self._timer()

    def advance(self, seconds):
        """Let time pass; the timer is served whenever it is due."""
        end = self.now + seconds
        while (due := self.session.next_deadline() + self.jitter) <= end:
            self.now = max(self.now, due)
            self._timer()
        self.now = end

    def feed(self, data):
        """The guest writes; nothing when there is no channel.

        :returns: whether that was taken for an answer
        """
        if not self.open:
            return False
        self.now += TICK_S
        candidates = [
            sequence for nonce in _NONCE.findall(self.begun + data)
            if (sequence := self.nonces.get(nonce.decode(), 0))
            > self.worthless]
        self.begun = (self.begun + data).rsplit(b'\n', 1)[-1][-5000:]
        found = self.session.receive(data, self.now)
        self.heard = self.heard or bool(data)
        answered = self.session.last_answer_at == self.now
        if answered:
            assert candidates, 'an answer that nobody gave, or an old one'
            self.known = True
            self.beats += 1
            self.worthless = min(candidates)
            for sequence in [s for s in self.sent if s <= max(candidates)]:
                del self.sent[sequence]
            self._forgive()
            self._calm()
        self._take(found)
        return answered

    def read(self, most=1 << 16):
        """The guest reads what the channel has for it, or a part of that.

        :param most: bytes
        """
        data = b''
        while self.pipe and len(data) < most:
            part = self.pipe[:most - len(data)]
            self.pipe = self.pipe[len(part):]
            data += part
            self._write()
        *lines, self.half = (self.half + data).split(b'\n')
        for line in lines:
            assert len(line) <= protocol.MAX_HOST_LINE
            message = json.loads(line)
            self.counts[message['type']] += 1
            if message['type'] == 'challenge':
                assert (self.nonces[message['nonce']] == message['sequence'])
                self.challenges.append(message)
                del self.challenges[:-40]
        self._check()

    def answer(self, challenge, **more):
        """Answer a challenge; return whether that counted."""
        return self.feed(answer_to(challenge, **more))

    def beat(self, **more):
        """Read, and answer the latest challenge.

        :returns: whether the answer counted
        """
        self.read()
        return bool(self.challenges) and self.answer(
            self.challenges[-1], **more)

    def behave(self, seconds, **more):
        """Let time pass in which the guest answers all it is asked.

        :returns: whether it was asked, and every answer counted
        """
        step = min(self.interval, self.timeout) / 3
        heard = []
        for _ in range(math.ceil(seconds / step)):
            asked = len(self.nonces)
            self.advance(step)
            if len(self.nonces) > asked:
                heard.append(self.beat(**more))
        return bool(heard) and all(heard)

    def is_told_healthy(self):
        """Return whether nothing else is told of the guest's health."""
        return all(health is Health.HEALTHY
                   for _, health in self.told.values())

    # -- the rules -----------------------------------------------------------

    def _calm(self):
        """Begin to count the guest's silence anew."""
        self.quiet_since = (self.now if self.open and not self.held
                            else math.inf)
        self._check()

    def _timer(self):
        for sequence, sent in list(self.sent.items()):
            if sent + self.timeout > self.now - TICK_S:
                break
            self.misses += 1
            self.sure_misses += 1
            del self.sent[sequence]
        line = self.session.next_challenge(self.now)
        if line is None:
            self._take(self.session.handle_timer(self.now))
        else:
            taken = self._to_pipe(line)
            if taken < len(line):
                self.session.unsent(line, taken)
            self._check()
        assert self.session.next_deadline() > self.now, 'it turns on the spot'
        if self.beating:
            assert self.sure_misses < self.policy.misses, 'a loss untold'
            assert self.now - self.quiet_since <= (
                self.policy.misses * self.interval + self.timeout
                + 2 * (SLACK_S + self.jitter)), 'a loss told too late'

    def _overdue(self):
        """Return what may have been judged already, or is at any moment."""
        return [sequence for sequence, sent in self.sent.items()
                if sent + self.timeout <= self.now + SLACK_S]

    def _possible_misses(self):
        return self.misses + len(self._overdue())

    def _forgive(self):
        """Expect that misses are counted from the beginning."""
        overdue = self._overdue()
        self.misses = len(overdue)
        self.sure_misses = 0
        for sequence in overdue:
            del self.sent[sequence]

    def _spare(self):
        """Expect that no challenge which is under way is judged any more."""
        self.misses = self._possible_misses()
        self.sent.clear()

    def _take(self, found):
        for outcome in found:
            name = type(outcome).__name__
            self.counts[name] += 1
            getattr(self, '_on_' + name)(outcome)
        self._check()

    def _on_Established(self, outcome):
        assert self.session.last_answer_at == self.now
        if self.unreachable or self.untold:
            assert self.beating or outcome.previous is not Guest.BEATING
        else:
            assert not self.beating
            assert outcome.previous is not Guest.BEATING
        self.unreachable = self.untold = False
        if outcome.previous is Guest.LOST:
            assert self.beats >= RECOVER_BEATS, 'recovered too soon'
            # The first of them may answer what went out with the loss.
            assert len(self.nonces) - self.lost_after >= RECOVER_BEATS - 1
        self.beating = True

    def _on_Lost(self, outcome):
        assert self.known, 'lost before it ever answered'
        assert self.beating and self.open and not self.held
        assert self._possible_misses() >= outcome.misses >= self.policy.misses
        self.beating = False
        self.beats, self.lost_after = 0, len(self.nonces)

    def _on_AgentExited(self, outcome):
        assert self.beating
        _check_text(outcome.reason, protocol.MAX_MESSAGE)
        self.beating = False
        self._forgive()

    def _on_NotEstablished(self, _outcome):
        assert not self.known and not self.held
        assert self.counts['NotEstablished'] == 1

    def _on_HealthChanged(self, outcome):
        _check_text(outcome.audit, protocol.MAX_NAME)
        _check_text(outcome.message, protocol.MAX_MESSAGE)
        before, _ = self.told.get(outcome.audit, (-math.inf, None))
        assert self.now - before >= audits.MIN_CHANGE_S - 1e-5
        self.told[outcome.audit] = self.now, outcome.health
        # Those that are well make way for others.
        assert sum(health is not Health.HEALTHY for _, health
                   in self.told.values()) <= audits.MAX_AUDITS + 1

    def _on_Complaint(self, outcome):
        assert self.counts['Complaint'] == 1
        assert outcome.reason.isascii() and len(outcome.reason) < 200

    def _on_Missed(self, outcome):
        assert self.known and self.beating
        assert self._possible_misses() >= outcome.misses > 0
        assert self.counts['Missed'] <= len(self.nonces)

    def _on_Unreachable(self, outcome):
        assert self.beating and not self.open and not self.held
        assert outcome.silent_s >= UNREACHABLE_S
        assert not self.unreachable, 'told twice'
        self.unreachable = True

    def _on_Unheard(self, _outcome):
        assert self.open and not self.heard
        assert self.counts['Unheard'] <= self.counts['connected']

    def _on_NoticeAcked(self, _outcome):
        raise AssertionError('there was no notice')

    def _to_pipe(self, data):
        """Return how much of it there was room for."""
        taken = data[:max(0, self.room - len(self.pipe))]
        self.pipe += taken
        return len(taken)

    def _write(self):
        """Write as the loop does after everything that happens."""
        waiting = self.session.data_to_send()
        assert len(waiting) <= MOST_TO_SEND
        assert self.open or not waiting
        if waiting:
            self.session.sent(self._to_pipe(waiting))

    def _check(self):
        self._write()
        seconds = self.now - self.began
        counts = self.counts
        assert counts['nack'] <= seconds + 2
        assert counts['init_ack'] <= seconds + 2
        assert len(self.nonces) <= (seconds / self.interval + 2
                                    + counts['connected'])
        assert counts['Established'] <= len(self.nonces)
        assert counts['AgentExited'] <= counts['Established'] + 1
        assert counts['Lost'] <= counts['Established'] + 1
        assert isinstance(self.session.established, bool)

    def finish(self):
        """Whatever it was: a good guest is heard, and its hang is found."""
        assert footprint(self.session, [self, self.policy, outcomes]) \
            <= MOST_MEMORY
        self.release()
        self.connect()
        self.feed(b'\n')
        self.behave(1.2)            # what came before may be too much to read
        assert self.behave(4 * self.interval), 'an answer was not heard'
        assert self.beating and self.session.misses == 0
        self.advance(self.policy.misses * self.interval + self.timeout
                     + SLACK_S + self.jitter)
        assert not self.beating, 'a hang that was not found'


def answer_to(challenge, **more):
    """Return a guest's line, in one of several spellings."""
    # The same one for several challenges in a row: the host may know it again.
    space = ' ' if challenge['sequence'] % 16 < 4 else ''
    return json.dumps(
        {'type': 'challenge_response', 'sequence': challenge['sequence'],
         'nonce': challenge['nonce'], **more},
        separators=(',' + space, ':' + space)).encode() + b'\n'


def _check_text(text, limit):
    assert len(text) <= limit
    assert text == '' or text.isprintable()
    text.encode('utf-8')
