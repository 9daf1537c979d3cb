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

"""The agent as a process, where the suite starts it itself."""

import contextlib
import os
import signal
import subprocess
import sys

from nova_vmhealth.conformance import links

# Seconds that it may take to end, by SIGTERM and then by SIGKILL.
_STOP_S = 2.0


class Process:
    """An agent that is started by a command.

    :param command: its words; ``{port}`` in them stands for the port
    :param port: the path of the port
    """

    def __init__(self, command, port):
        self._command = [word.replace('{port}', port) for word in command]
        self._process = None

    @property
    def running(self):
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self):
        """Words for how it has ended."""
        status = self._process.returncode
        return 'signal %d' % -status if status < 0 else (
            'exit status %d' % status)

    def start(self):
        """Start it; what it prints goes to our standard error.

        :raises links.Unavailable: it cannot be started
        """
        self.stop()
        try:
            # A group of its own, to be ended with its children. No session of
            # its own: its leader would get the pty as controlling terminal.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=sys.stderr,
                preexec_fn=os.setpgrp)  # noqa: PLW1509
        except OSError as error:
            raise links.Unavailable('cannot start %s: %s' % (
                self._command[0], error.strerror)) from None

    def terminate(self):
        """Send SIGTERM to it and its children, as systemd does."""
        self._signal(signal.SIGTERM)

    def stop(self):
        """End it, and what it has left running."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        self._process = None

    def _signal(self, number):
        # Nothing is left of it, or it has become another user.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
