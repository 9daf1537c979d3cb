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


"""The loop over real unix sockets, on the test's own clock."""

import dataclasses
from importlib import metadata
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from nova_vmhealth.core import outcomes
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt.guest_channel import READ_SIZE
from nova_vmhealth.virt import heartbeat
from nova_vmhealth.virt import heartbeat_observations

POLICY = Policy(heartbeat=True, interval_ms=200, timeout_ms=200, misses=2,
                boot_deadline_s=0, panic_device=False, events=frozenset())
WALL = 1_700_000_000.0


class FakeGuest:
    """QEMU's end of a channel, and an agent behind it."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.listener.setblocking(False)
        self.connection = None
        self.answering = True
        self.reading = True
        self.flood = b''
        self.extra = {}
        self.challenges = []
        self._partial = b''

    def turn(self):
        if self.connection is None:
            try:
                self.connection = self.listener.accept()[0]
            except BlockingIOError:
                return
            self.connection.setblocking(False)
        if self.flood:
            try:
                self.connection.send(self.flood)
            except BlockingIOError:
                pass
        if self.reading:
            self._read()

    def _read(self):
        try:
            data = self._partial + self.connection.recv(1 << 20)
        except BlockingIOError:
            return
        *lines, self._partial = data.split(b'\n')
        for line in map(json.loads, lines):
            if line['type'] == 'challenge':
                self.challenges.append(line)
                if self.answering:
                    self.say(type='challenge_response', nonce=line['nonce'],
                             sequence=line['sequence'], **self.extra)

    def say(self, **message):
        try:
            self.connection.send(json.dumps(message).encode() + b'\n')
        except BlockingIOError:
            pass        # behind its own flood

    def close(self):
        self.listener.close()
        if self.connection:
            self.connection.close()
            self.connection = None


class Rig:
    """A monitor whose turns and clock belong to the test."""

    def __init__(self, directory):
        self.directory = directory
        self.now = 1000.0
        self.observed = []
        self.logged = []
        self.guests = {}
        self.monitor = heartbeat.HeartbeatMonitor(
            self.deliver, monotonic=lambda: self.now,
            wall=lambda: WALL + self.now,
            log=lambda level, text: self.logged.append(text))

    def deliver(self, observation):
        self.observed.append((round(self.now, 3), observation))

    def path(self, uuid):
        return self.directory / ('%s.sock' % uuid)

    def guest(self, uuid, **changes):
        self.guests[uuid] = FakeGuest(self.path(uuid))
        self.watch(uuid, **changes)
        return self.guests[uuid]

    def watch(self, uuid, established=False, **changes):
        self.monitor.watch(uuid, str(self.path(uuid)),
                           dataclasses.replace(POLICY, **changes),
                           established)

    def turn(self):
        self.monitor._run_once(0)
        for guest in self.guests.values():
            guest.turn()

    def run(self, seconds):
        before = len(self.observed)
        for _ in range(round(seconds * 100)):
            self.now = round(self.now + 0.010, 3)
            self.turn()
        return self.observed[before:]

    def kinds(self, seconds, uuid=None):
        return [(o.kind, o.cause) for _, o in self.run(seconds)
                if uuid in (None, o.instance_uuid)]

    def close(self):
        self.monitor.stop(5)
        for guest in self.guests.values():
            guest.close()


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.close()


BEATS = [(Kind.HEARTBEAT_ESTABLISHED, None)]
LOST = [(Kind.FAULT, Cause.HEARTBEAT_LOST)]


def test_a_hang_is_told_in_time_and_so_is_the_recovery(rig):
    guest = rig.guest('a')
    assert rig.kinds(2) == BEATS
    guest.answering = False
    answered = rig.monitor.status('a').last_seen_at - WALL
    [(when, lost)] = rig.run(5)
    assert when - answered <= 0.62
    assert (lost.kind, lost.cause) == LOST[0]
    first_missed = guest.challenges[-26]        # 5 s of them came after
    assert first_missed['sequence'] > 0
    assert lost.occurred_at == pytest.approx(WALL + when - 0.4, abs=0.011)
    silent_ms = int(lost.details.pop('silent_ms'))
    assert 580 <= silent_ms <= 620
    assert lost.details.pop('last_seen_at').startswith('2023-11-14T22:')
    assert lost.details == {'misses': '2', 'interval_ms': '200',
                            'timeout_ms': '200'}
    guest.answering = True
    assert rig.kinds(2) == BEATS + [(Kind.RECOVERED, Cause.HEARTBEAT_LOST)]


def test_defaults_tell_a_hang_in_time(rig):
    guest = rig.guest('a', interval_ms=1000, timeout_ms=1000, misses=3)
    rig.run(5)
    guest.answering = False
    answered = rig.monitor.status('a').last_seen_at - WALL
    [(when, _)] = rig.run(10)
    assert when - answered <= 4.02


def test_status(rig):
    assert rig.monitor.status('a') is None
    guest = rig.guest('a')
    status = rig.monitor.status('a')
    assert (status.established, status.last_seen_at) == (False, None)
    rig.run(1)
    guest.answering = False
    rig.run(3)
    status = rig.monitor.status('a')
    assert status.established and status.misses > 2
    assert (status.interval_ms, status.timeout_ms,
            status.misses_allowed) == (200, 200, 2)
    rig.monitor.unwatch('a')
    assert rig.monitor.status('a') is None


def test_what_a_guest_says_of_itself(rig):
    guest = rig.guest('a', boot_deadline_s=3)
    guest.answering = False
    assert rig.kinds(4) == [(Kind.FAULT, Cause.HEARTBEAT_NOT_ESTABLISHED)]
    guest.answering = True
    assert rig.kinds(1) == BEATS + [
        (Kind.RECOVERED, Cause.HEARTBEAT_NOT_ESTABLISHED)]
    guest.say(type='report', audits=[
        {'name': 'db', 'health': 'unhealthy', 'message': 'down'}])
    [(_, fault)] = rig.run(2)
    assert (fault.cause, fault.subject, fault.details) == (
        Cause.GUEST_UNHEALTHY, 'db', {'message': 'down'})
    guest.extra = {'health': 'healthy'}
    assert rig.kinds(2) == 2 * [(Kind.RECOVERED, Cause.GUEST_UNHEALTHY),
                                (Kind.RECOVERED, Cause.GUEST_DEGRADED)]
    guest.answering = False
    guest.say(type='exit', reason='updated')
    [(_, fault)] = rig.run(9)
    assert (fault.cause, fault.details) == (
        Cause.AGENT_EXITED, {'reason': 'updated'})
    guest.answering = True
    assert rig.kinds(1) == BEATS + [(Kind.RECOVERED, Cause.AGENT_EXITED)]


def test_hold_and_release(rig):
    guest = rig.guest('a')
    rig.run(1)
    for _ in range(2):      # it does not nest
        rig.monitor.hold('a')
    guest.answering = False
    assert rig.kinds(5) == []
    rig.monitor.release('a')
    rig.monitor.release('a')
    assert rig.kinds(1) == LOST


def test_hold_of_a_guest_that_is_not_watched(rig):
    rig.monitor.hold('a')
    rig.monitor.release('a')
    rig.monitor.unwatch('a')
    rig.turn()
    assert rig.logged == []


def test_unwatch_closes_and_tells_nothing(rig):
    guest = rig.guest('a')
    rig.run(1)
    rig.monitor.unwatch('a')
    assert rig.kinds(3) == []
    assert guest.connection.recv(4096) == b''


def test_watch_again_begins_anew(rig):
    guest = rig.guest('a')
    rig.run(1)
    guest.connection.close()
    guest.connection = None
    rig.watch('a', interval_ms=400)
    assert rig.kinds(2) == BEATS
    assert rig.monitor.status('a').interval_ms == 400


def test_known_from_before(rig):
    rig.guest('a', established=True).answering = False
    assert rig.kinds(3) == LOST


# -- channels that are not there ---------------------------------------------

def test_a_path_that_comes_later(rig):
    rig.watch('a')
    rig.guest('b')
    assert rig.kinds(3, 'b') == BEATS
    assert rig.logged == [
        '[instance: a] no heartbeat channel at %s, trying again: '
        'No such file or directory' % rig.path('a')]
    rig.guests['a'] = FakeGuest(rig.path('a'))
    assert rig.kinds(6) == BEATS


@pytest.mark.parametrize('break_it, error', [
    (lambda path: path.write_text('no socket'), 'Connection refused'),
    (lambda path: path.symlink_to('x' * 300), 'File name too long'),
])
def test_each_error_is_told_once(rig, break_it, error):
    break_it(rig.path('a'))
    rig.watch('a')
    rig.run(20)
    assert len(rig.logged) == 1 and error in rig.logged[0]
    rig.path('a').unlink()
    rig.run(6)
    assert len(rig.logged) == 2 and 'No such file' in rig.logged[1]


def test_what_nova_does_to_the_channel_is_told_only_if_it_lasts(rig):
    rig.guest('a')
    rig.run(1)
    rig.monitor.hold('a')
    rig.turn()
    rig.guests.pop('a').close()
    rig.run(20)
    assert rig.logged == []
    rig.monitor.release('a')
    rig.run(6)
    assert len(rig.logged) == 1 and 'trying again' in rig.logged[0]


def test_a_path_too_long_for_a_socket(rig):
    rig.watch('x' * 200)
    rig.run(6)
    assert len(rig.logged) == 1 and 'too long' in rig.logged[0]


def test_connecting_backs_off(rig):
    attempts = []

    def refuse(path):
        attempts.append(rig.now)
        raise ConnectionRefusedError(111, 'Connection refused')

    rig.monitor._connect = refuse
    rig.watch('a')
    rig.run(20)
    gaps = [round(b - a, 1) for a, b in
            zip(attempts, attempts[1:], strict=False)]
    assert gaps == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_channel_that_ends_is_opened_again(rig):
    guest = rig.guest('a')
    rig.run(1)
    guest.connection.close()
    guest.connection = None
    assert rig.kinds(3) == []
    assert rig.monitor.status('a').misses == 0
    guest.answering = False
    assert rig.kinds(2) == LOST


# -- hostile guests ----------------------------------------------------------

FLOODS = [b'garbage\n' * 500, b'x' * 65536, b'\0' * 4096, b'\n' * 4096,
          b'{"type":"init"}\n' * 300,
          b'{"type":"report","health":"unhealthy"}\n'
          b'{"type":"report","health":"healthy"}\n' * 50]


@pytest.mark.parametrize('flood', FLOODS)
def test_a_flood_harms_only_its_sender(rig, flood):
    hostile = rig.guest('hostile')
    good = rig.guest('good')
    rig.run(1)
    hostile.flood = flood
    hostile.reading = False
    observed = rig.run(5)
    assert not [o for _, o in observed if o.instance_uuid == 'good']
    assert len(observed) <= 30
    assert len([text for text in rig.logged if 'hostile' in text]) == 1
    good.answering = False
    answered = rig.monitor.status('good').last_seen_at - WALL
    [when] = [t for t, o in rig.run(2) if o.instance_uuid == 'good']
    assert when - answered <= 0.62


def test_what_a_flooding_guest_costs_is_bounded(rig):
    hostile = rig.guest('a')
    rig.run(1)
    session = rig.monitor._channels['a'].session
    received = []
    receive = session.receive
    session_type = type(session)

    class Counting(session_type):
        def receive(self, data, now):
            received.append(len(data))
            return receive(data, now)

    session.__class__ = Counting
    hostile.flood = b'x\n' * 30000
    rig.run(10)
    assert sum(received) <= 11 * READ_SIZE      # one read a second
    hostile.flood = b''
    hostile.reading = False
    rig.run(60)
    hostile.reading = True
    rig.run(10)
    assert rig.observed[-1][1].kind is Kind.RECOVERED


def test_reading_goes_on_a_second_after_a_flood(rig):
    guest = rig.guest('a', interval_ms=3600000)
    rig.run(0.1)
    guest.flood = b'x\n' * 1000
    guest.turn()
    guest.flood = b''
    rig.run(0.1)
    guest.say(type='report', health='unhealthy')
    assert rig.kinds(0.8) == []
    assert rig.kinds(0.2) == [(Kind.FAULT, Cause.GUEST_UNHEALTHY)]


def test_a_line_of_10_mib_costs_no_heartbeat(rig):
    guest = rig.guest('a', interval_ms=1000, timeout_ms=1000, misses=3)
    rig.run(2)
    left = 10 << 20
    guest.connection.setblocking(False)
    while left:
        try:
            left -= guest.connection.send(b'x' * min(left, 65536))
        except BlockingIOError:
            rig.monitor._run_once(0)
            rig.now += 0.010
    guest.say()
    rig.observed.clear()
    assert rig.kinds(10) == []
    assert len(rig.logged) == 1 and 'longer than' in rig.logged[0]
    assert rig.monitor.status('a').misses == 0


def test_a_guest_that_never_reads_and_then_does(rig):
    guest = rig.guest('a', established=True)
    guest.reading = False
    assert rig.kinds(100) == LOST
    assert [text for text in rig.logged if 'does not read' in text] \
        == rig.logged and len(rig.logged) == 1
    guest.reading = True
    rig.turn()
    assert len(guest.challenges) < 40       # stale ones, bounded
    assert rig.kinds(2) == BEATS + [(Kind.RECOVERED, Cause.HEARTBEAT_LOST)]


# -- the loop itself ---------------------------------------------------------

@pytest.mark.parametrize('stall, voided', [(0.9, True), (0.02, False)])
def test_a_stall_of_the_loop_is_nobodys_fault(rig, stall, voided):
    guest = rig.guest('a', misses=1)
    rig.run(1)
    for _ in range(5):
        guest.answering = False
        rig.run(0.2)                # a challenge is out, unanswered
        guest.answering = True
        rig.observed.clear()
        rig.now += stall
        rig.turn()
        assert rig.observed == [] or not voided
    assert bool(rig.monitor.voided) is voided
    assert len([t for t in rig.logged if 'ms late' in t]) == int(voided)


def test_what_was_written_before_a_stall_ended_is_read_before_judging(rig):
    guest = rig.guest('a', misses=1)
    rig.run(1)
    guest.answering = False
    answered = len(guest.challenges)
    while len(guest.challenges) == answered:
        rig.run(0.01)
    challenge = guest.challenges[-1]
    rig.run(0.15)
    guest.say(type='challenge_response', nonce=challenge['nonce'],
              sequence=challenge['sequence'])
    rig.now += 0.09
    rig.turn()
    assert rig.monitor.voided == 0
    assert [o.cause for _, o in rig.observed] == [None]


def test_a_receiver_that_fails_stops_nothing(rig):
    def fail(observation):
        raise RuntimeError('full')

    rig.monitor._deliver = fail
    rig.guest('a')
    rig.run(2)
    rig.guests['a'].answering = False
    rig.run(2)
    assert rig.monitor.status('a').misses >= 2
    assert rig.logged == [
        "an observation could not be delivered: RuntimeError('full')"]


def test_a_defect_met_by_one_guest_is_only_its_own(rig):
    rig.guest('a')
    rig.guest('b')
    rig.turn()
    rig.monitor._channels['a'].session.handle_timer = None
    assert rig.kinds(2) == BEATS
    assert len(rig.logged) == 1 and '[instance: a]' in rig.logged[0]


def test_guests_are_spread_over_the_slots(rig):
    for number in range(20):
        rig.watch('u%d' % number)
        rig.guests[number] = FakeGuest(rig.path('u%d' % number))
    rig.turn()
    slots = rig.monitor._wheel._slot_of.values()
    assert len(set(slots)) >= 15


def test_the_thread(tmp_path):
    told = threading.Event()
    guest = FakeGuest(tmp_path / 'a.sock')
    guest.listener.setblocking(True)
    monitor = heartbeat.HeartbeatMonitor(lambda observation: told.set())
    monitor.start()
    monitor.watch('a', str(tmp_path / 'a.sock'), POLICY)
    guest.connection = guest.listener.accept()[0]
    guest.connection.settimeout(30)
    guest._read()
    assert told.wait(30)
    assert 'vmhealth-heartbeat' in [t.name for t in threading.enumerate()]
    assert monitor.stop(30)
    assert 'vmhealth-heartbeat' not in [t.name for t in threading.enumerate()]
    guest.connection.setblocking(True)
    assert guest.connection.recv(4096) == b''
    guest.close()


UNDER_EVENTLET = """
import eventlet
eventlet.monkey_patch()
import socket, sys, threading
from eventlet import patcher
from nova_vmhealth.core import outcomes
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.virt.guest_channel import READ_SIZE
from nova_vmhealth.virt import heartbeat
policy = Policy(True, 200, 200, 2, 0, False, frozenset())
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
told = []
main = patcher.original('threading').get_ident()
monitor = heartbeat.HeartbeatMonitor(
    lambda o: told.append((o.kind.value,
                           patcher.original('threading').get_ident())),
    log=lambda level, text: print(text))
monitor.start()
monitor.watch('a', sys.argv[1], policy, established=True)
connection = listener.accept()[0]
with eventlet.Timeout(30):
    while not told:
        eventlet.sleep(0.05)
assert told[0][0] == 'fault' and told[0][1] != main, told
assert monitor.stop(10)
print('done')
"""


def test_under_eventlet_the_thread_is_a_native_one(tmp_path):
    # Not by importing it: where nova is loaded in this process, it forbids
    # that.
    try:
        metadata.version('eventlet')
    except metadata.PackageNotFoundError:
        pytest.skip('eventlet is not installed')
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', UNDER_EVENTLET,
         str(tmp_path / 'a.sock')],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
    assert result.stdout == 'done\n', result.stderr


def test_every_outcome_has_its_observations():
    told = set(outcomes.Outcome.__args__) - {outcomes.Complaint}
    assert told == set(heartbeat_observations._BUILDERS)
