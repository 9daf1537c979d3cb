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
# What takes a process's start or a guest's under emulation.
SOON_S = 10
# What is known once libvirtd answers; some 100 ms on a machine that is idle.
TOLD_S = 2


def _transitions(events, of_host=False):
    """What was told of an instance itself, or of it because of its host."""
    return [(event['cause'], event['transition']) for event in events
            if (event['cause'] == 'host_fault') == of_host]


@pytest.fixture
def away(libvirtd):
    """Kill libvirtd; it is back after the test, whatever happens."""
    libvirtd.kill()
    yield libvirtd
    if not libvirtd.running:
        libvirtd.start()


@pytest.fixture
def guests(boot):
    """Two to be killed, one to panic, one that beats throughout."""
    killed, later = boot(NO_AGENT), boot(NO_AGENT)
    panics = boot(NO_AGENT, {'vmhealth:panic_device': 'true'})
    beats = boot(extra_specs=SPECS)
    beats.wait_beating()
    return killed, panics, beats, later


def _lost(listener, transition, number=1):
    """Wait for so many words that libvirt is lost, or back; the last."""
    def told():
        return [event for event in listener.host_events('libvirt_lost')
                if event['transition'] == transition][number - 1:]
    return processes.wait_for(told, SOON_S, 'word of libvirtd')[0]


def test_libvirtd_killed(guests, away, driver, listener, measured):
    killed, panics, beats, later = guests
    began = time.monotonic()
    lost = _lost(listener, 'raised')
    measured('libvirtd killed -> listener',
             clients.epoch(lost['received_at'])
             - clients.epoch(lost['occurred_at']))
    assert lost['severity'] == 'critical'
    assert {killed.uuid, panics.uuid, beats.uuid} <= lost['instances'].keys()
    assert lost['status'] == 'MAINTENANCE'
    for guest in guests:
        told = listener.wait_for(guest.uuid, 'host_fault')
        assert told['subject'] == 'libvirt_lost'
        assert told['details']['host_event'] == lost['event_id']
        assert told['host_status'] == 'MAINTENANCE'

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
    assert _transitions(listener.events(killed.uuid)) == []
    assert _transitions(listener.events(panics.uuid)) == []

    away.start()
    answers = time.time()
    back = clients.epoch(_lost(listener, 'cleared')['received_at'])
    measured('libvirtd answers -> listener', back - answers)
    assert back - answers < TOLD_S
    for guest, cause in ((killed, 'qemu_failed'), (panics, 'guest_crashed')):
        told = listener.wait_for(guest.uuid, cause, seconds=SOON_S)
        after = clients.epoch(told['received_at']) - back
        measured('libvirt_lost cleared -> listener, ' + cause, after)
        assert after < TOLD_S
        assert told['details']['found_by'] == 'reconciliation'

    # live events are back as well
    beats.virsh('destroy')
    told = listener.wait_for(beats.uuid, 'stopped_unexpectedly')
    assert 'found_by' not in told['details']

    # Each once, also after the next comparison, which finds what is new.
    away.kill()
    _lost(listener, 'raised', 2)
    os.kill(away.qemu_pid(later.name), signal.SIGKILL)
    away.start()
    listener.wait_for(later.uuid, 'qemu_failed', seconds=SOON_S)
    assert _transitions(listener.events(killed.uuid)) == [
        ('qemu_failed', 'raised')]
    assert _transitions(listener.events(panics.uuid)) == [
        ('guest_crashed', 'raised')]
    assert [event['transition']
            for event in listener.host_events('libvirt_lost')] == [
        'raised', 'cleared'] * 2
    assert _transitions(listener.events(later.uuid), of_host=True) == [
        ('host_fault', 'raised'), ('host_fault', 'cleared')] * 2
    # Nova itself writes a trace for each of its attempts
    assert driver.logged().count('Connection to libvirt failed') <= 2
