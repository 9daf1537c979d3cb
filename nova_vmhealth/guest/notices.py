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


"""Notices: the guest's programs that Nova's operations are told to.

Before Nova stops, reboots, suspends or migrates the guest, the host says so
and waits a little. The programs of a directory are run then, all at once and
in the background, and the host is told when they have ended.
"""

import re
import threading

from nova_vmhealth.guest.health import clean_text
from nova_vmhealth.guest.health import Complaint
from nova_vmhealth.guest.health import LOG
from nova_vmhealth.guest.health import start_thread
from nova_vmhealth.guest import processes

PROGRAM_NAME = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z')
# More hooks than a guest has need of; each takes a thread and a process.
MAX_PROGRAMS = 16
# Notices whose programs may run at a time: some of them may hang. Those that
# the host waits for and the others count apart: what hangs after a migration
# must not keep the guest from getting ready for a stop.
MAX_UNDER_WAY = 4
# A program that has not ended in time may go on: to kill one that flushes a
# database is the worst that can be done to it. But not for ever, seconds.
LINGER_SECONDS = 60.0
# The answer must reach the host in time: this share of it, and at least so
# many seconds where it is long enough, are kept for the way.
MARGIN_SHARE = 0.1
MARGIN_SECONDS = 0.1


def ack_time(timeout):
    """Return when to answer a notice at the latest, in seconds from now.

    :param timeout: how long the host waits, in seconds
    """
    margin = max(timeout * MARGIN_SHARE, MARGIN_SECONDS)
    return max(timeout - margin, timeout / 2)


class _UnderWay:
    """A notice whose programs run, or whose answer is yet to be sent."""

    def __init__(self, notice, programs, now):
        timeout = notice.timeout_ms / 1000
        self.notice = notice
        self.running = {name for name, _ in programs}
        self.ack_wanted = notice.timeout_ms > 0
        self.ack_at = now + ack_time(timeout)
        self.over_at = now + timeout


class Notices:
    """Runs the programs of a directory for each notice, and says when done.

    :param directory: where the programs are
    :param wake: called without arguments, on any thread, after a change
    :param start: runs a function with its arguments in the background
    """

    def __init__(self, directory, wake, start=start_thread):
        self._directory = directory
        self._wake = wake
        self._start = start
        self._lock = threading.Lock()
        self._programs = []
        self._under_way = []
        self._complain = Complaint()

    @property
    def wanted(self):
        """Whether there is a program that wants to be told."""
        return bool(self._programs)

    def look(self):
        """See which programs there are: not on the answering thread."""
        before = self.wanted
        try:
            found = processes.executables(self._directory, PROGRAM_NAME.match)
            self._programs = found[:MAX_PROGRAMS]
            self._complain('')
        except OSError as error:
            self._complain('the notices cannot be listed: %s' % error)
        if self.wanted != before:
            self._wake()

    def begin(self, notice, now):
        """Run the programs for a Notice that has just come.

        Starting a process may take long, as on a dead disk, hence each on a
        thread of its own. One too many is passed over, and not answered: the
        guest is not ready for it.
        """
        LOG.info('notice: %s, %d ms', notice.operation, notice.timeout_ms)
        programs = self._programs
        with self._lock:
            if programs and self._is_full(notice):
                LOG.warning('notice %s: too many others are under way',
                            notice.operation)
                return
            entry = _UnderWay(notice, programs, now)
            self._under_way.append(entry)
        for name, path in programs:
            try:
                self._start(self._run_one, entry, name, path)
            except RuntimeError as error:  # no room for another thread
                self._end(entry, name, 'cannot be run: %s' % error)

    def _is_full(self, notice):
        awaited = notice.timeout_ms > 0
        others = [entry for entry in self._under_way
                  if (entry.notice.timeout_ms > 0) == awaited]
        return len(others) >= MAX_UNDER_WAY

    def _run_one(self, entry, name, path):
        notice = entry.notice
        try:
            status, output = processes.run(
                [path, notice.operation, str(notice.timeout_ms)],
                max(notice.timeout_ms / 1000, LINGER_SECONDS))
        except OSError as error:
            self._end(entry, name, 'cannot be run: %s' % error.strerror)
        except processes.TimedOut:
            self._end(entry, name, 'did not end and was killed')
        else:
            said = clean_text(output, 200)
            self._end(entry, name, 'status %d %s' % (status, said)
                      if status else '', said)

    def _end(self, entry, name, problem, said=''):
        if problem:
            LOG.warning('notice %s: %s: %s', entry.notice.operation, name,
                        problem)
        else:
            LOG.info('notice %s: %s is ready %s', entry.notice.operation,
                     name, said)
        with self._lock:
            entry.running.discard(name)
        self._wake()

    def due(self, now):
        """Return the sequences of the notices to answer now, once each.

        One whose time is over is not answered: the host waits no more.
        """
        sequences = []
        with self._lock:
            for entry in self._under_way:
                if not entry.ack_wanted:
                    continue
                if entry.running and now < entry.ack_at:
                    continue
                entry.ack_wanted = False
                if entry.running:
                    LOG.warning('notice %s: not ready in time: %s',
                                entry.notice.operation,
                                ', '.join(sorted(entry.running)))
                if now < entry.over_at:
                    sequences.append(entry.notice.sequence)
            self._under_way = [entry for entry in self._under_way
                               if entry.running or entry.ack_wanted]
        return sequences

    def next_deadline(self):
        """Return when the next answer is due, None if none is awaited."""
        with self._lock:
            return min((entry.ack_at for entry in self._under_way
                        if entry.ack_wanted), default=None)

    def forget(self):
        """Owe no answers any more: the client that asked is gone."""
        with self._lock:
            for entry in self._under_way:
                entry.ack_wanted = False
