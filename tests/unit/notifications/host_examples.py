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

"""Events of hosts and of their maintenance: what the sample files show."""

import dataclasses

from nova_vmhealth.core import maintenance
from nova_vmhealth.core import vocabulary as v
from tests.unit.notifications import examples

_BEGIN = examples.BEGIN
_HOST = examples.IDENTITY.host
_OWN = examples.IDENTITY.tenant_id
_OTHER = 'c8e1f5a2b3d44e6f8091a2b3c4d5e6f7'

_NEIGHBOURS = {
    '178b0921-8f85-4257-88b6-2e743b5a975c': _OWN,
    '28a1c4d6-0f4b-4a79-9c6e-6c1f0e9d2b11': _OWN,
    '3f9b2e57-5d3c-4b0a-8a4f-90d7c1e5a222': _OTHER,
    '4d0e6f81-77aa-4c3e-b1d2-1f2e3d4c5b33': _OTHER,
    '5e1f7092-88bb-4d4f-82e3-203f4e5d6c44': (
        'd9f2a6b3c4e55f70a1b2c3d4e5f60718'),
}

LOST = v.HostEvent(
    event_id='e7c1d2b3-4a5f-4e60-8b71-9c0d1e2f3a01',
    sequence=1,
    transition=v.Transition.RAISED,
    cause=v.HostCause.MANY_GUESTS_LOST,
    severity=v.Severity.CRITICAL,
    occurred_at=_BEGIN + 4.000973,
    detected_at=_BEGIN + 5.201104,
    instance_uuids=tuple(_NEIGHBOURS),
    instance_count=5,
    details={
        'host_event': 'e7c1d2b3-4a5f-4e60-8b71-9c0d1e2f3a01',
        'lost_in_all': '5',
        'watched': '12',
        'window_s': '10',
    },
    reason='5 guests lost at once',
    status=v.HostStatus.UP)

_CLEARED = dataclasses.replace(
    LOST,
    event_id='e7c1d2b3-4a5f-4e60-8b71-9c0d1e2f3a03',
    sequence=3,
    transition=v.Transition.CLEARED,
    occurred_at=_BEGIN + 41.700822,
    detected_at=_BEGIN + 41.700822,
    details={**LOST.details, 'lost_in_all': '7'})


def _raised(event_id, sequence, cause, at, detected_after, **fields):
    """Give an event that raises a condition of the whole host."""
    details = {'host_event': event_id, **fields.pop('details', {})}
    return dataclasses.replace(
        LOST, event_id=event_id, sequence=sequence, cause=cause,
        severity=v.HOST_SEVERITY[cause], occurred_at=_BEGIN + at,
        detected_at=round(_BEGIN + at + detected_after, 6), details=details,
        **fields)


def _cleared(raised, event_id, at, **fields):
    """Give the event that clears it."""
    return dataclasses.replace(
        raised, event_id=event_id,
        sequence=raised.sequence and raised.sequence + 1,
        transition=v.Transition.CLEARED, occurred_at=_BEGIN + at,
        detected_at=_BEGIN + at,
        **{'status': v.HostStatus.UP, **fields})


_LIBVIRT = _raised(
    'f08d2e41-6b7a-4c52-9d83-1e2f3a4b5c01', 4, v.HostCause.LIBVIRT_LOST,
    600.104233, 0.000638, details={'reason': 'eof'},
    reason='no connection to libvirt: eof',
    status=v.HostStatus.MAINTENANCE, action=v.HostAction.DISABLE)

_STORAGE = _raised(
    examples.HOST_FAULT.details['host_event'], 6, v.HostCause.STORAGE_FAULT,
    900.250114, 0.000284, subject='nfs4:store-1:/instances',
    details={
        'failing': '3',
        'io_error': 'enospc',
        'path': '/var/lib/nova/instances/178b0921/disk',
    },
    reason=examples.HOST_FAULT.details['reason'],
    status=v.HostStatus.MAINTENANCE, action=v.HostAction.DISABLE)

_MEMORY = _raised(
    'b4c69d2e-1f30-4b7c-8d8e-9f0a1b2c3d01', 8, v.HostCause.MEMORY_FAILURE,
    1500.702316, 0.000197,
    details={
        'action': 'ignore',
        'flags': 'action_required',
        'instance': '3f9b2e57-5d3c-4b0a-8a4f-90d7c1e5a222',
    },
    reason='the memory of QEMU itself is bad',
    status=v.HostStatus.MAINTENANCE, action=v.HostAction.DISABLE)

# in a window of maintenance, and so nothing is done yet
_REPORTED = _raised(
    'c5d7ae3f-2041-4c8d-9e9f-0a1b2c3d4e01', 9, v.HostCause.REPORTED_FAULT,
    1800.0, 0.014227, details={'reporter': 'zabbix'},
    reason='power supply 2 failed', action=v.HostAction.DISABLE,
    suppressed=True)

_DOWN = _raised(
    examples.ON_BEHALF.details['host_event'], 0, v.HostCause.HOST_DOWN,
    1200.500873, 1.713633,
    details={'last_beacon_at': '2026-03-02T08:35:30.500873Z'},
    reason=examples.ON_BEHALF.details['reason'],
    status=v.HostStatus.DOWN, action=v.HostAction.FORCE_DOWN)

_SILENT = _raised(
    'd6e8bf40-3152-5d9e-8fa0-1b2c3d4e5f00', 0, v.HostCause.BEACONS_LOST,
    2400.500921, 1.702114,
    details={
        'check': 'tcp:22',
        'last_beacon_at': '2026-03-02T08:55:30.500921Z',
        'withheld': 'alive',
    },
    reason='3 beacons were missed; tcp:22: 192.0.2.11 answers',
    status=v.HostStatus.UNKNOWN)

# name of the sample -> event, host, projects
HOST_SAMPLES = {
    f'host-health-{event.cause.value}-{event.transition.value}': (
        event, _HOST, _NEIGHBOURS)
    for event in (
        LOST, _CLEARED, _LIBVIRT,
        _cleared(_LIBVIRT, 'f08d2e41-6b7a-4c52-9d83-1e2f3a4b5c02',
                 660.381406),
        _STORAGE,
        _cleared(_STORAGE, 'a3b58c1d-0e2f-4a6b-9c7d-8e9f0a1b2c02',
                 1020.251873),
        _MEMORY, _REPORTED, _DOWN,
        _cleared(_DOWN, '6d0c5b1e-7a3f-5e29-8d4c-2b1a0f9e8d02', 3000.127415),
        _SILENT)}

MAINTENANCE_ID = 'nova-vmhealth-inspector'

ANNOUNCED = v.MaintenanceEvent(
    event_id='e7f9c051-4263-5eaf-90b1-2c3d4e5f6001',
    window_id='f80ad162-5374-4fb0-a1c2-3d4e5f607100',
    stage=v.MaintenanceStage.ANNOUNCED,
    project_id=_OWN,
    host_id=maintenance.host_id(_OWN, _HOST),
    # ten o'clock to eleven
    starts_at=_BEGIN + 6270,
    ends_at=_BEGIN + 9870,
    reason='new memory modules',
    occurred_at=_BEGIN + 5.318204,
    instances={
        '178b0921-8f85-4257-88b6-2e743b5a975c': 'db-1',
        '28a1c4d6-0f4b-4a79-9c6e-6c1f0e9d2b11': 'web-1',
    },
    instance_count=2)

MAINTENANCE_SAMPLES = {
    f'instance-maintenance-{event.stage.value}': event for event in (
        ANNOUNCED,
        dataclasses.replace(
            ANNOUNCED, event_id='e7f9c051-4263-5eaf-90b1-2c3d4e5f6002',
            stage=v.MaintenanceStage.STARTED,
            occurred_at=ANNOUNCED.starts_at),
        dataclasses.replace(
            ANNOUNCED, event_id='e7f9c051-4263-5eaf-90b1-2c3d4e5f6003',
            stage=v.MaintenanceStage.ENDED, occurred_at=ANNOUNCED.ends_at,
            instances={'178b0921-8f85-4257-88b6-2e743b5a975c': 'db-1'},
            instance_count=1))}
