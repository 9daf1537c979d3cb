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


"""Programs that the agent runs: without a shell, input or our file handles."""

import os
import select
import signal
import subprocess
import time

from nova_vmhealth.guest.stall import Deadline

# What is kept of a program's output: more than any message that is sent.
MAX_OUTPUT = 1024
# Seconds between looks whether a program has ended.
_LOOK_SECONDS = 0.1


class TimedOut(Exception):
    """The program had not ended in time and was killed."""


def executables(directory, is_name):
    """Return the (name, path) of each program in a directory, by name.

    :param is_name: whether a file of this name is meant
    :raises OSError: the directory exists and cannot be read
    """
    try:
        names = sorted(filter(is_name, os.listdir(directory)))
    except FileNotFoundError:
        return []
    paths = [(name, os.path.join(directory, name)) for name in names]
    return [(name, path) for name, path in paths
            if os.path.isfile(path) and os.access(path, os.X_OK)]


def run(command, timeout):
    """Run a program to its end; return (exit status, head of its output).

    Takes no longer than the timeout, unless the kernel cannot start or kill
    a process, as on a dead disk. Time in which the guest did not run at all
    does not count.

    :param command: the program and its arguments
    :param timeout: seconds
    :raises OSError: it cannot be started
    :raises TimedOut: it was killed, with all processes of its group
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, cwd='/', start_new_session=True)
    deadline = Deadline(time.monotonic() + timeout)
    with process.stdout:
        output = _read_output(process, deadline)
    if not _ends(process, deadline):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise TimedOut()
    return process.returncode, output


def _read_output(process, deadline):
    """Return the head of the output; the rest is read and thrown away."""
    output = b''
    while True:
        left = deadline.left(time.monotonic())
        if left <= 0:
            return output
        if select.select([process.stdout], [], [],
                         min(left, _LOOK_SECONDS))[0]:
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:
                return output
            output = (output + chunk)[:MAX_OUTPUT]
        elif process.poll() is not None:
            return output  # a child that it left behind holds the pipe


def _ends(process, deadline):
    """Wait for the end; return False if it does not come in time."""
    while True:
        left = deadline.left(time.monotonic())
        try:
            process.wait(min(max(left, 0), _LOOK_SECONDS))
            return True
        except subprocess.TimeoutExpired:
            if left <= 0:
                return False
