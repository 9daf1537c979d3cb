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

import array
import dataclasses
import fcntl
from importlib import metadata
import json
import os
import socket
import subprocess
import sys
import termios

import pytest

from nova_vmhealth.core import outcomes
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt.guest_channel import READ_SIZE
from nova_vmhealth.virt import heartbeat
from nova_vmhealth.virt import heartbeat_observations
from nova_vmhealth.virt import native

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
        self.heard = []
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
            self.heard.append(line)
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
        self.asides = []        # what is told of misses by the way
        self.logged = []
        self.asked = []         # for a second way
        self.guests = {}
        self.monitor = heartbeat.HeartbeatMonitor(
            self.deliver, monotonic=lambda: self.now,
            wall=lambda: WALL + self.now,
            second_way=lambda *asked: self.asked.append(
                (round(self.now, 1), *asked)),
            log=lambda level, text: self.logged.append(text))

    def deliver(self, observation):
        aside = observation.kind in (Kind.HEARTBEAT_MISSED,
                                     Kind.HEARTBEAT_UNHEARD)
        (self.asides if aside else self.observed).append(
            (round(self.now, 3), observation))

    def path(self, uuid):
        return self.directory / ('%s.sock' % uuid)

    def guest(self, uuid, guest=Guest.WAITING, **changes):
        self.guests[uuid] = FakeGuest(self.path(uuid))
        self.watch(uuid, guest, **changes)
        return self.guests[uuid]

    def watch(self, uuid, guest=Guest.WAITING, **changes):
        self.monitor.watch(uuid, str(self.path(uuid)),
                           dataclasses.replace(POLICY, **changes),
                           guest)

    def turn(self):
        self.monitor._loop.run_once(0)
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
    rig.guest('a', Guest.BEATING).answering = False
    assert rig.kinds(3) == LOST


# -- channels that are not there ---------------------------------------------

def test_a_path_that_comes_later(rig):
    rig.watch('a')
    rig.guest('b')
    assert rig.kinds(3, 'b') == BEATS
    assert rig.logged == [
        '[instance: a] no heartbeat channel at %s, trying again: '
        'no such file: hard reboot the instance if it has run since before '
        "it opted in, and mount libvirt's folder if nova-compute is in a "
        'container' % rig.path('a')]
    rig.guests['a'] = FakeGuest(rig.path('a'))
    assert rig.kinds(6) == BEATS


@pytest.mark.parametrize('break_it, error', [
    (lambda path: path.write_text('no socket'), 'else than a socket'),
    (lambda path: path.symlink_to('x' * 300), 'symbolic link'),
])
def test_each_error_is_told_once(rig, break_it, error):
    break_it(rig.path('a'))
    rig.watch('a')
    rig.run(20)
    assert len(rig.logged) == 1 and error in rig.logged[0]
    rig.path('a').unlink()
    rig.run(6)
    assert len(rig.logged) == 2 and 'no such file' in rig.logged[1]


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
    assert len(rig.logged) == 1 and 'is longer than' in rig.logged[0]


def test_connecting_backs_off(rig):
    attempts = []

    def refuse(path):
        attempts.append(rig.now)
        raise ConnectionRefusedError(111, 'Connection refused')

    rig.monitor._loop._connect = refuse
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


# -- the second way ----------------------------------------------------------

def test_a_second_way_is_asked_for_when_the_socket_stays_out_of_reach(rig):
    rig.watch('a')
    rig.run(20)
    times = [when for when, *_ in rig.asked]
    assert times[0] == pytest.approx(1000.3, abs=0.1)   # the third failure
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert gaps and all(gap >= 5 for gap in gaps)
    assert {uuid for _, uuid, *_ in rig.asked} == {'a'}
    assert rig.asked[0][2] == str(rig.path('a'))
    assert 'no such file' in rig.asked[0][3]


def test_no_second_way_where_libvirt_could_do_no_better(rig):
    guest = FakeGuest(rig.path('a'))
    guest.listener.close()      # ECONNREFUSED: its QEMU is gone
    rig.watch('a')
    rig.run(20)
    assert rig.asked == [] and len(rig.logged) == 1


def test_a_connection_that_is_offered_is_used(rig):
    rig.watch('a')
    rig.run(2)
    ours, guests = socket.socketpair()
    for end in (ours, guests):
        end.setblocking(False)
    rig.guests['a'] = guest = FakeGuest(rig.path('b'))
    guest.connection = guests
    rig.monitor.offer('a', ours)
    observed = rig.run(2)
    assert [o.details for _, o in observed] == [{'way': 'libvirt'}]
    assert rig.monitor.statistics()['connected_libvirt'] == 1
    guest.answering = False
    assert rig.kinds(2) == LOST
    before = len(rig.asked)
    guests.close()
    del rig.guests['a']
    rig.run(1)          # its own socket is tried once more, then again ours
    assert len(rig.asked) == before + 1
    assert rig.monitor.statistics()['waiting'] == 1


@pytest.mark.parametrize('uuid', ['a', 'nobody'])
def test_a_connection_that_is_not_needed_is_closed(rig, uuid):
    rig.guest('a')
    rig.run(1)
    ours, other = socket.socketpair()
    ours.setblocking(False)
    rig.monitor.offer(uuid, ours)
    rig.turn()
    assert ours.fileno() == -1 and other.recv(1) == b''
    assert rig.monitor.statistics()['connected_socket'] == 1


# -- what guests are told ----------------------------------------------------

def _listening(rig):
    guest = rig.guest('a')
    rig.run(1)
    guest.say(type='init', notices=True)
    rig.run(0.1)
    return guest


def test_a_notice_is_sent_even_while_held_and_its_answer_is_seen(rig):
    guest = _listening(rig)
    notice = rig.monitor.notice('a', 'stop', 500)
    rig.monitor.hold('a')
    rig.run(0.1)
    asked = [m for m in guest.heard if m['type'] == 'notice']
    assert [(m['operation'], m['timeout_ms']) for m in asked] == [
        ('stop', 500)]
    assert (notice.acked, notice.over) == (False, False)
    guest.say(type='notice_ack', sequence=asked[0]['sequence'])
    rig.run(0.1)
    assert (notice.acked, notice.over) == (True, True)


def test_nobody_is_told_who_did_not_ask(rig):
    rig.guest('a')
    rig.run(1)
    assert rig.monitor.notice('a', 'stop', 500) is None
    assert rig.monitor.notice('nobody', 'stop', 500) is None


@pytest.mark.parametrize('end', [
    lambda rig, guest: rig.guests.pop('a').close(),
    lambda rig, guest: rig.monitor.unwatch('a'),
    lambda rig, guest: rig.monitor.notice('a', 'reboot', 500)])
def test_a_wait_for_an_answer_ends_with_what_it_waits_for(rig, end):
    guest = _listening(rig)
    notice = rig.monitor.notice('a', 'stop', 500)
    rig.turn()
    end(rig, guest)
    rig.turn()
    assert (notice.acked, notice.over) == (False, True)


def test_a_guest_is_told_later_even_over_a_new_watch(rig):
    rig.monitor.notice_later('a', 'migrated')
    guest = rig.guest('a')
    rig.monitor.notice_later('a', 'migrated')
    rig.run(1)
    rig.watch('a')
    guest.connection.close()
    guest.connection = None
    rig.run(1)
    guest.say(type='init', notices=True)
    rig.run(0.1)
    assert [m['operation'] for m in guest.heard
            if m['type'] == 'notice'] == ['migrated']


def test_a_guest_that_closed_its_port_is_not_lost(rig):
    guest = rig.guest('a')
    rig.run(1)
    guest.answering = False
    rig.monitor.port_closed('a')
    rig.monitor.port_closed('nobody')
    assert rig.kinds(5) == []
    assert rig.monitor.statistics()['exited'] == 1
    guest.answering = True
    assert rig.kinds(1) == BEATS + [(Kind.RECOVERED, Cause.AGENT_EXITED)]


def test_misses_and_silence_are_told_by_the_way(rig):
    guest = rig.guest('a', misses=3)
    rig.guest('b').answering = False
    rig.run(2)
    guest.answering = False
    rig.run(12)
    told = [(o.instance_uuid, o.kind, o.details.get('misses'))
            for _, o in rig.asides]
    assert told == [('a', Kind.HEARTBEAT_MISSED, '1'),
                    ('a', Kind.HEARTBEAT_MISSED, '2'),
                    ('b', Kind.HEARTBEAT_UNHEARD, None)]


def test_statistics(rig):
    guest = rig.guest('a')
    rig.guest('b')
    rig.watch('c')
    rig.run(2)
    guest.say(nonsense=True)
    guest.answering = False
    rig.monitor.hold('b')
    rig.run(2)
    found = rig.monitor.statistics()
    challenges = found.pop('challenges')
    assert 25 <= challenges <= 35 and found.pop('reads') >= 20
    assert found == {
        'watched': 3, 'held': 1, 'waiting': 1, 'connected_socket': 2,
        'connected_libvirt': 0, 'established': 2, 'lost': 1, 'exited': 0,
        'refused_lines': 1, 'voided_rounds': 0}
    assert rig.monitor.count == 2
    rig.monitor.unwatch('a')
    rig.turn()
    after = rig.monitor.statistics()
    assert (after['watched'], after['refused_lines']) == (2, 1)
    assert after['challenges'] >= challenges     # it never goes back


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
    taken = 0
    hostile.flood = b'x\n' * 30000
    for _ in range(100):
        rig.now = round(rig.now + 0.010, 3)
        before = _waiting_in(hostile.connection)
        rig.monitor._loop.run_once(0)
        taken += before - _waiting_in(hostile.connection)
        hostile.turn()
    assert 0 < taken <= 11 * READ_SIZE      # one read in 100 ms
    hostile.flood = b''
    hostile.reading = False
    rig.run(60)
    hostile.reading = True
    rig.run(10)
    assert rig.observed[-1][1].kind is Kind.RECOVERED


def _waiting_in(connection):
    """Return how many bytes the other end has not read yet."""
    buffer = array.array('i', [0])
    fcntl.ioctl(connection, termios.TIOCOUTQ, buffer)
    return buffer[0]


def test_reading_goes_on_soon_after_a_flood(rig):
    guest = rig.guest('a', interval_ms=3600000)
    rig.run(0.1)
    guest.flood = b'x\n' * 1000
    guest.turn()
    guest.flood = b''
    rig.run(0.01)
    guest.say(type='report', health='unhealthy')
    assert rig.kinds(0.15) == [(Kind.FAULT, Cause.GUEST_UNHEALTHY)]


def test_a_line_of_10_mib_costs_no_heartbeat(rig):
    guest = rig.guest('a', interval_ms=1000, timeout_ms=1000, misses=3)
    rig.run(2)
    left = 10 << 20
    guest.connection.setblocking(False)
    while left:
        try:
            left -= guest.connection.send(b'x' * min(left, 65536))
        except BlockingIOError:
            for _ in range(5):      # it would wake again at once
                rig.monitor._loop.run_once(0)
            rig.now += 0.010
    guest.say()
    rig.observed.clear()
    assert rig.kinds(10) == []
    assert len(rig.logged) == 1 and 'longer than' in rig.logged[0]
    assert rig.monitor.status('a').misses == 0


def test_a_guest_that_never_reads_and_then_does(rig):
    guest = rig.guest('a', Guest.BEATING)
    guest.reading = False
    assert rig.kinds(100) == LOST
    assert [text for text in rig.logged if 'does not read' in text] \
        == rig.logged and len(rig.logged) == 1
    guest.reading = True
    rig.turn()
    assert len(guest.challenges) < 40       # stale ones, bounded
    assert rig.kinds(2) == BEATS + [(Kind.RECOVERED, Cause.HEARTBEAT_LOST)]


# -- the loop itself ---------------------------------------------------------

@pytest.mark.parametrize('stall, timeout, voided', [
    (0.9, 200, True), (0.02, 200, False), (0.08, 100, True)])
def test_a_stall_of_the_loop_is_nobodys_fault(rig, stall, timeout, voided):
    guest = rig.guest('a', misses=1, timeout_ms=timeout)
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

    rig.monitor._loop._teller._deliver = fail
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
    rig.monitor._loop.channels['a'].session._board = None
    assert rig.kinds(2, 'b') == BEATS
    assert len(rig.logged) == 1 and '[instance: a]' in rig.logged[0]
    assert rig.monitor.status('a') is None
    assert [o.kind for _, o in rig.observed if o.instance_uuid == 'a'] == [
        Kind.HEARTBEAT_UNREACHABLE]


def test_intervals_of_all_lengths_live_in_one_loop(rig):
    hour = 3600 * 1000
    for uuid, interval in (('fast', 100), ('usual', 1000), ('slow', hour)):
        rig.guest(uuid, interval_ms=interval, timeout_ms=100, misses=1)
    rig.run(2)
    counts = {uuid: len(guest.challenges)
              for uuid, guest in rig.guests.items()}
    assert counts['fast'] in (19, 20, 21) and counts['usual'] in (1, 2)
    assert counts['slow'] == 0
    phase = rig.monitor._loop.channels['slow'].session.next_deadline()
    rig.now = round(phase, 2) - 0.5
    rig.turn()
    rig.run(0.6)
    assert len(rig.guests['slow'].challenges) == 1
    rig.guests['slow'].answering = False
    assert [o.instance_uuid for _, o in rig.run(2)] == []
    rig.now = round(rig.monitor._loop.channels['slow']
                    .session.next_deadline(), 2) - 0.5
    rig.turn()
    assert [o.instance_uuid for _, o in rig.run(1)] == ['slow']


def test_a_command_that_comes_while_the_loop_reads_is_not_left(rig):
    loop = rig.monitor._loop
    read = loop._read

    def read_late(events, now, patient=True):
        if patient:
            rig.watch('a')          # its byte is taken with those before it
            loop._read = read
        return read(events, now, patient)

    rig.guests['a'] = FakeGuest(rig.path('a'))
    loop._read = read_late
    rig.monitor.unwatch('nobody')
    loop.run_once(0)
    assert loop._wait_s() == 0
    assert rig.kinds(1) == BEATS


def test_a_guest_without_a_channel_for_long_is_told_once(rig):
    rig.guest('a')
    rig.run(1)
    rig.guests.pop('a').close()
    rig.path('a').unlink()
    observed = rig.run(120)
    assert [(o.kind, o.details['reason']) for _, o in observed] == [
        (Kind.HEARTBEAT_UNREACHABLE, 'no channel')]
    rig.guests['a'] = FakeGuest(rig.path('a'))
    assert rig.kinds(8) == BEATS
    assert rig.monitor.is_lost('a') is False
    rig.guests['a'].answering = False
    assert rig.kinds(2) == LOST
    assert rig.monitor.is_lost('a') is True
    assert rig.monitor.is_lost('nobody') is False


def test_guests_are_spread_over_the_slots(rig):
    for number in range(20):
        rig.watch('u%d' % number)
        rig.guests[number] = FakeGuest(rig.path('u%d' % number))
    rig.turn()
    slots = {channel.slot for channel in rig.monitor._loop.channels.values()}
    assert len(slots) >= 15


def test_the_thread(tmp_path):
    # a native one in both modes, and so is what it tells
    threading = native.original('threading')
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
from nova_vmhealth.core.session_table import Guest
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
monitor.watch('a', sys.argv[1], policy, Guest.BEATING)
connection = listener.accept()[0]
with eventlet.Timeout(30):
    while not told:
        eventlet.sleep(0.05)
assert told[0][0] == 'heartbeat_missed' and told[0][1] != main, told
assert monitor.stop(10)
print('done')
"""


def test_under_eventlet_the_thread_is_a_native_one(require, tmp_path):
    # Not by importing it: where nova is loaded in this process, it forbids
    # that.
    require(any(metadata.distributions(name='eventlet')), 'needs eventlet')
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', UNDER_EVENTLET,
         str(tmp_path / 'a.sock')],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
    assert result.stdout == 'done\n', result.stderr


def test_every_outcome_has_its_observations():
    told = set(outcomes.Outcome.__args__) - {outcomes.Complaint,
                                             outcomes.NoticeAcked}
    assert told == set(heartbeat_observations._BUILDERS)
