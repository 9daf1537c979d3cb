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

"""Second looks at a host: real sockets of the loopback, real programs."""

import socket
import time

import pytest

from nova_vmhealth.core import checks as checks_lib
from nova_vmhealth.core.checks import Opinion
from nova_vmhealth.inspector import checks
from nova_vmhealth.inspector import crew


@pytest.fixture
def program(tmp_path):
    def write(text):
        path = tmp_path / 'look'
        path.write_text('#!/bin/sh\n' + text)
        path.chmod(0o755)
        return str(path)
    return write


def assert_ends(path):
    """The process whose number is in a file is no more."""
    stat = f'/proc/{int(path.read_text())}/stat'
    for _ in range(500):
        try:
            with open(stat) as source:
                if source.read().rpartition(')')[2].split()[0] == 'Z':
                    return
        except FileNotFoundError:
            return
        time.sleep(0.01)
    pytest.fail('it lives on')


def test_somebody_accepts():
    with socket.create_server(('127.0.0.1', 0)) as server:
        opinion, text = checks.connect(
            '127.0.0.1', server.getsockname()[1], 1)
    assert (opinion, text) == (Opinion.ALIVE, '127.0.0.1 answers')


def test_nobody_listens():
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    assert checks.connect('127.0.0.1', port, 1)[0] is Opinion.GONE


@pytest.mark.parametrize('error, opinion', [
    (TimeoutError('timed out'), Opinion.GONE),
    (ConnectionRefusedError(111, 'refused'), Opinion.GONE),
    (ConnectionResetError(104, 'reset'), Opinion.GONE),
    (OSError(113, 'No route to host'), Opinion.GONE),
    (OSError(101, 'Network is unreachable'), Opinion.UNSURE),
    (OSError(24, 'Too many open files'), Opinion.UNSURE),
    (socket.gaierror(-2, 'Name or service not known'), Opinion.UNSURE),
])
def test_what_keeps_it_from_connecting(monkeypatch, error, opinion):
    def fail(address, timeout):
        assert (address, timeout) == (('compute-1', 22), 0.5)
        raise error
    monkeypatch.setattr(socket, 'create_connection', fail)
    found, text = checks.connect('compute-1', 22, 0.5)
    assert found is opinion
    assert 'compute-1' in text


@pytest.mark.parametrize('text, opinion', [
    ('exit 0', Opinion.GONE),
    ('exit 1', Opinion.ALIVE),
    ('exit 2', Opinion.UNSURE),
    ('kill -9 $$', Opinion.UNSURE),
    ('test "$*" = "compute 1; rm -rf /"', Opinion.GONE),
    ('read line; exit 0', Opinion.GONE),
])
def test_what_a_program_says(program, text, opinion):
    assert checks.execute(
        program(text), 'compute 1; rm -rf /', 10)[0] is opinion


def test_a_program_that_does_not_end_is_ended_with_its_children(
        program, tmp_path):
    path = program(f'sleep 60 & echo $! >{tmp_path}/child; wait')
    began = time.monotonic()
    opinion, text = checks.execute(path, 'compute-1', 0.5)
    assert (opinion, text) == (Opinion.UNSURE, 'it has not ended after 0.5 s')
    assert time.monotonic() - began < 10
    assert_ends(tmp_path / 'child')


def test_what_a_program_leaves_behind_is_ended(program, tmp_path):
    path = program(f'sleep 60 & echo $! >{tmp_path}/child; exit 0')
    assert checks.execute(path, 'compute-1', 10)[0] is Opinion.GONE
    assert_ends(tmp_path / 'child')


@pytest.mark.parametrize('path, host', [
    ('/no/such/program', 'compute-1'), ('/dev/null', 'compute-1'),
    ('/bin/true', 'com\0pute')])
def test_what_cannot_be_run(path, host):
    assert checks.execute(path, host, 1)[0] is Opinion.UNSURE


def asked(wanted, timeout_s=5.0, size=4):
    return checks.Checks(
        [checks_lib.parse(text) for text in wanted],
        crew.Crew('test', size), timeout_s,
        lambda host: {'compute-1': '127.0.0.1'}[host])


def test_quorum_alone_asks_nobody():
    assert asked(['quorum']).ask('compute-1') is None


def test_all_are_asked_side_by_side(program):
    path = program('sleep 0.3; exit 0')
    began = time.monotonic()
    finding = asked([f'exec:{path}'] * 4).ask('compute-1')
    assert finding.opinion is Opinion.GONE
    assert finding.check == f'exec:{path}'
    assert 0.3 <= finding.seconds <= time.monotonic() - began < 1.2


def test_one_that_says_alive_is_enough(program):
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
        finding = asked([f'exec:{program("exit 0")}', f'tcp:{port}']).ask(
            'compute-1')
    assert (finding.opinion, finding.check) == (Opinion.ALIVE, f'tcp:{port}')


def test_a_host_whose_address_is_not_known():
    finding = asked(['tcp:22']).ask('compute-2')
    assert finding.opinion is Opinion.UNSURE


def test_no_thread_for_it_in_time(program, monkeypatch):
    monkeypatch.setattr(checks, '_SLACK_S', 0.1)
    path = program('sleep 5')
    finding = asked([f'exec:{path}', f'exec:{path}'], 0.3, 1).ask('compute-1')
    assert finding.opinion is Opinion.UNSURE
