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


"""libvirtd dies and comes back; the guests run on, and two of them fail."""

import os
import signal
import time

import pytest

from tests.integration import clients
from tests.integration import processes

SPECS = {'vmhealth:heartbeat': 'true', 'vmhealth:interval_ms': '200',
         'vmhealth:timeout_ms': '500', 'vmhealth:misses': '2'}
NO_AGENT = 'vmh.agent=none'
AWAY_S = 60
# libvirtd is back, and its guests with it: what that takes under emulation
# on a busy machine is told, not asserted closely.
SOON_S = 10


def _transitions(events):
    return [(event['cause'], event['transition']) for event in events]


@pytest.fixture
def away(libvirtd):
    """Kill libvirtd; it is back after the test, whatever happens."""
    libvirtd.kill()
    yield libvirtd
    if not libvirtd.running:
        libvirtd.start()


@pytest.fixture
def guests(boot):
    """One to be killed, one to panic, one that beats throughout."""
    killed = boot(NO_AGENT)
    panics = boot(NO_AGENT, {'vmhealth:panic_device': 'true'})
    beats = boot(extra_specs=SPECS)
    beats.wait_beating()
    return killed, panics, beats


@pytest.mark.outage
def test_libvirtd_killed(guests, away, driver, listener, measured):
    killed, panics, beats = guests
    began = time.monotonic()
    lost = processes.wait_for(lambda: listener.host_events('libvirt_lost'),
                              SOON_S, 'word of the loss')[0]
    measured('libvirtd killed -> listener',
             clients.epoch(lost['received_at'])
             - clients.epoch(lost['occurred_at']))
    assert lost['severity'] == 'critical'
    assert {killed.uuid, panics.uuid, beats.uuid} <= lost['instances'].keys()

    os.kill(away.qemu_pid(killed.name), signal.SIGKILL)
    panics.tell('panic', done=False)
    # the heartbeat needs no libvirtd
    beats.tell('hang-agent')
    listener.wait_for(beats.uuid, 'heartbeat_lost')
    beats.tell('resume-agent')
    listener.wait_for(beats.uuid, 'heartbeat_lost', 'cleared')
    reads = driver.do('statistics')['reads']
    processes.wait_for(lambda: driver.do('statistics')['reads'] > reads + 5,
                       SOON_S, 'heartbeat')
    time.sleep(max(0, began + AWAY_S - time.monotonic()))
    assert listener.events(killed.uuid) == []
    assert listener.events(panics.uuid) == []

    back = time.time()
    away.start()
    for guest, cause in ((killed, 'qemu_failed'), (panics, 'guest_crashed')):
        told = listener.wait_for(guest.uuid, cause, seconds=SOON_S)
        measured('libvirtd started -> listener, ' + cause,
                 clients.epoch(told['received_at']) - back)
        assert told['details']['found_by'] == 'reconciliation'

    # live events are back as well
    beats.virsh('destroy')
    told = listener.wait_for(beats.uuid, 'stopped_unexpectedly')
    assert 'found_by' not in told['details']

    # each once
    assert _transitions(listener.events(killed.uuid)) == [
        ('qemu_failed', 'raised')]
    assert _transitions(listener.events(panics.uuid)) == [
        ('guest_crashed', 'raised')]
    assert [event['transition']
            for event in listener.host_events('libvirt_lost')] == [
        'raised', 'cleared']
    # Nova itself writes a trace for each of its attempts
    assert driver.logged().count('Connection to libvirt failed') <= 1
