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
    metadata={'role': 'primary'})

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
        WATCHDOG, dataclasses.replace(
            IDENTITY, task_state='migrating', host_status='UP'), None),
    'instance-health-io_error-raised': (
        IO_ERROR, IDENTITY, dataclasses.replace(
            HEARTBEAT, last_seen_at=BEGIN + 60.001094)),
    'instance-health-io_error-updated': (
        UPDATED, IDENTITY, dataclasses.replace(
            HEARTBEAT, last_seen_at=BEGIN + 61.001133)),
}

_NEIGHBOURS = {
    '178b0921-8f85-4257-88b6-2e743b5a975c': IDENTITY.tenant_id,
    '28a1c4d6-0f4b-4a79-9c6e-6c1f0e9d2b11': IDENTITY.tenant_id,
    '3f9b2e57-5d3c-4b0a-8a4f-90d7c1e5a222': (
        'c8e1f5a2b3d44e6f8091a2b3c4d5e6f7'),
    '4d0e6f81-77aa-4c3e-b1d2-1f2e3d4c5b33': (
        'c8e1f5a2b3d44e6f8091a2b3c4d5e6f7'),
    '5e1f7092-88bb-4d4f-82e3-203f4e5d6c44': (
        'd9f2a6b3c4e55f70a1b2c3d4e5f60718'),
}

HOST_LOST = v.HostEvent(
    event_id='e7c1d2b3-4a5f-4e60-8b71-9c0d1e2f3a01',
    sequence=1,
    transition=v.Transition.RAISED,
    cause=v.HostCause.MANY_GUESTS_LOST,
    severity=v.Severity.CRITICAL,
    occurred_at=BEGIN + 4.000973,
    detected_at=BEGIN + 5.201104,
    instance_uuids=tuple(_NEIGHBOURS),
    instance_count=5,
    details={
        'host_event': 'e7c1d2b3-4a5f-4e60-8b71-9c0d1e2f3a01',
        'lost_in_all': '5',
        'watched': '12',
        'window_s': '10',
    })

HOST_CLEARED = dataclasses.replace(
    HOST_LOST,
    event_id='e7c1d2b3-4a5f-4e60-8b71-9c0d1e2f3a03',
    sequence=3,
    transition=v.Transition.CLEARED,
    occurred_at=BEGIN + 31.700418,
    detected_at=BEGIN + 41.700822,
    instance_uuids=('5e1f7092-88bb-4d4f-82e3-203f4e5d6c44',),
    instance_count=1,
    details={**HOST_LOST.details, 'lost_in_all': '7'})

LIBVIRT_LOST = v.HostEvent(
    event_id='f08d2e41-6b7a-4c52-9d83-1e2f3a4b5c01',
    sequence=4,
    transition=v.Transition.RAISED,
    cause=v.HostCause.LIBVIRT_LOST,
    severity=v.Severity.CRITICAL,
    occurred_at=BEGIN + 600.104233,
    detected_at=BEGIN + 600.104871,
    instance_uuids=tuple(_NEIGHBOURS),
    instance_count=5,
    details={
        'host_event': 'f08d2e41-6b7a-4c52-9d83-1e2f3a4b5c01',
        'reason': 'eof',
    })

LIBVIRT_BACK = dataclasses.replace(
    LIBVIRT_LOST,
    event_id='f08d2e41-6b7a-4c52-9d83-1e2f3a4b5c02',
    sequence=5,
    transition=v.Transition.CLEARED,
    occurred_at=BEGIN + 660.381406,
    detected_at=BEGIN + 660.381406,
    details={'host_event': 'f08d2e41-6b7a-4c52-9d83-1e2f3a4b5c01'})

HOST_SAMPLES = {
    'host-health-libvirt_lost-raised': (
        LIBVIRT_LOST, IDENTITY.host, _NEIGHBOURS),
    'host-health-libvirt_lost-cleared': (
        LIBVIRT_BACK, IDENTITY.host, _NEIGHBOURS),
    'host-health-many_guests_lost-raised': (
        HOST_LOST, IDENTITY.host, _NEIGHBOURS),
    'host-health-many_guests_lost-cleared': (
        HOST_CLEARED, IDENTITY.host, _NEIGHBOURS),
}
