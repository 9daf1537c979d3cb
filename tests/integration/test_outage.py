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


"""The broker dies and comes back; Nova goes on, and so do the events."""

import time

from tests.integration import processes

SPECS = {'vmhealth:heartbeat': 'true', 'vmhealth:interval_ms': '200',
         'vmhealth:timeout_ms': '500', 'vmhealth:misses': '2'}
# Both ends try again after a while that grows to some 30 s.
RECONNECT_S = 90
# Far more than a pause takes, and far less than a wait for the broker.
NOVA_S = 20


def test_broker_killed(boot, broker, driver, listener, measured):
    guest = boot(extra_specs=SPECS)
    guest.wait_beating()
    broker.kill()
    guest.tell('audit away 2 nobody hears this')
    # nothing of Nova waits for the broker
    began = time.monotonic()
    guest.do('pause')
    guest.do('unpause')
    assert time.monotonic() - began < NOVA_S

    broker.start()
    rounds = iter(range(1000))

    def heard():
        """Fall ill once more, each time of something else."""
        guest.tell('audit back%d 2 ill' % next(rounds))
        return [event for event in listener.events(guest.uuid)
                if event['subject'].startswith('back')]
    event = processes.wait_for(heard, RECONNECT_S, 'event after the outage')
    assert event[0]['cause'] == 'guest_unhealthy'
    # What the broker's death took away shows as a gap in the sequence.
    assert event[0]['sequence'] > 1
    assert driver.running
    assert listener.running
