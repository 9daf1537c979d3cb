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

"""What stands between the host and a real guest's agent, and what is told."""

import json
import os
import signal
import socket
import sys
import time

import pytest

from nova_vmhealth.core import protocol
from tests.integration import clients
from tests.integration import processes

HEARTBEAT = {'vmhealth:heartbeat': 'true'}
FAST = dict(HEARTBEAT, **{'vmhealth:interval_ms': '200',
                          'vmhealth:timeout_ms': '200',
                          'vmhealth:misses': '2'})
# Ten intervals of a guest that is FAST.
LONG_ENOUGH_S = 2


@pytest.fixture
def socket_of(libvirtd):
    """A function that gives the path of a guest's socket, seen from here."""
    return lambda guest: os.path.join(
        libvirtd.folder, 'lib', 'qemu',
        '%s.%s.sock' % (protocol.CHANNEL_NAME, guest.name))


def said_of(driver, guest, since=0):
    """The driver's lines about a guest."""
    return [line for line in driver.logged()[since:].splitlines()
            if guest.uuid in line]


def wait_for_line(driver, guest, text, seconds=30):
    def said():
        return [line for line in said_of(driver, guest) if text in line]
    return processes.wait_for(said, seconds, 'line with %r' % text)[0]


def causes(listener, guest):
    return [event['cause'] for event in listener.events(guest.uuid)]


def test_symbolic_link_in_the_sockets_place(boot, driver, listener,
                                            socket_of):
    """Nobody follows it but libvirtd, and the heartbeat goes that way."""
    guest = boot(extra_specs=dict(FAST, **{'vmhealth:misses': '50'}))
    guest.wait_beating()
    place = socket_of(guest)
    os.rename(place, place + '.moved')
    os.symlink(os.path.basename(place) + '.moved', place)
    before = driver.do('statistics')['reads']
    driver.do('drop_channel', guest.uuid)

    assert ' WARNING ' in wait_for_line(driver, guest, 'symbolic link')
    wait_for_line(driver, guest, 'takes a stream of libvirt')
    processes.wait_for(
        lambda: driver.do('statistics')['connected_libvirt'] == 1, 10,
        'guest by the way of libvirt')
    processes.wait_for(
        lambda: driver.do('statistics')['reads'] > before + 5, 10,
        'answers')
    time.sleep(LONG_ENOUGH_S)
    assert causes(listener, guest) == []

    # another way to ask, the same judgement
    guest.tell('hang-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost', seconds=30)
    guest.tell('resume-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost', 'cleared')
    wait_for_line(driver, guest, 'established, way: libvirt')

    # and back, once it can be
    os.unlink(place)
    os.rename(place + '.moved', place)
    driver.do('drop_channel', guest.uuid)
    processes.wait_for(
        lambda: driver.do('statistics')['connected_libvirt'] == 0
        and driver.do('statistics')['waiting'] == 0, 10, 'guest by its socket')
    time.sleep(LONG_ENOUGH_S)
    assert causes(listener, guest) == ['heartbeat_lost'] * 2


def test_socket_that_is_gone(boot, driver, listener, socket_of):
    """libvirtd does not find it either; it comes back by itself."""
    guest = boot(extra_specs=FAST)
    guest.wait_beating()
    place = socket_of(guest)
    os.rename(place, place + '.moved')
    driver.do('drop_channel', guest.uuid)
    wait_for_line(driver, guest, 'no such file')
    wait_for_line(driver, guest, 'libvirtd does not find the socket either')
    os.rename(place + '.moved', place)
    processes.wait_for(
        lambda: driver.do('statistics')['connected_socket'] == 1, 20,
        'guest by its socket')
    processes.wait_for(lambda: driver.do('statistics')['lost'] == 0, 20,
                       'answers')
    guest.tell('hang-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost')


@pytest.mark.parametrize('mode', [[], ['--eventlet']],
                         ids=['threads', 'eventlet'])
def test_no_permission_on_the_socket(boot, driver, libvirtd, tmp_path, mode):
    """Another user than root, in both of nova-compute's modes."""
    guest = boot(extra_specs=HEARTBEAT)
    guest.wait_beating()
    driver.do('unwatch', guest.uuid)
    process = processes.Process(
        ['nsenter', '-m', '-t', str(libvirtd.pid), sys.executable, '-m',
         'tests.integration.unprivileged', '--uri', libvirtd.uri,
         '--uuid', guest.uuid, '--name', guest.name, *mode],
        str(tmp_path / 'log'), pipes=True,
        env={'PYTHONPATH': clients.REPOSITORY, 'PYTHONSAFEPATH': '1'})
    try:
        said = json.loads(process.stdout.readline())
        assert 'permission denied on the socket' in said['log']
        beat = json.loads(process.stdout.readline())
        assert beat == {'kind': 'heartbeat_established',
                        'details': {'way': 'libvirt'}}
        process.stdin.close()
        *_, last = process.stdout
        assert json.loads(last) == {'left': []}
    finally:
        process.stop()


def test_flood_on_the_way_through_libvirt(boot, driver, socket_of):
    """It costs neither memory nor lines of the log."""
    guest = boot(extra_specs=FAST)
    guest.wait_beating()
    place = socket_of(guest)
    os.rename(place, place + '.moved')
    os.symlink(os.path.basename(place) + '.moved', place)
    driver.do('drop_channel', guest.uuid)
    processes.wait_for(
        lambda: driver.do('statistics')['connected_libvirt'] == 1, 10,
        'guest by the way of libvirt')
    before, logged = driver.do('resident_kib'), len(driver.logged())
    guest.tell('flood')
    time.sleep(12)
    assert driver.do('resident_kib') - before < 8 * 1024
    lines = said_of(driver, guest, logged)
    assert len(lines) < 6, lines


def test_another_client_of_the_socket(boot, driver, listener, socket_of):
    """It waits behind the heartbeat, and comes first once that stumbles."""
    guest = boot(extra_specs=FAST)
    guest.wait_beating()
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(socket_of(guest))
        driver.do('drop_channel', guest.uuid)
        line = wait_for_line(driver, guest, 'another program')
        assert ' WARNING ' in line and 'ss -xp' in line
        listener.wait_for(guest.uuid, 'heartbeat_lost')
    listener.wait_for(guest.uuid, 'heartbeat_lost', 'cleared')


def test_hung_agent_in_a_guest_that_lives(boot, listener):
    guest = boot(extra_specs=HEARTBEAT)
    guest.wait_beating()
    guest.tell('hang-agent')
    lost = listener.wait_for(guest.uuid, 'heartbeat_lost')
    assert lost['details']['assessment'] == 'guest_active'
    assert lost['details']['domain_state'] == 'running'
    assert lost['details']['port'] == 'connected'
    assert int(lost['details']['observed_ms']) >= 500


def test_hung_agent_that_is_lost_at_the_first_miss(boot, listener):
    """What else is known comes after the loss, as an update of it."""
    guest = boot(extra_specs=dict(FAST, **{'vmhealth:timeout_ms': '1000',
                                           'vmhealth:misses': '1'}))
    guest.wait_beating()
    guest.tell('hang-agent')
    lost = listener.wait_for(guest.uuid, 'heartbeat_lost')
    assert 'assessment' not in lost['details']
    more = listener.wait_for(guest.uuid, 'heartbeat_lost', 'updated')
    assert more['details']['assessment'] == 'guest_active'
    assert more['details']['misses'] == '1'


def test_agent_that_is_killed_has_exited(boot, listener):
    guest = boot(extra_specs=HEARTBEAT)
    guest.wait_beating()
    guest.tell('kill-agent')
    listener.wait_for(guest.uuid, 'agent_exited')
    time.sleep(LONG_ENOUGH_S)
    assert causes(listener, guest) == ['agent_exited']
    guest.tell('start-agent')
    listener.wait_for(guest.uuid, 'agent_exited', 'cleared')
    time.sleep(LONG_ENOUGH_S)
    assert causes(listener, guest) == ['agent_exited'] * 2


def test_pause_behind_novas_back(boot, listener):
    """No guest can answer meanwhile, so it is not asked."""
    guest = boot(extra_specs=FAST)
    guest.wait_beating()
    guest.virsh('suspend')
    time.sleep(LONG_ENOUGH_S)
    guest.virsh('resume')
    time.sleep(LONG_ENOUGH_S)
    assert 'heartbeat_lost' not in causes(listener, guest)
    guest.tell('hang-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost')


def test_qemu_that_hangs(boot, driver, libvirtd, listener):
    """It holds up nothing but what is asked of itself."""
    stuck = boot(extra_specs=HEARTBEAT)
    other = boot(extra_specs=FAST)
    stuck.wait_beating()
    other.wait_beating()
    with open(os.path.join(libvirtd.folder, 'run', 'qemu',
                           stuck.name + '.pid')) as f:
        qemu = int(f.read())
    os.kill(qemu, signal.SIGSTOP)
    try:
        lost = listener.wait_for(stuck.uuid, 'heartbeat_lost')
        assert lost['details']['domain_state'] == 'running'
        other.tell('hang-agent')
        listener.wait_for(other.uuid, 'heartbeat_lost')
    finally:
        os.kill(qemu, signal.SIGCONT)
    listener.wait_for(stuck.uuid, 'heartbeat_lost', 'cleared',
                      seconds=clients.BOOT_S)
