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

"""Events as the ledger makes them: what the sample files show."""

import dataclasses

from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import identity

# 2026-03-02T08:15:30Z
BEGIN = 1772439330.0

PUBLISHER_ID = 'nova-compute:compute-1'
# who tells what has the sequence 0
INSPECTOR_ID = 'nova-vmhealth-inspector:controller-1'

IDENTITY = identity.InstanceIdentity(
    uuid='178b0921-8f85-4257-88b6-2e743b5a975c',
    name='db-1',
    tenant_id='6f70656e737461636b20342065766572',
    user_id='a2c4e6f80b1d3c5e7f90a1b2c3d4e5f6',
    host='compute-1',
    node='compute-1.example.org',
    availability_zone='nova',
    flavor_name='m1.guarded',
    extra_specs={
        'hw:watchdog_action': 'none',
        'trait:CUSTOM_VMHEALTH_HEARTBEAT': 'required',
        'vmhealth:heartbeat': 'true',
    },
    image_uuid='155d900f-4e14-4e4c-a73d-069cbf4541e6',
    state='active',
    power_state='running',
    metadata={'role': 'primary'},
    host_status='UP')

HEARTBEAT = v.HeartbeatStatus(
    interval_ms=1000, timeout_ms=1000, misses_allowed=3, misses=0,
    established=True, last_seen_at=BEGIN + 0.001152)

_LOST = v.Condition(
    v.Cause.HEARTBEAT_LOST, '', v.Severity.CRITICAL, BEGIN + 1.000251, 1)
_WATCHDOG = v.Condition(
    v.Cause.WATCHDOG_EXPIRED, '', v.Severity.CRITICAL, BEGIN + 30.25, 1)
_DISK = v.Condition(
    v.Cause.IO_ERROR, 'virtio-disk0', v.Severity.CRITICAL, BEGIN + 60.5, 1)
_DISK_AGAIN = dataclasses.replace(_DISK, count=42)

LOST = v.HealthEvent(
    event_id='0b5e8a4c-3a4e-4f0e-9f53-6b1d8b1a7f01',
    sequence=1,
    instance_uuid=IDENTITY.uuid,
    transition=v.Transition.RAISED,
    cause=v.Cause.HEARTBEAT_LOST,
    subject='',
    severity=v.Severity.CRITICAL,
    health=v.Health.UNHEALTHY,
    previous_health=v.Health.HEALTHY,
    conditions=(_LOST,),
    occurred_at=BEGIN + 1.000251,
    detected_at=BEGIN + 4.000973,
    details={
        'interval_ms': '1000',
        'last_seen_at': '2026-03-02T08:15:30.001152Z',
        'misses': '3',
        'silent_ms': '3999',
        'timeout_ms': '1000',
    })

KNOWN_BETTER = dataclasses.replace(
    LOST,
    event_id='0b5e8a4c-3a4e-4f0e-9f53-6b1d8b1a7f06',
    sequence=2,
    transition=v.Transition.UPDATED,
    previous_health=v.Health.UNHEALTHY,
    occurred_at=BEGIN + 9.003127,
    detected_at=BEGIN + 9.003311,
    details={
        **LOST.details,
        'action': 'reset',
        'action_state': 'done',
        'assessment': 'guest_stalled',
        'block_requests': '0',
        'domain_state': 'running',
        'observed_ms': '2104',
        'port': 'connected',
        'vcpu_delay_ms': '0',
        'vcpu_time_ms': '0',
    })

FLAPPING = dataclasses.replace(
    LOST,
    event_id='0b5e8a4c-3a4e-4f0e-9f53-6b1d8b1a7f07',
    sequence=11,
    cause=v.Cause.FLAPPING,
    subject='heartbeat',
    severity=v.Severity.WARNING,
    conditions=(v.Condition(
        v.Cause.FLAPPING, 'heartbeat', v.Severity.WARNING, BEGIN + 43.000298,
        1),),
    occurred_at=BEGIN + 43.000298,
    detected_at=BEGIN + 46.001035,
    details={'cause': 'heartbeat_lost', 'flips': '6', 'window_s': '60'})

CLEARED = dataclasses.replace(
    LOST,
    event_id='0b5e8a4c-3a4e-4f0e-9f53-6b1d8b1a7f02',
    sequence=2,
    transition=v.Transition.CLEARED,
    health=v.Health.HEALTHY,
    previous_health=v.Health.UNHEALTHY,
    conditions=(),
    occurred_at=BEGIN + 12.001482,
    detected_at=BEGIN + 12.001597,
    details={})

WATCHDOG = dataclasses.replace(
    LOST,
    event_id='0b5e8a4c-3a4e-4f0e-9f53-6b1d8b1a7f03',
    sequence=3,
    cause=v.Cause.WATCHDOG_EXPIRED,
    conditions=(_WATCHDOG,),
    occurred_at=BEGIN + 30.25,
    detected_at=BEGIN + 30.250087,
    details={'action': 'none'},
    operation='live_migration')

IO_ERROR = dataclasses.replace(
    LOST,
    event_id='0b5e8a4c-3a4e-4f0e-9f53-6b1d8b1a7f04',
    sequence=4,
    cause=v.Cause.IO_ERROR,
    subject='virtio-disk0',
    previous_health=v.Health.UNHEALTHY,
    conditions=(_WATCHDOG, _DISK),
    occurred_at=BEGIN + 60.5,
    detected_at=BEGIN + 60.500094,
    details={
        'action': 'report',
        'path': '/var/lib/nova/instances/178b0921/disk',
        'reason': 'enospc',
    })

UPDATED = dataclasses.replace(
    IO_ERROR,
    event_id='0b5e8a4c-3a4e-4f0e-9f53-6b1d8b1a7f05',
    sequence=5,
    transition=v.Transition.UPDATED,
    conditions=(_WATCHDOG, _DISK_AGAIN),
    count=42,
    occurred_at=BEGIN + 61.499812,
    detected_at=BEGIN + 61.500094)

# Sample file without its ending: event, instance, heartbeat.
SUPPRESSED = dataclasses.replace(
    LOST,
    event_id='0b5e8a4c-3a4e-4f0e-9f53-6b1d8b1a7f08',
    sequence=12,
    suppressed=True)

HOST_FAULT = dataclasses.replace(
    LOST,
    event_id='0b5e8a4c-3a4e-4f0e-9f53-6b1d8b1a7f09',
    sequence=6,
    cause=v.Cause.HOST_FAULT,
    subject='storage_fault',
    conditions=(v.Condition(
        v.Cause.HOST_FAULT, 'storage_fault', v.Severity.CRITICAL,
        BEGIN + 900.250114, 1),),
    occurred_at=BEGIN + 900.250114,
    detected_at=BEGIN + 900.250398,
    details={
        'host_cause': 'storage_fault',
        'host_event': 'a3b58c1d-0e2f-4a6b-9c7d-8e9f0a1b2c01',
        'reason': 'I/O errors of 3 instances',
    })

ON_BEHALF = dataclasses.replace(
    HOST_FAULT,
    event_id='6d0c5b1e-7a3f-5e29-8d4c-2b1a0f9e8d01',
    sequence=0,
    subject='host_down',
    previous_health=v.Health.UNKNOWN,
    conditions=(v.Condition(
        v.Cause.HOST_FAULT, 'host_down', v.Severity.CRITICAL,
        BEGIN + 1200.500873, 1),),
    occurred_at=BEGIN + 1200.500873,
    detected_at=BEGIN + 1202.214506,
    details={
        'host_cause': 'host_down',
        'host_event': '6d0c5b1e-7a3f-5e29-8d4c-2b1a0f9e8d00',
        'reason': '3 beacons were missed; tcp:22: 192.0.2.11 does not answer',
    })

SAMPLES = {
    'instance-health-heartbeat_lost-raised': (
        LOST, IDENTITY, dataclasses.replace(HEARTBEAT, misses=3)),
    'instance-health-heartbeat_lost-updated': (
        KNOWN_BETTER, IDENTITY, dataclasses.replace(HEARTBEAT, misses=8)),
    'instance-health-flapping-raised': (
        FLAPPING, IDENTITY, dataclasses.replace(
            HEARTBEAT, misses=3, last_seen_at=BEGIN + 42.001209)),
    'instance-health-heartbeat_lost-cleared': (
        CLEARED, IDENTITY, dataclasses.replace(
            HEARTBEAT, last_seen_at=BEGIN + 12.001482)),
    'instance-health-watchdog_expired-raised': (
        WATCHDOG, dataclasses.replace(IDENTITY, task_state='migrating'),
        None),
    'instance-health-io_error-raised': (
        IO_ERROR, IDENTITY, dataclasses.replace(
            HEARTBEAT, last_seen_at=BEGIN + 60.001094)),
    'instance-health-io_error-updated': (
        UPDATED, IDENTITY, dataclasses.replace(
            HEARTBEAT, last_seen_at=BEGIN + 61.001133)),
    'instance-health-heartbeat_lost-suppressed': (
        SUPPRESSED, dataclasses.replace(
            IDENTITY, host_status='MAINTENANCE'),
        dataclasses.replace(HEARTBEAT, misses=3)),
    'instance-health-host_fault-raised': (
        HOST_FAULT, dataclasses.replace(IDENTITY, host_status='MAINTENANCE'),
        dataclasses.replace(HEARTBEAT, last_seen_at=BEGIN + 900.001087)),
    'instance-health-host_fault-on-behalf': (
        ON_BEHALF, dataclasses.replace(IDENTITY, host_status='DOWN'), None),
}


def publisher_id(event):
    """Give who tells an event."""
    return PUBLISHER_ID if event.sequence else INSPECTOR_ID
