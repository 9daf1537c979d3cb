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


"""One guest at the level of its socket: it speaks the protocol, or does not.

What libvirt would know of its domain is here too, as libvirt's own numbers.
"""

import contextlib
import json
import os
import selectors
import socket

RUNNING, PAUSED, SHUTOFF = 1, 3, 5          # virDomainState
READ_SIZE = 65536

# ways to be, and whether a challenge is read and answered
GOOD = 'good'
HUNG = 'hung'           # reads nothing: its CPUs stand still, or it is stuck
SILENT = 'silent'       # reads and says nothing: no agent
GONE = 'gone'           # there is no QEMU, and so no socket
MODES = (GOOD, HUNG, SILENT, GONE)


class Guest:
    """A domain and its channel's socket.

    :param uuid: the instance's
    :param path: of the socket
    :param selector: tells of what there is to read, to :meth:`read` and
        :meth:`accept`
    """

    def __init__(self, uuid, path, selector):
        self.uuid = uuid
        self.state = [RUNNING, 1]
        self._path = path
        self._selector = selector
        self._mode = None
        self._audits = {}
        self._listening = None
        self._connection = None
        self._unread = b''
        self.become(GOOD)

    # -- what happens to it --------------------------------------------------

    def become(self, mode):
        """Behave like that from now on."""
        if mode == GONE:
            self._close()
        elif self._listening is None:
            self._listen()
        if self._connection is not None:
            reads = mode != HUNG
            if reads != (self._mode != HUNG):
                self._watch(reads)
        self._mode = mode

    def exit(self):
        """The agent says goodbye; whether anybody was there to hear it."""
        heard = self._connection is not None and self._mode == GOOD
        self._say(type='exit', reason='told to')
        self.become(SILENT)
        return heard

    def report(self, audits):
        """An audit has found something.

        :param audits: health by the audit's name
        """
        self._audits = audits
        if self._mode == GOOD:
            self._say(type='report', **self._health())

    # -- its socket ----------------------------------------------------------

    def _listen(self):
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._listening.bind(self._path)
        self._listening.listen(4)
        self._selector.register(self._listening, selectors.EVENT_READ,
                                self.accept)

    def accept(self):
        connection = self._listening.accept()[0]
        if self._connection is not None:
            # QEMU has one client at a time; the next one waits.
            self._hang_up()
        connection.setblocking(False)
        self._connection = connection
        self._unread = b''
        if self._mode != HUNG:
            self._watch(True)

    def read(self):
        try:
            data = self._connection.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b''
        if not data:
            self._hang_up()
            return
        *lines, self._unread = (self._unread + data).split(b'\n')
        for line in lines:
            self._answer(json.loads(line))

    def _answer(self, message):
        if self._mode == GOOD and message['type'] == 'challenge':
            self._say(type='challenge_response', nonce=message['nonce'],
                      sequence=message['sequence'], **self._health())

    def _health(self):
        if not self._audits:
            return {'health': 'healthy', 'audits': []}
        return {'health': max(self._audits.values()), 'audits': [
            {'name': name, 'health': health, 'message': 'as told'}
            for name, health in self._audits.items()]}

    def _say(self, **message):
        if self._connection is not None:
            # a host that is away, or reads too slowly, misses it
            with contextlib.suppress(OSError):
                self._connection.send(json.dumps(message).encode() + b'\n')

    def _watch(self, reads):
        if reads:
            self._selector.register(self._connection, selectors.EVENT_READ,
                                    self.read)
        else:
            self._selector.unregister(self._connection)

    def _hang_up(self):
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._connection)
        self._connection.close()
        self._connection = None

    def _close(self):
        if self._connection is not None:
            self._hang_up()
        if self._listening is not None:
            self._selector.unregister(self._listening)
            self._listening.close()
            os.unlink(self._path)
            self._listening = None
