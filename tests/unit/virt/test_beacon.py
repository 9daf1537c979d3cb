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

"""Beacons: at a steady pace, each a new attempt, and a last one at the end.

The thread's loop runs in the test, on a clock that only sending and waiting
move.
"""

import logging as levels
import threading
import time

import pytest

from nova_vmhealth.core import beacons
from nova_vmhealth.virt import beacon


class World:
    """A broker, a clock, and the event that ends the loop.

    :ivar takes: seconds that each attempt takes; 0 where there is none
    :ivar broken: numbers of the attempts that fail
    """

    def __init__(self, monkeypatch, interval_ms=500):
        self.now = 100.0
        self.takes, self.broken = {}, set()
        # (seconds since the start, beacon) of what the broker took
        self.taken = []
        self.attempts = 0
        # connections that were made, and those that were closed
        self.made, self.closed = [], []
        self.refused = self.stuck = False
        self.most = 0
        monkeypatch.setattr(beacon.rpcapi, 'InspectorAPI', self.api)
        self.sender = beacon.BeaconSender(
            self.connect, 'compute1', interval_ms, lambda: self.now)

    def connect(self):
        if self.refused:
            self.attempts += 1
            raise OSError('connection refused')
        self.made.append(Transport(self))
        return self.made[-1]

    def api(self, transport):
        self.transport = transport
        return self

    def host_beacon(self, record):
        assert self.transport is self.made[-1]
        self.attempts += 1
        at = self.now
        self.now += self.takes.get(self.attempts, 0.0)
        if self.attempts in self.broken:
            raise OSError('broken pipe')
        self.taken.append((at - 100.0, beacons.Beacon.restored(record)))

    # threading.Event's

    def is_set(self):
        return self.attempts >= self.most

    def wait(self, seconds):
        assert seconds >= 0.0
        self.now += seconds

    def run(self, attempts):
        """Let the loop run until it was told to stop after so many."""
        self.most = attempts
        self.sender._stopping = self
        self.sender._run()
        return [round(at, 3) for at, _ in self.taken]


class Transport:
    def __init__(self, world):
        self._world = world

    def cleanup(self):
        self._world.closed.append(self)
        if self._world.stuck:
            raise OSError('it was broken before')


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def test_a_beacon_says_who_lives_and_when_the_next_one_comes(world):
    world.sender._windows = lambda: 'digest'
    before = time.time()
    assert world.sender.send()
    ((_, told),) = world.taken
    assert (told.host, told.sequence, told.interval_ms) == (
        'compute1', 1, 500)
    assert (told.leaving, told.windows) == (False, 'digest')
    assert before <= told.sent_at <= time.time()
    assert len(told.incarnation) == 32


def test_each_start_of_nova_compute_is_another_incarnation(monkeypatch):
    first, second = World(monkeypatch), World(monkeypatch)
    assert first.sender._incarnation != second.sender._incarnation


@pytest.mark.parametrize('takes, times', [
    ({}, [0.0, 0.5, 1.0, 1.5, 2.0]),
    # What sending takes is no part of the pace.
    ({1: 0.2, 2: 0.4, 3: 0.499}, [0.0, 0.5, 1.0, 1.5, 2.0]),
    # One that takes longer is followed at once, and what was missed stays so.
    ({2: 0.6}, [0.0, 0.5, 1.1, 1.6, 2.1]),
    ({2: 7.0}, [0.0, 0.5, 7.5, 8.0, 8.5]),
])
def test_the_pace_does_not_drift_and_makes_up_for_nothing(
        world, takes, times):
    world.takes = takes
    assert world.run(4)[:4] == times[:4]
    assert [told.sequence for _, told in world.taken] == [1, 2, 3, 4, 5]
    assert len(world.made) == 1


def test_the_last_one_says_that_it_leaves(world):
    world.run(2)
    assert [told.leaving for _, told in world.taken] == [False, False, True]
    assert world.closed == world.made


def test_after_a_failure_comes_a_new_connection(world):
    world.broken = {2, 3}
    world.run(4)
    assert [told.sequence for _, told in world.taken] == [1, 4, 5]
    assert len(world.made) == 3
    assert world.closed == world.made
    assert (world.sender.sent, world.sender.failed) == (3, 2)


@pytest.mark.parametrize('trouble', ['refused', 'stuck'])
def test_whatever_a_connection_does_it_ends_nothing(world, trouble):
    setattr(world, trouble, True)
    world.broken = {1, 2}
    assert not world.sender.send()
    assert not world.sender.send()
    setattr(world, trouble, False)
    assert world.sender.send()
    assert world.taken[-1][1].sequence == 3


def test_an_outage_is_logged_once(world, caplog):
    world.refused = True
    for _ in range(100):
        world.sender.send()
    (line,) = [record for record in caplog.records
               if record.levelno >= levels.WARNING]
    assert 'connection refused' in line.getMessage()
    assert world.sender.failed == 100


def test_the_thread_sends_until_it_is_stopped(world):
    first = threading.Event()
    world.sender._interval_ms = 60000

    def take(record):
        world.taken.append(record)
        first.set()

    world.host_beacon = take
    world.sender.start(lambda: 'digest')
    assert first.wait(30)
    world.sender.stop(30)
    assert [(told['leaving'], told['windows']) for told in world.taken] == [
        (False, 'digest'), (True, 'digest')]
    assert not world.sender._thread.is_alive()


def test_none_is_sent_where_none_is_wanted(monkeypatch):
    world = World(monkeypatch, interval_ms=0)
    world.sender.start(str)
    world.sender.stop(30)
    assert world.attempts == 0


def test_nova_computes_goes_by_a_connection_of_its_own(world, monkeypatch):
    monkeypatch.setattr(beacon.broker, 'rpc_transport',
                        lambda conf: world.connect() if conf == 'conf' else 0)
    sender = beacon.sender('conf', 'compute1', 250)
    assert world.made == []         # not before the first beacon
    assert sender.send()
    ((_, told),) = world.taken
    assert (told.host, told.interval_ms) == ('compute1', 250)
    assert len(world.made) == 1


def test_one_that_was_never_started_can_be_stopped(world):
    world.sender.stop(30)
    assert world.attempts == 0
