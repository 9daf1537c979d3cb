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


"""Processes that the tests start: each its own session, ended by its id."""

import os
import signal
import socket
import subprocess
import time


def free_port():
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def listens(port):
    try:
        socket.create_connection(('127.0.0.1', port), 1).close()
    except OSError:
        return False
    return True


def wait_for(condition, seconds, what, every=0.05):
    """Poll until condition() is true; its value.

    :raises AssertionError: naming ``what``, after so many seconds
    """
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, 'no %s after %s s' % (what, seconds)
        time.sleep(every)


class Process:
    """One process in its own session, its output in a file.

    :param command: list of arguments
    :param log: path of the file that takes stderr, and stdout unless
        ``pipes``
    :param pipes: whether stdin and stdout are pipes for us, line by line
    """

    def __init__(self, command, log, pipes=False, env=None, cwd=None):
        self.log = log
        with open(log, 'ab') as output:
            self._process = subprocess.Popen(
                command, start_new_session=True, text=True, bufsize=1,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else output, stderr=output,
                env=dict(os.environ, **(env or {})), cwd=cwd)
        self.pid = self._process.pid
        self.stdin = self._process.stdin
        self.stdout = self._process.stdout

    @property
    def running(self):
        return self._process.poll() is None

    def logged(self):
        with open(self.log, errors='replace') as f:
            return f.read()

    def wait_for(self, condition, seconds, what):
        """As :func:`wait_for`, and gives up when the process has ended."""
        def met():
            assert self.running, '%s ended; see %s:\n%s' % (
                what, self.log, self.logged()[-2000:])
            return condition()
        return wait_for(met, seconds, what)

    def stop(self, sig=signal.SIGTERM, seconds=15):
        """End it and what it started, kindly first."""
        self._signal(sig)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self.stdin, self.stdout):
            if pipe:
                pipe.close()

    def _signal(self, sig):
        try:
            os.killpg(self.pid, sig)
        except ProcessLookupError:
            pass     # all of it has gone already
