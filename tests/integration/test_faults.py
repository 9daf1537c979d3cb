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


"""Each fault of a real guest, end to end, from QEMU to a listener.

Times are shown, not asserted beyond what any machine must reach.
"""

import queue
import time

from oslo_config import cfg
import oslo_messaging
import pytest

from tests.integration import clients
from tests.integration import processes

HEARTBEAT = {'vmhealth:heartbeat': 'true'}
FAST = {'vmhealth:interval_ms': '200', 'vmhealth:timeout_ms': '200',
        'vmhealth:misses': '2'}
# Nova writes the new state after the spawn, the driver reads it then.
REFRESH_S = 5
NO_AGENT = 'vmh.agent=none'
PROJECT = 'a1b2c3d4e5f60718293a4b5c6d7e8f90'


@pytest.mark.parametrize('name,specs', [('at defaults', {}),
                                        ('at 200/200/2', FAST)])
def test_hung_agent(boot, listener, measured, name, specs):
    guest = boot(extra_specs=dict(HEARTBEAT, **specs))
    guest.wait_beating()
    hung = guest.tell('hang-agent')
    lost = listener.wait_for(guest.uuid, 'heartbeat_lost')
    told = clients.epoch(lost['received_at']) - hung
    measured('agent hung -> listener, ' + name, told)
    assert told < 10
    assert lost['severity'] == 'critical'
    assert lost['health'] == 'unhealthy'
    assert lost['heartbeat']['established']
    assert lost['details']['misses'] == specs.get('vmhealth:misses', '3')

    resumed = guest.tell('resume-agent')
    well = listener.wait_for(guest.uuid, 'heartbeat_lost', 'cleared')
    measured('agent resumed -> listener, ' + name,
             clients.epoch(well['received_at']) - resumed)
    assert well['health'] == 'healthy'
    assert well['conditions'] == []


def test_event_names_the_instance(boot, listener):
    """Everything a consumer needs to act is in the event itself."""
    guest = boot(NO_AGENT, dict(HEARTBEAT, **{'hw:watchdog_action': 'none'}))
    guest.tell('arm-watchdog')
    event = listener.wait_for(guest.uuid, 'watchdog_expired', seconds=60)
    assert event['tenant_id'] == PROJECT
    assert event['host'] == 'vmhealth-test'
    assert event['publisher_id'] == 'nova-compute:vmhealth-test'
    assert event['flavor_name'] == 'integration'
    assert event['extra_specs']['vmhealth:heartbeat'] == 'true'
    assert event['name'].startswith('guest-')
    assert event['sequence'] == 1
    assert not event['planned']


def test_context_is_the_instances_project(boot, broker):
    """Mistral and Ceilometer match on the message's context."""
    contexts = queue.Queue()

    class Endpoint:
        filter_rule = oslo_messaging.NotificationFilter(
            event_type='^instance.health$')

        def info(self, context, *_message):
            contexts.put(context)

    conf = cfg.ConfigOpts()
    conf([])
    reader = oslo_messaging.get_notification_listener(
        oslo_messaging.get_notification_transport(conf, url=broker.url),
        [oslo_messaging.Target(topic='versioned_notifications',
                               exchange='nova')],
        [Endpoint()], executor='threading', pool='context')
    reader.start()
    try:
        guest = boot(NO_AGENT, {'hw:watchdog_action': 'none'})
        guest.tell('arm-watchdog')
        assert contexts.get(timeout=60)['project_id'] == PROJECT
    finally:
        reader.stop()
        reader.wait()


def test_watchdog(boot, listener, measured):
    guest = boot(NO_AGENT, {'hw:watchdog_action': 'none'})
    guest.tell('arm-watchdog')
    event = listener.wait_for(guest.uuid, 'watchdog_expired', seconds=60)
    measured('watchdog event seen by us -> listener',
             clients.epoch(event['received_at'])
             - clients.epoch(event['occurred_at']))
    assert event['details']['action'] == 'none'
    assert event['health'] == 'unhealthy'


def test_full_disk(boot, listener, measured):
    guest = boot(NO_AGENT)
    guest.do('fill')
    # past the image's own 16 MiB, which have their room already
    guest.tell('write-disk 24', done=False)
    error = listener.wait_for(guest.uuid, 'io_error', seconds=60)
    measured('I/O error event seen by us -> listener',
             clients.epoch(error['received_at'])
             - clients.epoch(error['occurred_at']))
    assert error['details']['reason'] == 'enospc'
    assert error['details']['action'] == 'pause'
    assert error['details']['path'].endswith('/disk')
    assert error['subject'] == 'virtio-disk0'
    listener.wait_for(guest.uuid, 'paused_unexpectedly')

    guest.do('free')
    guest.virsh('resume')
    listener.wait_for(guest.uuid, 'io_error', 'cleared')
    listener.wait_for(guest.uuid, 'paused_unexpectedly', 'cleared')
    guest.wait_for('DONE write-disk 24', 60)


def test_panic(boot, listener):
    guest = boot(NO_AGENT, {'vmhealth:panic_device': 'true'})
    guest.tell('panic', done=False)
    event = listener.wait_for(guest.uuid, 'guest_crashed', seconds=60)
    assert event['health'] == 'unhealthy'


def test_audit(boot, listener):
    guest = boot(extra_specs=dict(HEARTBEAT, **FAST))
    guest.wait_beating()
    guest.tell('audit db 2 replication is broken')
    ill = listener.wait_for(guest.uuid, 'guest_unhealthy')
    assert ill['subject'] == 'db'
    assert ill['details']['message'] == 'replication is broken'
    assert ill['health'] == 'unhealthy'
    guest.tell('audit db 0 fine')
    listener.wait_for(guest.uuid, 'guest_unhealthy', 'cleared')


@pytest.mark.parametrize('agent', ['sh', 'c'])
def test_small_agent(boot, driver, listener, agent):
    """It beats, and goes on when the host's end of its port comes back."""
    guest = boot('vmh.agent=' + agent, dict(HEARTBEAT, **FAST))
    guest.wait_beating()
    guest.tell('hang-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost')
    guest.tell('resume-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost', 'cleared')
    for _ in range(2):
        # the host's end goes, as with nova-compute, and comes back
        driver.do('drop_channel', guest.uuid)
        before = driver.do('statistics')['reads']
        processes.wait_for(
            lambda least=before + 5:
            driver.do('statistics')['reads'] > least, 20,
            'answers to the next connection')


def test_stopped_behind_novas_back(boot, listener):
    guest = boot(NO_AGENT)
    guest.virsh('destroy')
    event = listener.wait_for(guest.uuid, 'stopped_unexpectedly')
    assert event['health'] == 'unhealthy'


def test_guest_powers_itself_off(boot, listener):
    guest = boot(NO_AGENT)
    guest.tell('poweroff', done=False)
    event = listener.wait_for(guest.uuid, 'guest_shutdown')
    assert event['severity'] == 'info'


def test_no_call_to_the_conductor_on_the_way(boot, driver, listener):
    """A fault is told from what the driver has at hand."""
    guest = boot(extra_specs=dict(HEARTBEAT, **FAST))
    guest.wait_beating()
    time.sleep(REFRESH_S)
    before = driver.do('conductor_calls')
    guest.tell('hang-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost')
    assert driver.do('conductor_calls') == before
