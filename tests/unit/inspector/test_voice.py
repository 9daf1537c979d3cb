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

"""What an inspector says to others, and what is kept of what it cannot say."""

import threading

import pytest

from nova_vmhealth.inspector import voice
from nova_vmhealth import rpcapi

PATIENCE_S = 10


class Bus:
    """What would be the broker; it may refuse, or hang.

    :ivar heard: what came through
    """

    def __init__(self):
        self.heard = []
        self.connections = self.closed = 0
        self.refuses = False
        self.flows = threading.Event()
        self.flows.set()
        self.changed = threading.Condition()

    def connect(self):
        self.connections += 1
        return self

    def cleanup(self):
        self.closed += 1
        raise OSError('it is broken already')

    def take(self, *what):
        self.flows.wait(PATIENCE_S)
        with self.changed:
            if not self.refuses:
                self.heard.append(what)
            else:
                self.heard.append(('refused',))
            self.changed.notify_all()
        if self.refuses:
            raise ConnectionError('away')

    def wait(self, number):
        with self.changed:
            assert self.changed.wait_for(
                lambda: len(self.heard) >= number, PATIENCE_S), self.heard
            return list(self.heard)


class Inspectors:
    def __init__(self, bus):
        self.inspector_beacon = lambda beacon: bus.take('beacon', beacon)
        self.sync = lambda sender, records: bus.take('sync', sender, records)


class Computes:
    def __init__(self, bus):
        self.set_windows = lambda host, windows: bus.take(
            'windows', host, windows)


@pytest.fixture
def bus(monkeypatch):
    monkeypatch.setattr(rpcapi, 'InspectorAPI', Inspectors)
    monkeypatch.setattr(rpcapi, 'ComputeAPI', Computes)
    return Bus()


@pytest.fixture
def speaker(bus):
    made = voice.Voice(bus.connect, 'one')
    made.start()
    yield made
    bus.flows.set()
    made.stop(PATIENCE_S)


def test_said(bus, speaker):
    speaker.beacon({'sequence': 1})
    bus.wait(1)
    speaker.sync({'mark/a': {'at': 1}})
    bus.wait(2)
    speaker.set_windows('a', [{'id': 1}])
    assert bus.wait(3) == [
        ('beacon', {'sequence': 1}), ('sync', 'one', {'mark/a': {'at': 1}}),
        ('windows', 'a', [{'id': 1}])]
    assert bus.connections == 1


def test_of_what_waits_the_latest_is_said_beacons_first(bus, speaker):
    bus.flows.clear()
    speaker.beacon({'sequence': 1})
    speaker.set_windows('a', [1])
    speaker.set_windows('a', [2])
    speaker.sync({'mark/a': 1, 'mark/b': 1})
    speaker.sync({'mark/a': 2})
    speaker.sync({})
    for sequence in (2, 3, 4):
        speaker.beacon({'sequence': sequence})
    bus.flows.set()
    heard = bus.wait(3)
    if heard[0] == ('beacon', {'sequence': 1}):     # it was at it already
        heard = bus.wait(4)[1:]
    assert heard == [('beacon', {'sequence': 4}),
                     ('sync', 'one', {'mark/a': 2, 'mark/b': 1}),
                     ('windows', 'a', [2])]


def test_a_broker_that_refuses_is_connected_to_anew(bus, speaker):
    bus.refuses = True
    speaker.beacon({'sequence': 1})
    bus.wait(1)
    bus.refuses = False
    speaker.beacon({'sequence': 2})
    # A beacon that was not taken is not said later.
    assert bus.wait(2) == [('refused',), ('beacon', {'sequence': 2})]
    assert (bus.connections, bus.closed) == (2, 1)


def test_the_end_says_what_waits(bus):
    made = voice.Voice(bus.connect, 'one')
    made.beacon({'sequence': 1})
    made.sync({'mark/a': 1})
    made.start()
    made.stop(PATIENCE_S)
    assert [each[0] for each in bus.heard] == ['beacon', 'sync']
    assert bus.closed == 1


def test_windows_of_too_many_hosts(bus, monkeypatch):
    monkeypatch.setattr(voice, '_MAX_HOSTS', 2)
    made = voice.Voice(bus.connect, 'one')
    for host in 'abc':
        made.set_windows(host, [])
    made.start()
    made.stop(PATIENCE_S)
    assert {each[1] for each in bus.heard} == {'a', 'b'}
