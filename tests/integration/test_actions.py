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

"""What is done to a real guest that is lost, and what is not."""

import time

from tests.integration import clients
from tests.integration import processes

FAST = {'vmhealth:heartbeat': 'true', 'vmhealth:interval_ms': '200',
        'vmhealth:timeout_ms': '200', 'vmhealth:misses': '2'}
# Well past the tests' action_delay_s.
LONG_ENOUGH_S = clients.GRACE_S + 2


def wants(action):
    return dict(FAST, **{'vmhealth:action': action})


def states(listener, guest):
    """What was told of the guest's actions, a list for each of its losses."""
    losses = []
    for event in listener.events(guest.uuid):
        if event['cause'] != 'heartbeat_lost':
            continue
        if event['transition'] == 'raised':
            losses.append([])
        losses[-1].append((event['details'].get('action_state'),
                           event['details'].get('action_reason')))
    return losses


def wait_for_state(listener, guest, *state, loss=1):
    """Until that was told of the guest's first loss, or a later one."""
    processes.wait_for(lambda: state in sum(
        states(listener, guest)[loss - 1:], []), 30, 'action %s %s' % state)


def test_hung_guest_is_reset(boot, listener, measured):
    """A kernel that stands still, which no agent's restart would help."""
    guest = boot(extra_specs=wants('reset'))
    guest.wait_beating()
    booted = guest.console().count('GUEST-UP')
    hung = guest.tell('panic', done=False)
    lost = listener.wait_for(guest.uuid, 'heartbeat_lost')
    assert lost['details']['action'] == 'reset'
    assert lost['details']['action_state'] == 'pending'
    wait_for_state(listener, guest, 'done', None)

    processes.wait_for(
        lambda: guest.console().count('GUEST-UP') > booted, 90, 'boot')
    guest.wait_beating(2)
    well = listener.wait_for(guest.uuid, 'heartbeat_lost', 'cleared',
                             seconds=60)
    measured('guest hung -> beating again after its reset',
             time.time() - hung)
    assert well['health'] == 'healthy'
    # the reset was no fault of its own
    assert {event['cause'] for event in listener.events(guest.uuid)} == {
        'heartbeat_lost'}


def test_what_is_not_allowed_is_not_done(boot, listener):
    guest = boot(extra_specs=wants('poweroff'))
    guest.wait_beating()
    guest.tell('hang-agent')
    lost = listener.wait_for(guest.uuid, 'heartbeat_lost')
    assert 'action' not in lost['details']
    time.sleep(LONG_ENOUGH_S)
    guest.tell('resume-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost', 'cleared')


def test_quota(boot, listener):
    """The tests allow two actions."""
    guest = boot(extra_specs=wants('pause'))
    guest.wait_beating()
    for round_ in (1, 2):
        guest.tell('hang-agent')
        wait_for_state(listener, guest, 'done', None, loss=round_)
        assert guest.virsh('domstate').strip() == 'paused'
        guest.virsh('resume')
        guest.tell('resume-agent')
        guest.wait_beating(round_ + 1)
    guest.tell('hang-agent')
    wait_for_state(listener, guest, 'withheld', 'quota', loss=3)
    assert guest.virsh('domstate').strip() == 'running'


def test_put_off_while_nova_is_at_work(boot, listener):
    guest = boot(extra_specs=wants('reset'))
    guest.wait_beating()
    guest.tell('hang-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost')
    guest.do('pause')
    guest.do('unpause')
    wait_for_state(listener, guest, 'done', None)
    listener.wait_for(guest.uuid, 'heartbeat_lost', 'cleared', seconds=90)


def test_withheld_where_nova_paused_the_guest(boot, listener):
    guest = boot(extra_specs=wants('reset'))
    guest.wait_beating()
    guest.tell('hang-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost')
    guest.do('pause')
    wait_for_state(listener, guest, 'withheld', 'not_running')
    guest.do('unpause')
    guest.tell('resume-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost', 'cleared')


def test_who_answers_again_is_left_alone(boot, listener):
    guest = boot(extra_specs=wants('reset'))
    guest.wait_beating()
    guest.tell('hang-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost')
    guest.tell('resume-agent')
    well = listener.wait_for(guest.uuid, 'heartbeat_lost', 'cleared')
    assert well['details']['action_state'] == 'withheld'
    assert well['details']['action_reason'] == 'recovered'
    time.sleep(LONG_ENOUGH_S)
    assert guest.console().count('GUEST-UP') == 1
