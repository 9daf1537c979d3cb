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


"""One guest's heartbeat channel: a session and the socket that it talks on."""

import math
import select
import socket

# Bytes in flight to a guest that does not read, before the kernel's own
# overhead: room for about twenty challenges. The kernel's default of 208 KiB
# would hand a guest that opens its port hundreds of stale ones.
SEND_BUFFER = 8192
# One read: more than any agent that behaves has to say, and little enough
# that a guest that floods holds nobody up.
READ_SIZE = 16384
# Seconds between attempts to connect, doubling: QEMU is up within the first,
# and the last is the longest that a repaired permission goes unnoticed.
RETRY_FIRST_S = 0.1
RETRY_LAST_S = 5.0
# After this many failures in a row another way in is asked for: a guest that
# is just being started has its socket by then.
PATIENCE = 3

_LONG_AGO = -math.inf

# The ways to a guest's port.
SOCKET = 'socket'
LIBVIRT = 'libvirt'


class GuestChannel:
    """What the heartbeat's thread keeps of one guest; only it calls this.

    :param instance_uuid: the instance
    :param path: of the unix socket
    :param session: nova_vmhealth.core.session.Session
    """

    # First what every beat looks at, as in Session.
    __slots__ = ('slot', 'session', 'socket', '_blocked', 'mask', 'greedy',
                 'held', 'paused', 'instance_uuid', 'path', 'way', 'error',
                 '_notice', '_number', '_opened_at', '_retry_at', '_retry_s',
                 '_failures', '_ask_from')

    def __init__(self, instance_uuid, path, session):
        self.instance_uuid = instance_uuid
        self.path = path
        self.session = session
        self.socket = None
        self.way = SOCKET
        self.slot = None        # the wheel's
        self.mask = 0           # what epoll was last told to wait for
        self.held = False
        self.paused = False     # it sends too much: not read for a while
        self.greedy = False     # it did when it was read last
        self.error = None       # why there is no connection, as logged last
        self._notice = None     # the one whose answer somebody waits for
        self._number = None     # its number, as the session counts them
        self._blocked = False
        self._opened_at = _LONG_AGO
        self._retry_at = _LONG_AGO
        self._retry_s = RETRY_FIRST_S
        self._failures = 0
        self._ask_from = _LONG_AGO

    def adopt(self, connection, way, now):
        """Talk over a connection from now on.

        :param connection: a connected socket that does not block
        :param way: :data:`SOCKET` or :data:`LIBVIRT`
        :param now: monotonic seconds
        """
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF,
                              SEND_BUFFER)
        self.socket = connection
        self.way = way
        self._blocked = self.paused = False
        self._opened_at = now
        if way == SOCKET:
            self._failures = 0
        self.session.connected(now)

    def close(self):
        """Close the socket, if there is one."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
            self.mask = 0

    def wants_open(self, now):
        """Say whether it is time for an attempt to connect."""
        return self.socket is None and self._retry_at <= now

    def cut_short(self, line, written):
        """The socket took only a part of a challenge that was not queued.

        :param line: of the session's next_challenge()
        :param written: bytes
        """
        self.session.unsent(line, written)
        self._blocked = True

    def unblock(self):
        """The socket takes bytes again."""
        self._blocked = False

    def write(self):
        """Write what the session has, as far as the socket takes it.

        :raises OSError: the connection is over
        """
        if self._blocked or self.socket is None:
            return
        data = self.session.data_to_send()
        if not data:
            return
        try:
            size = self.socket.send(data)
        except BlockingIOError:
            size = 0
        self.session.sent(size)
        self._blocked = size < len(data)

    def await_notice(self, notice, number):
        """Remember who waits for the guest's answer to a notice.

        :param notice: the Notice to fill in
        :param number: the session's; None when the guest was not told
        """
        self.end_notice()
        self._notice, self._number = notice, number
        if number is None:
            self.end_notice()

    def notice_acked(self, number):
        """The guest is ready for what a notice announced."""
        if self._notice is not None and number == self._number:
            self._notice.acked = True
            self.end_notice()

    def end_notice(self):
        """Nobody needs to wait for an answer any more."""
        if self._notice is not None:
            self._notice.over = True
            self._notice = None

    def look_at_flow(self, now):
        """See whether the guest has sent too much, or may be read again."""
        self.paused = self.session.reading_resumes_at(now) is not None

    def wanted_mask(self):
        """Return what to wait for: epoll's bits.

        Edges: otherwise epoll would look at each socket once more after it
        was read, and that is a tenth of a beat's cost.
        """
        return (select.EPOLLET
                | (0 if self.paused else select.EPOLLIN)
                | (select.EPOLLOUT if self._blocked else 0))

    def next_deadline(self, now):
        """Return when this guest needs the loop, monotonic seconds."""
        deadline = self.session.next_deadline()
        if self.socket is None:
            return min(deadline, self._retry_at)
        if self.paused:
            resumes_at = self.session.reading_resumes_at(now)
            return deadline if resumes_at is None else min(deadline,
                                                           resumes_at)
        return deadline

    def lost(self, error, now):
        """Take note that the connection is over, and plan the next.

        :param error: an OSError
        :param now: monotonic seconds
        :returns: why, if that is news
        """
        self.close()
        self.session.disconnected(now)
        answered = (self.session.last_answer_at or _LONG_AGO) > self._opened_at
        if answered:
            self._retry_s = RETRY_FIRST_S
        if self.way == LIBVIRT:
            # Whoever opened it tells of its end, and not too often: a guest
            # can make it end. The socket is out of reach as it was.
            self._plan_retry(now)
            return None
        if answered:
            self.error = None
        return self._retry(error, now)

    def failed(self, error, now):
        """Take note that there is no connection, and plan the next attempt.

        :param error: an OSError
        :param now: monotonic seconds
        :returns: why, if that is news
        """
        self._failures += 1
        return self._retry(error, now)

    def wants_second_way(self, error, now):
        """Say whether another way in is worth the try now.

        :param error: of the attempt that failed
        :param now: monotonic seconds
        """
        # While it is held, it may well be about to end.
        if (self._failures < PATIENCE or now < self._ask_from or self.held
                or not getattr(error, 'bypass', False)):
            return False
        self._ask_from = now + RETRY_LAST_S
        return True

    def _plan_retry(self, now):
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, RETRY_LAST_S)

    def _retry(self, error, now):
        self._plan_retry(now)
        reason = (getattr(error, 'reason', None) or error.strerror
                  or str(error))
        # What Nova itself is doing to the instance is no news; if it lasts
        # beyond that, the next attempt says so.
        if self.held or reason == self.error:
            return None
        self.error = reason
        return reason
