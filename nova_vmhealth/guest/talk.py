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


"""The talk with one host client: bytes and time in, lines out, no I/O."""

import collections
import json
import math
import re

from nova_vmhealth.guest.health import clean_text
from nova_vmhealth.guest.health import Complaint
from nova_vmhealth.guest.health import LOG
from nova_vmhealth.guest.health import MESSAGE_LIMITS
from nova_vmhealth.guest.health import NAME

VERSION = 1

# The protocol's limit for a line from the guest.
MAX_LINE = 4096
# The host's lines have at most 1,024 bytes: a longer one is noise.
MAX_HOST_LINE = 1024
# Challenges of one read that are answered, the newest ones: an answer to one
# settles those before it, and all have to fit in what the port keeps unsent.
MAX_ANSWERS = 5
# Notices of one read that are kept. The host sends one and waits.
MAX_NOTICES = 8
# No interval, timeout or notice takes longer than a day, in milliseconds.
MAX_MS = 86400000

# Challenges that stay away for so many intervals have stopped: whoever sends
# the next one may not know us any more. At short intervals that takes at
# least some seconds, or a busy host would be told at every hiccup.
SILENT_INTERVALS = 5
SILENT_SECONDS = 2.0

# Reports are this far apart, seconds. The host reads little of a guest at a
# time; audits that fail one after the other must not hold up the answers.
REPORT_SECONDS = 0.25

OPERATION = re.compile(r'[a-z_]{1,32}\Z')

# timeout in ms; 0: the host does not wait for the answer.
Notice = collections.namedtuple('Notice', 'sequence operation timeout_ms')


def encode(message, snapshot=None):
    """Return a message as a line of at most MAX_LINE bytes.

    :param message: a dict of what the protocol asks for
    :param snapshot: the Snapshot to tell with it; messages of audits are
        shortened, and left out at last, where the line gets too long
    """
    for limit in MESSAGE_LIMITS:
        fields = dict(message, **_health_fields(snapshot, limit))
        text = json.dumps(fields, separators=(',', ':'), ensure_ascii=False)
        line = text.encode('utf-8', 'replace') + b'\n'
        if len(line) <= MAX_LINE:
            break
    return line


def _health_fields(snapshot, limit):
    if snapshot is None:
        return {}
    fields = {}
    if snapshot.health is not None:
        fields['health'] = snapshot.health
    if snapshot.results:
        fields['audits'] = [
            {'name': r.name, 'health': r.health,
             'message': clean_text(r.message, limit)}
            for r in snapshot.results]
    return fields


class LineReader:
    """Cuts bytes into lines; drops a line that is longer than the host's."""

    def __init__(self):
        self._buffer = b''
        self._skipping = False

    def feed(self, data):
        """Take bytes; return the list of lines that they complete."""
        *lines, self._buffer = (self._buffer + data).split(b'\n')
        if self._skipping and lines:
            lines, self._skipping = lines[1:], False
        if len(self._buffer) > MAX_HOST_LINE:
            self._skipping = True
        if self._skipping:
            self._buffer = b''
        return [line for line in lines if len(line) <= MAX_HOST_LINE]


def _is_number(value, least, most):
    # type(), because a bool is an int to isinstance().
    return type(value) is int and least <= value <= most


class Talk:
    """What to say to one host client.

    :param boot_id: the kernel's id of this boot
    :param notices: whether the guest wants to be told what Nova is about to
        do to it
    :ivar report_due: when a report that was put off may be sent, in monotonic
        seconds; None if there is none
    """

    def __init__(self, boot_id='', notices=False):
        self._boot_id = boot_id
        self._notices_wanted = notices
        self._reader = LineReader()
        self._interval = None    # as the host told it, in seconds
        self._most_useful = None
        self._last_sequence = -1
        self._last_challenge_at = None
        self._introduce_again = False
        self._told = None
        self._report_at, self.report_due = 0.0, None
        self._notices = collections.deque(maxlen=MAX_NOTICES)
        self._complain = Complaint()

    def init(self, snapshot):
        """Return the line that introduces the agent."""
        self._introduce_again = False
        message = {'type': 'init', 'version': VERSION, 'agent': NAME,
                   'boot_id': self._boot_id,
                   'audits': [result.name for result in snapshot.results]}
        if self._notices_wanted:
            message['notices'] = True
        return encode(message)

    def reintroduce(self):
        """Introduce the agent again with the next lines.

        After an interruption the host may not know, or not believe, what it
        was told before.
        """
        self._introduce_again = True

    def want_notices(self, wanted):
        """Say whether notices are wanted from now on."""
        if wanted != self._notices_wanted:
            self._notices_wanted = wanted
            self.reintroduce()

    def receive(self, data, snapshot, now):
        """Take bytes from the host; return the lines that answer them.

        :param data: all that has arrived
        :param snapshot: the Snapshot to tell
        :param now: monotonic time, in seconds
        """
        challenges = []
        for line in self._reader.feed(data):
            self._take(line, challenges)
        if challenges:
            self._watch_for_silence(now)
        replies = []
        for sequence, nonce in self._useful(challenges):
            replies.append(encode(
                {'type': 'challenge_response', 'sequence': sequence,
                 'nonce': nonce}, snapshot))
            self._told = self._essence(snapshot)
        # Who is challenged answers first.
        if self._introduce_again:
            replies.append(self.init(snapshot))
        return replies

    def take_notices(self):
        """Return the Notices that came since the last call."""
        notices = list(self._notices)
        self._notices.clear()
        return notices

    def _take(self, line, challenges):
        try:
            message = json.loads(line.decode('utf-8'))
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            return
        kind = message.get('type')
        if kind == 'challenge':
            self._take_challenge(message, challenges)
        elif kind == 'init_ack':
            self._take_ack(message)
        elif kind == 'notice':
            self._take_notice(message)
        elif kind == 'nack':
            self._complain('the host refused a line: '
                           + clean_text(str(message.get('reason')), 200))

    def _take_challenge(self, message, challenges):
        sequence, nonce = message.get('sequence'), message.get('nonce')
        if type(sequence) is not int or not isinstance(nonce, str):
            return
        challenges.append((sequence, nonce))
        # A host that counts anew is another one than before: nova-compute
        # was restarted so fast that no hang-up was seen.
        if sequence <= self._last_sequence:
            self.reintroduce()
        self._last_sequence = sequence

    def _take_ack(self, message):
        interval = message.get('interval_ms')
        timeout = message.get('timeout_ms')
        if _is_number(interval, 1, MAX_MS) and _is_number(timeout, 1, MAX_MS):
            self._interval = interval / 1000
            # Those whose time is not over, and one that is just on its way.
            self._most_useful = math.ceil(timeout / interval) + 1

    def _take_notice(self, message):
        notice = Notice(message.get('sequence'), message.get('operation'),
                        message.get('timeout_ms'))
        if (type(notice.sequence) is int
                and isinstance(notice.operation, str)
                and OPERATION.match(notice.operation)
                and _is_number(notice.timeout_ms, 0, MAX_MS)):
            self._notices.append(notice)

    def _watch_for_silence(self, now):
        last, self._last_challenge_at = self._last_challenge_at, now
        if last is None or self._interval is None:
            return
        if now - last > max(SILENT_INTERVALS * self._interval,
                            SILENT_SECONDS):
            LOG.info('the host was silent for %.1f s', now - last)
            self.reintroduce()

    def _useful(self, challenges):
        """Return the challenges that are worth an answer.

        Many at once have waited while the guest did not run, whatever its
        clocks say: those of a paused guest stand still with it.
        """
        most = self._most_useful
        if most is not None and len(challenges) > most:
            if not self._introduce_again:
                LOG.warning('%d challenges had waited: the guest did not run',
                            len(challenges))
                self.reintroduce()
            challenges = challenges[-most:]
        return challenges[-MAX_ANSWERS:]

    def report(self, snapshot, now):
        """Return the lines that tell a change of health, mostly none.

        Nothing is told before the first challenge: its answer carries all.

        :param snapshot: the Snapshot to tell
        :param now: monotonic time, in seconds
        """
        self.report_due = None
        essence = self._essence(snapshot)
        if self._told is None or essence == self._told:
            return []
        if now < self._report_at:
            self.report_due = self._report_at
            return []
        self._told = essence
        if snapshot.health is None:
            return []
        self._report_at = now + REPORT_SECONDS
        return [encode({'type': 'report'}, snapshot)]

    @staticmethod
    def _essence(snapshot):
        return snapshot.health, [(r.name, r.health) for r in snapshot.results]

    @staticmethod
    def notice_ack(sequence):
        """Return the line that says that the guest is ready."""
        return encode({'type': 'notice_ack', 'sequence': sequence})

    @staticmethod
    def exit(reason):
        """Return the line that says that the agent stops on purpose."""
        return encode({'type': 'exit', 'reason': reason})
