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


"""The command: its options, --once, and the whole agent as one process."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from nova_vmhealth.core import protocol
from nova_vmhealth.guest import agent
from nova_vmhealth.guest.board import LOOK_LATE_SECONDS
from nova_vmhealth.guest.board import OWN_AUDIT
from nova_vmhealth.guest import bundle
from nova_vmhealth.guest.health import HEALTH_BY_STATUS
from tests.unit.guest.helpers import challenge
from tests.unit.guest.helpers import read_messages


@pytest.fixture(scope='module')
def shipped(tmp_path_factory):
    """The file that is shipped."""
    path = tmp_path_factory.mktemp('shipped') / 'vmhealth-guest'
    bundle.main([str(path)])
    return path


@pytest.fixture
def run(shipped, host, tmp_path):
    """A function that starts the shipped agent with the host as its port."""
    processes = []

    def start(*options, **environ):
        processes.append(subprocess.Popen(
            [sys.executable, '-I', str(shipped), '--port', host[1],
             '--audits-dir', str(tmp_path / 'audits.d'), '--notices-dir',
             str(tmp_path / 'notices.d'), *options],
            env=dict(os.environ, **environ)))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_sigterm_ends_the_process_with_a_farewell(run, host):
    process = run()
    [init] = read_messages(host[0], 1)
    process.send_signal(signal.SIGTERM)
    [farewell] = read_messages(host[0], 1)

    assert process.wait(20) == 0
    assert isinstance(init, protocol.Init)
    assert isinstance(farewell, protocol.Exit)


def test_an_audit_reaches_the_host(run, host, tmp_path, program):
    (tmp_path / 'audits.d').mkdir()
    program('audits.d/db', '#!/bin/sh\necho gone; exit 2\n')
    run()
    read_messages(host[0], 1)
    os.write(host[0], challenge(1))
    [found] = read_messages(host[0], 1)
    if found.health is None:    # the answer was there before the result
        [found] = read_messages(host[0], 1)

    [audit] = found.audits
    assert (audit.name, audit.health, audit.message) == (
        'db', 'unhealthy', 'gone')


def test_a_notice_is_run_and_answered(run, host, tmp_path, program):
    (tmp_path / 'notices.d').mkdir()
    program('notices.d/app', '#!/bin/sh\necho "$@" >%s/said\n' % tmp_path)
    run()
    [init] = read_messages(host[0], 1)
    # Far longer than a test may take: an answer at the end of it fails.
    os.write(host[0], protocol.notice(5, 'suspend', 600000))

    assert init.notices
    assert read_messages(host[0], 1) == [protocol.NoticeAck(5)]
    assert (tmp_path / 'said').read_text() == 'suspend 600000\n'


def test_a_program_that_hangs_delays_no_answer(
        run, host, tmp_path, program):
    (tmp_path / 'notices.d').mkdir()
    program('notices.d/app', '#!/bin/sh\nexec sleep 5\n')
    run()
    read_messages(host[0], 1)
    os.write(host[0], protocol.notice(5, 'stop', 1000) + challenge(1))

    said = []
    while not said or not isinstance(said[-1], protocol.NoticeAck):
        said += read_messages(host[0], 1)
    # its health may become known in between
    assert [type(m).__name__ for m in said
            if not isinstance(m, protocol.Report)] == [
                'ChallengeResponse', 'NoticeAck']


def test_systemd_is_told_and_audits_do_not_inherit_it(
        run, host, tmp_path, program):
    path = str(tmp_path / 'notify')
    (tmp_path / 'audits.d').mkdir()
    program('audits.d/env', '#!/bin/sh\nenv | grep -c "NOTIFY\\|WATCHDOG"\n'
                            'exit 2\n')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(20)
        process = run(NOTIFY_SOCKET=path, WATCHDOG_USEC='30000000')
        first = receiver.recv(4096).split(b'\n')
        read_messages(host[0], 1)
        os.write(host[0], challenge(1))
        [found] = read_messages(host[0], 1)
        if found.health is None:
            [found] = read_messages(host[0], 1)
        process.send_signal(signal.SIGTERM)
        said = b''
        while b'STOPPING=1' not in said:
            said = receiver.recv(4096)

    assert first[0] == b'READY=1'
    assert b'WATCHDOG=1' in first
    assert found.audits[0].message == '0'


def test_the_watchdog_is_petted_and_closed(run, host, tmp_path):
    device = tmp_path / 'watchdog'
    device.write_bytes(b'')
    process = run('--watchdog', str(device))
    read_messages(host[0], 1)
    process.send_signal(signal.SIGTERM)

    assert process.wait(20) == 0
    written = device.read_bytes()
    assert written[-1:] == b'V'
    assert set(written[:-1]) == set(b'.')


@pytest.mark.parametrize('scripts, status, printed', [
    ({}, 0, ''),
    ({'a': 'echo fine'}, 0, 'healthy    a: fine\n'),
    ({'a': 'echo fine', 'b': 'echo bad; exit 2'}, 2,
     'healthy    a: fine\nunhealthy  b: bad\n'),
])
def test_once_runs_the_audits_and_ends(
        program, tmp_path, capsys, scripts, status, printed):
    for name, script in scripts.items():
        program(name, '#!/bin/sh\n%s\n' % script)

    assert agent.main(['--once', '--audits-dir', str(tmp_path)]) == status
    assert capsys.readouterr().out == printed


def test_once_prints_what_standard_output_cannot_encode(
        program, tmp_path, shipped):
    program('db', '#!/bin/sh\nprintf "caf\\303\\251"\n')

    done = subprocess.run(
        [sys.executable, str(shipped), '--once', '--audits-dir',
         str(tmp_path)], capture_output=True,
        env=dict(os.environ, PYTHONIOENCODING='ascii'))

    assert (done.returncode, done.stdout) == (0, b'healthy    db: caf\\xe9\n')


def test_once_says_that_there_are_no_audits_to_be_had(program, shipped):
    # No directory: as root, which tests may be, reads any directory there is.
    path = program('file')

    done = subprocess.run(
        [sys.executable, str(shipped), '--once', '--audits-dir', str(path)],
        capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (agent.NO_AUDITS, '')
    [line] = done.stderr.splitlines()
    assert 'cannot be listed' in line and str(path) in line
    assert agent.NO_AUDITS not in range(len(HEALTH_BY_STATUS))


def test_an_audit_has_no_input(program, tmp_path, shipped):
    program('db', '#!/bin/sh\nread -r line || echo no input\n')

    done = subprocess.run(
        [sys.executable, str(shipped), '--once', '--audits-dir',
         str(tmp_path)], input=b'a line\n', capture_output=True)

    assert done.stdout == b'healthy    db: no input\n'


def test_the_audits_thread_is_expected_from_the_start(
        monkeypatch, tmp_path, program):
    """It may hang in its first look, and looks after the notices, too."""
    made, started = [], []

    class Agent:
        stop = None

        def __init__(self, open_port, waker, board, notices, *others):
            made.append((board, notices))

        def run(self):
            pass

    monkeypatch.setattr(agent, 'Agent', Agent)
    monkeypatch.setattr(agent, 'start_thread', started.append)
    monkeypatch.setattr(agent.signal, 'signal', lambda *args: None)
    agent.main(['--audits-dir', str(tmp_path / 'none'), '--notices-dir',
                str(tmp_path)])
    [(board, notices)], [run] = made, started
    wanted = notices.wanted
    late = board.snapshot(time.monotonic() + LOOK_LATE_SECONDS)
    program('app')
    run.__self__.step(0.0)

    assert [result.name for result in late.results] == [OWN_AUDIT]
    assert (wanted, notices.wanted) == (False, True)


@pytest.mark.parametrize('option, value', [
    *[('--interval', value) for value in ('0', 'soon', '-1', 'nan', '1e9')],
    ('--watchdog-grace', '0'),
    *[('--watchdog-timeout', value) for value in ('4', '3601', '9.5', 'x')],
])
def test_bad_options_are_refused(option, value, capsys):
    with pytest.raises(SystemExit) as caught:
        agent.parse_args([option, value])

    assert caught.value.code == 2
    assert option in capsys.readouterr().err


@pytest.mark.parametrize('text, expected', [
    ('db', ['db']), ('db, web', ['db', 'web']), ('', []), (',', [])])
def test_names_of_audits(text, expected):
    assert agent.names(text) == expected


@pytest.mark.parametrize('options, environ, expected', [
    ([], {}, []),
    ([], {'NOTIFY_SOCKET': '@x'}, ['Notifier']),
    (['--watchdog', '/dev/watchdog'], {}, ['Watchdog']),
    (['--watchdog', '/dev/watchdog'], {'NOTIFY_SOCKET': '@x'},
     ['Notifier', 'Watchdog']),
])
def test_who_is_told_that_the_loop_is_alive(options, environ, expected):
    keepers = agent.make_keepers(agent.parse_args(options), environ)

    assert [type(keeper).__name__ for keeper in keepers] == expected
