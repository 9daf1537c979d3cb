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

"""What Nova expects against what libvirt has: one table, and how it is read.

The states and reasons are libvirt's virDomainState and the virDomain...Reason
enumerations beside it, which are part of its stable ABI. A row says what was
the matter in the words of the live events, so that a fault has the same cause
whether somebody listened when it happened or not.
"""

import dataclasses
import enum
from typing import Iterable, Mapping, Optional

from nova_vmhealth.core import transitions
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Condition
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation


class Doing(enum.Enum):
    """What a domain does, as far as it matters here."""

    RUNNING = 'running'
    PAUSED = 'paused'
    # its memory is still there, and will not run again
    CRASHED = 'crashed'
    # there is no QEMU
    STOPPED = 'stopped'
    # on its way from one to another: to be looked at again
    UNSETTLED = 'unsettled'


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What a state and its reason mean of a guest that ought to run.

    :ivar reason: details['reason'] of the live event for the same
    :ivar causes: what is wrong then
    """

    doing: Doing
    reason: str = ''
    causes: tuple[Cause, ...] = ()


# (state, reason) of virDomainGetState
State = tuple[int, int]

_RUNNING = Finding(Doing.RUNNING)
_UNSETTLED = Finding(Doing.UNSETTLED)
# A pause that somebody wanted, or that goes with some other work of libvirt's.
_PAUSED = Finding(Doing.PAUSED, 'paused')
# libvirt does not know any more how it ended, or never had a part in it.
_MISSING = Finding(Doing.STOPPED, 'missing', (Cause.NOT_RUNNING,))

# By virDomainState.
STATES: Mapping[int, Finding] = {
    0: _UNSETTLED,          # NOSTATE
    1: _RUNNING,
    2: _RUNNING,            # BLOCKED
    3: _PAUSED,
    4: _UNSETTLED,          # SHUTDOWN: libvirt has not ended QEMU yet
    5: _MISSING,            # SHUTOFF
    6: Finding(Doing.CRASHED, 'panicked', (Cause.GUEST_CRASHED,)),
    7: Finding(Doing.PAUSED, 'pmsuspended'),
}

# By state and reason, where the reason tells more. What libvirt 9.0 keeps of
# each fault that happens while it is away was measured.
REASONS: Mapping[State, Finding] = {
    # PAUSED: IOERROR, WATCHDOG, CRASHED, POSTCOPY_FAILED, API_ERROR
    (3, 5): Finding(Doing.PAUSED, 'ioerror',
                    (Cause.IO_ERROR, Cause.PAUSED_UNEXPECTEDLY)),
    (3, 6): Finding(Doing.PAUSED, 'watchdog',
                    (Cause.WATCHDOG_EXPIRED, Cause.PAUSED_UNEXPECTEDLY)),
    (3, 10): Finding(Doing.CRASHED, 'panicked', (Cause.GUEST_CRASHED,)),
    (3, 13): Finding(Doing.PAUSED, 'postcopy_failed',
                     (Cause.PAUSED_UNEXPECTEDLY,)),
    (3, 14): Finding(Doing.PAUSED, 'api_error',
                     (Cause.PAUSED_UNEXPECTEDLY,)),
    # SHUTOFF: SHUTDOWN, which is the guest's doing whoever asked it
    (5, 1): Finding(Doing.STOPPED, 'shutdown', (Cause.GUEST_SHUTDOWN,)),
    # DESTROYED
    (5, 2): Finding(Doing.STOPPED, 'destroyed',
                    (Cause.STOPPED_UNEXPECTEDLY,)),
    # CRASHED: what is left of STOPPED_FAILED, that is of a QEMU that died
    (5, 3): Finding(Doing.STOPPED, 'failed', (Cause.QEMU_FAILED,)),
    # DAEMON: libvirtd ended a QEMU that it could not get hold of again
    (5, 8): Finding(Doing.STOPPED, 'failed', (Cause.QEMU_FAILED,)),
}

# All that can be found.
_FOUND = frozenset(
    cause for finding in (*STATES.values(), *REASONS.values())
    for cause in finding.causes)

# One of these says why a guest does not run. One that crashed may run all the
# same: its crash kernel.
_STOPS = frozenset({
    Cause.STOPPED_UNEXPECTEDLY, Cause.GUEST_SHUTDOWN, Cause.QEMU_FAILED,
    Cause.NOT_RUNNING,
})
# These may have paused the guest. One that runs was resumed then, which was
# seen, unless events were missed.
_PAUSES = frozenset({Cause.IO_ERROR, Cause.WATCHDOG_EXPIRED})

# What changes how an instance is, whatever causes it has.
_CHANGES = frozenset({
    Kind.STARTED, Kind.REBOOTED, Kind.RESUMED, Kind.PAUSED, Kind.STOPPED,
    Kind.PLANNED_BEGUN, Kind.PLANNED_ENDED,
})

# vm_state in which Nova wants a domain to run.
_WANTS_IT_RUNNING = frozenset({'active', 'rescued'})

# In the details of whatever was found by a comparison: nobody saw it happen,
# so its time is that of the comparison.
FOUND_BY = {'found_by': 'reconciliation'}

# An answer that was under way when the guest crashed is read within this many
# seconds.
_LAST_WORDS_S = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class DiskError:
    """A disk with an error, as libvirt keeps it.

    :ivar alias: subject of the live event
    """

    alias: str
    path: str
    reason: str


def finding_of(state: Optional[State]) -> Finding:
    """Read a domain's state.

    :param state: None where there is no domain
    """
    if state is None:
        return _MISSING
    return REASONS.get(state) or STATES.get(state[0], _UNSETTLED)


def ought_to_run(
    vm_state: Optional[str], task_state: Optional[str], host: Optional[str],
    compute_host: str,
) -> bool:
    """Say whether Nova expects an instance to run here and is not at it.

    :param host: that Nova has it on
    :param compute_host: that asks
    """
    return (vm_state in _WANTS_IT_RUNNING and task_state is None
            and host == compute_host)


def is_change(obs: Observation) -> bool:
    """Say whether what was seen before it may not hold any more.

    A comparison's own word is no news to it.
    """
    return (not FOUND_BY.items() <= obs.details.items()
            and (obs.kind in _CHANGES or obs.cause in _FOUND))


def news(
    finding: Finding, conditions: Iterable[Condition],
) -> tuple[Cause, ...]:
    """Return what is wrong and not told yet.

    :param conditions: the instance's active ones
    """
    active = {condition.cause for condition in conditions}
    return tuple(cause for cause in finding.causes if cause not in active)


def observations(
    finding: Finding, uuid: str, wall: float,
    conditions: Iterable[Condition], running: bool, held: bool,
) -> list[Observation]:
    """Say of a guest that ought to run what is wrong, but for its disks.

    In the words of the live events, in their order.

    :param uuid: the instance
    :param wall: seconds since the epoch
    :param conditions: the instance's active ones
    :param running: whether it runs as far as is known: the end of one that
        does not was seen, and told to whoever wants that
    :param held: whether its heartbeat is known to be paused
    """
    wrong = news(finding, conditions)
    if finding.doing is Doing.STOPPED:
        return [_stopped(finding, uuid, wall, conditions)] if running else []
    seen = []
    if Cause.WATCHDOG_EXPIRED in wrong:
        seen.append(_fault(uuid, wall, Cause.WATCHDOG_EXPIRED,
                           action='pause'))
    if Cause.GUEST_CRASHED in wrong:
        seen.append(_fault(uuid, wall, Cause.GUEST_CRASHED,
                           reason=finding.reason))
    if Cause.PAUSED_UNEXPECTEDLY in wrong:
        seen.append(_seen(Kind.PAUSED, uuid, wall, reason=finding.reason))
    elif not held:
        seen += unwanted(finding, uuid, wall, running)
    return seen


def unwanted(
    finding: Finding, uuid: str, wall: float, running: bool,
) -> list[Observation]:
    """Say of a guest that need not run that it does not: no fault.

    :param uuid: the instance
    :param wall: seconds since the epoch
    :param running: as in :func:`observations`
    """
    if finding.doing in (Doing.PAUSED, Doing.CRASHED):
        return [_seen(Kind.PAUSED, uuid, wall, reason='paused')]
    if finding.doing is Doing.STOPPED and running:
        return [_seen(Kind.STOPPED, uuid, wall, reason=transitions.EXPECTED)]
    return []


def disk_errors(
    uuid: str, wall: float, disks: Iterable[DiskError],
) -> list[Observation]:
    """Say which disks paused a guest.

    :param uuid: the instance
    :param wall: seconds since the epoch
    :param disks: those that libvirt names; without one it is said of no disk
        in particular
    """
    return [
        _fault(uuid, wall, Cause.IO_ERROR, disk.alias, device=disk.alias,
               path=disk.path, action='pause', reason=disk.reason)
        for disk in disks] or [
        _fault(uuid, wall, Cause.IO_ERROR, action='pause')]


def ended(
    uuid: str, wall: float, conditions: Iterable[Condition], *,
    running: bool, held: bool, unseen: bool, is_back: bool,
) -> list[Observation]:
    """Say what must have happened to a guest whose domain runs.

    :param uuid: the instance
    :param wall: seconds since the epoch
    :param conditions: the instance's active ones
    :param running: whether it runs as far as is known
    :param held: whether its heartbeat is known to be paused
    :param unseen: whether events may have been missed
    :param is_back: whether a guest that crashed has come back, unseen
    """
    if not running:
        return [_seen(Kind.STARTED, uuid, wall)]
    active = {condition.cause for condition in conditions}
    # No start, with which its heartbeat would begin anew: it goes on.
    over = active & _STOPS
    if is_back:
        over |= active & {Cause.GUEST_CRASHED}
    seen = [_seen(Kind.RECOVERED, uuid, wall, cause)
            for cause in Cause if cause in over]
    if (held or Cause.PAUSED_UNEXPECTEDLY in active
            or unseen and active & _PAUSES):
        seen.append(_seen(Kind.RESUMED, uuid, wall))
    return seen


def is_back(
    condition: Condition, last_seen_at: Optional[float], watched: bool,
) -> bool:
    """Say whether a guest that crashed and runs is itself again.

    It may run its crash kernel, where no agent answers.

    :param condition: that it has crashed
    :param last_seen_at: of its heartbeat, seconds since the epoch; None for
        never
    :param watched: whether it is to have a heartbeat; of one that has none
        nothing more can be known
    """
    if not watched:
        return True
    return (last_seen_at is not None
            and last_seen_at > condition.since + _LAST_WORDS_S)


def _stopped(finding, uuid, wall, conditions) -> Observation:
    details = {'reason': finding.reason}
    if any(condition.cause is Cause.GUEST_CRASHED
           for condition in conditions):
        details['reason'] = 'crashed'       # libvirt keeps it as a failure
    elif Cause.GUEST_SHUTDOWN in finding.causes:
        details['by'] = 'guest'
    return _seen(Kind.STOPPED, uuid, wall, **details)


def _fault(uuid, wall, cause, subject='', **details) -> Observation:
    return _seen(Kind.FAULT, uuid, wall, cause, subject, **details)


def _seen(
    kind, uuid, wall, cause=None, subject='', **details,
) -> Observation:
    return Observation(kind, uuid, wall, cause, subject,
                       {**details, **FOUND_BY})
