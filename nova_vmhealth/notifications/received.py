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

"""What a consumer gets of the bus: events, typed, and filters for them."""

from collections.abc import Mapping
import dataclasses
from typing import Optional

from nova_vmhealth.core import vocabulary


@dataclasses.dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One ``instance.health`` notification.

    The fields are the payload's, with the flavor's two beside them; times are
    seconds since the epoch.

    :ivar sequence: 0 where it was told on the host's behalf, by somebody who
        knows neither its count nor the instance's other conditions
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

    The fields are the payload's; times are seconds since the epoch. A payload
    before 1.2 says nothing of ``subject``, ``reason``, ``status``, ``action``,
    ``planned`` and ``suppressed``, and they stand for that.

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
    subject: str
    severity: vocabulary.Severity
    occurred_at: float
    detected_at: float
    reason: str
    details: Mapping[str, str]
    planned: bool
    suppressed: bool
    host: str
    status: vocabulary.HostStatus
    action: vocabulary.HostAction
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


@dataclasses.dataclass(frozen=True, slots=True)
class ReceivedMaintenance:
    """One ``instance.maintenance`` notification.

    The fields are the payload's; times are seconds since the epoch.

    :ivar ends_at: None where the end is not known
    :ivar instances: uuid -> name, of the project's instances on the host, or
        the first of them
    :ivar publisher_id: as in :class:`ReceivedEvent`, without the name of who
        sent it
    :ivar received_at: as in :class:`ReceivedEvent`
    :ivar timestamp: as in :class:`ReceivedEvent`
    """

    event_id: str
    window_id: str
    stage: vocabulary.MaintenanceStage
    tenant_id: str
    host_id: str
    starts_at: float
    ends_at: Optional[float]
    reason: str
    occurred_at: float
    instances: Mapping[str, Optional[str]]
    instance_count: int
    publisher_id: str
    received_at: float
    timestamp: Optional[str]


@dataclasses.dataclass(frozen=True, slots=True)
class MaintenanceFilter:
    """Which events of maintenance a consumer wants; an empty set wants all.

    :ivar project: ids of projects
    """

    project: frozenset[str] = frozenset()

    def matches(self, event):
        return not self.project or event.tenant_id in self.project
