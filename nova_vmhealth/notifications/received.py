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

"""From the bus to a consumer: an event, typed, and a filter for events."""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Optional

from nova_vmhealth.core import vocabulary
from nova_vmhealth import exception
from nova_vmhealth.notifications import times

_NAME = 'InstanceHealthPayload'
_HOST_NAME = 'HostHealthPayload'
_NAMESPACE = 'nova_vmhealth'
_MAJOR = '1'


@dataclasses.dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One ``instance.health`` notification.

    The fields are the payload's, with the flavor's two beside them; times are
    seconds since the epoch.

    :ivar publisher_id: who sent it, such as ``nova-compute:compute-1``
    :ivar received_at: when the listener had it
    :ivar timestamp: the message's own time as oslo.messaging writes it; None
        where the sender gave none
    """

    event_id: str
    sequence: int
    transition: vocabulary.Transition
    cause: vocabulary.Cause
    subject: str
    severity: vocabulary.Severity
    count: int
    occurred_at: float
    detected_at: float
    details: Mapping[str, str]
    planned: bool
    operation: Optional[str]
    suppressed: bool
    health: vocabulary.Health
    previous_health: vocabulary.Health
    conditions: tuple[vocabulary.Condition, ...]
    heartbeat: Optional[vocabulary.HeartbeatStatus]
    host_status: Optional[str]
    uuid: str
    name: Optional[str]
    tenant_id: Optional[str]
    user_id: Optional[str]
    host: Optional[str]
    node: Optional[str]
    availability_zone: Optional[str]
    flavor_name: Optional[str]
    extra_specs: Mapping[str, Optional[str]]
    image_uuid: Optional[str]
    state: Optional[str]
    power_state: Optional[str]
    task_state: Optional[str]
    metadata: Mapping[str, Optional[str]]
    publisher_id: str
    received_at: float
    timestamp: Optional[str]


@dataclasses.dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a consumer wants; an empty set wants all.

    :ivar health: the instance's health after the event
    :ivar cause: the event's own cause
    :ivar project: ids of projects
    :ivar host: names of compute services
    """

    health: frozenset[vocabulary.Health] = frozenset()
    cause: frozenset[vocabulary.Cause] = frozenset()
    project: frozenset[str] = frozenset()
    host: frozenset[str] = frozenset()

    def matches(self, event):
        return all(
            not wanted or has in wanted
            for wanted, has in ((self.health, event.health),
                                (self.cause, event.cause),
                                (self.project, event.tenant_id),
                                (self.host, event.host)))


@dataclasses.dataclass(frozen=True, slots=True)
class ReceivedHostEvent:
    """One ``host.health`` notification.

    The fields are the payload's; times are seconds since the epoch.

    :ivar instances: uuid -> project, of the instances that it is about, or
        the first of them
    :ivar publisher_id: as in :class:`ReceivedEvent`
    :ivar received_at: as in :class:`ReceivedEvent`
    :ivar timestamp: as in :class:`ReceivedEvent`
    """

    event_id: str
    sequence: int
    transition: vocabulary.Transition
    cause: vocabulary.HostCause
    severity: vocabulary.Severity
    occurred_at: float
    detected_at: float
    details: Mapping[str, str]
    host: str
    instances: Mapping[str, Optional[str]]
    instance_count: int
    publisher_id: str
    received_at: float
    timestamp: Optional[str]


@dataclasses.dataclass(frozen=True, slots=True)
class HostEventFilter:
    """Which events of hosts a consumer wants; an empty set wants all.

    :ivar cause: the event's cause
    :ivar project: ids of projects; one of the instances must be of one
    :ivar host: names of compute services
    """

    cause: frozenset[vocabulary.HostCause] = frozenset()
    project: frozenset[str] = frozenset()
    host: frozenset[str] = frozenset()

    def matches(self, event):
        return ((not self.cause or event.cause in self.cause)
                and (not self.host or event.host in self.host)
                and (not self.project or not self.project.isdisjoint(
                    event.instances.values())))


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
    'severity': vocabulary.Severity,
    'occurred_at': times.seconds_of,
    'detected_at': times.seconds_of,
    'details': _mapping(_text),
    'host': _text,
    'instances': _mapping(_optional_text),
    'instance_count': _number,
}


def _check_version(primitive, expected):
    name = primitive['nova_object.name']
    namespace = primitive['nova_object.namespace']
    version = primitive['nova_object.version']
    if (namespace, name) != (_NAMESPACE, expected):
        raise ValueError(
            f'a {namespace}.{name}, not {_NAMESPACE}.{expected}')
    if _text(version).partition('.')[0] != _MAJOR:
        raise ValueError(f'version {version}, this release reads {_MAJOR}.x')


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
    return ReceivedEvent(
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
    _check_version(_typed(dict)(payload), _HOST_NAME)
    return ReceivedHostEvent(
        publisher_id=publisher_id, received_at=received_at,
        timestamp=timestamp, **_read(_data(payload), _HOST_EVENT))
