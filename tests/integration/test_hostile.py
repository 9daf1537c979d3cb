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


"""A guest that floods its channel harms nobody but itself."""

import time

FAST = {'vmhealth:heartbeat': 'true', 'vmhealth:interval_ms': '200',
        'vmhealth:timeout_ms': '1000', 'vmhealth:misses': '5'}
# What the loop says when it could not serve everybody in time.
LATE = 'the heartbeat loop came'
FLOOD_S = 10
# What one guest may cost while it floods: its line buffer and the garbage
# that Python has yet to collect. A leak would be some MiB a second.
GROWTH_KIB = 8 * 1024


def test_flood(boot, driver, listener):
    good, evil = boot(extra_specs=FAST), boot(extra_specs=FAST)
    good.wait_beating()
    evil.wait_beating()
    before = driver.do('resident_kib')
    logged = len(driver.logged())
    evil.tell('flood')
    time.sleep(FLOOD_S)

    assert driver.do('resident_kib') - before < GROWTH_KIB
    said = [line for line in driver.logged()[logged:].splitlines()
            if evil.uuid in line and ' WARNING ' in line
            and 'heartbeat_lost' not in line]
    assert len(said) == 1, said
    # its own heartbeat is gone with the agent, the neighbour's is not
    assert [e['cause'] for e in listener.events(evil.uuid)] == [
        'heartbeat_lost']
    assert listener.events(good.uuid) == []
    assert LATE not in driver.logged()[logged:]
    good.tell('hang-agent')
    listener.wait_for(good.uuid, 'heartbeat_lost')
