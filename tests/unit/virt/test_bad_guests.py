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


"""Hostile guests beside a good one, over real sockets on the test's own clock.

Whatever one does, the good one is not disturbed, its hang is found in time,
and the hostile one is heard as soon as it behaves.
"""

import dataclasses
import json
import socket

import pytest

from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import heartbeat
from tests.fuzz.footprint import footprint

POLICY = Policy(heartbeat=True, interval_ms=200, timeout_ms=200, misses=2,
                boot_deadline_s=0, panic_device=False, events=frozenset())
TURN_S = 0.010
# misses * interval + timeout, and two slots of the wheel.
IN_TIME_S = 0.6 + 2 * TURN_S


class Guest:
    """QEMU's end of a channel, and an agent that behaves or does not."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.listener.setblocking(False)
        self.connection = None
        self.accepted = 0
        self.misbehave = None       # called in each turn with its number
        self.answering = True
        self.answered = 0
        self.challenge = {'sequence': 0, 'nonce': ''}   # the latest
        self.half = b''

    def turn(self, number):
        if self.connection is None:
            try:
                self.connection = self.listener.accept()[0]
            except BlockingIOError:
                return
            self.connection.setblocking(False)
            self.accepted += 1
            self.half = b''
        (self.misbehave or self.behave)(number)

    def behave(self, _number):
        for line in self.read():
            if line['type'] == 'challenge' and self.answering:
                self.answer(line)

    def read(self, most=1 << 16):
        """Return what the host says."""
        try:
            data = self.connection.recv(most)
        except BlockingIOError:
            return []
        *lines, self.half = (self.half + data).split(b'\n')
        decoded = [json.loads(line) for line in lines]
        for line in decoded:
            if line['type'] == 'challenge':
                self.challenge = line
        return decoded

    def write(self, data):
        try:
            self.connection.send(data)
        except BlockingIOError:
            pass

    def answer(self, challenge):
        self.answered += 1
        self.write(b'{"type":"challenge_response","sequence":%d,"nonce":"%s"}\n'
                   % (challenge['sequence'], challenge['nonce'].encode()))

    def hang_up(self):
        self.connection.close()
        self.connection = None

    def close(self):
        self.listener.close()
        if self.connection:
            self.connection.close()


class Rig:
    """A monitor with a hostile guest and a good one; all is stepped."""

    def __init__(self, directory):
        self.directory = directory
        self.now = 1000.0
        self.turns = 0
        self.observed = []
        self.logged = []
        self.guests = {}
        self.monitor = heartbeat.HeartbeatMonitor(
            lambda observation: self.observed.append((self.now, observation)),
            monotonic=lambda: self.now, wall=lambda: 1.7e9 + self.now,
            log=lambda level, text: self.logged.append(text))
        self.hostile, self.good = self.watch('hostile'), self.watch('good')
        self.run(2)

    def watch(self, uuid, **changes):
        path = self.directory / uuid
        self.guests[uuid] = Guest(path)
        self.monitor.watch(uuid, str(path),
                           dataclasses.replace(POLICY, **changes))
        return self.guests[uuid]

    def run(self, seconds):
        """Let time pass; return what was told of the hostile guest."""
        before = len(self.observed)
        for _ in range(round(seconds / TURN_S)):
            self.turns += 1
            self.now = round(self.now + TURN_S, 3)
            self.monitor._loop.run_once(0)
            for guest in self.guests.values():
                guest.turn(self.turns)
        return [o for _, o in self.observed[before:]
                if o.instance_uuid == 'hostile']

    def size(self):
        """What the monitor holds, without what the test gave it."""
        return footprint(self.monitor, [self, self.observed, self.logged])

    def close(self):
        self.monitor.stop(5)
        for guest in self.guests.values():
            guest.close()


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def _say(text):
    """Return what writes the same in every turn, and neither reads."""
    return lambda guest, number: guest.write(text)


def _answering(step):
    """Return what answers as well."""
    def misbehave(guest, number):
        guest.behave(number)
        step(guest, number)
    return misbehave


def _in_turns(*texts):
    return lambda guest, number: guest.write(texts[number % len(texts)])


def _single_bytes(guest, number):
    text = b'{"type":"report","health":"unhealthy"}\nx\n'
    guest.write(text[number % len(text):][:1])


def _many_audits(guest, number):
    guest.write(b'{"type":"report","audits":[%s]}\n' % b','.join(
        b'{"name":"%d","health":"unhealthy"}' % (number * 50 + audit)
        for audit in range(50)))


def _hang_up(guest, number):
    guest.write(b'{"type":"challenge_respon')
    guest.hang_up()


def _hang_up_at_times(guest, number):
    guest.behave(number)
    if number % 7 == 0:
        guest.hang_up()


def _read_a_byte_a_second(guest, number):
    if number % 100 == 0:
        guest.read(1)


def _replay(guest, number):
    guest.read()
    for _ in range(3):
        guest.answer({'sequence': 1, 'nonce': '0' * 32})


def _answer_late(guest, number):
    """Answer each challenge when the next has come."""
    before = guest.challenge
    if guest.read():
        guest.answer(before)


BEHAVIOUR = {
    'an endless line': _say(b'x' * 65536),
    'an endless line while answering': _answering(_say(b'x' * 65536)),
    'oversize lines': _answering(_say(b'x' * 5000 + b'\n')),
    'garbage': _say(b'garbage\n' * 5000),
    'zeros': _say(b'\0' * 65536),
    'newlines': _say(b'\n' * 65536),
    'deep nesting': _answering(_say(b'{"x":' + b'[' * 4000 + b'\n')),
    'single bytes': _answering(_single_bytes),
    'an init flood': _answering(_say(b'{"type":"init"}\n' * 2000)),
    'exit and init': _answering(_in_turns(b'{"type":"exit"}\n',
                                          b'{"type":"init"}\n')),
    'health toggled': _answering(_in_turns(
        b'{"type":"report","health":"healthy"}\n',
        b'{"type":"report","health":"unhealthy"}\n')),
    'ever new audits': _answering(_many_audits),
    'hanging up at once': _hang_up,
    'hanging up at times': _hang_up_at_times,
    'never reading': lambda guest, number: None,
    'never reading but writing': _say(b'{"type":"init"}\ngarbage\n'),
    'reading a byte a second': _read_a_byte_a_second,
    'replays': _replay,
    'late answers': _answer_late,
}
# What is looked at of a guest.
LINES_PER_S = 100
# What a line begun, sixteen audits and unsent lines may add.
MOST_MEMORY = 64 << 10


@pytest.mark.parametrize('case', BEHAVIOUR)
def test_a_hostile_guest_and_a_good_one(rig, case):
    assert [o.kind for _, o in rig.observed] \
        == 2 * [Kind.HEARTBEAT_ESTABLISHED]
    size = rig.size()
    answered = rig.good.answered
    rig.hostile.misbehave = lambda number: BEHAVIOUR[case](rig.hostile, number)
    told = rig.run(12)
    # Of the good guest nothing was heard but its answers.
    assert rig.good.answered - answered in (59, 60, 61)
    assert {o.instance_uuid for _, o in rig.observed[2:]} <= {'hostile'}
    assert not any('good' in text for text in rig.logged)
    # Of the hostile one little, in log and notifications.
    assert len([t for t in rig.logged if 'misuses' in t]) <= 1
    assert len(rig.logged) <= 2
    assert len(told) <= 12 * 20
    assert rig.monitor.statistics()['refused_lines'] <= 13 * LINES_PER_S
    assert rig.size() - size < MOST_MEMORY
    assert rig.monitor.status('hostile') is not None
    _good_hang_is_found(rig)
    _hostile_is_heard_again(rig)


def _good_hang_is_found(rig):
    rig.good.answering = False
    answered_at = rig.monitor.status('good').last_seen_at - 1.7e9
    before = len(rig.observed)
    rig.run(2)
    [lost_at] = [at for at, o in rig.observed[before:]
                 if o.instance_uuid == 'good' and o.kind is Kind.FAULT]
    assert lost_at - answered_at <= IN_TIME_S


def _hostile_is_heard_again(rig):
    rig.hostile.misbehave = None
    if rig.hostile.connection:
        rig.hostile.write(b'\n')
    # A connection that was refused is tried again within five seconds.
    rig.run(8)
    status = rig.monitor.status('hostile')
    assert status.established and status.misses == 0
    rig.hostile.answering = False
    [lost] = [o for o in rig.run(2) if o.kind is Kind.FAULT
              and o.cause is Cause.HEARTBEAT_LOST]
    assert lost.details['misses'] == '2'


def test_a_guest_that_hangs_up_at_once_is_called_less_and_less(rig):
    rig.hostile.misbehave = lambda number: _hang_up(rig.hostile, number)
    before = rig.hostile.accepted
    rig.run(60)
    assert rig.hostile.accepted - before <= 20


def test_many_hostile_guests_and_a_good_one(rig):
    for index, misbehave in enumerate(BEHAVIOUR.values()):
        guest = rig.watch('h%d' % index)
        guest.misbehave = (lambda number, guest=guest, misbehave=misbehave:
                           misbehave(guest, number))
    answered = rig.good.answered
    rig.run(5)
    assert rig.good.answered - answered in (24, 25, 26)
    assert not [o for _, o in rig.observed[2:] if o.instance_uuid == 'good']
    _good_hang_is_found(rig)
