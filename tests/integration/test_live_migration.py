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


"""Guests that go from one nova-compute to another, in the lab of tools/lab."""

import os

import pytest

from tests.integration import lab as lab_lib
from tests.integration.lab import Compute
from tests.integration.lab import openstack

# The lab installs itself where it has never been.
pytestmark = pytest.mark.timeout(1500)

INTERVAL_S = 1.0


@pytest.fixture(scope='module')
def computes(lab):
    """Both hosts of the lab, by the names that Nova has for them."""
    first = openstack('compute', 'service', 'list', '--service',
                      'nova-compute', '-f', 'value', '-c', 'Host')
    first, = set(first.split()) - {lab_lib.SECOND}
    lab_lib.tool('second', 'up')
    yield {first: Compute(), lab_lib.SECOND: Compute('compute-2', 'second')}
    lab_lib.tool('second', 'down')


def _told(bus, uuid):
    return [(event['sequence'], event['host'], event['cause'],
             event['transition']) for event in bus.events(uuid)]


def _migrate(server, host):
    openstack('server', 'migrate', '--live-migration', '--host', host,
              '--wait', server)
    assert lab_lib.show(server, 'OS-EXT-SRV-ATTR:host') == host


def test_there_and_back(computes, lab_bus, delete_later, measured):
    (first, here), (second, there) = computes.items()
    name = 'integration-moving'
    delete_later(name)
    uuid = openstack('server', 'create', '--flavor', 'vmhealth', '--image',
                     'vmhealth-guest', '--host', first, *lab_lib.NETLESS,
                     '-f', 'value', '-c', 'id', name)
    here.wait_beating(uuid)
    console = here.console(uuid)
    os.write(console, b'audit db 1 slow\n')
    lab_bus.wait_for(uuid, 'guest_degraded')
    expected = [(1, first, 'guest_degraded', 'raised')]
    assert _told(lab_bus, uuid) == expected

    # What is wrong ends at the old host and is found at the new one, where
    # the numbers go on.
    _migrate(name, second)
    there.wait_beating(uuid)
    resumed = there.times(uuid, 'VM Resumed')[0]
    waited = there.established(uuid)[0] - resumed
    measured('live migration: resumed at the new host -> first answer', waited)
    assert waited < 2 * INTERVAL_S
    lab_bus.wait_for(uuid, 'guest_degraded', 'cleared')
    expected.append((2, first, 'guest_degraded', 'cleared'))
    expected.append((3, second, 'guest_degraded', 'raised'))
    assert sorted(_told(lab_bus, uuid)) == expected

    # A guest that hangs on its way back is missed there at once.
    os.write(there.console(uuid), b'hang-agent\n')
    _migrate(name, first)
    lab_bus.wait_for(uuid, 'heartbeat_lost')
    expected.append((4, second, 'guest_degraded', 'cleared'))
    expected.append((5, first, 'heartbeat_lost', 'raised'))
    assert sorted(_told(lab_bus, uuid)) == expected
