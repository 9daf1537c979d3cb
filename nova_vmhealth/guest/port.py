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


"""The virtio-serial port, found by its name, and what ends a wait for it."""

import collections
import os
import select

from nova_vmhealth.guest.talk import MAX_LINE

CHANNEL = 'org.openstack.vmhealth.0'

# Unsent lines that are kept while the host does not read. Old answers are
# worth nothing to it, so the oldest ones go first.
MAX_UNSENT = 8
# Reads at a time, of MAX_LINE bytes: all that waits should be seen together,
# so that what is stale can be told, and a host socket holds about 200 KiB.
MAX_READS = 64


def find_port():
    """Return the path of our virtio-serial port.

    :raises FileNotFoundError: this guest has none
    """
    path = '/dev/virtio-ports/' + CHANNEL  # a link that udev makes
    if os.path.exists(path):
        return path
    ports = '/sys/class/virtio-ports'
    for port in os.listdir(ports):
        with open(os.path.join(ports, port, 'name')) as name:
            if name.read().strip() == CHANNEL:
                return '/dev/' + port
    raise FileNotFoundError(2, 'no virtio-serial port', CHANNEL)


class Port:
    """The open port: non-blocking reads and writes of whole lines."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        self.unsent = collections.deque(maxlen=MAX_UNSENT)
        self._rest = b''

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        os.close(self.fd)

    def read(self):
        """Return what arrived, b'' for nothing, None if no host listens."""
        chunks = []
        try:
            for _ in range(MAX_READS):
                chunk = os.read(self.fd, MAX_LINE)
                if not chunk:
                    # How the kernel says that no client has the host's end
                    # open: no end of file, a client may come any time.
                    return b''.join(chunks) or None
                chunks.append(chunk)
        except BlockingIOError:
            pass  # that was all
        return b''.join(chunks)

    def flush(self):
        """Write what the kernel takes; return True when all is written."""
        while self._rest or self.unsent:
            line = self._rest or self.unsent.popleft()
            try:
                written = os.write(self.fd, line)
            except BlockingIOError:
                written = 0
            self._rest = line[written:]
            if self._rest:
                return False
        return True

    def forget(self):
        """Drop unsent lines: they were meant for a client that is gone."""
        self.unsent.clear()
        self._rest = b''


class Waker:
    """A wait for the port that other threads and signals can end."""

    def __init__(self):
        self._wake_fd, self._waker = os.pipe()
        os.set_blocking(self._wake_fd, False)
        os.set_blocking(self._waker, False)

    def wake(self):
        """End the wait, or the next one; may be called on any thread."""
        try:
            os.write(self._waker, b'.')
        except BlockingIOError:
            pass  # the pipe is full of wake-ups already

    def wait(self, seconds, fd=None, written=True):
        """Sleep until a wake-up, input, room for output, or seconds pass.

        :param fd: the port's, where a host client is there to hear
        :param written: whether all output was written
        """
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        if fd is not None:
            poller.register(
                fd, select.POLLIN | (0 if written else select.POLLOUT))
        # Rounded up: a wait cut short to 0 ms would spin.
        poller.poll(int(seconds * 1000) + 1)
        try:
            os.read(self._wake_fd, 4096)
        except BlockingIOError:
            pass  # it was not a wake-up
