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

"""The command vmhealth-guest-conformance, and the agents that are shipped."""

import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import threading
import tty

import pytest

from nova_vmhealth.conformance import suite

# Each agent takes the whole suite's time, whatever the machine.
pytestmark = pytest.mark.slow

GUEST = pathlib.Path(suite.__file__).parents[1] / 'guest'
SUITE = [sys.executable, '-m', 'nova_vmhealth.conformance.main']
CFLAGS = ['-std=c99', '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-O2']
SANITIZERS = ['-g', '-fsanitize=address,undefined', '-fno-sanitize-recover']
UNDEFINED_ONLY = ['-g', '-fsanitize=undefined', '-fno-sanitize-recover']
# Without randomized addresses, which must not meet the sanitizer's own.
FIXED_ADDRESSES = ['setarch', '-R']

# An agent of the kind that connects to a socket.
SOCKET_AGENT = """
import json, socket, sys, time
while True:
    with socket.socket(socket.AF_UNIX) as port:
        try:
            port.connect(sys.argv[1])
            for line in port.makefile('rb'):
                try:
                    message = json.loads(line)
                    assert message['type'] == 'challenge'
                    message['type'] = 'challenge_response'
                    port.sendall(json.dumps(message).encode() + b'\\n')
                except (AssertionError, KeyError, TypeError, ValueError,
                        RecursionError):
                    pass
        except OSError:
            time.sleep(0.1)
"""


def run_suite(*arguments):
    """Run the command; return its exit status and what it found, by name."""
    # More time than the default: these machines do other things too.
    done = subprocess.run(
        [*SUITE, '--json', '--timeout', '3', *map(str, arguments)],
        capture_output=True, text=True, timeout=110)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    found = {check['name']: check for check in told['checks']}
    assert told['conforms'] == (done.returncode == 0), done.stderr
    return done.returncode, found


def not_ok(found):
    """What was not simply fulfilled: a dict from name to status."""
    return {name: check['status'] for name, check in found.items()
            if check['status'] != 'ok'}


@pytest.fixture(scope='module')
def compiled(require, tmp_path_factory):
    """A function that compiles the agent in C with some more flags."""
    compiler = shutil.which('cc')
    require(compiler, 'needs a C compiler')

    def compile_with(*flags, source=GUEST / 'vmhealth-guest.c'):
        binary = tmp_path_factory.mktemp('c') / 'vmhealth-guest'
        done = subprocess.run(
            [compiler, *CFLAGS, *flags, '-o', binary, source],
            capture_output=True, text=True)
        require('cannot find' not in done.stderr,
                'needs the libraries for %s' % ' '.join(flags))
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        return binary
    return compile_with


def starts(*command):
    """Say whether a command that does nothing succeeds, time and again."""
    # Where addresses are random, it may be some starts only that fail.
    return all(subprocess.run(command, capture_output=True).returncode == 0
               for _ in range(20))


@pytest.fixture
def sanitized(compiled, tmp_path):
    """The command line of the agent in C, compiled with sanitizers."""
    prefix = []
    if shutil.which('setarch') and starts(*FIXED_ADDRESSES, 'true'):
        prefix = FIXED_ADDRESSES
    nothing = tmp_path / 'nothing.c'
    nothing.write_text('int main(void) { return 0; }\n')
    flags = SANITIZERS
    # GCC 12's address sanitizer crashes at the start of whatever program
    # where vm.mmap_rnd_bits is 32 and the container forbids setarch. What is
    # left finds less, but finds it everywhere.
    if not starts(*prefix, compiled(*flags, source=nothing)):
        flags = UNDEFINED_ONLY
    return [*prefix, compiled(*flags)]


@pytest.fixture
def notices(tmp_path):
    """A folder with a program that is run for each notice."""
    program = tmp_path / 'notices' / 'flush'
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nexit 0\n')
    program.chmod(0o755)
    return program.parent


@pytest.fixture
def audits(tmp_path):
    """A folder with an audit that changes its mind all the time."""
    audit = tmp_path / 'audits' / 'moody'
    audit.parent.mkdir()
    audit.write_text('#!/bin/sh\n# vmhealth-interval: 0.3\n'
                     'cd %s && rmdir well || { mkdir well; exit 2; }\n'
                     % tmp_path)
    audit.chmod(0o755)
    return audit.parent


@pytest.mark.timeout(120)
def test_python_agent(audits, notices):
    status, found = run_suite(
        '--pty', '--', sys.executable, '-m', 'nova_vmhealth.guest.agent',
        '--port', '{port}', '--audits-dir', audits, '--notices-dir', notices)
    assert status == 0
    assert not_ok(found) == {'away': 'skipped'}


@pytest.mark.timeout(120)
def test_shell_agent(require):
    require(shutil.which('dash'), 'needs dash')
    status, found = run_suite(
        '--pty', '--', 'dash', GUEST / 'vmhealth-guest.sh', '{port}')
    assert status == 0
    # What it costs to have no reader of JSON.
    assert not_ok(found) == {
        'confusing_keys': 'warning', 'malformed': 'warning',
        'away': 'skipped', 'init': 'skipped', 'notices': 'skipped',
        'reinit': 'skipped', 'report': 'skipped'}


@pytest.mark.timeout(120)
def test_c_agent_under_sanitizers(sanitized):
    status, found = run_suite('--pty', '--', *sanitized, '{port}')
    assert status == 0
    assert not_ok(found) == {
        'away': 'skipped', 'notices': 'skipped', 'report': 'skipped'}


def test_c_agent_is_small_and_stands_alone(compiled):
    code = (GUEST / 'vmhealth-guest.c').read_text().splitlines()
    assert len(code) < 300
    assert max(map(len, code)) < 80
    binary = compiled('-static')
    assert binary.stat().st_size < 1 << 20


def test_agent_that_connects(tmp_path, monkeypatch):
    # Relative: the path of a socket has 107 bytes at most.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(sys.path))
    status, found = run_suite(
        '--socket', 'port', '--listen', '--only', 'answers', '--only',
        'garbage', '--only', 'stale', '--only', 'away', '--',
        sys.executable, '-c', SOCKET_AGENT, '{port}')
    assert status == 0
    assert not_ok(found) == {}
    assert not os.path.exists('port')


class Guest(threading.Thread):
    """What QEMU is between the host's socket and a guest's agent.

    One host client at a time; what the agent says to none is lost, and what
    comes for it waits.
    """

    def __init__(self, path):
        super().__init__(daemon=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen(1)
        self._port, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._end, self._ender = os.pipe()
        self._client = None
        self.device = os.ttyname(self._slave)

    def run(self):
        while True:
            readable, _, _ = select.select(
                [self._end, self._port, self._client or self._listening],
                [], [])
            if self._end in readable:
                return
            if self._listening in readable:
                self._client, _ = self._listening.accept()
                continue
            try:
                self._pass_on(readable)
            except OSError:    # the host client is gone
                self._client.close()
                self._client = None

    def _pass_on(self, readable):
        if self._port in readable:
            data = os.read(self._port, 4096)
            if self._client:
                self._client.sendall(data)
        if self._client in readable:
            data = self._client.recv(4096)
            if not data:
                raise ConnectionResetError
            os.write(self._port, data)

    def stop(self):
        os.close(self._ender)
        self.join()
        for descriptor in (self._end, self._port, self._slave):
            os.close(descriptor)
        self._listening.close()
        if self._client:
            self._client.close()


@pytest.fixture
def guest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(sys.path))
    guest = Guest('channel')
    guest.start()
    yield guest
    guest.stop()


@pytest.mark.parametrize('agent', ['python', 'shell', 'c'])
def test_agent_in_a_running_guest(guest, agent, request):
    """As with a real guest: the suite connects, and starts nothing."""
    command = {
        'python': lambda: [sys.executable, '-m', 'nova_vmhealth.guest.agent',
                           '--audits-dir', 'none', '--port'],
        'shell': lambda: ['sh', GUEST / 'vmhealth-guest.sh'],
        'c': lambda: [request.getfixturevalue('compiled')()],
    }[agent]()
    process = subprocess.Popen([*command, guest.device])
    try:
        status, found = run_suite(
            '--socket', 'channel', '--connect', '--only', 'answers',
            '--only', 'split', '--only', 'stale', '--only', 'away',
            '--only', 'sigterm')
    finally:
        process.kill()
        process.wait()
    assert status == 0
    assert not_ok(found) == {'sigterm': 'skipped'}


@pytest.mark.parametrize('command, status', [
    (['sh', '-c', 'exec cat <{port} >{port}'], 1),    # an echo
    (['sh', '-c', 'exec yes >{port}'], 1),
    (['false'], 1),
    (['/nonexistent/agent'], 2),
])
def test_what_is_no_agent(command, status):
    done = subprocess.run(
        [*SUITE, '--wait', '0.5', '--pty', '--only', 'answers', '--',
         *command], capture_output=True, text=True, timeout=50)
    assert done.returncode == status, done.stdout + done.stderr


@pytest.mark.parametrize('wait, stopped', [('0.1', False), ('50', True)])
def test_nothing_is_left_running(tmp_path, wait, stopped):
    """Neither when the suite is over nor when it is told to stop."""
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    running = subprocess.Popen(
        [*SUITE, '--wait', wait, '--pty', '--', 'sh', '-c',
         'exec >%s; trap "" TERM; sleep 1000 & echo started; wait' % pipe],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(pipe) as output:
        assert output.readline() == 'started\n'
        if stopped:
            running.terminate()
        # It ends when no process holds the other end any more.
        assert output.read() == ''
    assert running.wait() == (2 if stopped else 1)
