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

"""What lies between two ends of a connection, and may go without a word."""

import socket
import threading


class Proxy:
    """A TCP connection's middle, which can be cut.

    What is sent while it is cut arrives when it is mended, as it does over a
    network that was away for a while.

    :param port: where to, on the loopback
    :param fatal: a request that begins so gets through, and no answer does
        from then on
    :ivar port: where it listens itself
    :ivar met: set once there was such a request
    """

    def __init__(self, port, fatal=None):
        self._to = port
        self._fatal = fatal
        self.met = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._answers = threading.Event()
        self._answers.set()
        self._sockets = []
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    @staticmethod
    def _start(target, *arguments):
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return                      # closed
            self._sockets.append(near)
            self._start(self._connect, near)

    def _connect(self, near):
        self._open.wait()
        try:
            far = socket.create_connection(('127.0.0.1', self._to), 10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        self._sockets.append(far)
        self._start(self._carry, near, far, self._ask)
        self._start(self._carry, far, near, self._answer)

    def _ask(self, data):
        if self._fatal and data.startswith(self._fatal):
            self._answers.clear()
            self.met.set()

    def _answer(self, _data):
        self._answers.wait()

    def _carry(self, source, sink, look_at):
        try:
            while True:
                data = source.recv(65536)
                look_at(data)
                self._open.wait()
                if not data:
                    break
                sink.sendall(data)
        except OSError:
            pass                            # one end has gone
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass                        # and the other too

    def cut(self):
        """Let nothing through any more, new connections neither."""
        self._open.clear()

    def mend(self):
        self._answers.set()
        self._open.set()

    def close(self):
        self.mend()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            each.close()
