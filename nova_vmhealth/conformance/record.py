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

"""What an agent has sent, judged line by line; no I/O, no clock."""

import collections
import dataclasses
import json
from typing import Optional

from nova_vmhealth.core import protocol
from nova_vmhealth import exception

# Lines in one second that answer no challenge. An agent that introduces
# itself and reports a change of each of 16 audits at once stays below.
MAX_UNASKED = 20
# Looked at in one read of up to 64 KiB, far more than an honest agent sends.
_MAX_LINES = 256
# Characters of a wrong line that are shown.
_SHOWN = 60
# Acknowledgements that are kept; no check sends more notices.
_MAX_ACKS = 64

_HOST_TYPES = ('challenge', 'init_ack', 'nack', 'notice')
# A refused line of one of these types has a check of its own.
_OWN_CHECK = {'init': 'init', 'report': 'report'}


@dataclasses.dataclass
class Challenge:
    """A challenge of ours; times in monotonic seconds."""

    sequence: int
    nonce: str
    sent_at: float = 0.0
    answered_at: Optional[float] = None


class Record:
    """Takes an agent's bytes and remembers what the checks ask for.

    What it remembers is bounded, however much an agent sends.

    :ivar faults: name of a check to the first thing that broke it
    :ivar answers: challenges that were answered so far
    :ivar inits: valid introductions so far
    :ivar reports: valid reports so far
    :ivar exits: farewells so far
    :ivar last_init: the latest valid introduction, or None
    :ivar acks: sequences of the latest acknowledged notices
    """

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}
        self.answers = self.inits = self.reports = self.exits = 0
        self.last_init: Optional[protocol.Init] = None
        self.acks: collections.deque[Optional[int]] = collections.deque(
            maxlen=_MAX_ACKS)
        self._challenges: dict[tuple[int, str], Challenge] = {}
        self._unasked: collections.deque[float] = collections.deque(
            maxlen=MAX_UNASKED + 1)
        self._framer = protocol.Framer()

    def reconnected(self) -> None:
        """Forget the line that a connection had begun when it ended."""
        self._framer = protocol.Framer()

    def sent(self, challenge: Challenge) -> None:
        """Note a challenge that the agent gets."""
        self._challenges[challenge.sequence, challenge.nonce] = challenge

    def take(self, data: bytes, now: float) -> None:
        """Judge bytes of the agent, however they were split.

        :param now: monotonic time, seconds
        """
        lines, dropped = self._framer.feed(data, _MAX_LINES)
        for line in lines:
            self._take_line(line, now)
        if dropped:
            self._fault('flood', 'more than %d lines at once' % _MAX_LINES)

    def _take_line(self, line: bytes, now: float) -> None:
        try:
            message = protocol.parse_line(line)
        except exception.ProtocolError as error:
            self._fault(blame(line), '%s: %s' % (error.reason, shown(line)))
            self._count_unasked(now)
            return
        if isinstance(message, protocol.ChallengeResponse):
            if self._take_answer(message, now):
                return
        elif isinstance(message, protocol.Init):
            self.inits += 1
            self.last_init = message
        elif isinstance(message, protocol.Report):
            self.reports += 1
        elif isinstance(message, protocol.Exit):
            self.exits += 1
        elif isinstance(message, protocol.NoticeAck):
            self.acks.append(message.sequence)
        self._count_unasked(now)

    def _take_answer(self, answer: protocol.ChallengeResponse,
                     now: float) -> bool:
        """Note an answer; return whether it is the first to a challenge."""
        challenge = self._challenges.get((answer.sequence, answer.nonce))
        if challenge is None:
            self._fault('exact', 'an answer with sequence %d and nonce %s, '
                        'which no challenge had together' % (
                            answer.sequence, protocol.clean_text(
                                answer.nonce, _SHOWN)))
            return False
        if challenge.answered_at is not None:
            return False
        challenge.answered_at = now
        self.answers += 1
        return True

    def _count_unasked(self, now: float) -> None:
        self._unasked.append(now)
        if len(self._unasked) > MAX_UNASKED and now - self._unasked[0] <= 1:
            self._fault('flood', 'more than %d lines in a second that answer '
                        'no challenge' % MAX_UNASKED)

    def _fault(self, name: str, text: str) -> None:
        self.faults.setdefault(name, text)


def blame(line: bytes) -> str:
    """Return the name of the check that a refused line breaks.

    :param line: without the newline; as the framer cuts it
    """
    if len(line) > protocol.MAX_GUEST_LINE:
        return 'line_limit'
    try:
        fields = json.loads(line.decode('utf-8'))
    except UnicodeError:
        return 'utf8'
    except (ValueError, RecursionError):
        return 'messages'
    kind = fields.get('type') if isinstance(fields, dict) else None
    if not isinstance(kind, str):
        return 'messages'
    return 'no_echo' if kind in _HOST_TYPES else _OWN_CHECK.get(
        kind, 'messages')


def shown(line: bytes) -> str:
    """Return the beginning of an agent's line, fit for a terminal."""
    return protocol.clean_text(line.decode('utf-8', 'replace'), _SHOWN)
