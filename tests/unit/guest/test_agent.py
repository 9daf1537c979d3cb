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


"""The agent's talk with the host: bytes in, lines out, and the port's loop."""

import ast
import json
import logging
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading
import tty

import pytest

from nova_vmhealth.core import protocol
from nova_vmhealth.guest import agent

UNKNOWN = agent.Snapshot(None, ())
FINE = agent.Snapshot('healthy', ())


def snapshot(*pairs):
    """Make a Snapshot of (name, health) pairs."""
    results = tuple(agent.Result(name, health, '') for name, health in pairs)
    return agent.Snapshot(agent.worst(r.health for r in results), results)


def challenge(sequence=1, nonce='n'):
    """Make a challenge as the host's own encoder makes it."""
    return protocol.challenge(sequence, nonce)


def decoded(lines):
    """Parse lines with the host's parser, which refuses what is no message."""
    return [protocol.parse_line(line.rstrip(b'\n')) for line in lines]


@pytest.mark.parametrize('data, limit, expected', [
    (b'plain', 9, 'plain'),
    (b'  two \t words\r', 99, 'two words'),
    (b'\x1b[31mred\x00', 99, '[31mred'),
    (b'bad \xff utf-8', 99, 'bad \ufffd utf-8'),
    ('right \u202e to left', 99, 'right to left'),
    ('half \ud800 pair', 99, 'half pair'),
    (b'long message', 4, 'long'),
    (b'', 5, ''),
])
def test_text_is_one_printable_line(data, limit, expected):
    assert agent.clean_text(data, limit) == expected


@pytest.mark.parametrize('healths, expected', [
    ([], 'healthy'),
    (['healthy', 'degraded'], 'degraded'),
    (['unhealthy', 'degraded', 'healthy'], 'unhealthy'),
])
def test_worst(healths, expected):
    assert agent.worst(healths) == expected


@pytest.mark.parametrize('message', [
    '', 'short', 'x' * 5000, '\u20ac' * 256, '"' * 256, '\x00' * 256])
def test_a_line_never_gets_too_long(message):
    results = tuple(agent.Result('a' * 62 + '%02d' % n, 'unhealthy', message)
                    for n in range(agent.MAX_AUDITS))
    line = agent.encode(
        {'type': 'challenge_response', 'sequence': 2 ** 62, 'nonce': 'n' * 64},
        agent.Snapshot('unhealthy', results))

    assert len(line) <= protocol.MAX_GUEST_LINE
    [response] = decoded([line])
    assert [a.name for a in response.audits] == [r.name for r in results]


def test_messages_are_kept_where_there_is_room():
    audits = agent.Snapshot('degraded', (
        agent.Result('db', 'degraded', 'x' * 300),))

    [report] = decoded([agent.encode({'type': 'report'}, audits)])

    assert report.audits[0].message == 'x' * 256


LINES = [
    (b'one\n', [b'one']),
    (b'one\ntwo\n', [b'one', b'two']),
    (b'one\n\ntw', [b'one', b'']),
    (b'x' * 1024 + b'\n', [b'x' * 1024]),
    (b'x' * 1025 + b'\nafter\n', [b'after']),
    (b'x' * 9999 + b'\nafter\n', [b'after']),
]


@pytest.mark.parametrize('data, expected', LINES)
@pytest.mark.parametrize('size', [1, 700, 100000])
def test_lines_are_cut_however_they_arrive(data, expected, size):
    reader = agent.LineReader()
    lines = []
    for start in range(0, len(data), size):
        lines += reader.feed(data[start:start + size])
    assert lines == expected


def test_a_line_without_end_takes_no_memory():
    reader = agent.LineReader()
    for _ in range(100):
        assert reader.feed(b'x' * 4096) == []
        assert len(reader._buffer) <= agent.MAX_HOST_LINE


def test_init_introduces_the_agent():
    conversation = agent.Conversation(['db'], 'boot-1')

    assert decoded([conversation.init()]) == [
        protocol.Init(agent.NAME, 'boot-1', ('db',))]


@pytest.mark.parametrize('status, health, audits', [
    (UNKNOWN, None, ()),
    (FINE, 'healthy', ()),
    (snapshot(('db', 'unhealthy')), 'unhealthy', ('db',)),
])
def test_an_answer_echoes_and_tells_the_health(status, health, audits):
    [answer] = decoded(agent.Conversation().receive(challenge(7, 'abc'),
                                                    status))

    assert (answer.sequence, answer.nonce) == (7, 'abc')
    assert answer.health == health
    assert tuple(a.name for a in answer.audits) == audits


def test_challenges_in_one_read_are_all_answered():
    answers = decoded(agent.Conversation().receive(
        challenge(1, 'a') + challenge(2, 'b') + challenge(3, 'c')[:9], FINE))

    assert [a.nonce for a in answers] == ['a', 'b']


@pytest.mark.parametrize('line', [
    b'', b'garbage', b'\xff\xfe', b'[]', b'7', b'null',
    b'{"type":"challenge"}',
    b'{"type":"challenge","sequence":true,"nonce":"n"}',
    b'{"type":"challenge","sequence":"1","nonce":"n"}',
    b'{"type":"challenge","sequence":1,"nonce":2}',
    b'{"type":["challenge"],"sequence":1,"nonce":"n"}',
    b'{"type":"init_ack","version":1}',
    b'{"type":"nack","reason":{"a":1}}', b'[' * 1000,
])
def test_anything_else_is_not_answered(line):
    conversation = agent.Conversation()

    assert conversation.receive(line + b'\n', FINE) == []
    assert len(conversation.receive(challenge(), FINE)) == 1


@pytest.mark.parametrize('sequences, inits', [
    ([1, 2, 3], 0), ([5, 1, 2], 1), ([1, 1], 1)])
def test_a_host_that_counts_anew_is_told_who_we_are(sequences, inits):
    conversation = agent.Conversation()
    lines = []
    for sequence in sequences:
        lines += conversation.receive(challenge(sequence), FINE)

    assert sum(isinstance(m, protocol.Init) for m in decoded(lines)) == inits


UP = snapshot(('db', 'healthy'))
DOWN = snapshot(('db', 'unhealthy'))


@pytest.mark.parametrize('told, then, expected', [
    (UP, UP, []),
    (UP, DOWN, ['unhealthy']),
    (DOWN, UP, ['healthy']),
    (DOWN, snapshot(('db', 'unhealthy'), ('x', 'degraded')), ['unhealthy']),
    (UP, agent.Snapshot(None, UP.results), []),
])
def test_a_change_of_health_is_reported_once(told, then, expected):
    conversation = agent.Conversation()
    conversation.receive(challenge(), told)

    reports = decoded(conversation.report(then) + conversation.report(then))

    assert [r.health for r in reports] == expected


def test_nothing_is_reported_before_the_first_challenge():
    assert agent.Conversation().report(DOWN) == []


@pytest.fixture
def host():
    """A pseudo-terminal in the port's place: its master is the host."""
    master, slave = os.openpty()
    tty.setraw(slave)
    path = os.ttyname(slave)
    yield master, path
    os.close(slave)
    os.close(master)


def read_messages(fd, count):
    """Read so many messages; give up after some seconds of silence."""
    data = b''
    while data.count(b'\n') < count:
        assert select.select([fd], [], [], 20)[0], 'the agent says nothing'
        data += os.read(fd, 4096)
    return decoded(data.splitlines())


def test_agent_serves_the_port_until_it_is_stopped(host):
    master, path = host
    guest = agent.Agent(lambda: agent.Port(path), lambda: 'boot-2')
    guest.board.keep(['db'])
    thread = threading.Thread(target=guest.run, daemon=True)
    thread.start()

    [init] = read_messages(master, 1)
    os.write(master, challenge(1, 'first'))
    [answer] = read_messages(master, 1)
    guest.board.finish(agent.Result('db', 'unhealthy', 'gone'))
    [report] = read_messages(master, 1)
    guest.stop()
    [farewell] = read_messages(master, 1)
    thread.join(20)

    assert init.boot_id == 'boot-2'
    assert (answer.nonce, answer.health) == ('first', None)
    assert (report.health, report.audits[0].message) == ('unhealthy', 'gone')
    assert farewell == protocol.Exit('terminated')
    assert not thread.is_alive()


class ScriptedPort:
    """A port that gives what a list says and then stops the agent."""

    def __init__(self, reads):
        self.reads = reads
        self.unsent = []
        self.sent = []
        self.full = False
        self.fd = os.open(os.devnull, os.O_RDONLY)
        self.guest = None

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        os.close(self.fd)

    def read(self):
        if len(self.reads) == 1:
            self.guest.stop()
        value = self.reads.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    def flush(self):
        if self.full:
            self.full = False
            return False
        self.sent += self.unsent
        self.unsent = []
        return True

    def forget(self):
        self.unsent = []


def test_a_refusal_is_said_when_its_text_changes(caplog):
    conversation = agent.Conversation()
    for reason in ('a', 'a', 'b'):
        conversation.receive(protocol.nack(reason), FINE)

    assert [message[-1] for message in caplog.messages] == ['a', 'b']


def run_scripted(*scripts, full=False):
    """Run an agent on ports that give what the scripts say.

    :param full: the first port takes nothing at the first attempt
    """
    ports = [ScriptedPort(list(script)) for script in scripts]
    ports[0].full = full
    opened = iter(ports)
    guest = agent.Agent(lambda: next(opened))
    # Instead of sleeping.
    guest._wait = lambda *args, **kwargs: None
    for port in ports:
        port.guest = guest
    guest.run()
    return [[type(m).__name__ for m in decoded(port.sent)] for port in ports]


@pytest.mark.parametrize('reads, sent', [
    # No host client: an empty read is no end of file.
    ([None, None, None], []),
    ([None, b'', b''], ['Init', 'Exit']),
    ([b'', None, b''], ['Init', 'Init', 'Exit']),
    ([b'', challenge(1), None, challenge(2)],
     ['Init', 'ChallengeResponse', 'Init', 'ChallengeResponse', 'Exit']),
    # Half a line of a client that left is not glued to the next one's.
    ([challenge(1)[:20], None, challenge(2)],
     ['Init', 'Init', 'ChallengeResponse', 'Exit']),
])
def test_a_host_that_comes_and_goes(reads, sent):
    assert run_scripted(reads) == [sent]


def test_what_one_client_did_not_read_is_not_sent_to_the_next():
    assert run_scripted([b'', None, b''], full=True) == [['Init', 'Exit']]


def test_an_empty_read_means_that_no_host_client_is_there(host):
    with agent.Port(os.devnull) as port:
        assert port.read() is None
    with agent.Port(host[1]) as port:
        assert port.read() == b''


def test_the_port_is_opened_again_after_an_error():
    assert run_scripted([b'', OSError(5, 'gone'), b''], [b'', b'']) == [
        ['Init'], ['Init', 'Exit']]


@pytest.mark.parametrize('before, said', [
    ([None], ['gone']),        # it opens, but nobody has spoken
    ([b''], ['gone'] * 3),
])
def test_a_port_that_breaks_again_and_again(before, said, caplog):
    broken = [*before, OSError(5, 'gone'), b'']

    run_scripted(broken, broken, broken, [b''])

    assert [record.getMessage().split()[-1] for record in caplog.records
            if record.levelno >= logging.WARNING] == said


def test_what_the_host_does_not_read_is_bounded(host):
    master, path = host
    with agent.Port(path) as port:
        line = agent.encode({'type': 'exit', 'reason': 'x' * 3000})
        for _ in range(100):
            port.unsent.append(line)
            port.flush()
        assert not port.flush()
        assert len(port.unsent) <= agent.MAX_UNSENT
        while not port.flush():
            os.read(master, 65536)


def test_a_guest_without_the_port_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(agent.os, 'listdir', lambda path: [])
    monkeypatch.setattr(agent.os.path, 'exists', lambda path: False)
    with pytest.raises(FileNotFoundError, match='no virtio-serial port'):
        agent.find_port()


def test_sigterm_ends_the_process_with_a_farewell(host, tmp_path):
    master, path = host
    process = subprocess.Popen(
        [sys.executable, agent.__file__, '--port', path, '--audits-dir',
         str(tmp_path)])
    try:
        [init] = read_messages(master, 1)
        process.send_signal(signal.SIGTERM)
        [farewell] = read_messages(master, 1)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert isinstance(init, protocol.Init)
    assert isinstance(farewell, protocol.Exit)


def test_old_guests_can_read_the_agent():
    ast.parse(pathlib.Path(agent.__file__).read_text(),
              feature_version=(3, 6))


def test_limits_are_those_of_the_protocol():
    assert agent.CHANNEL == protocol.CHANNEL_NAME
    assert agent.VERSION == protocol.VERSION
    assert agent.MAX_LINE == protocol.MAX_GUEST_LINE
    assert agent.MAX_HOST_LINE == protocol.MAX_HOST_LINE
    assert json.loads(agent.Conversation.exit('x'))['type'] == 'exit'
