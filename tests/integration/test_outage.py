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

"""The broker dies and comes back; Nova goes on, and no event is lost."""

import json
import os
import signal
import sys
import time

import pytest

from tests.integration import clients
from tests.integration import processes

SPECS = {'vmhealth:heartbeat': 'true', 'vmhealth:interval_ms': '200',
         'vmhealth:timeout_ms': '500', 'vmhealth:misses': '2'}
OUTAGE_S = 60
# The listener tries again after a while that grows to some 30 s.
RECONNECT_S = 90
# Far more than a pause takes, and far less than a wait for the broker.
NOVA_S = 20
INSTANCES = 10
EVENTS = 1000

# A queue that outlives the broker, on an exchange and a topic of their own:
# those of the other tests are there already, and do not.
_CONF = """\
[DEFAULT]
control_exchange = outage
transport_url = {url}
[notifications]
versioned_notifications_topics = outage
[oslo_messaging_rabbit]
amqp_durable_queues = true
"""


class Feeder:
    """A publisher in a process of its own, and what it was given."""

    def __init__(self, folder, host):
        self._folder = folder
        self.host = host
        self.uuids = ['%08d-%s-4000-8000-000000000000' % (
            number, host[-4:]) for number in range(INSTANCES)]
        self.fed = 0
        self.start()

    def start(self):
        """Start it; what it says of the events that it has already."""
        self._process = processes.Process(
            [sys.executable, '-m', 'tests.integration.feeder',
             '--config-file', os.path.join(self._folder, 'bus.conf'),
             '--state-path', self._folder, '--host', self.host],
            os.path.join(self._folder, self.host + '.log'), pipes=True,
            env={'PYTHONPATH': clients.REPOSITORY})
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        assert line, self._process.logged()[-3000:]
        return json.loads(line)

    def feed(self, count):
        """Have events of all instances in turn; seconds until on disk."""
        numbers = range(self.fed, self.fed + count)
        self.fed += count
        batch = {'now': time.time(), 'events': [
            (self.uuids[n % INSTANCES], n // INSTANCES + 1) for n in numbers]}
        began = time.monotonic()
        self._process.stdin.write(json.dumps(batch) + '\n')
        self._process.stdin.flush()
        self.statistics = self._answer()
        return time.monotonic() - began

    def kill(self):
        self._process.stop(signal.SIGKILL)

    def stop(self):
        self._process.stop()

    def logged(self):
        return self._process.logged()


@pytest.fixture
def bus(broker, folder):
    path = os.path.join(folder, 'outage')
    os.mkdir(path)
    config = os.path.join(path, 'bus.conf')
    with open(config, 'w') as f:
        f.write(_CONF.format(url=broker.url))
    listener = clients.Listener(
        os.path.join(path, 'listener.log'), broker.url,
        '--config-file', config, '--pool', 'outage')
    yield path, listener
    listener.stop()


@pytest.fixture
def feeders(bus):
    started = []

    def start(host):
        started.append(Feeder(bus[0], host))
        return started[-1]
    yield start
    for feeder in started:
        feeder.stop()


def sequences(listener, feeder):
    """What the listener has of a feeder: instance -> sequences."""
    events = listener.events_of(feeder.host)
    return {uuid: [event['sequence'] for event in events
                   if event['uuid'] == uuid] for uuid in feeder.uuids}


def wait_for_all(listener, feeder, count, seconds):
    """Until all events are there, each once and in order."""
    expected = {uuid: list(range(1, count // INSTANCES + 1))
                for uuid in feeder.uuids}
    try:
        processes.wait_for(
            lambda: sequences(listener, feeder) == expected, seconds, 'events')
    except AssertionError:
        assert sequences(listener, feeder) == expected


def wait_for_listener(listener, feeder):
    """Until its queue is there: what comes before that, it does not get."""
    def heard():
        feeder.feed(INSTANCES)
        return listener.events_of(feeder.host)
    processes.wait_for(heard, 30, 'listener', 0.2)


@pytest.mark.timeout(400)
def test_broker_killed(boot, broker, driver, listener, bus, feeders,
                       measured):
    quiet = bus[1]
    guest = boot(extra_specs=SPECS)
    guest.wait_beating()
    wait_for_listener(quiet, feeders('host-aaaa'))
    busy = feeders('host-bbbb')
    slowest = [busy.feed(INSTANCES) for _ in range(EVENTS // 2 // INSTANCES)]

    broker.kill()
    killed = time.monotonic()
    guest.tell('audit away 2 nobody hears this')
    # nothing of Nova waits for the broker
    guest.do('pause')
    guest.do('unpause')
    assert time.monotonic() - killed < NOVA_S
    # the broker is away when the first connection to it is made
    late = feeders('host-cccc')
    late.feed(5 * INSTANCES)
    # as is the process that knows of the events, a while later
    late.kill()
    while time.monotonic() - killed < OUTAGE_S:
        if busy.fed < EVENTS:
            slowest.append(busy.feed(INSTANCES // 2))
        time.sleep(0.3)
    assert late.start()['notifications_waiting'] == 5 * INSTANCES
    late.feed(5 * INSTANCES)
    broker.start()
    back = time.monotonic()
    while busy.statistics['notifications_waiting']:
        slowest.append(busy.feed(0))
        assert time.monotonic() - back < RECONNECT_S
        time.sleep(0.05)
    measured('outage: sender, broker back to last event sent',
             time.monotonic() - back)
    measured('outage: slowest commit of up to 10 events', max(slowest))

    wait_for_all(quiet, late, 10 * INSTANCES, RECONNECT_S)
    wait_for_all(quiet, busy, EVENTS, RECONNECT_S)
    measured('outage: broker back to last event heard',
             time.monotonic() - back)
    assert busy.statistics['notifications_failed'] == 0

    rounds = iter(range(1000))

    def heard():
        """Fall ill once more, each time of something else."""
        guest.tell('audit back%d 2 ill' % next(rounds))
        return [event for event in listener.events(guest.uuid)
                if event['subject'].startswith('back')]
    event = processes.wait_for(heard, RECONNECT_S, 'event after the outage')
    assert event[0]['cause'] == 'guest_unhealthy'
    # What was told in the outage has its place in the sequence. That the
    # listener has it too is not certain: its queue died with the broker.
    assert event[0]['sequence'] > 1
    assert driver.do('statistics')['notifications_failed'] == 0
    assert driver.running
    assert listener.running
