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

"""From what came over the bus to typed events."""

import functools

from nova_vmhealth.core import vocabulary
from nova_vmhealth import exception
from nova_vmhealth.notifications import received
from nova_vmhealth.notifications import times

_NAME = 'InstanceHealthPayload'
_HOST_NAME = 'HostHealthPayload'
_MAINTENANCE_NAME = 'InstanceMaintenancePayload'
_NAMESPACE = 'nova_vmhealth'
_MAJOR = '1'


def _typed(kind):
    """Give a reader that takes values of one type and no others."""
    def read(value):
        # Not isinstance: true is no number, though Python's bool is an int.
        if type(value) is not kind:
            raise TypeError(f'{value!r} for {kind.__name__}')
        return value
    return read


def _nullable(read):
    return lambda value: None if value is None else read(value)


def _mapping(read):
    return lambda value: {
        _text(key): read(each) for key, each in _typed(dict)(value).items()}


def _nested(make, readers):
    return lambda value: make(**_read(_data(value), readers))


def _data(primitive):
    return _typed(dict)(primitive['nova_object.data'])


def _read(data, readers):
    """Read the fields that we know; a later minor version may have more."""
    return {name: read(data[name]) for name, read in readers.items()}


_text = _typed(str)
_optional_text = _nullable(_text)
_number = _typed(int)
_flag = _typed(bool)

_condition = _nested(vocabulary.Condition, {
    'cause': vocabulary.Cause,
    'subject': _text,
    'severity': vocabulary.Severity,
    'since': times.seconds_of,
    'count': _number,
})

_heartbeat = _nested(vocabulary.HeartbeatStatus, {
    'interval_ms': _number,
    'timeout_ms': _number,
    'misses_allowed': _number,
    'misses': _number,
    'established': _flag,
    'last_seen_at': _nullable(times.seconds_of),
})

_FLAVOR = {'name': _optional_text, 'extra_specs': _mapping(_optional_text)}

_EVENT = {
    'event_id': _text,
    'sequence': _number,
    'transition': vocabulary.Transition,
    'cause': vocabulary.Cause,
    'subject': _text,
    'severity': vocabulary.Severity,
    'count': _number,
    'occurred_at': times.seconds_of,
    'detected_at': times.seconds_of,
    'details': _mapping(_text),
    'planned': _flag,
    'operation': _optional_text,
    'suppressed': _flag,
    'health': vocabulary.Health,
    'previous_health': vocabulary.Health,
    'conditions': lambda value: tuple(map(_condition, _typed(list)(value))),
    'heartbeat': _nullable(_heartbeat),
    'host_status': _optional_text,
    'uuid': _text,
    'name': _optional_text,
    'tenant_id': _optional_text,
    'user_id': _optional_text,
    'host': _optional_text,
    'node': _optional_text,
    'availability_zone': _optional_text,
    'image_uuid': _optional_text,
    'state': _optional_text,
    'power_state': _optional_text,
    'task_state': _optional_text,
    'metadata': _mapping(_optional_text),
}

_HOST_EVENT = {
    'event_id': _text,
    'sequence': _number,
    'transition': vocabulary.Transition,
    'cause': vocabulary.HostCause,
    'subject': _text,
    'severity': vocabulary.Severity,
    'occurred_at': times.seconds_of,
    'detected_at': times.seconds_of,
    'reason': _text,
    'details': _mapping(_text),
    'planned': _flag,
    'suppressed': _flag,
    'host': _text,
    'status': vocabulary.HostStatus,
    'action': vocabulary.HostAction,
    'instances': _mapping(_optional_text),
    'instance_count': _number,
}

# What a HostHealthPayload before 1.2 does not say.
_HOST_EVENT_BEFORE_2 = {
    'subject': '', 'reason': '', 'planned': False, 'suppressed': False,
    'status': vocabulary.HostStatus.UNKNOWN,
    'action': vocabulary.HostAction.NONE,
}

_MAINTENANCE = {
    'event_id': _text,
    'window_id': _text,
    'stage': vocabulary.MaintenanceStage,
    'tenant_id': _text,
    'host_id': _text,
    'starts_at': times.seconds_of,
    'ends_at': _nullable(times.seconds_of),
    'reason': _text,
    'occurred_at': times.seconds_of,
    'instances': _mapping(_optional_text),
    'instance_count': _number,
}


def _check_version(primitive, expected):
    """Refuse what is something else; give the minor number."""
    name = primitive['nova_object.name']
    namespace = primitive['nova_object.namespace']
    version = primitive['nova_object.version']
    if (namespace, name) != (_NAMESPACE, expected):
        raise ValueError(
            f'a {namespace}.{name}, not {_NAMESPACE}.{expected}')
    major, _, minor = _text(version).partition('.')
    if major != _MAJOR:
        raise ValueError(f'version {version}, this release reads {_MAJOR}.x')
    return int(minor)


def _refusing(parse):
    """Say of whatever cannot be read that it is InvalidPayload."""
    @functools.wraps(parse)
    def refusing(*args, **kwargs):
        try:
            return parse(*args, **kwargs)
        except KeyError as error:
            raise exception.InvalidPayload(
                reason=f'{error.args[0]} is missing') from error
        except (TypeError, ValueError) as error:
            raise exception.InvalidPayload(reason=error) from error
    return refusing


@_refusing
def parse(payload, publisher_id, received_at, timestamp=None):
    """Read an ``instance.health`` notification.

    :param payload: what came over the bus; a later minor version is read as
        far as this release knows its fields
    :param publisher_id: the message's
    :param received_at: seconds since the epoch
    :param timestamp: the message's, or None
    :returns: a ReceivedEvent
    :raises InvalidPayload: it is not an InstanceHealthPayload 1.x, a field is
        missing or has a wrong type, or a word (a cause of a later release,
        say) is not one that this release knows
    """
    _check_version(_typed(dict)(payload), _NAME)
    data = _data(payload)
    flavor = _read(_data(data['flavor']), _FLAVOR)
    return received.ReceivedEvent(
        flavor_name=flavor['name'], extra_specs=flavor['extra_specs'],
        publisher_id=publisher_id, received_at=received_at,
        timestamp=timestamp, **_read(data, _EVENT))


@_refusing
def parse_host(payload, publisher_id, received_at, timestamp=None):
    """Read a ``host.health`` notification.

    :param payload: as in :func:`parse`
    :param publisher_id: the message's
    :param received_at: seconds since the epoch
    :param timestamp: the message's, or None
    :returns: a ReceivedHostEvent
    :raises InvalidPayload: as :func:`parse`, for a HostHealthPayload 1.x
    """
    minor = _check_version(_typed(dict)(payload), _HOST_NAME)
    data = _data(payload)
    if minor < 2:
        data = {**data, **_HOST_EVENT_BEFORE_2}
    return received.ReceivedHostEvent(
        publisher_id=publisher_id, received_at=received_at,
        timestamp=timestamp, **_read(data, _HOST_EVENT))


@_refusing
def parse_maintenance(payload, publisher_id, received_at, timestamp=None):
    """Read an ``instance.maintenance`` notification.

    :param payload: as in :func:`parse`
    :param publisher_id: the message's
    :param received_at: seconds since the epoch
    :param timestamp: the message's, or None
    :returns: a ReceivedMaintenance
    :raises InvalidPayload: as :func:`parse`, for an InstanceMaintenancePayload
        1.x
    """
    _check_version(_typed(dict)(payload), _MAINTENANCE_NAME)
    return received.ReceivedMaintenance(
        publisher_id=publisher_id, received_at=received_at,
        timestamp=timestamp, **_read(_data(payload), _MAINTENANCE))
