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

"""Ways to an agent: a unix socket from either side, or a pty.

A link has ``port``, the path that the agent opens, and ``can_reopen``,
whether the agent sees it closed and opened again, as a virtio-serial port
does. Deadlines are monotonic time, seconds.
"""

import os
import select
import socket
import time
import tty

from nova_vmhealth import exception

_READ_SIZE = 65536
# What is kept of an agent's bytes while we write: 1 MiB of ours into an agent
# that echoes comes back as a whole.
_MAX_KEPT = 4 << 20
# Seconds between attempts to connect.
_RETRY_S = 0.1


class Unavailable(exception.VMHealthError):
    """There is no way to an agent: the suite cannot be run, or go on."""


class Gone(exception.VMHealthError):
    """The agent's end of the connection was closed."""

    msg_fmt = 'it closed the connection'


class Link:
    """A stream of bytes; subclasses open it.

    :param port: the path that the agent opens
    """

    can_reopen = True

    def __init__(self, port):
        self.port = port
        self._connection = None
        self._kept = b''

    def now(self):
        """Return monotonic time, seconds."""
        return time.monotonic()

    def sleep(self, seconds):
        """Let time pass."""
        time.sleep(seconds)

    def open(self, deadline):
        """Get a connection to an agent.

        :raises Unavailable: there was none by then
        """
        raise NotImplementedError

    def close(self):
        """Close the connection to the agent, if there is one."""
        self._kept = b''
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def end(self):
        """Close the connection, and take away what was made for it."""
        self.close()

    def write(self, data, deadline):
        """Write, reading meanwhile: an agent may wait for that.

        :returns: what was not written by the deadline
        :raises Gone: the connection has ended
        """
        while data:
            room = len(self._kept) < _MAX_KEPT
            events = self._poll(
                select.POLLOUT | (select.POLLIN if room else 0), deadline)
            if not events:
                break
            if events & select.POLLIN:
                self._kept += self._receive()
            if events & (select.POLLOUT | select.POLLERR):
                data = data[self._send(data):]
        return data

    def read(self, deadline):
        """Return bytes as soon as there are any, b'' at the deadline.

        :raises Gone: the connection has ended
        """
        if not self._kept and self._poll(select.POLLIN, deadline):
            return self._receive()
        data, self._kept = self._kept, b''
        return data

    def _poll(self, mask, deadline):
        if self._connection is None:
            raise Gone()
        poller = select.poll()
        poller.register(self._connection, mask)
        seconds = max(0, deadline - self.now())
        # Rounded up: a wait cut short to 0 ms would spin.
        for _, events in poller.poll(int(seconds * 1000) + bool(seconds)):
            return events
        return 0

    def _receive(self):
        try:
            data = os.read(self._connection.fileno(), _READ_SIZE)
        except BlockingIOError:
            return b''
        except OSError:
            data = b''
        if not data:
            self.close()
            raise Gone()
        return data

    def _send(self, data):
        try:
            return os.write(self._connection.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            raise Gone() from None


class Connector(Link):
    """Connects to a socket, as nova-compute does to QEMU's."""

    def __str__(self):
        return 'the socket %s' % self.port

    def open(self, deadline):
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.setblocking(False)
                connection.connect(self.port)
            except OSError as error:
                connection.close()
                if self.now() >= deadline or not isinstance(error, (
                        BlockingIOError, ConnectionRefusedError,
                        FileNotFoundError)):
                    raise Unavailable('cannot connect to %s: %s' % (
                        self.port, error.strerror or error)) from None
                self.sleep(_RETRY_S)
            else:
                self._connection = connection
                return


class Listener(Link):
    """Listens on a socket, as QEMU does; the agent connects.

    :raises Unavailable: the socket cannot be made
    """

    def __init__(self, port):
        super().__init__(port)
        self._listening = socket.socket(socket.AF_UNIX)
        try:
            self._listening.bind(port)
        except OSError as error:
            self._listening.close()
            raise Unavailable('cannot listen on %s: %s' % (
                port, error.strerror or error)) from None
        self._listening.listen(1)
        self._listening.setblocking(False)

    def __str__(self):
        return 'the socket %s' % self.port

    def open(self, deadline):
        seconds = max(0, deadline - self.now())
        if not select.select([self._listening], [], [], seconds)[0]:
            raise Unavailable('no agent has connected to %s' % self.port)
        self._connection, _ = self._listening.accept()
        self._connection.setblocking(False)

    def end(self):
        super().end()
        self._listening.close()
        os.unlink(self.port)


class Pty(Link):
    """A pseudo terminal in raw mode: for agents that open a device."""

    can_reopen = False

    def __init__(self):
        # Our own hold on the agent's end: without one a read fails whenever
        # the agent has it closed, which a host does not see.
        master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(master, False)
        self._master = open(master, 'r+b', buffering=0)
        super().__init__(os.ttyname(self._slave))

    def __str__(self):
        return 'the pty %s' % self.port

    def open(self, deadline):
        self._connection = self._master

    def close(self):
        # It stays open: closed, it would be no pty any more.
        self._kept = b''

    def end(self):
        self._master.close()
        os.close(self._slave)
