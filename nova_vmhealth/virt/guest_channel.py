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


"""One guest's heartbeat channel: a session and the unix socket of its port."""

import math
import select
import socket

# Bytes in flight to a guest that does not read, before the kernel's own
# overhead: room for about twenty challenges. The kernel's default of 208 KiB
# would hand a guest that opens its port hundreds of stale ones.
SEND_BUFFER = 8192
# One read a turn: more than any agent that behaves has to say, and little
# enough that a guest that floods holds nobody up.
READ_SIZE = 65536
# Seconds between attempts to connect, doubling: QEMU is up within the first,
# and the last is the longest that a repaired permission goes unnoticed.
RETRY_FIRST_S = 0.1
RETRY_LAST_S = 5.0


def connect_unix(path, module=socket):
    """Connect to QEMU's end of a channel without ever waiting.

    :param path: of the socket
    :param module: the socket module to use
    :raises OSError: there is nobody, no permission, or no such path
    """
    connection = module.socket(module.AF_UNIX, module.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


class GuestChannel:
    """What the heartbeat's thread keeps of one guest; only it calls this.

    :param instance_uuid: the instance
    :param path: of the unix socket
    :param session: nova_vmhealth.core.session.Session
    :param interval_s: seconds between challenges
    :param connect: called with the path, returns a non-blocking socket
    """

    __slots__ = ('instance_uuid', 'path', 'session', 'interval_s', 'socket',
                 'mask', 'held', 'error', '_connect', '_blocked', '_retry_at',
                 '_retry_s')

    def __init__(self, instance_uuid, path, session, interval_s, connect):
        self.instance_uuid = instance_uuid
        self.path = path
        self.session = session
        self.interval_s = interval_s
        self.socket = None
        self.mask = 0           # what epoll was last told to wait for
        self.held = False
        self.error = None       # why there is no connection, as logged last
        self._connect = connect
        self._blocked = False
        self._retry_at = -math.inf
        self._retry_s = RETRY_FIRST_S

    def open(self, now):
        """Connect, or plan the next attempt.

        :param now: monotonic seconds
        :returns: why it failed if that is news, None otherwise
        """
        try:
            self.socket = self._connect(self.path)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF,
                                   SEND_BUFFER)
        except OSError as error:
            self.close()
            return self._failed(error.strerror or str(error), now)
        self._blocked = False
        self.session.connected(now)
        return None

    def close(self):
        """Close the socket, if there is one."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
            self.mask = 0

    def wants_open(self, now):
        """Say whether it is time for an attempt to connect."""
        return self.socket is None and self._retry_at <= now

    def read(self, now):
        """Read once what the guest wrote.

        :param now: monotonic seconds
        :returns: the session's outcomes, and why the connection ended if it
            did and that is news
        """
        try:
            data = self.socket.recv(READ_SIZE)
        except BlockingIOError:
            return [], None
        except OSError as error:
            return [], self._lost(error.strerror or str(error), now)
        if not data:
            return [], self._lost('the other end closed the connection', now)
        self._retry_s = RETRY_FIRST_S
        self.error = None
        return self.session.receive(data, now), None

    def unblock(self):
        """The socket takes bytes again."""
        self._blocked = False

    def write(self, now):
        """Write what the session has, as far as the socket takes it.

        :param now: monotonic seconds
        :returns: why the connection ended if it did and that is news
        """
        if self._blocked or self.socket is None:
            return None
        data = self.session.data_to_send()
        if not data:
            return None
        try:
            size = self.socket.send(data)
        except BlockingIOError:
            size = 0
        except OSError as error:
            return self._lost(error.strerror or str(error), now)
        self.session.sent(size)
        self._blocked = size < len(data)
        return None

    def wanted_mask(self, now):
        """Return what to wait for: epoll's bits."""
        reading = self.session.reading_resumes_at(now) is None
        return ((select.POLLIN if reading else 0)
                | (select.POLLOUT if self._blocked else 0))

    def next_deadline(self, now):
        """Return when this guest needs the loop, monotonic seconds."""
        deadline = self.session.next_deadline()
        if self.socket is None:
            return min(deadline, self._retry_at)
        resumes_at = self.session.reading_resumes_at(now)
        return deadline if resumes_at is None else min(deadline, resumes_at)

    def _lost(self, reason, now):
        self.close()
        self.session.disconnected(now)
        return self._failed(reason, now)

    def _failed(self, reason, now):
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, RETRY_LAST_S)
        # What Nova itself is doing to the instance is no news; if it lasts
        # beyond that, the next attempt says so.
        if self.held or reason == self.error:
            return None
        self.error = reason
        return reason
