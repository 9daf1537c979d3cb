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

"""Which events a consumer wants."""

import pytest

from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import parsing
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import received
from tests.unit.notifications import examples
from tests.unit.notifications import host_examples

HEALTHS = frozenset([v.Health.UNHEALTHY])
CAUSES = frozenset([v.Cause.IO_ERROR, v.Cause.HEARTBEAT_LOST])
PROJECTS = frozenset([examples.IDENTITY.tenant_id])


@pytest.mark.parametrize('wanted, matches', [
    ({}, True),
    ({'health': HEALTHS}, True),
    ({'health': frozenset([v.Health.HEALTHY])}, False),
    ({'cause': CAUSES}, True),
    ({'cause': frozenset([v.Cause.GUEST_CRASHED])}, False),
    ({'project': PROJECTS}, True),
    ({'project': frozenset(['other'])}, False),
    ({'host': frozenset(['compute-1'])}, True),
    ({'host': frozenset(['compute-2'])}, False),
    ({'health': HEALTHS, 'cause': CAUSES, 'project': PROJECTS}, True),
    # all of them, not any
    ({'health': HEALTHS, 'host': frozenset(['compute-2'])}, False),
])
def test_filter(wanted, matches):
    event = parsing.parse(
        payload.payload_of(
            examples.IO_ERROR, examples.IDENTITY, examples.HEARTBEAT),
        examples.PUBLISHER_ID, examples.BEGIN)
    assert received.EventFilter(**wanted).matches(event) is matches


LOST_TOGETHER = frozenset([v.HostCause.MANY_GUESTS_LOST])


@pytest.mark.parametrize('wanted, matches', [
    ({}, True),
    ({'cause': LOST_TOGETHER}, True),
    ({'cause': frozenset([v.Cause.IO_ERROR])}, False),
    ({'host': frozenset(['compute-1'])}, True),
    ({'host': frozenset(['compute-2'])}, False),
    # one of its instances is enough
    ({'project': PROJECTS | {'other'}}, True),
    ({'project': frozenset(['other'])}, False),
    ({'cause': LOST_TOGETHER, 'host': frozenset(['compute-2'])}, False),
])
def test_filter_of_hosts(wanted, matches):
    event = parsing.parse_host(
        payload.host_payload_of(*host_examples.HOST_SAMPLES[
            'host-health-many_guests_lost-raised']),
        examples.PUBLISHER_ID, examples.BEGIN)
    assert received.HostEventFilter(**wanted).matches(event) is matches


@pytest.mark.parametrize('wanted, matches', [
    ({}, True),
    ({'project': PROJECTS | {'other'}}, True),
    ({'project': frozenset(['other'])}, False),
])
def test_filter_of_maintenance(wanted, matches):
    event = parsing.parse_maintenance(
        payload.maintenance_payload_of(host_examples.ANNOUNCED),
        host_examples.MAINTENANCE_ID, examples.BEGIN)
    assert received.MaintenanceFilter(**wanted).matches(event) is matches
