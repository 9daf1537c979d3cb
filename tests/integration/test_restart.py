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

"""nova-compute is killed and comes back: nothing is lost or told twice."""

import collections
import json
import os
import random
import signal
import sys
import time

import pytest

from tests.benchmarks import burst
from tests.integration import clients
from tests.integration import processes

KILLS = 50
# Long enough that each has something on disk, and more on its way to it and to
# the broker.
MOST_ALIVE_S = 0.4
HOST = 'vmhealth-kills'
HEARD_S = 60

SPECS = {'vmhealth:heartbeat': 'true', 'vmhealth:interval_ms': '200',
         'vmhealth:timeout_ms': '500', 'vmhealth:misses': '2'}
# From a start to the loss of a guest that is silent: misses x interval +
# timeout, after the driver is ready, on a machine that does other things too.
LOST_S = 2 * 0.2 + 0.5
SLACK_S = 3
# Longer than it would take to tell anew what was told already.
QUIET_S = 2


class Observers:
    """The process of ``observer_host.py``, and what it forks."""

    def __init__(self, folder, url):
        os.makedirs(folder)
        config = os.path.join(folder, 'nova.conf')
        with open(config, 'w') as f:
            f.write(burst._NOVA_CONF % {'folder': folder, 'url': url,
                                        'host': HOST})
        self._acknowledged = os.path.join(folder, 'acknowledged')
        self._process = processes.Process(
            [sys.executable, '-m', 'tests.integration.observer_host',
             '--config-file', config, '--acknowledged', self._acknowledged],
            os.path.join(folder, 'observers.log'), pipes=True,
            cwd=clients.REPOSITORY)
        self.uuids = self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        assert line, 'it ended:\n' + self._process.logged()[-3000:]
        return json.loads(line)

    def _do(self, command, number):
        self._process.stdin.write('%s %d\n' % (command, number))
        return self._answer()

    def acknowledged(self):
        """Numbers of what was written down, by those who wrote them."""
        with open(self._acknowledged) as f:
            return [int(line) for line in f]

    def wait_for_one_more(self):
        """Until another one was written down."""
        before = len(self.acknowledged())
        processes.wait_for(lambda: len(self.acknowledged()) > before,
                           HEARD_S, 'observation', every=0.002)

    def start(self):
        """Begin anew after what was acknowledged last; the process's id."""
        return self._do('start', (self.acknowledged() or [-1])[-1] + 1)

    def kill(self, pid):
        self._do('kill', pid)

    def stop(self):
        self._process.stop()


@pytest.fixture
def observers(broker, folder):
    process = Observers(os.path.join(folder, 'kills'), broker.url)
    yield process
    process.stop()


def test_killed_between_observation_and_publish(observers, listener,
                                                measured):
    rng = random.Random(20)
    began = time.monotonic()
    # until the listener's queue is there, events go nowhere
    pid = observers.start()
    processes.wait_for(lambda: listener.events_of(HOST), HEARD_S,
                       'first event')
    first = len(observers.acknowledged())
    for _ in range(KILLS):
        observers.wait_for_one_more()
        time.sleep(rng.uniform(0, MOST_ALIVE_S))
        observers.kill(pid)
        pid = observers.start()
    acknowledged = observers.acknowledged()
    measured('%d kills, %d observations' % (KILLS, len(acknowledged)),
             time.monotonic() - began)
    assert len(acknowledged) >= first + KILLS
    assert acknowledged == sorted(set(acknowledged))

    def missing():
        heard = {(event['uuid'], event['subject'], event['transition'])
                 for event in listener.events_of(HOST)}
        return [number for number in acknowledged
                if told_of(number, observers.uuids) not in heard]
    # The last one goes on meanwhile, and what was sent before the listener
    # was there is of no account.
    processes.wait_for(lambda: all(number < first for number in missing()),
                       HEARD_S, 'events of all that was acknowledged')
    observers.kill(pid)
    assert_gapless(listener.events_of(HOST))


def told_of(number, uuids):
    """What is told of the observation with a number."""
    step, which = divmod(number, len(uuids))
    disk, ends = divmod(step, 2)
    return (uuids[which], 'disk%d' % disk, 'cleared' if ends else 'raised')


def assert_gapless(events):
    """Each instance's events are one after the other, each with an id."""
    assert len({event['event_id'] for event in events}) == len(events)
    of_instance = collections.defaultdict(list)
    for event in events:
        of_instance[event['uuid']].append(event['sequence'])
    for sequences in of_instance.values():
        assert sequences == list(range(sequences[0],
                                       sequences[0] + len(sequences)))


class Restarted:
    """A driver of its own that is killed and started, and its one guest."""

    def __init__(self, folder, libvirtd, broker, guest_folder):
        self._arguments = (folder, libvirtd, broker, guest_folder)
        self.driver = None
        self.guest = None
        self.start()

    def start(self):
        self.driver = clients.DriverProcess(*self._arguments)
        self.ready_at = time.time()
        if self.guest:
            self.guest._driver = self.driver

    def kill(self):
        self.driver._process.stop(signal.SIGKILL)


@pytest.fixture
def restarted(folder, libvirtd, broker, guest_folder, listener, _numbers):
    made = Restarted(os.path.join(folder, 'restarted'), libvirtd, broker,
                     guest_folder)
    made.guest = clients.Guest(
        made.driver, libvirtd, next(_numbers),
        'console=ttyS0 quiet vmh.agent=python', extra_specs=SPECS)
    yield made
    made.guest.do('destroy')
    made.driver.stop()


def test_a_guest_whose_driver_is_killed(restarted, listener, measured):
    guest = restarted.guest
    guest.wait_for('AGENT-UP')
    guest.wait_beating()
    guest.wait_unexpected()

    def story():
        return [(event['cause'], event['subject'], event['transition'])
                for event in listener.events(guest.uuid)]

    # It hangs while nobody looks.
    restarted.kill()
    guest.tell('hang-agent')
    restarted.start()
    lost = listener.wait_for(guest.uuid, 'heartbeat_lost')
    late = clients.epoch(lost['detected_at']) - restarted.ready_at
    measured('driver ready -> hung guest lost', late)
    assert late < LOST_S + SLACK_S
    assert lost['previous_health'] == 'healthy'

    # It is lost still after another restart, and well again after that.
    restarted.kill()
    restarted.start()
    time.sleep(QUIET_S)
    told = [('heartbeat_lost', '', 'raised')]
    assert story() == told
    guest.tell('resume-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost', 'cleared')
    guest.tell('audit db 2 sick')
    listener.wait_for(guest.uuid, 'guest_unhealthy')

    # What its audit said is over while nobody listens.
    restarted.kill()
    guest.tell('audit db 0 well')
    restarted.start()
    well = listener.wait_for(guest.uuid, 'guest_unhealthy', 'cleared')
    assert well['health'] == 'healthy'
    told += [('heartbeat_lost', '', 'cleared'),
             ('guest_unhealthy', 'db', 'raised'),
             ('guest_unhealthy', 'db', 'cleared')]
    assert story() == told
    assert [event['sequence'] for event in listener.events(guest.uuid)] \
        == [1, 2, 3, 4]
