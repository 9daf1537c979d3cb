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



"""What Nova itself does to an instance is no fault, and what fails in it is.

A guest lives through several operations, so that it boots less often.
"""

import concurrent.futures
import contextlib
import os
import signal
import time

import pytest

from tests.integration import clients
from tests.integration import processes

SPECS = {'vmhealth:heartbeat': 'true', 'vmhealth:interval_ms': '200',
         'vmhealth:timeout_ms': '500', 'vmhealth:misses': '2'}
# the agent that is up first
AGENT = 'vmh.agent=c'
# Longer than this flavor's heartbeat takes to be lost, and than the grace.
LONG_ENOUGH_S = clients.GRACE_S + 1.5


@pytest.fixture
def aside():
    """Runs an operation of Nova's while the test goes on."""
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        yield threads.submit


def anew(guest, operations):
    """Do what ends the guest and boots it again, until it beats."""
    before = guest.established()
    for operation in operations:
        guest.do(operation)
    guest.attach()
    guest.wait_beating(before + 1)


def test_the_guest_runs_on(boot, driver, listener):
    """Nothing is told of what freezes it for moments, or for longer."""
    guest = boot(AGENT, SPECS)
    guest.wait_beating()
    for stop, start in (('pause', 'unpause'), ('suspend', 'resume')):
        guest.do(stop)
        time.sleep(LONG_ENOUGH_S)
        guest.do(start)
    # and Nova gets its lifecycle events as ever
    assert driver.do('lifecycle', guest.uuid)[:4] == [
        'Resumed', 'Started', 'Paused', 'Resumed']
    guest.attach()
    guest.do('volumes')
    guest.do('interface')
    guest.do('snapshot')
    # without an agent in it that could
    with pytest.raises(clients.Refused):
        guest.do('quiesce')
    guest.do('snapshot', live=False)
    guest.attach()
    time.sleep(LONG_ENOUGH_S)
    assert listener.events(guest.uuid) == []
    guest.tell('hang-agent')
    lost = listener.wait_for(guest.uuid, 'heartbeat_lost')
    assert not lost['planned']


def test_the_guest_begins_anew(boot, listener, aside):
    guest = boot(AGENT + ' unknown_nmi_panic panic=1', SPECS)
    guest.wait_beating()
    # It panics, is silent, boots and beats again.
    anew(guest, ['crash_dump'])
    # It obeys: its console is its power button.
    before = guest.established()
    rebooted = aside(guest.do, 'soft_reboot', seconds=30)
    time.sleep(0.5)
    guest.tell('poweroff', done=False)
    rebooted.result(60)
    guest.attach()
    guest.wait_beating(before + 1)
    # It does not, and Nova reboots it hard then.
    guest.do('soft_reboot', seconds=1)
    anew(guest, ['reboot', 'power_off', 'power_on'])
    anew(guest, ['rescue', 'unrescue'])
    anew(guest, ['rebuild', 'shelve', 'unshelve'])
    assert listener.events(guest.uuid) == []
    guest.tell('hang-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost')


def test_a_dump_is_no_crash(boot, listener):
    guest = boot('vmh.agent=none unknown_nmi_panic',
                 {'vmhealth:panic_device': 'true'})
    guest.do('crash_dump')
    processes.wait_for(lambda: 'running' not in guest.virsh('domstate'), 30,
                       'end of ' + guest.name)
    # what Nova's own look at the domain's power state leads to
    guest.do('power_off')
    guest.do('power_on')
    # what a host does at its start with an instance that was evacuated
    guest.do('destroy_evacuated')
    time.sleep(1)
    assert listener.events(guest.uuid) == []


@contextlib.contextmanager
def uploading(guest, aside, end):
    """While the image of a snapshot of it goes to Glance."""
    taken = aside(guest.do, 'snapshot', until=end)
    try:
        processes.wait_for(lambda: os.path.exists(end + '.begun'), 30,
                           'upload')
        yield
    finally:
        open(end, 'w').close()
        taken.result(30)


def test_faults_in_the_middle_of_a_snapshot(boot, libvirtd, listener, folder,
                                            aside):
    guest = boot('vmh.agent=none')
    with uploading(guest, aside, os.path.join(folder, 'snapshot1')):
        guest.tell('poweroff', done=False)
        off = listener.wait_for(guest.uuid, 'guest_shutdown')
    assert (off['planned'], off['operation']) == (True, 'snapshot')
    guest.do('power_on')
    listener.wait_for(guest.uuid, 'guest_shutdown', 'cleared')
    with uploading(guest, aside, os.path.join(folder, 'snapshot2')):
        with open(os.path.join(libvirtd.folder, 'run', 'qemu',
                               guest.name + '.pid')) as f:
            os.kill(int(f.read()), signal.SIGKILL)
        dead = listener.wait_for(guest.uuid, 'qemu_failed')
    assert (dead['health'], dead['operation']) == ('unhealthy', 'snapshot')
