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


"""The heartbeat protocol, version 1: framing, messages and their limits.

One JSON object a line, UTF-8, ended by a newline. What a guest sends is
hostile until :func:`parse_line` has made a message of it.
"""

import dataclasses
import json
import re
from typing import Any, Callable, Mapping, Optional, Union

from nova_vmhealth.core import decoding
from nova_vmhealth.core.decoding import fail
from nova_vmhealth.core.vocabulary import Health

CHANNEL_NAME = 'org.openstack.vmhealth.0'
VERSION = 1

# Longest lines, without the newline. Part of the protocol: an agent sizes its
# buffer by the host's, and 4 KiB hold the audits of a guest with messages.
MAX_GUEST_LINE = 4096
MAX_HOST_LINE = 1024

# Text from a guest ends up in notifications and logs of other people.
MAX_NAME = 64
MAX_MESSAGE = 256
# The host's own nonces have 32 characters.
MAX_NONCE = 64
# Host sequences are far below; a larger number is never one of ours.
_MAX_SEQUENCE = 2 ** 63
# Entries of a list of audits that are looked at, so that a line has a price:
# twice what the host keeps, so that having too many is still seen.
MAX_LISTED = 32
# Characters of a text that are looked at, as a multiple of those kept: room
# for what cleaning takes away.
_LOOKED_AT = 4

_NO_AUDITS: list[Any] = []
_HEALTHS = {h.value: h for h in Health if h is not Health.UNKNOWN}


@dataclasses.dataclass(frozen=True, slots=True)
class AuditReport:
    """What a guest says of one of its audits."""

    name: str
    health: Health
    message: str = ''


@dataclasses.dataclass(frozen=True, slots=True)
class Init:
    """An agent has started and introduces itself.

    :ivar notices: whether it wants to be told what Nova is about to do
    """

    agent: str = ''
    boot_id: str = ''
    audits: tuple[str, ...] = ()
    notices: bool = False


# Not frozen: there is one for every beat of every guest, and freezing it takes
# longer than decoding the line.
@dataclasses.dataclass(slots=True)
class ChallengeResponse:
    """The answer to a challenge, perhaps with the guest's health."""

    sequence: int
    nonce: str
    health: Optional[Health] = None
    audits: tuple[AuditReport, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """The guest's health, unasked."""

    health: Optional[Health] = None
    audits: tuple[AuditReport, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Exit:
    """The agent stops on purpose."""

    reason: str = ''


@dataclasses.dataclass(frozen=True, slots=True)
class NoticeAck:
    """The guest is ready for what a notice announced.

    :ivar sequence: of the notice; None means the latest
    """

    sequence: Optional[int] = None


Message = Union[Init, ChallengeResponse, Report, Exit, NoticeAck]


class Framer:
    """Cuts a stream of bytes into lines; holds at most one line's worth.

    A line that is too long comes out once, cut to one byte more than the
    limit so that :func:`parse_line` refuses it, as soon as it is too long;
    the rest of it is thrown away up to the next newline.

    :param limit: longest line, bytes without the newline
    """

    __slots__ = ('_limit', '_partial', '_skipping')

    def __init__(self, limit: int = MAX_GUEST_LINE) -> None:
        self._limit = limit
        self._partial = b''
        self._skipping = False

    @property
    def idle(self) -> bool:
        """Whether what comes next is the beginning of a line."""
        return not (self._partial or self._skipping)

    def feed(self, data: bytes, most: int) -> tuple[list[bytes], bool]:
        """Take in bytes, however they were split.

        :param data: what was read
        :param most: look at this many lines, empty ones included; the
            complete ones beyond are dropped, not kept, so that a flood costs
            neither memory nor time
        :returns: the lines that ended, and whether any were dropped
        """
        lines: list[bytes] = []
        start = 0
        for _ in range(most):
            end = data.find(b'\n', start)
            if end < 0:
                break
            self._end(data[start:end], lines)
            start = end + 1
        last = data.rfind(b'\n', start)
        if last >= 0:
            self._partial = b''
            self._skipping = False
            start = last + 1
        self._keep(data[start:], lines)
        return lines, last >= 0

    def _keep(self, part: bytes, lines: list[bytes]) -> None:
        """Hold the beginning of a line, or tell that it is too long."""
        if self._skipping:
            return
        line = self._partial + part[:self._limit + 1]
        if len(line) > self._limit:
            lines.append(line[:self._limit + 1])
            self._partial = b''
            self._skipping = True
        else:
            self._partial = line

    def _end(self, part: bytes, lines: list[bytes]) -> None:
        """Take out the line that a newline has ended, unless it is empty."""
        if self._skipping:
            self._skipping = False
            return
        line = self._partial + part[:self._limit + 1]
        self._partial = b''
        if line:
            lines.append(line[:self._limit + 1])


_SPACE = re.compile(r'\s')


def clean_text(text: str, limit: int) -> str:
    """Make a guest's text fit to be shown.

    Control, format, private and unassigned characters go (colours of a
    terminal, right-to-left overrides, ...), white space becomes a blank.

    :param text: anything
    :param limit: longest result, characters; beyond four times as many the
        text is not looked at
    """
    text = text[:_LOOKED_AT * limit]
    if not text.isprintable():
        text = ''.join(filter(str.isprintable, _SPACE.sub(' ', text)))
    return text.strip()[:limit].rstrip()


def _text(fields: dict[str, Any], key: str, limit: int) -> str:
    value = fields.get(key, '')
    if not isinstance(value, str):
        raise fail('%s is not a string' % key)
    return clean_text(value, limit)


def _health(fields: dict[str, Any]) -> Health:
    value = fields.get('health')
    health = _HEALTHS.get(value) if isinstance(value, str) else None
    if health is None:
        raise fail('health is not healthy, degraded or unhealthy')
    return health


def _optional_health(fields: dict[str, Any]) -> Optional[Health]:
    return None if fields.get('health') is None else _health(fields)


def _list(fields: dict[str, Any], key: str, of: type) -> list[Any]:
    values = fields.get(key, [])
    if not isinstance(values, list) or not all(
            isinstance(value, of) for value in values):
        raise fail('%s is not a list of the right type' % key)
    return values[:MAX_LISTED]


def _audits(fields: dict[str, Any]) -> tuple[AuditReport, ...]:
    if fields.get('audits', _NO_AUDITS) == _NO_AUDITS:
        return ()       # what nearly every beat says
    reports = []
    for entry in _list(fields, 'audits', dict):
        name = _text(entry, 'name', MAX_NAME)
        if not name:
            raise fail('an audit has no name')
        reports.append(AuditReport(
            name, _health(entry), _text(entry, 'message', MAX_MESSAGE)))
    return tuple(reports)


def _parse_init(fields: dict[str, Any]) -> Init:
    version = fields.get('version', VERSION)
    if type(version) is not int or version != VERSION:
        raise fail('version is not %d' % VERSION)
    names = (clean_text(name, MAX_NAME)
             for name in _list(fields, 'audits', str))
    notices = fields.get('notices', False)
    if not isinstance(notices, bool):
        raise fail('notices is not a boolean')
    return Init(_text(fields, 'agent', MAX_NAME),
                _text(fields, 'boot_id', MAX_NAME),
                tuple(name for name in names if name), notices)


def _sequence(fields: dict[str, Any]) -> int:
    sequence = fields.get('sequence')
    # type(), because a bool is an int to isinstance().
    if type(sequence) is not int or not 0 <= sequence < _MAX_SEQUENCE:
        raise fail('sequence is not a number of a line of the host')
    return sequence


def _parse_response(fields: dict[str, Any]) -> ChallengeResponse:
    sequence = _sequence(fields)
    nonce = fields.get('nonce')
    if not isinstance(nonce, str) or not 0 < len(nonce) <= MAX_NONCE:
        raise fail('nonce is not a string of 1 to %d characters' % MAX_NONCE)
    return ChallengeResponse(sequence, nonce, _optional_health(fields),
                             _audits(fields))


def _parse_report(fields: dict[str, Any]) -> Report:
    audits = _audits(fields)
    health = _optional_health(fields) if audits else _health(fields)
    return Report(health, audits)


def _parse_exit(fields: dict[str, Any]) -> Exit:
    return Exit(_text(fields, 'reason', MAX_MESSAGE))


def _parse_notice_ack(fields: dict[str, Any]) -> NoticeAck:
    return NoticeAck(_sequence(fields) if 'sequence' in fields else None)


_PARSERS: Mapping[str, Callable[[dict[str, Any]], Message]] = {
    'init': _parse_init,
    'challenge_response': _parse_response,
    'report': _parse_report,
    'exit': _parse_exit,
    'notice_ack': _parse_notice_ack,
}


def parse_line(line: bytes) -> Message:
    """Make a message of a line from the guest.

    :param line: bytes without the newline
    :raises nova_vmhealth.exception.ProtocolError: it is no message of this
        protocol; ``reason`` is a fixed text without anything of the guest's
    """
    if len(line) > MAX_GUEST_LINE:
        raise fail('longer than %d bytes' % MAX_GUEST_LINE)
    fields = decoding.decode(line)
    kind = fields.get('type')
    parser = _PARSERS.get(kind) if isinstance(kind, str) else None
    if parser is None:
        raise fail('unknown type')
    return parser(fields)


def _encode(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(',', ':')).encode('ascii') + b'\n'


def init_ack(interval_ms: int, timeout_ms: int) -> bytes:
    """Encode the host's answer to Init: what the guest has to expect."""
    return _encode(type='init_ack', version=VERSION, interval_ms=interval_ms,
                   timeout_ms=timeout_ms, max_line=MAX_GUEST_LINE)


# What a challenge and its answer have in common, as agents usually spell it:
# those that ship with the host, and any that encode without blanks and in the
# order of the documentation. Such an answer is ANSWER_HEAD, then these bytes
# of the challenge, then what the guest says of its health.
ANSWER_HEAD = b'{"type":"challenge_response",'
CHALLENGE_BODY = slice(len(b'{"type":"challenge","version":%d,' % VERSION), -2)


def challenge(sequence: int, nonce: str) -> bytes:
    """Encode a challenge.

    :param sequence: its number
    :param nonce: hexadecimal digits; written as they are
    """
    return (f'{{"type":"challenge","version":{VERSION},"sequence":{sequence},'
            f'"nonce":"{nonce}"}}\n').encode()


def nonce_of(line: bytes) -> str:
    """Return the nonce of a line that :func:`challenge` made."""
    return line[line.rindex(b':"') + 2:-3].decode()


def usual_tail(line: bytes, answer: ChallengeResponse) -> Optional[bytes]:
    """Return what follows the nonce in an answer of the usual spelling.

    :param line: the answer, without the newline
    :param answer: what it means
    :returns: with the newline; None for any other spelling
    """
    head = ANSWER_HEAD + challenge(answer.sequence,
                                   answer.nonce)[CHALLENGE_BODY]
    return line[len(head):] + b'\n' if line.startswith(head) else None


def notice(sequence: int, operation: str, timeout_ms: int) -> bytes:
    """Encode what Nova is about to do to the guest, or has done.

    :param sequence: the notice's own number, counted apart from challenges
    :param operation: a fixed name of ours
    :param timeout_ms: how long the host waits for the answer, milliseconds;
        0 means that it does not
    """
    return _encode(type='notice', version=VERSION, sequence=sequence,
                   operation=operation, timeout_ms=timeout_ms)


def nack(reason: str) -> bytes:
    """Encode what was wrong with a line.

    :param reason: the reason of a ProtocolError, never a guest's own text
    """
    return _encode(type='nack', reason=reason)
