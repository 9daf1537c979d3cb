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

"""Inspectors on a real broker, with a compute API that counts what is asked.

What they do to a real Nova is in test_host_status.py.
"""

import os
import signal
import sys
import time

import pytest

from tests import fake_nova
from tests.integration import clients
from tests.integration import processes

UUID = '5f0c9a1e-8f85-4257-88b6-2e743b5a9701'
# How long the API takes to force down, seconds: time to be killed in it.
PUT_S = 0.8
GRACE_S = 2

_CONF = """\
[DEFAULT]
transport_url = {url}
[vmhealth_inspector]
name = {name}
state_path = {folder}
cloud = fake
grace_s = {grace}
"""


class Cell:
    """A host, those who inspect it, and its Nova."""

    def __init__(self, folder, broker):
        self._folder = folder
        self._url = broker.url
        self.host = os.path.basename(folder)
        self.nova = fake_nova.FakeNova({self.host: [UUID]})
        self._env = {'PYTHONPATH': clients.REPOSITORY,
                     **self.nova.write_clouds(folder)}
        self._processes = []
        self.beating = None

    def _start(self, name, *command):
        process = processes.Process(
            [sys.executable, '-m', *command],
            os.path.join(self._folder, name + '.log'), env=self._env,
            cwd=clients.REPOSITORY)
        self._processes.append(process)
        return process

    def inspect(self, name):
        path = os.path.join(self._folder, name + '.conf')
        with open(path, 'w') as f:
            f.write(_CONF.format(url=self._url, name=name, grace=GRACE_S,
                                 folder=self._folder))
        return self._start(name, 'nova_vmhealth.cmd.inspector',
                           '--config-file', path)

    def beat(self):
        self.beating = self._start(
            'beacons', 'tests.integration.beacon_sender', self._url,
            self.host)

    def stop(self):
        for process in self._processes:
            process.stop()
        self.nova.stop()

    def who_acts(self, inspectors):
        """The one that has the lock of the host; others only look at it."""
        def holders():
            found = [each for each in inspectors
                     if 'vmhealth-host-' + self.host in _open_files(each.pid)]
            return found if len(found) == 1 else None
        return processes.wait_for(holders, PUT_S, 'one that acts', 0.002)[0]


def _open_files(pid):
    names = []
    folder = '/proc/%d/fd' % pid
    for number in os.listdir(folder):
        try:
            names.append(os.readlink(os.path.join(folder, number)))
        except FileNotFoundError:
            pass                    # closed meanwhile
    return ' '.join(names)


@pytest.fixture
def cell(broker, tmp_path):
    made = Cell(str(tmp_path), broker)
    yield made
    made.stop()


def ready(inspectors):
    for each in inspectors:
        each.wait_for(lambda each=each: 'hears itself' in each.logged(), 30,
                      'inspector')
    time.sleep(GRACE_S + 1)


def heard(listener, cell, cause, transition):
    return [event for event in listener.host_events(cause)
            if (event['host'], event['transition'])
            == (cell.host, transition)]


@pytest.mark.parametrize('after_s', [0.0, 0.4, 0.85])
def test_one_is_killed_while_its_request_is_under_way(
        cell, listener, after_s):
    """However far it came, the host is forced down once, and told once."""
    cell.nova.put_s = PUT_S
    both = [cell.inspect('one'), cell.inspect('two')]
    cell.beat()
    ready(both)
    cell.beating.stop(signal.SIGKILL)
    processes.wait_for(lambda: cell.nova.changes, 10, 'request', 0.002)
    acting = cell.who_acts(both)
    time.sleep(after_s)
    acting.stop(signal.SIGKILL)
    other, = {*both} - {acting}
    processes.wait_for(
        lambda: heard(listener, cell, 'host_down', 'raised'), 20, 'event')
    processes.wait_for(
        lambda: [event for event in listener.events(UUID)
                 if event['host'] == cell.host], 20, 'event of the instance')
    time.sleep(2)
    assert cell.nova.changes == [(cell.host, {'forced_down': True})]
    event, = heard(listener, cell, 'host_down', 'raised')
    assert (event['status'], event['action']) == ('DOWN', 'force_down')
    assert other.running


def test_its_timing(cell, measured):
    both = [cell.inspect('one'), cell.inspect('two')]
    cell.beat()
    ready(both)
    cell.beating.stop(signal.SIGKILL)
    killed = time.time()
    processes.wait_for(lambda: cell.nova.changes, 10, 'request', 0.002)
    measured('nova-compute killed -> two inspectors have agreed, and force '
             'down', time.time() - killed)
    assert time.time() - killed < 3


def test_the_broker_is_away_at_the_start(cell):
    cell._url = 'rabbit://guest:guest@127.0.0.1:%d/' % processes.free_port()
    one = cell.inspect('one')
    one.wait_for(lambda: 'watches by' in one.logged(), 30, 'inspector')
    time.sleep(3)
    assert one.running
    began = time.monotonic()
    one.stop(seconds=20)
    assert time.monotonic() - began < 10
    assert 'The inspector ends' in one.logged()
