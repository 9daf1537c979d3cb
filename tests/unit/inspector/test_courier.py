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

import types

import pytest

from nova_vmhealth.core import maintenance
from nova_vmhealth.inspector import courier
from tests.unit.inspector import world

NOW = world.EPOCH
HOST = 'compute-1'


class Room:
    """An inspector's windows, and a host that beats every half second."""

    def __init__(self):
        self.inspector = world.Inspector(world.Cloud())
        self.sent = []
        self.courier = courier.WindowCourier(
            self.inspector.keeper,
            lambda host, records: self.sent.append((host, records)))
        self.knows = ''
        self.now = 0.0

    def beat(self, seconds=0.5, leaving=False):
        """What is sent because of the next beacon."""
        self.now += seconds
        self.courier.look(
            types.SimpleNamespace(host=HOST, windows=self.knows,
                                  leaving=leaving),
            self.now, NOW + self.now)
        sent, self.sent = self.sent, []
        return [len(records) for _, records in sent]

    def announce(self):
        self.inspector.keeper.set({'host': HOST, 'reason': 'x'},
                                  NOW + self.now)

    def learn(self):
        self.knows = self.inspector.keeper.digest_of(HOST, NOW + self.now)


@pytest.fixture
def room():
    return Room()


def test_a_host_that_knows_all_is_left_alone(room):
    assert [room.beat() for _ in range(20)] == [[]] * 20


def test_a_new_window_is_sent_with_the_next_beacon(room):
    room.beat()
    room.announce()
    assert room.beat() == [1]
    # One more beacon that does not know it was under way.
    assert room.beat() == []
    room.learn()
    assert room.beat() == []
    room.announce()
    assert room.beat() == [2]


def test_what_is_sent_are_records(room):
    room.beat()
    room.announce()
    room.courier.look(types.SimpleNamespace(
        host=HOST, windows='', leaving=False), 1.0, NOW + 1)
    [(host, [record])] = room.sent
    assert host == HOST
    assert maintenance.Window.restored(record).host == HOST


def test_it_is_sent_again_until_the_host_knows(room):
    room.beat()
    room.announce()
    sent = [room.beat() for _ in range(21)]
    assert [number for number, each in enumerate(sent) if each] == [0, 10, 20]


def test_windows_that_are_withdrawn_are_taken_away(room):
    room.announce()
    room.learn()
    room.beat()
    room.inspector.keeper.unset(HOST, None, NOW + room.now)
    assert room.beat() == [0]


def test_a_host_that_knows_better_is_given_time(room):
    """Another inspector has told it what this one is about to hear."""
    room.beat()
    room.knows = 'new'
    assert [room.beat() for _ in range(4)] == [[]] * 4
    assert room.beat() == [0]


def test_what_was_there_at_the_start_may_be_old(room):
    room.announce()
    assert [room.beat() for _ in range(4)] == [[]] * 4
    assert room.beat() == [1]


def test_one_that_stops_is_told_nothing(room):
    room.beat()
    room.announce()
    assert room.beat(leaving=True) == []
    assert room.beat() == [1]


def test_remembers_so_many_hosts(room, monkeypatch):
    monkeypatch.setattr(courier, 'MAX_HOSTS', 0)
    room.beat()
    assert room.courier._ours == {}
    room.announce()
    assert [room.beat() for _ in range(4)] == [[]] * 4
    assert room.beat() == [1]
