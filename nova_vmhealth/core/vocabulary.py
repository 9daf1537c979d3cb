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

"""The words every room shares: health, cause, severity, observation, event.

The closed sets below are part of the notification's contract. Adding a
member asks for a new minor version of the payload; a member is never renamed.
"""

import dataclasses
import enum
import types
from typing import Mapping, Optional

_EMPTY: Mapping[str, str] = types.MappingProxyType({})


def _no_details() -> Mapping[str, str]:
    return _EMPTY


class Health(str, enum.Enum):
    """How an instance is: the worst of its active conditions.

    Those that are not told because they flap count too.
    """

    HEALTHY = 'healthy'
    DEGRADED = 'degraded'
    UNHEALTHY = 'unhealthy'
    UNKNOWN = 'unknown'


class Severity(str, enum.Enum):
    INFO = 'info'
    WARNING = 'warning'
    CRITICAL = 'critical'


class Transition(str, enum.Enum):
    """What an event says about its condition."""

    RAISED = 'raised'
    UPDATED = 'updated'
    CLEARED = 'cleared'


class Cause(str, enum.Enum):
    """Why an instance is not healthy."""

    HEARTBEAT_LOST = 'heartbeat_lost'
    HEARTBEAT_NOT_ESTABLISHED = 'heartbeat_not_established'
    GUEST_UNHEALTHY = 'guest_unhealthy'
    GUEST_DEGRADED = 'guest_degraded'
    AGENT_EXITED = 'agent_exited'
    WATCHDOG_EXPIRED = 'watchdog_expired'
    IO_ERROR = 'io_error'
    GUEST_CRASHED = 'guest_crashed'
    QEMU_FAILED = 'qemu_failed'
    STOPPED_UNEXPECTEDLY = 'stopped_unexpectedly'
    GUEST_SHUTDOWN = 'guest_shutdown'
    PAUSED_UNEXPECTEDLY = 'paused_unexpectedly'
    MEMORY_FAILURE = 'memory_failure'
    CONTROL_ERROR = 'control_error'
    NOT_RUNNING = 'not_running'
    HOST_FAULT = 'host_fault'
    # another cause comes and goes so often that only this is told of it
    FLAPPING = 'flapping'


SEVERITY: Mapping[Cause, Severity] = types.MappingProxyType({
    Cause.HEARTBEAT_LOST: Severity.CRITICAL,
    Cause.HEARTBEAT_NOT_ESTABLISHED: Severity.WARNING,
    Cause.GUEST_UNHEALTHY: Severity.CRITICAL,
    Cause.GUEST_DEGRADED: Severity.WARNING,
    Cause.AGENT_EXITED: Severity.WARNING,
    Cause.WATCHDOG_EXPIRED: Severity.CRITICAL,
    Cause.IO_ERROR: Severity.CRITICAL,
    Cause.GUEST_CRASHED: Severity.CRITICAL,
    Cause.QEMU_FAILED: Severity.CRITICAL,
    Cause.STOPPED_UNEXPECTEDLY: Severity.CRITICAL,
    Cause.GUEST_SHUTDOWN: Severity.INFO,
    Cause.PAUSED_UNEXPECTEDLY: Severity.CRITICAL,
    Cause.MEMORY_FAILURE: Severity.CRITICAL,
    Cause.CONTROL_ERROR: Severity.WARNING,
    Cause.NOT_RUNNING: Severity.CRITICAL,
    Cause.HOST_FAULT: Severity.CRITICAL,
    Cause.FLAPPING: Severity.WARNING,
})


class HostCause(str, enum.Enum):
    """Why a host is not healthy."""

    # enough of them at once that it is hardly their own doing
    MANY_GUESTS_LOST = 'many_guests_lost'
    # nothing can be done to its guests, nor be heard of them from libvirt
    LIBVIRT_LOST = 'libvirt_lost'
    # I/O errors of several guests, whose disks lie on the same storage as far
    # as can be told
    STORAGE_FAULT = 'storage_fault'
    # its memory is bad, and not only that of a guest
    MEMORY_FAILURE = 'memory_failure'
    # an operator, or a monitor outside of this package, says so
    REPORTED_FAULT = 'reported_fault'
    # its beacons have stopped, and it was found to be down
    HOST_DOWN = 'host_down'
    # its beacons have stopped, and nothing was done about it: details say why
    BEACONS_LOST = 'beacons_lost'


HOST_SEVERITY: Mapping[HostCause, Severity] = types.MappingProxyType({
    HostCause.MANY_GUESTS_LOST: Severity.CRITICAL,
    HostCause.LIBVIRT_LOST: Severity.CRITICAL,
    HostCause.STORAGE_FAULT: Severity.CRITICAL,
    HostCause.MEMORY_FAILURE: Severity.CRITICAL,
    HostCause.REPORTED_FAULT: Severity.CRITICAL,
    HostCause.HOST_DOWN: Severity.CRITICAL,
    HostCause.BEACONS_LOST: Severity.WARNING,
})


class HostStatus(str, enum.Enum):
    """How a host is, in the words of Nova's API for ``host_status``."""

    UP = 'UP'
    MAINTENANCE = 'MAINTENANCE'
    DOWN = 'DOWN'
    UNKNOWN = 'UNKNOWN'


class HostAction(str, enum.Enum):
    """What is done to a host's compute service record, the mildest first."""

    NONE = 'none'
    DISABLE = 'disable'
    FORCE_DOWN = 'force_down'


class Action(str, enum.Enum):
    """What the host does to a guest whose heartbeat is lost."""

    NONE = 'none'
    INJECT_NMI = 'inject_nmi'
    RESET = 'reset'
    POWEROFF = 'poweroff'
    PAUSE = 'pause'


class Kind(str, enum.Enum):
    """What sort of fact an observation is."""

    # libvirt's lifecycle
    STARTED = 'started'
    RESUMED = 'resumed'
    PAUSED = 'paused'              # no fault by itself: details say why
    STOPPED = 'stopped'            # details['reason'], libvirt's detail
    SHUTDOWN_BY_GUEST = 'shutdown_by_guest'
    SHUTDOWN_BY_HOST = 'shutdown_by_host'
    REBOOTED = 'rebooted'
    # a fault by itself: `cause` is set
    FAULT = 'fault'
    # `cause` is over (`subject` too, when not empty)
    RECOVERED = 'recovered'
    # more is known of the active condition of `cause` and `subject`
    DETAILS = 'details'
    # the heartbeat
    HEARTBEAT_ESTABLISHED = 'heartbeat_established'
    # a beating guest leaves challenges unanswered, yet is not lost
    HEARTBEAT_MISSED = 'heartbeat_missed'
    # there is a channel, and nothing ever came through it
    HEARTBEAT_UNHEARD = 'heartbeat_unheard'
    # a beating guest has had no channel for long
    HEARTBEAT_UNREACHABLE = 'heartbeat_unreachable'
    # what Nova does to the instance: details['operation']; at its end
    # details['outcome'], if that is 'failed'
    PLANNED_BEGUN = 'planned_begun'
    PLANNED_ENDED = 'planned_ended'
    # libvirt's guest or channel agent: details['channel'], ['state']
    AGENT_CONNECTED = 'agent_connected'
    AGENT_DISCONNECTED = 'agent_disconnected'
    # the instance left this host: nothing of it is kept
    FORGOTTEN = 'forgotten'


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """One fact about one instance.

    :ivar kind: what sort of fact
    :ivar instance_uuid: the instance that it is about
    :ivar occurred_at: wall clock, seconds since the epoch, when it happened
        as far as the observer can tell
    :ivar cause: for FAULT and RECOVERED, which condition it is about
    :ivar subject: disk alias, audit name, or empty
    :ivar details: short strings for people and consumers; never parsed here
        apart from the keys that :class:`Kind` names
    """

    kind: Kind
    instance_uuid: str
    occurred_at: float
    cause: Optional[Cause] = None
    subject: str = ''
    details: Mapping[str, str] = dataclasses.field(
        default_factory=_no_details)


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """One active cause on one instance, as an event carries it.

    :ivar since: wall clock, seconds since the epoch, of its first occurrence
    :ivar count: how often it was observed since
    """

    cause: Cause
    subject: str
    severity: Severity
    since: float
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class HeartbeatStatus:
    """What one heartbeat session knows, as an event carries it.

    :ivar interval_ms: time between challenges, milliseconds
    :ivar timeout_ms: time a guest has for its answer, milliseconds
    :ivar misses_allowed: this many misses in a row are a loss
    :ivar misses: misses in a row now
    :ivar established: whether this guest ever gave a valid answer
    :ivar last_seen_at: wall clock, seconds since the epoch, of the last
        valid answer; None before the first
    """

    interval_ms: int
    timeout_ms: int
    misses_allowed: int
    misses: int
    established: bool
    last_seen_at: Optional[float]


@dataclasses.dataclass(frozen=True, slots=True)
class HealthEvent:
    """A change of an instance's health, what consumers are told.

    :ivar event_id: uuid, the same for every delivery of this event
    :ivar sequence: per instance, starts at 1, without gaps; 0 where it is told
        by somebody else than its host, who does not know the host's count
    :ivar occurred_at: wall clock, seconds since the epoch
    :ivar detected_at: wall clock, seconds since the epoch, when the ledger
        took it in
    :ivar conditions: every condition active after this event
    :ivar operation: what Nova was doing to the instance, or empty
    :ivar suppressed: consumers are asked not to act on it
    """

    event_id: str
    sequence: int
    instance_uuid: str
    transition: Transition
    cause: Cause
    subject: str
    severity: Severity
    health: Health
    previous_health: Health
    conditions: tuple[Condition, ...]
    occurred_at: float
    detected_at: float
    count: int = 1
    details: Mapping[str, str] = dataclasses.field(
        default_factory=_no_details)
    operation: str = ''
    suppressed: bool = False


class MaintenanceStage(str, enum.Enum):
    """What a project is told of a maintenance window."""

    ANNOUNCED = 'announced'
    CHANGED = 'changed'        # its times or its reason
    STARTED = 'started'
    ENDED = 'ended'
    CANCELLED = 'cancelled'    # it was withdrawn before its start


@dataclasses.dataclass(frozen=True, slots=True)
class MaintenanceEvent:
    """What one project is told of planned maintenance of a host.

    It never has the host's name: a tenant knows a host by ``host_id``.

    :ivar event_id: uuid, the same for every delivery of this event
    :ivar window_id: the same for all that is told of one window
    :ivar project_id: the one that is told
    :ivar host_id: as Nova's API shows it to that project (``hostId``)
    :ivar starts_at: wall clock, seconds since the epoch
    :ivar ends_at: wall clock, seconds since the epoch; None: not known yet
    :ivar reason: for people; tenants read it
    :ivar occurred_at: wall clock, seconds since the epoch
    :ivar instances: uuid -> name of the project's instances on the host, or
        the first of them
    :ivar instance_count: how many those are
    """

    event_id: str
    window_id: str
    stage: MaintenanceStage
    project_id: str
    host_id: str
    starts_at: float
    ends_at: Optional[float]
    reason: str
    occurred_at: float
    instances: Mapping[str, Optional[str]]
    instance_count: int


@dataclasses.dataclass(frozen=True, slots=True)
class HostEvent:
    """A change of the host's own health, what consumers are told.

    :ivar event_id: uuid, the same for every delivery of this event
    :ivar sequence: per host, starts at 1, without gaps; 0 where it is told by
        somebody else, who does not know the host's count
    :ivar occurred_at: wall clock, seconds since the epoch
    :ivar detected_at: wall clock, seconds since the epoch
    :ivar instance_uuids: the instances that it is about, or the first of them
    :ivar instance_count: how many instances it is about
    :ivar subject: which of several, such as a storage backend; or empty
    :ivar reason: for people
    :ivar status: how the host is after it, as far as the one who tells knows
    :ivar action: what this condition does to the compute service record
    :ivar suppressed: it is under planned maintenance: consumers are asked not
        to act on it
    """

    event_id: str
    sequence: int
    transition: Transition
    cause: HostCause
    severity: Severity
    occurred_at: float
    detected_at: float
    instance_uuids: tuple[str, ...] = ()
    details: Mapping[str, str] = dataclasses.field(
        default_factory=_no_details)
    instance_count: int = 0
    subject: str = ''
    reason: str = ''
    status: HostStatus = HostStatus.UNKNOWN
    action: HostAction = HostAction.NONE
    suppressed: bool = False
