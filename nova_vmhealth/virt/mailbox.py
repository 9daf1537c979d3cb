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


"""What other threads ask of a native thread that waits with epoll."""

import collections
import select

from nova_vmhealth.virt import native


class Mailbox:
    """Commands for one thread, and a byte that ends its wait.

    :meth:`put` and :meth:`wake` are for all threads and return at once, also
    on libvirt's event thread; the rest is for the one that takes.

    :param poll: that thread's epoll; it tells of :meth:`fileno` when there is
        something to :meth:`drain`
    """

    def __init__(self, poll):
        self._commands = collections.deque()
        self._waker, self._woken = native.original('socket').socketpair()
        for end in (self._waker, self._woken):
            end.setblocking(False)
        poll.register(self._woken, select.EPOLLIN)

    def __len__(self):
        return len(self._commands)

    def fileno(self):
        """Return the file descriptor that epoll tells of."""
        return self._woken.fileno()

    def put(self, command, *arguments):
        """Have a function called with these arguments."""
        self._commands.append((command, arguments))
        self.wake()

    def wake(self):
        """End the thread's wait."""
        try:
            self._waker.send(b'\0')
        except OSError:
            # Full: it will wake anyway. Closed: nobody is there to wake.
            pass

    def drain(self):
        """Take out the bytes that ended the wait.

        A command that is put after the last :meth:`take` may lose its byte
        here: look at the length before the next wait.
        """
        try:
            self._woken.recv(4096)
        except BlockingIOError:
            pass

    def take(self):
        """Return the oldest command and its arguments.

        :raises IndexError: there is none
        """
        return self._commands.popleft()

    def close(self):
        """Close both ends; what is put from now on is not taken."""
        self._waker.close()
        self._woken.close()
