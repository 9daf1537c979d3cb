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

"""What Nova is doing to one instance: the ledger's planned operations.

What an operation explains is said in one table, :data:`OPERATIONS`. What it
does not explain is told while it runs: QEMU's death and an I/O error are side
effects of none.
"""

import dataclasses
import math
import types
from typing import Any, Iterable, Iterator, Mapping, Optional

from nova_vmhealth.core.saving import Record
from nova_vmhealth.core.saving import Times
from nova_vmhealth.core import transitions
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation

# A guest's kernel that dumps its memory, and boots then, may be silent for so
# long, seconds. As long as one that reboots by itself (virt.steering).
CRASH_DUMP_S = 600.0
# Nova takes the snapshots of an instance's volumes between its calls of
# quiesce and unquiesce: seconds, and not without end where it dies in between.
FROZEN_S = 600.0
# An operation that takes longer hangs, or it is one in which a guest is to
# answer: the copying of much memory, the upload of a big image. Seconds.
PATIENCE_S = 3600.0
# The guest runs for most of a snapshot, and the upload of it takes long.
SNAPSHOT_PATIENCE_S = 600.0

_NONE: frozenset[Cause] = frozenset()
_STOP = frozenset({Cause.STOPPED_UNEXPECTEDLY, Cause.GUEST_SHUTDOWN})
_SILENCE = transitions.SILENCE | {Cause.NOT_RUNNING}
# An audit that writes to a disk that is frozen waits, and fails.
_FROZEN = _SILENCE | {Cause.GUEST_UNHEALTHY, Cause.GUEST_DEGRADED}


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """What an operation of Nova's explains, in its time and its grace.

    :ivar expects: causes that are its side effects: no faults, now or later
    :ivar holds: side effects too, but faults if they outlive the operation
        and its grace: each is observed once, so dropping it would hide a
        guest that never came back
    :ivar patience_s: what it holds is told after so long, seconds, even if
        the operation is still on: one that hangs must not hide a guest that
        does
    :ivar grace_s: how long it explains something after its end, seconds, if
        it did not fail; None for the operator's own limit
    :ivar ends: operations whose grace is over with its end
    :ivar stops: whether it leaves the instance stopped. Nova runs power_off
        also on an instance that has stopped already
        (_sync_instance_power_state), where libvirt has nothing more to say.
    """

    expects: frozenset[Cause] = _NONE
    holds: frozenset[Cause] = _NONE
    patience_s: float = PATIENCE_S
    grace_s: Optional[float] = None
    ends: frozenset[str] = frozenset()
    stops: bool = False

    @property
    def explains(self) -> bool:
        """Whether it explains anything at all."""
        return bool(self.expects or self.holds)

    @property
    def holds_heartbeat(self) -> bool:
        """Whether the guest is not asked while it is on."""
        return Cause.HEARTBEAT_LOST in self.holds


# After these a guest has nothing more of what was done to it before.
_ANEW = frozenset({'trigger_crash_dump', 'quiesce'})

# The guest runs on, and all that it does is its own doing.
_NOTHING = Operation()
_SILENT = Operation(holds=_SILENCE)
_REPLACED = Operation(expects=_STOP, holds=_SILENCE)
_STARTED = Operation(expects=_STOP, holds=_SILENCE, ends=_ANEW)
_STOPPED = Operation(expects=_STOP, holds=_SILENCE, ends=_ANEW, stops=True)

# By the name of the driver's method. A start explains a stop too: Nova ends
# the domain of one that fails, and begins most of them with a destroy.
OPERATIONS: Mapping[str, Operation] = types.MappingProxyType({
    'spawn': _STARTED,
    'power_on': _STARTED,
    'reboot': _STARTED,
    'rescue': _STARTED,
    'unrescue': _STARTED,
    'resume_state_on_host_boot': _STARTED,
    'destroy': _STOPPED,
    'power_off': _STOPPED,
    # only what libvirt does not have any more
    'cleanup': _NOTHING,
    # A domain that is saved to disk has stopped for a reason of its own.
    'suspend': _SILENT,
    'resume': _REPLACED,
    'pause': _SILENT,
    'unpause': _SILENT,
    # An NMI: the guest panics, dumps its memory and reboots, after the method
    # has returned.
    'trigger_crash_dump': Operation(
        expects=frozenset({Cause.GUEST_CRASHED}), holds=_SILENCE,
        grace_s=CRASH_DUMP_S),
    # A cold one suspends the guest, by the driver's method, which explains it.
    'snapshot': Operation(holds=_SILENCE, patience_s=SNAPSHOT_PATIENCE_S),
    'quiesce': Operation(holds=_FROZEN, patience_s=FROZEN_S,
                         grace_s=FROZEN_S),
    'unquiesce': Operation(holds=_FROZEN, patience_s=FROZEN_S,
                           ends=frozenset({'quiesce'})),
    'volume_snapshot_create': Operation(
        holds=_FROZEN, patience_s=SNAPSHOT_PATIENCE_S),
    'volume_snapshot_delete': _NOTHING,
    # hot-plug
    'attach_volume': _NOTHING,
    'detach_volume': _NOTHING,
    'swap_volume': _NOTHING,
    'extend_volume': _NOTHING,
    'attach_interface': _NOTHING,
    'detach_interface': _NOTHING,
    # Live migration: libvirt calls the end of the source's domain by its
    # name, migrated, and no other end of it is explained.
    'pre_live_migration': _SILENT,
    'live_migration': _SILENT,
    'live_migration_abort': _SILENT,
    'live_migration_force_complete': _SILENT,
    'rollback_live_migration_at_source': _SILENT,
    'rollback_live_migration_at_destination': _REPLACED,
    'post_live_migration': _SILENT,
    'post_live_migration_at_source': _SILENT,
    'post_live_migration_at_destination': _SILENT,
    # cold migration and resize
    'migrate_disk_and_power_off': _REPLACED,
    'finish_migration': _STARTED,
    'finish_revert_migration': _STARTED,
    'confirm_migration': _NOTHING,
})

# What this host does by itself to a guest that is lost, as
# transitions.ACTION, and what an older or newer release called by another
# name.
_OTHER = _REPLACED


def row_of(name: str) -> Operation:
    """Return what the operation of that name explains."""
    return OPERATIONS.get(name, _OTHER)


def explain(names: Iterable[str], causes: Iterable[Cause]) -> bool:
    """Say whether operations may be why a domain is not as it was.

    :param names: the operations
    :param causes: what would be wrong with the domain
    """
    return any(
        # It ends the domain, or makes another one.
        Cause.STOPPED_UNEXPECTEDLY in row.expects
        or not (row.expects | row.holds).isdisjoint(causes)
        for row in map(row_of, names))


class Operations:
    """The planned operations of one instance, and the graces that follow.

    Each explains what it explains by itself: one within another, as the
    destroy of a reboot, neither widens nor narrows the other.

    :param grace_s: how long side effects are expected after an operation's
        end, seconds, where the table does not say
    """

    # one for each instance of the host
    __slots__ = ('_grace_s', '_on', '_since', '_graces')

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        # how often each operation was begun and not ended yet, the outermost
        # first, and when it was begun, on the caller's monotonic clock
        self._on: dict[str, int] = {}
        self._since: dict[str, float] = {}
        # until when those that have ended explain something, the latest last
        self._graces: dict[str, float] = {}

    @property
    def name(self) -> str:
        """The operation that is told; empty when nothing is planned.

        The outermost of those that are on, or the last that has ended.
        """
        for name in self._on:
            return name
        for name in reversed(self._graces):
            return name
        return ''

    @property
    def planned(self) -> bool:
        """Whether one is on or has its grace."""
        return bool(self._on or self._graces)

    @property
    def by_nova(self) -> bool:
        """Whether what is planned is Nova's, and no action of this host."""
        return self.planned and not self.name.startswith(transitions.ACTION)

    def expects(self, cause: Cause) -> bool:
        """Say whether a cause is no fault now."""
        return any(cause in row_of(name).expects for name in self._names())

    def holds(self, cause: Cause) -> bool:
        """Say whether a cause may be no fault, and waits."""
        return any(cause in row_of(name).holds for name in self._names())

    def explains(self, causes: Iterable[Cause]) -> bool:
        """Say whether one is why a domain is not as it was: see explain()."""
        return explain(self._names(), causes)

    def held_until(self, cause: Cause) -> float:
        """Return until when a cause is held, on the caller's clock.

        :returns: seconds, minus infinity when nothing holds it
        """
        times = [self._since[name] + row_of(name).patience_s
                 for name in self._on if cause in row_of(name).holds]
        times += [until for name, until in self._graces.items()
                  if cause in row_of(name).holds]
        return max(times, default=-math.inf)

    def deadline(self) -> float:
        """Return when to call :meth:`expire`; infinity for never."""
        return min(self._graces.values(), default=math.inf)

    def note(self, obs: Observation, now: float) -> None:
        """Take in a fact.

        :param now: the caller's monotonic clock, seconds
        """
        name = obs.details.get('operation') or 'unknown'
        if obs.kind is Kind.PLANNED_BEGUN:
            if name not in self._on:
                self._since[name] = now
            self._on[name] = self._on.get(name, 0) + 1
        elif obs.kind is Kind.PLANNED_ENDED and name in self._on:
            self._on[name] -= 1
            if not self._on[name]:
                self._end(name, now, obs.details.get('outcome') == 'failed')
        elif obs.kind is Kind.HEARTBEAT_ESTABLISHED:
            # It has dumped or thawed, and is to answer from now on.
            for name, until in self._graces.items():
                self._graces[name] = min(until, now + self._grace_s)

    def expire(self, now: float) -> None:
        """End the graces whose time is over."""
        if self._graces:
            self._graces = {name: until for name, until
                            in self._graces.items() if until > now}

    @property
    def mark(self) -> tuple[Any, ...]:
        """What is to be written down of it, for who asks if it changed."""
        return tuple(self._on), tuple(self._graces.items())

    def save(self, times: Times) -> dict[str, Any]:
        """Return its record."""
        return {'on': list(self._on),
                'graces': {name: {'until': times.save(until)}
                           for name, until in self._graces.items()}}

    def restore(self, saved: Record, times: Times) -> None:
        """Take up what a record says; what was on is over.

        Whoever was at it has gone with the run of before.

        :raises nova_vmhealth.exception.InvalidRecord: it says nothing
        """
        for name, record in saved.named('graces').items():
            until = times.until(record.time('until'), self._grace_of(name))
            self._graces[name] = until
        for name in reversed(saved.words('on')):
            self._end(name, times.now, False)

    def _names(self) -> Iterator[str]:
        yield from self._on
        yield from self._graces

    def _grace_of(self, name: str) -> float:
        own = row_of(name).grace_s
        return self._grace_s if own is None else own

    def _end(self, name: str, now: float, failed: bool) -> None:
        self._on.pop(name, None)
        self._since.pop(name, None)
        self._graces.pop(name, None)
        for other in row_of(name).ends:
            self._graces.pop(other, None)
        if row_of(name).explains:
            # What was not done lasts no longer than what was begun.
            grace_s = self._grace_s if failed else self._grace_of(name)
            self._graces[name] = now + grace_s
