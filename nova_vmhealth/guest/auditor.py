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


"""When the audits run: a thread that starts each of them when it is due."""

import time

from nova_vmhealth.guest.audits import MIN_SECONDS
from nova_vmhealth.guest.audits import run_audit
from nova_vmhealth.guest.health import Complaint
from nova_vmhealth.guest.health import LOG
from nova_vmhealth.guest.health import Result
from nova_vmhealth.guest.health import start_thread
from nova_vmhealth.guest.health import UNHEALTHY

# Seconds between looks into the directories.
SCAN_SECONDS = 1.0


class Auditor:
    """Starts each audit of a directory when it is due.

    :param find: returns the list of Audits that there are
    :param board: the Board that gets the results
    :param start: runs a function with its arguments in the background
    :param also: called at each look, for what else needs one
    """

    def __init__(self, find, board, start=start_thread, also=lambda: None):
        self._find = find
        self._board = board
        self._start = start
        self._also = also
        self._complain = Complaint()
        self._audits = []
        self._due = {}

    def run(self):
        """Start audits for ever; meant for a thread of its own."""
        while True:
            time.sleep(self.step(time.monotonic()))

    def step(self, now):
        """Start what is due; return the seconds until the next look."""
        self._board.looked(now)
        self._also()
        try:
            self._audits = self._find()
            self._complain('')
        except OSError as error:
            self._complain('the audits cannot be listed: %s' % error)
        names = [audit.name for audit in self._audits]
        self._due = {name: self._due.get(name, now) for name in names}
        for audit in self._audits:
            if now >= self._due[audit.name] and self._board.begin(audit, now):
                self._due[audit.name] = now + audit.interval
                self._begin(audit)
        self._board.keep(names)
        soonest = min(self._due.values(), default=now + SCAN_SECONDS)
        return min(max(soonest - now, MIN_SECONDS), SCAN_SECONDS)

    def _begin(self, audit):
        try:
            self._start(self._run_one, audit)
        except RuntimeError as error:  # no room for another thread
            self._board.finish(Result(audit.name, UNHEALTHY,
                                      'cannot be run: %s' % error))

    def _run_one(self, audit):
        result = run_audit(audit)
        LOG.debug('audit %s: %s %s', *result)
        self._board.finish(result)
