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


"""What Nova itself does to an instance is no fault."""

import time

from tests.integration import clients

SPECS = {'vmhealth:heartbeat': 'true', 'vmhealth:interval_ms': '200',
         'vmhealth:timeout_ms': '500', 'vmhealth:misses': '2'}
# Longer than this flavor's heartbeat takes to be lost, and than the grace.
LONG_ENOUGH_S = clients.GRACE_S + 1.5


def test_nothing_is_told(boot, driver, listener):
    """And the heartbeat comes back after each operation."""
    guest = boot(extra_specs=SPECS)
    guest.wait_beating()
    for stop, start in (('pause', 'unpause'), ('suspend', 'resume')):
        guest.do(stop)
        time.sleep(LONG_ENOUGH_S)
        guest.do(start)
    guest.attach()
    time.sleep(LONG_ENOUGH_S)
    for operations in (('reboot',), ('power_off', 'power_on')):
        before = guest.established()
        for operation in operations:
            guest.do(operation)
        guest.attach()
        guest.wait_beating(before + 1)
    assert listener.events(guest.uuid) == []
    guest.tell('hang-agent')
    listener.wait_for(guest.uuid, 'heartbeat_lost')


def test_nova_still_gets_its_lifecycle_events(boot, driver):
    guest = boot('vmh.agent=none')
    guest.do('pause')
    guest.do('unpause')
    assert driver.do('lifecycle', guest.uuid) == [
        'Resumed', 'Started', 'Paused', 'Resumed']
