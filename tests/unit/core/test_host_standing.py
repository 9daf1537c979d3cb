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

"""How the host stands: its record, and whether maintenance is on."""

import uuid

import pytest

from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth.core import host_standing
from nova_vmhealth.core import maintenance
from nova_vmhealth.core.vocabulary import HostStatus

BY_OPERATOR = ServiceRecord(True, 'new fans', False)
BY_US = ServiceRecord(True, 'vmhealth: libvirt_lost: eof', False)
BY_INSPECTOR = ServiceRecord(True, 'vmhealth-inspector: host_down', True)
BY_NOVA = ServiceRecord(True, 'AUTO: Connection to libvirt lost: 1', False)
UP = ServiceRecord(False, None, False)
FORCED = ServiceRecord(False, None, True)


def window(starts_at, ends_at):
    return maintenance.Window(str(uuid.uuid4()), 'compute1', starts_at,
                              ends_at, 'new fans', 'operator', 1.0)


@pytest.mark.parametrize('record, windows, wall, status, planned', [
    (None, [], 50.0, HostStatus.UNKNOWN, False),
    (UP, [], 50.0, HostStatus.UP, False),
    (FORCED, [], 50.0, HostStatus.DOWN, False),
    (BY_US, [], 50.0, HostStatus.MAINTENANCE, False),
    (BY_INSPECTOR, [], 50.0, HostStatus.DOWN, False),
    (BY_NOVA, [], 50.0, HostStatus.MAINTENANCE, False),
    (BY_OPERATOR, [], 50.0, HostStatus.MAINTENANCE, True),
    (None, [(40.0, 60.0)], 50.0, HostStatus.UNKNOWN, True),
    (UP, [(40.0, 60.0)], 39.0, HostStatus.UP, False),
    (UP, [(40.0, 60.0)], 40.0, HostStatus.UP, True),
    (UP, [(40.0, 60.0)], 60.0, HostStatus.UP, False),
    (UP, [(10.0, 20.0), (40.0, None)], 1e9, HostStatus.UP, True),
    (BY_OPERATOR, [(40.0, 60.0)], 99.0, HostStatus.MAINTENANCE, True),
])
def test_status_and_plans(record, windows, wall, status, planned):
    standing = host_standing.HostStanding()
    standing.record = record
    standing.windows = [window(*each) for each in windows]
    assert standing.status is status
    assert standing.is_planned(wall) is planned
