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

# One of these says already why a guest does not run.
_STOPS = frozenset({
    Cause.STOPPED_UNEXPECTEDLY, Cause.GUEST_SHUTDOWN, Cause.GUEST_CRASHED,
    Cause.QEMU_FAILED, Cause.NOT_RUNNING,
})
# What a running guest shows to be over, the first kind that fits.
_ENDS: Mapping[Kind, frozenset[Cause]] = {
    Kind.STARTED: _STOPS,
    Kind.RESUMED: frozenset({Cause.PAUSED_UNEXPECTEDLY, Cause.IO_ERROR,
                             Cause.WATCHDOG_EXPIRED}),
}
# A guest that crashed may run its crash kernel, and one with the others may
# never have been paused: these are over only where events were missed.
_ENDS_UNSEEN = frozenset({
    Cause.GUEST_CRASHED, Cause.IO_ERROR, Cause.WATCHDOG_EXPIRED,
})

# vm_state in which Nova wants a domain to run.
_WANTS_IT_RUNNING = frozenset({'active', 'rescued'})

# In the details of whatever was found by a comparison: nobody saw it happen,
# so its time is that of the comparison.
FOUND_BY = {'found_by': 'reconciliation'}


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


def news(
    finding: Finding, conditions: Iterable[Condition],
) -> tuple[Cause, ...]:
    """Return what is wrong and not told yet.

    :param conditions: the instance's active ones
    """
    active = {condition.cause for condition in conditions}
    if finding.doing is Doing.STOPPED and active & _STOPS:
        return ()
    return tuple(cause for cause in finding.causes if cause not in active)


def ended(
    finding: Finding, conditions: Iterable[Condition], unseen: bool,
) -> Optional[Kind]:
    """Return what must have happened to a guest that runs; None for nothing.

    :param conditions: the instance's active ones
    :param unseen: whether events may have been missed since the last look
    """
    if finding.doing is not Doing.RUNNING:
        return None
    active = {condition.cause for condition in conditions}
    if not unseen:
        active -= _ENDS_UNSEEN
    return next((kind for kind, causes in _ENDS.items() if active & causes),
                None)


def observations(
    finding: Finding, uuid: str, wall: float, wrong: Iterable[Cause],
    disks: Iterable[DiskError], held: bool,
) -> list[Observation]:
    """Say it in the words of the live events, in their order.

    :param uuid: the instance
    :param wall: when it was found, seconds since the epoch
    :param wrong: what :func:`news` gave
    :param disks: with an error; for :data:`Cause.IO_ERROR`
    :param held: whether its heartbeat is known to be paused
    """
    wrong = set(wrong)
    seen = []
    if Cause.IO_ERROR in wrong:
        # without one that libvirt could name, of no disk in particular
        seen += [_fault(uuid, wall, Cause.IO_ERROR, disk.alias,
                        device=disk.alias, path=disk.path, action='pause',
                        reason=disk.reason)
                 for disk in disks] or [
            _fault(uuid, wall, Cause.IO_ERROR, action='pause')]
    if Cause.WATCHDOG_EXPIRED in wrong:
        seen.append(_fault(uuid, wall, Cause.WATCHDOG_EXPIRED,
                           action='pause'))
    if Cause.GUEST_CRASHED in wrong:
        seen.append(_fault(uuid, wall, Cause.GUEST_CRASHED,
                           reason=finding.reason))
    if finding.doing is Doing.STOPPED and wrong:
        details = {'reason': finding.reason, **FOUND_BY}
        if Cause.GUEST_SHUTDOWN in wrong:
            details['by'] = 'guest'
        seen.append(Observation(Kind.STOPPED, uuid, wall, details=details))
    elif finding.doing is Doing.PAUSED:
        if Cause.PAUSED_UNEXPECTEDLY in wrong:
            seen.append(_paused(uuid, wall, finding.reason))
        elif not held:
            # No news, but nothing is to be heard from it.
            seen.append(_paused(uuid, wall, 'paused'))
    return seen


def _fault(uuid, wall, cause, subject='', **details) -> Observation:
    return Observation(Kind.FAULT, uuid, wall, cause, subject,
                       {**details, **FOUND_BY})


def _paused(uuid, wall, reason) -> Observation:
    return Observation(Kind.PAUSED, uuid, wall,
                       details={'reason': reason, **FOUND_BY})
