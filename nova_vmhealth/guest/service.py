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


"""The agent's loop: joins port, talk, audits' board and notices."""

import time

from nova_vmhealth.guest.health import Complaint
from nova_vmhealth.guest.health import LOG
from nova_vmhealth.guest.stall import boottime
from nova_vmhealth.guest.stall import Punctuality
from nova_vmhealth.guest.stall import TICK_SECONDS
from nova_vmhealth.guest.talk import Talk

# Seconds between looks at a port without a host client. The kernel reports
# such a port as hung up all the time, so there is nothing to poll for.
RECONNECT_SECONDS = 0.25
REOPEN_SECONDS = 1.0
# Seconds for the farewell to leave when the agent is told to stop.
FAREWELL_SECONDS = 0.5


class Agent:
    """Answers the host; runs until it is told to stop.

    :param open_port: returns the open Port
    :param waker: the Waker that the board and the notices wake
    :param board: the Board of the audits
    :param notices: the Notices
    :param keepers: what wants to hear from the loop at every tick: objects
        with tick(), excuse(), stop() and a period in seconds
    :param boot_id: the kernel's id of this boot
    """

    def __init__(self, open_port, waker, board, notices, keepers=(),
                 boot_id=''):
        self._open_port = open_port
        self._waker = waker
        self._board = board
        self._notices = notices
        self._keepers = keepers
        self._boot_id = boot_id
        self._tick_seconds = min(
            [TICK_SECONDS] + [keeper.period for keeper in keepers])
        self._guest_clock = Punctuality()
        self._own_clock = Punctuality()
        self._stopping = False
        self._status = 'starting'
        self._complain = Complaint()

    def stop(self, *signal_and_frame):
        """Make run() say farewell and return; serves as signal handler."""
        self._stopping = True
        self._waker.wake()

    def run(self):
        """Serve the port, opening it again after any error."""
        while not self._stopping:
            try:
                with self._open_port() as port:
                    self._serve(port)
            except OSError as error:
                self._complain('waiting for the port: %s' % error)
                self._status = 'waiting for the port'
                self._notices.forget()
                self._tick()
                self._wait(REOPEN_SECONDS)
        for keeper in self._keepers:
            keeper.stop()

    def _serve(self, port):
        talk = None
        while not self._stopping:
            stalled, snapshot = self._tick()
            data = port.read()
            if data is None:
                self._status = 'waiting for a host client'
                talk = None
                port.forget()
                self._notices.forget()
                self._wait(RECONNECT_SECONDS)
                continue
            if talk is None:
                talk = self._introduce(port, snapshot)
            elif stalled:
                talk.reintroduce()
            self._exchange(port, talk, data, snapshot)
            written = port.flush()
            if not data:
                self._wait(self._seconds_to_deadline(talk), port.fd, written)
        if talk is not None:
            self._say_farewell(port)

    def _introduce(self, port, snapshot):
        LOG.info('a host client is connected')
        self._complain('')
        self._status = 'answering the host'
        talk = Talk(self._boot_id, self._notices.wanted)
        port.unsent.append(talk.init(snapshot))
        return talk

    def _exchange(self, port, talk, data, snapshot):
        now = time.monotonic()
        talk.want_notices(self._notices.wanted)
        port.unsent += talk.receive(data, snapshot, now)
        port.unsent += talk.report(snapshot, now)
        for notice in talk.take_notices():
            self._notices.begin(notice, now)
        port.unsent += [talk.notice_ack(sequence)
                        for sequence in self._notices.due(now)]

    def _tick(self):
        """Take the time; return whether we came late, and a Snapshot."""
        stalled = self._guest_clock.came(boottime())
        if stalled:
            LOG.warning('stalled: the guest or its agent did not run for '
                        '%.1f s', stalled)
        now = time.monotonic()
        # Audits and keepers go by the clock that stands still in a sleep.
        late = self._own_clock.came(now)
        if late:
            self._board.excuse(late, now)
            for keeper in self._keepers:
                keeper.excuse(late, now)
        snapshot = self._board.snapshot(now)
        status = '%s; health: %s' % (self._status,
                                     snapshot.health or 'not known yet')
        for keeper in self._keepers:
            keeper.tick(snapshot, status, now)
        return bool(stalled), snapshot

    def _seconds_to_deadline(self, talk):
        now = time.monotonic()
        deadlines = [self._board.next_deadline(now),
                     self._notices.next_deadline(), talk.report_due]
        return max(0, min([d - now for d in deadlines if d is not None],
                          default=TICK_SECONDS))

    def _wait(self, seconds, fd=None, written=True):
        self._waker.wait(min(seconds, self._tick_seconds), fd, written)

    def _say_farewell(self, port):
        port.unsent.append(Talk.exit('terminated'))
        deadline = time.monotonic() + FAREWELL_SECONDS
        while not port.flush():
            if time.monotonic() >= deadline:
                return
            time.sleep(0.01)
