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


"""The agent's loop: a host that comes and goes, stalls, what else it does."""

import logging
import os
import threading

import pytest

from nova_vmhealth.core import protocol
from nova_vmhealth.guest.board import Board
from nova_vmhealth.guest.health import Result
from nova_vmhealth.guest.notices import Notices
from nova_vmhealth.guest.port import Port
from nova_vmhealth.guest.port import Waker
from nova_vmhealth.guest import service
from tests.unit.guest.helpers import challenge
from tests.unit.guest.helpers import kinds
from tests.unit.guest.helpers import read_messages

ANSWER = 'ChallengeResponse'


class NoWaker(Waker):
    """Notes how long it should wait; waits not at all."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait(self, seconds, fd=None, written=True):
        self.waits.append(seconds)


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
        if callable(value):
            value = value()
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


class Keeper:
    """Notes what the loop tells it."""

    period = 0.25

    def __init__(self):
        self.told = []
        self.excused = []

    def tick(self, snapshot, status, now):
        self.told.append((snapshot.health, status.split(';')[0]))

    def excuse(self, late, now):
        self.excused.append(late)

    def stop(self):
        self.told.append('stop')


class Parts:
    """An agent with scripted ports, and all that belongs to it."""

    def __init__(self, *scripts, full=False, keepers=()):
        self.waker = NoWaker()
        self.board = Board(self.waker.wake)
        self.notices = Notices('/nowhere', self.waker.wake, self.start)
        self.started = []
        self.ports = [ScriptedPort(list(script)) for script in scripts]
        self.ports[0].full = full
        opened = iter(self.ports)
        self.agent = service.Agent(lambda: next(opened), self.waker,
                                   self.board, self.notices, keepers)
        for port in self.ports:
            port.guest = self.agent

    def start(self, function, *args):
        self.started.append(args)

    def run(self):
        self.agent.run()
        return [kinds(port.sent) for port in self.ports]


@pytest.mark.parametrize('reads, sent', [
    # No host client: an empty read is no end of file.
    ([None, None, None], []),
    ([None, b'', b''], ['Init', 'Exit']),
    ([b'', None, b''], ['Init', 'Init', 'Exit']),
    ([b'', challenge(1), None, challenge(2)],
     ['Init', ANSWER, 'Init', ANSWER, 'Exit']),
    # Half a line of a client that left is not glued to the next one's.
    ([challenge(1)[:20], None, challenge(2)],
     ['Init', 'Init', ANSWER, 'Exit']),
])
def test_a_host_that_comes_and_goes(reads, sent):
    assert Parts(reads).run() == [sent]


def test_what_one_client_did_not_read_is_not_sent_to_the_next():
    assert Parts([b'', None, b''], full=True).run() == [['Init', 'Exit']]


def test_the_port_is_opened_again_after_an_error():
    assert Parts([b'', OSError(5, 'gone'), b''], [b'', b'']).run() == [
        ['Init'], ['Init', 'Exit']]


@pytest.mark.parametrize('before, said', [
    ([None], ['gone']),        # it opens, but nobody has spoken
    ([b''], ['gone'] * 3),
])
def test_a_port_that_breaks_again_and_again(before, said, caplog):
    broken = [*before, OSError(5, 'gone'), b'']

    Parts(broken, broken, broken, [b'']).run()

    assert [record.getMessage().split()[-1] for record in caplog.records
            if record.levelno >= logging.WARNING] == said


class Clocks:
    """Both clocks of the loop; they go on by what a read in a script says."""

    def __init__(self, monkeypatch):
        self.monotonic = self.boottime = 100.0
        monkeypatch.setattr(service.time, 'monotonic',
                            lambda: self.monotonic)
        monkeypatch.setattr(service, 'boottime', lambda: self.boottime)

    def stall(self, boottime, monotonic, value):
        """Return a read before which the guest did not run for a while."""
        def read():
            self.boottime += boottime
            self.monotonic += monotonic
            return value

        return read


@pytest.mark.parametrize('boottime, monotonic, sent, excused', [
    (1.0, 1.0, ['Init', 'Exit'], []),
    (6.0, 6.0, ['Init', 'Init', 'Exit'], [5.0]),
    # The guest slept: its deadlines did, too.
    (6.0, 0.0, ['Init', 'Init', 'Exit'], []),
])
def test_after_a_stall_the_agent_says_again_who_it_is(
        monkeypatch, caplog, boottime, monotonic, sent, excused):
    clocks = Clocks(monkeypatch)
    keeper = Keeper()
    parts = Parts([b'', clocks.stall(boottime, monotonic, b''), b'', b''],
                  keepers=[keeper])

    assert parts.run() == [sent]
    assert keeper.excused == excused
    assert [m for m in caplog.messages if 'did not run for 5.0 s' in m] == (
        caplog.messages)
    assert bool(caplog.messages) is (sent.count('Init') == 2)


def test_after_a_stall_the_audits_are_not_blamed(monkeypatch):
    clocks = Clocks(monkeypatch)
    parts = Parts([b'', clocks.stall(60.0, 60.0, b''), challenge(1), b''])
    parts.board.keep([])
    parts.board.looked(100.0)
    parts.run()

    [answer] = [line for line in parts.ports[0].sent if b'nonce' in line]
    assert protocol.parse_line(answer.rstrip()).health == 'healthy'


def test_keepers_hear_of_every_turn():
    keeper = Keeper()
    parts = Parts([None, b'', b'', OSError(5, 'gone'), b''],
                  [b''], keepers=[keeper])
    parts.run()

    assert keeper.told == [
        (None, 'starting'), (None, 'waiting for a host client'),
        (None, 'answering the host'), (None, 'answering the host'),
        (None, 'waiting for the port'), (None, 'waiting for the port'),
        'stop']
    assert max(parts.waker.waits) <= Keeper.period


def test_without_keepers_the_loop_still_comes_by_every_second():
    parts = Parts([None, b'', b'', b''])
    parts.run()

    assert parts.waker.waits == [service.RECONNECT_SECONDS, 1.0, 1.0, 1.0]


@pytest.mark.parametrize('programs, reads, sent', [
    # There is nothing to wait for.
    ([], [protocol.notice(1, 'stop', 1000), b''],
     ['Init', 'NoticeAck', 'Exit']),
    ([('app', '/nowhere')],
     [protocol.notice(1, 'stop', 600000), challenge(1), b''],
     ['Init', ANSWER, 'Exit']),
    # The answer to a challenge does not wait for a notice.
    ([], [protocol.notice(1, 'stop', 1000) + challenge(1), b''],
     ['Init', ANSWER, 'NoticeAck', 'Exit']),
])
def test_notices(programs, reads, sent):
    parts = Parts(reads)
    parts.notices._programs = programs

    assert parts.run() == [sent]
    assert [args[1] for args in parts.started] == [n for n, _ in programs]


def test_a_new_client_is_owed_no_answers():
    def end():
        [[entry, name, _]] = parts.started
        parts.notices._end(entry, name, '')
        return b''

    parts = Parts([protocol.notice(1, 'stop', 600000), None, end, b''])
    parts.notices._programs = [('app', '/nowhere')]

    assert parts.run() == [['Init', 'Init', 'Exit']]


def test_programs_that_come_later_are_told():
    def arrive():
        parts.notices._programs = [('app', '/nowhere')]
        return b''

    parts = Parts([b'', arrive, b'', b''])
    parts.run()

    found = [protocol.parse_line(line.rstrip())
             for line in parts.ports[0].sent[:-1]]
    assert [init.notices for init in found] == [False, True]


def test_a_deadline_is_kept_to(monkeypatch):
    Clocks(monkeypatch)
    parts = Parts([protocol.notice(1, 'stop', 500), b'', b''])
    parts.notices._programs = [('app', '/nowhere')]
    parts.run()

    assert parts.waker.waits == pytest.approx([0.4, 0.4])


def test_a_report_that_was_put_off_is_sent_in_time(monkeypatch):
    clocks = Clocks(monkeypatch)

    def fail(name):
        def read():
            parts.board.finish(Result(name, 'unhealthy', ''))
            return b''

        return read

    parts = Parts([challenge(1), fail('a'), fail('b'), b'',
                   clocks.stall(0.3, 0.3, b''), b''])
    parts.board.keep(['a', 'b'])

    assert parts.run() == [['Init', ANSWER, 'Report', 'Report', 'Exit']]
    assert parts.waker.waits == pytest.approx([1.0, 1.0, 0.25, 1.0, 1.0])


def test_agent_serves_the_port_until_it_is_stopped(host):
    master, path = host
    waker = Waker()
    board = Board(waker.wake)
    guest = service.Agent(lambda: Port(path), waker, board,
                          Notices('/nowhere', waker.wake), boot_id='boot-2')
    board.keep(['db'])
    thread = threading.Thread(target=guest.run, daemon=True)
    thread.start()

    [init] = read_messages(master, 1)
    os.write(master, challenge(1, 'first'))
    [answer] = read_messages(master, 1)
    board.finish(Result('db', 'unhealthy', 'gone'))
    [report] = read_messages(master, 1)
    guest.stop()
    [farewell] = read_messages(master, 1)
    thread.join(20)

    assert init.boot_id == 'boot-2'
    assert (answer.nonce, answer.health) == ('first', None)
    assert (report.health, report.audits[0].message) == ('unhealthy', 'gone')
    assert farewell == protocol.Exit('terminated')
    assert not thread.is_alive()
