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

"""From an event of the core to what goes over the bus."""

from nova_vmhealth.notifications import objects

EVENT_TYPE = 'instance.health'
HOST_EVENT_TYPE = 'host.health'
MAINTENANCE_EVENT_TYPE = 'instance.maintenance'


def _condition(condition):
    return objects.ConditionPayload(
        cause=condition.cause.value,
        subject=condition.subject,
        severity=condition.severity.value,
        since=condition.since,
        count=condition.count)


def _heartbeat(status):
    return objects.HeartbeatPayload(
        interval_ms=status.interval_ms,
        timeout_ms=status.timeout_ms,
        misses_allowed=status.misses_allowed,
        misses=status.misses,
        established=status.established,
        last_seen_at=status.last_seen_at)


def _event_fields(event):
    return {
        'event_id': event.event_id,
        'sequence': event.sequence,
        'transition': event.transition.value,
        'cause': event.cause.value,
        'subject': event.subject,
        'severity': event.severity.value,
        'count': event.count,
        'occurred_at': event.occurred_at,
        'detected_at': event.detected_at,
        'details': dict(event.details),
        'planned': bool(event.operation) or event.suppressed,
        'operation': event.operation or None,
        'suppressed': event.suppressed,
        'health': event.health.value,
        'previous_health': event.previous_health.value,
        'conditions': [_condition(each) for each in event.conditions],
    }


def _instance_fields(identity):
    return {
        'uuid': identity.uuid,
        'name': identity.name,
        'tenant_id': identity.tenant_id,
        'user_id': identity.user_id,
        'host': identity.host,
        'node': identity.node,
        'availability_zone': identity.availability_zone,
        'flavor': objects.FlavorPayload(
            name=identity.flavor_name,
            extra_specs=dict(identity.extra_specs)),
        # Nova keeps an empty string for an instance booted from a volume.
        'image_uuid': identity.image_uuid or None,
        'state': identity.state,
        'power_state': identity.power_state,
        'task_state': identity.task_state,
        'metadata': dict(identity.metadata),
        'host_status': identity.host_status,
    }


def payload_of(event, identity, heartbeat):
    """Give the payload of ``instance.health`` as JSON types.

    :param event: a HealthEvent
    :param identity: the InstanceIdentity of the instance that it is about
    :param heartbeat: the instance's HeartbeatStatus; None where no heartbeat
        watches it
    :returns: a dict with the ``nova_object.*`` keys of Nova's versioned
        notifications
    :raises ValueError: a field has a value that its type does not take
    """
    return objects.InstanceHealthPayload(
        heartbeat=_heartbeat(heartbeat) if heartbeat else None,
        **_event_fields(event),
        **_instance_fields(identity)).obj_to_primitive()


def host_payload_of(event, host, projects):
    """Give the payload of ``host.health`` as JSON types.

    :param event: a HostEvent
    :param host: name of the compute service that it is about
    :param projects: instance uuid -> its project; an instance that is not in
        it goes without
    :returns: as :func:`payload_of`
    :raises ValueError: as :func:`payload_of`
    """
    return objects.HostHealthPayload(
        event_id=event.event_id,
        sequence=event.sequence,
        transition=event.transition.value,
        cause=event.cause.value,
        subject=event.subject,
        severity=event.severity.value,
        occurred_at=event.occurred_at,
        detected_at=event.detected_at,
        reason=event.reason,
        details=dict(event.details),
        planned=event.suppressed,
        suppressed=event.suppressed,
        host=host,
        status=event.status.value,
        action=event.action.value,
        instances={uuid: projects.get(uuid)
                   for uuid in event.instance_uuids},
        instance_count=event.instance_count).obj_to_primitive()


def maintenance_payload_of(event):
    """Give the payload of ``instance.maintenance`` as JSON types.

    :param event: a MaintenanceEvent
    :returns: as :func:`payload_of`
    :raises ValueError: as :func:`payload_of`
    """
    return objects.InstanceMaintenancePayload(
        event_id=event.event_id,
        window_id=event.window_id,
        stage=event.stage.value,
        tenant_id=event.project_id,
        host_id=event.host_id,
        starts_at=event.starts_at,
        ends_at=event.ends_at,
        reason=event.reason,
        occurred_at=event.occurred_at,
        instances=dict(event.instances),
        instance_count=event.instance_count).obj_to_primitive()
