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

"""A real guest's agent is told what Nova does, and Nova waits for it."""

import time

from tests.integration import processes

SPECS = {'vmhealth:heartbeat': 'true', 'vmhealth:interval_ms': '200',
         'vmhealth:timeout_ms': '500', 'vmhealth:misses': '2'}


def told(guest, operation):
    """How often the agent was told of it, since the domain has started."""
    return guest.console().count('NOTICE ' + operation)


def outcomes(driver, guest):
    """What the log says of the notices that Nova waited for."""
    return [line.split('its guest was ')[1].rsplit(' after ')[0]
            for line in driver.logged().splitlines()
            if guest.uuid in line and 'its guest was told of' in line]


def test_told_before_and_after(boot, driver, listener, measured):
    guest = boot(extra_specs=SPECS)
    guest.wait_beating()
    for before, after in (('pause', 'unpause'), ('suspend', 'resume')):
        began = time.monotonic()
        guest.do(before)
        measured('%s with a notice' % before, time.monotonic() - began)
        # it was told before it stood still
        assert told(guest, before) == 1
        guest.do(after)
        guest.attach()
        processes.wait_for(lambda: told(guest, 'resumed') == 1, 60,
                           'notice of resumed')
    before = guest.established()
    guest.do('reboot')
    guest.attach()
    guest.wait_beating(before + 1)
    guest.do('power_off')
    assert told(guest, 'stop') == 1
    assert outcomes(driver, guest) == [
        'told of %s and was ready' % operation
        for operation in ('pause', 'suspend', 'reboot', 'stop')]
    assert listener.events(guest.uuid) == []


def test_an_agent_that_hangs_is_waited_for_within_the_limit(boot, driver):
    """The tests allow three seconds; the guest is not lost yet."""
    guest = boot(extra_specs=dict(SPECS, **{'vmhealth:misses': '50'}))
    guest.wait_beating()
    guest.tell('hang-agent')
    began = time.monotonic()
    guest.do('pause')
    assert time.monotonic() - began >= 3
    guest.do('unpause')
    assert outcomes(driver, guest) == ['told of pause and gave no answer']


def test_an_agent_that_wants_no_notices_costs_nothing(boot, driver):
    guest = boot('vmh.agent=sh', SPECS)
    guest.wait_beating()
    guest.do('pause')
    guest.do('unpause')
    assert outcomes(driver, guest) == []
