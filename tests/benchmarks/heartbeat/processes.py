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


"""The processes of the benchmark, and how to talk to them."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

FOLDER = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(FOLDER)))
PROGRAMS = ('guests', 'floor', 'sleeper')
WATCHER = 'tests.benchmarks.heartbeat.watcher'
# Seconds until a process that was told to end is ended.
PATIENCE_S = 10


def compile_programs(folder):
    """Compile the C programs into a folder.

    :raises subprocess.CalledProcessError: the compiler says why on stderr
    """
    if not shutil.which('cc'):
        sys.exit('this machine lacks a C compiler (cc)')
    for name in PROGRAMS:
        subprocess.run(['cc', '-O2', '-Wall', '-o', os.path.join(folder, name),
                        os.path.join(FOLDER, name + '.c')], check=True)


class Process:
    """A process with pipes; its stderr is ours.

    Use it as a context manager; it has said that it is ready by then.
    """

    def __init__(self, command):
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._name = ' '.join(command[:3])
        self.read()         # ready

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def read(self):
        """Return the next line that it prints; there is one coming."""
        line = self._process.stdout.readline()
        if not line:
            sys.exit('ended unasked: ' + self._name)
        return line.rstrip('\n')

    def read_json(self):
        """Return the object of the next line that it prints."""
        return json.loads(self.read())

    def write(self, line):
        self._process.stdin.write(line + '\n')

    def finish(self):
        """Let it end; return what it has to say at last."""
        self._process.stdin.close()
        return self.read_json()

    def memory(self):
        """Return its resident and its proportional memory, MiB."""
        with open('/proc/%d/smaps_rollup' % self._process.pid) as f:
            sizes = {line.split()[0]: int(line.split()[1]) / 1024
                     for line in f if line.endswith('kB\n')}
        return sizes['Rss:'], sizes['Pss:']


class Guests(Process):
    """All guests.

    :param folder: of the programs and of the guests' sockets
    :param answers: ``plain`` or ``full``
    """

    def __init__(self, folder, answers):
        super().__init__([os.path.join(folder, 'guests'), folder, answers])

    def hang(self, over_s):
        """Let those that are to hang do so.

        :param over_s: one after the other within so many seconds
        """
        self.write('hang %s' % over_s)

    def mark(self):
        """Let the longest time between challenges count from now on."""
        self.write('mark')


class Floor(Process):
    """The floor.

    :param folder: as for :class:`Guests`
    :param good: guests that answer
    :param hang: guests that hang
    :param seconds: to warm up, to measure CPU, and to judge
    :param reading: ``each`` or ``batch``
    """

    def __init__(self, folder, good, hang, seconds, reading):
        super().__init__([os.path.join(folder, 'floor'), folder, str(good),
                          str(hang), *map(str, seconds), reading])


class Sleeper(Process):
    """What does nothing but sleep to each slot: how late the machine is.

    :param folder: of the programs
    """

    def __init__(self, folder):
        super().__init__([os.path.join(folder, 'sleeper')])


class Watcher(Process):
    """The process under test.

    :param options: see its module
    """

    def __init__(self, options):
        super().__init__([sys.executable, '-m', WATCHER, json.dumps(options)])

    def do(self, name, **arguments):
        """Have it carry out a command and return the answer."""
        self.write(json.dumps([name, arguments]))
        return self.read_json()


def idle_memory():
    """Return the memory of an interpreter that does nothing, MiB."""
    with Process([sys.executable, '-c',
                  'print("ready", flush=True); input()']) as process:
        time.sleep(0.2)
        # It ends by an empty line, not by an error.
        found = process.memory()
        process.write('')
        return found


@contextlib.contextmanager
def saturation():
    """Keep every processor busy, at normal priority; yields their number."""
    count = len(os.sched_getaffinity(0))
    busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass'])
            for _ in range(count)]
    try:
        yield count
    finally:
        for process in busy:
            process.kill()
            process.wait()
