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

"""The ways to an agent, with real sockets and ptys, and no waiting."""

import os
import socket
import stat
import termios

import pytest

from nova_vmhealth.conformance import links

# A moment that has passed: what is there is taken, nothing is waited for.
PAST = 0.0


@pytest.fixture
def path(tmp_path, monkeypatch):
    # Relative, since the path of a socket has 107 bytes at most.
    monkeypatch.chdir(tmp_path)
    return 'agent.sock'


@pytest.fixture
def listener(path):
    link = links.Listener(path)
    yield link
    link.end()


def joined(listener):
    """Both ends of a connection to the listener."""
    agent = socket.socket(socket.AF_UNIX)
    agent.connect(listener.port)
    listener.open(PAST)
    return agent


def test_listener_passes_bytes(listener):
    with joined(listener) as agent:
        assert listener.write(b'to the agent', PAST) == b''
        assert agent.recv(100) == b'to the agent'
        agent.send(b'to the host')
        assert listener.read(PAST) == b'to the host'
        assert listener.read(PAST) == b''


def test_end_of_connection(listener):
    with joined(listener) as agent:
        agent.send(b'last words')
    assert listener.read(PAST) == b'last words'
    with pytest.raises(links.Gone):
        listener.read(PAST)
    with pytest.raises(links.Gone):
        listener.write(b'x', PAST)


def test_write_ends_with_the_deadline(listener):
    with joined(listener):
        rest = listener.write(b'x' * (8 << 20), PAST)
        assert 0 < len(rest) < 8 << 20


def test_write_reads_meanwhile(listener):
    with joined(listener) as agent:
        agent.send(b'said before')
        listener.write(b'x', PAST)
        assert listener.read(PAST) == b'said before'


def test_nobody_connects(listener):
    with pytest.raises(links.Unavailable, match='no agent has connected'):
        listener.open(PAST)


def test_listener_removes_its_socket(path):
    link = links.Listener(path)
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    link.end()
    assert not os.path.exists(path)


def test_path_that_is_taken(path):
    with open(path, 'w') as file:
        file.write('mine')
    with pytest.raises(links.Unavailable, match='in use'):
        links.Listener(path)
    with open(path) as file:
        assert file.read() == 'mine'


def test_path_that_is_too_long():
    for make in (links.Listener, lambda path: links.Connector(path).open(
            PAST)):
        with pytest.raises(links.Unavailable, match='too long'):
            make('x' * 200)


def test_connector(listener):
    link = links.Connector(listener.port)
    link.open(PAST)
    listener.open(PAST)
    assert link.write(b'hello', PAST) == b''
    assert listener.read(PAST) == b'hello'
    listener.close()
    with pytest.raises(links.Gone):
        link.read(PAST)


def test_nothing_to_connect_to(path):
    with pytest.raises(links.Unavailable, match='No such file'):
        links.Connector(path).open(PAST)
    with open(path, 'w'):
        pass
    with pytest.raises(links.Unavailable, match='refused'):
        links.Connector(path).open(PAST)


def test_pty_is_raw_and_survives_its_agent():
    link = links.Pty()
    try:
        link.open(PAST)
        for _ in range(2):
            agent = os.open(link.port, os.O_RDWR | os.O_NOCTTY)
            assert not termios.tcgetattr(agent)[3] & (
                termios.ECHO | termios.ICANON | termios.ISIG)
            assert link.write(b'\x03\x04\r\n', PAST) == b''
            assert os.read(agent, 100) == b'\x03\x04\r\n'
            os.write(agent, b'answer\n')
            os.close(agent)
            assert link.read(PAST) == b'answer\n'
            assert link.read(PAST) == b''
        link.close()
        assert not link.can_reopen
    finally:
        link.end()
    assert not os.path.exists(link.port)
