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


"""The ledger's page on one instance: observations in, health events out.

The engine has no rules of its own; those are the tables of
:mod:`nova_vmhealth.core.transitions`.
"""

import dataclasses
import math
from typing import Callable, Iterator, Mapping, Optional

from nova_vmhealth.core.entry import Entry
from nova_vmhealth.core.entry import Phase
from nova_vmhealth.core import protocol
from nova_vmhealth.core import transitions
from nova_vmhealth.core.transitions import When
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Condition
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import HealthEvent
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.core.vocabulary import SEVERITY
from nova_vmhealth.core.vocabulary import Transition

# A guest chooses the names of its audits, and so the number of conditions.
# 64 are more than a person reads and keep an event's payload under 10 KiB.
MAX_CONDITIONS = 64

# Every cause keeps room for one condition without a subject, into which
# the named ones are folded once there are too many of them.
_MAX_NAMED = MAX_CONDITIONS - len(Cause)


# A condition that flaps is raised at most this often, seconds.
_MAX_RAISE_INTERVAL_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How patient the ledger is.

    :ivar update_interval_s: least time between two updates of one condition,
        seconds; between two raises of it, if that is less than a second
    :ivar planned_grace_s: how long side effects of a planned operation are
        expected after its end, seconds
    :ivar io_error_quiet_s: an I/O error that did not pause the guest is over
        after this time without another, seconds
    """

    update_interval_s: float = 1.0
    planned_grace_s: float = 10.0
    io_error_quiet_s: float = 60.0


class Page:
    """What the ledger knows of one instance.

    Arguments named ``now`` are the caller's monotonic clock, those named
    ``wall`` the wall clock; both in seconds.
    """

    def __init__(
        self, instance_uuid: str, settings: Settings,
        new_id: Callable[[], str],
    ) -> None:
        self._uuid = instance_uuid
        self._settings = settings
        # However rare updates are wanted, a fault that is back is told.
        self._raise_interval_s = min(settings.update_interval_s,
                                     _MAX_RAISE_INTERVAL_S)
        self._new_id = new_id
        self._entries: dict[tuple[Cause, str], Entry] = {}
        self._sequence = 0
        self._previous = Health.UNKNOWN
        # transitions.NOTES sets these three
        self.beating = False
        self.running = True
        self.shutdown_by = ''
        # how often each operation was begun and not ended yet
        self._operations: dict[str, int] = {}
        self._operation = ''
        self._grace_until: Optional[float] = None

    # What others may ask

    @property
    def is_planned(self) -> bool:
        return bool(self._operations) or self._grace_until is not None

    @property
    def health(self) -> Health:
        severities = {SEVERITY[entry.cause] for entry in self._active()}
        for severity, health in transitions.WEIGHT.items():
            if severity in severities:
                return health
        return Health.HEALTHY if self.beating else Health.UNKNOWN

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(entry.condition for entry in self._active())

    def deadline(self) -> Optional[float]:
        """Return when to call :meth:`handle_timer`; None for never."""
        times = [self._due(entry) for entry in self._entries.values()]
        if self._grace_until is not None:
            times.append(self._grace_until)
        soonest = min(times, default=math.inf)
        return None if soonest == math.inf else soonest

    # What happens to it

    def observe(
        self, obs: Observation, now: float, wall: float,
        wanted: frozenset[Cause],
    ) -> list[HealthEvent]:
        """Take in one fact and return what to tell, in order."""
        self._begin_turn(now)
        if _is_about_another_agent(obs):
            return []
        obs = _normalized(obs)
        cause = self._cause_of(obs)
        self._note(obs)
        self._plan(obs, now)
        events = [event for entry in self._ended_by(obs)
                  for event in self._clear(entry, now, obs.occurred_at, wall)]
        if obs.kind is Kind.RESUMED:
            for entry in self._entries.values():
                entry.resumed = True
        if cause is not None:
            events += self._fault(cause, obs, now, wall, wanted)
        return events

    def handle_timer(self, now: float, wall: float) -> list[HealthEvent]:
        """Do what time alone asks for and return what to tell, in order."""
        self._begin_turn(now)
        events = []
        for entry in list(self._entries.values()):
            if self._due(entry) <= now:
                events += self._attend(entry, now, wall)
        return events

    def close(
        self, now: float, occurred_at: float, wall: float,
    ) -> list[HealthEvent]:
        """End every condition: the instance is not here any more."""
        self._begin_turn(now)
        return [event for entry in list(self._active())
                for event in self._clear(entry, now, occurred_at, wall)]

    def _begin_turn(self, now: float) -> None:
        self._previous = self.health
        if self._grace_until is not None and now >= self._grace_until:
            self._grace_until = None
            self._operation = ''
        for entry in list(self._entries.values()):
            if (entry.phase is Phase.GONE
                    and now >= entry.raised_now + self._raise_interval_s):
                del self._entries[entry.key]

    # Reading an observation

    def _cause_of(self, obs: Observation) -> Optional[Cause]:
        if obs.kind is Kind.FAULT:
            return obs.cause
        if obs.kind is Kind.AGENT_DISCONNECTED:
            return Cause.AGENT_EXITED if self.beating else None
        cause = transitions.RAISES.get(
            (obs.kind, _reason(obs)),
            transitions.RAISES.get((obs.kind, 'unknown')))
        if (cause is Cause.STOPPED_UNEXPECTEDLY
                and _reason(obs) == 'shutdown'
                and (obs.details.get('by') or self.shutdown_by) == 'guest'):
            cause = Cause.GUEST_SHUTDOWN
        if (cause in transitions.PART_OF_A_CRASH
                and any(entry.cause is Cause.GUEST_CRASHED
                        and entry.phase is not Phase.GONE
                        for entry in self._entries.values())):
            return None
        return cause

    def _note(self, obs: Observation) -> None:
        for name, value in transitions.NOTES.get(obs.kind, {}).items():
            setattr(self, name, value)
        if obs.kind is Kind.FAULT and obs.cause in transitions.SILENCE:
            self.beating = False

    def _plan(self, obs: Observation, now: float) -> None:
        name = obs.details.get('operation') or 'unknown'
        if obs.kind is Kind.PLANNED_BEGUN:
            if not self._operations:
                self._operation = name
            self._operations[name] = self._operations.get(name, 0) + 1
            self._grace_until = None
        elif obs.kind is Kind.PLANNED_ENDED and name in self._operations:
            self._operations[name] -= 1
            if not self._operations[name]:
                del self._operations[name]
            if not self._operations:
                self._grace_until = now + self._settings.planned_grace_s

    def _ended_by(self, obs: Observation) -> Iterator[Entry]:
        rules = self._clearing_rules(obs)
        for entry in list(self._entries.values()):
            if (entry.cause in rules
                    and entry.matches(rules[entry.cause])
                    and _is_about(obs, entry)):
                yield entry

    def _clearing_rules(self, obs: Observation) -> Mapping[Cause, When]:
        if obs.kind is Kind.RECOVERED:
            return {obs.cause: When.ALWAYS}
        if obs.kind is Kind.STOPPED:
            stopped_by_nova = (
                self.is_planned and _reason(obs) != 'migrated')
        else:
            stopped_by_nova = (
                obs.kind is Kind.PLANNED_ENDED and not self.running
                and obs.details.get('operation')
                in transitions.STOPPING_OPERATIONS)
        if stopped_by_nova:
            return transitions.STOPPED_BY_NOVA
        return transitions.CLEARS.get(obs.kind, {})

    # From an entry to what is told

    def _fault(self, cause, obs, now, wall, wanted) -> list[HealthEvent]:
        events = self._replace(cause, obs, now, wall)
        if cause not in wanted or self._is_void(cause):
            return events
        entry = self._entry(cause, obs, now, wall)
        if entry.phase is Phase.ACTIVE:
            entry.occurred_at, entry.detected_at = obs.occurred_at, wall
            entry.update_pending = True
        if self._due(entry) <= now:
            events += self._attend(entry, now, wall)
        return events

    def _replace(self, cause, obs, now, wall) -> list[HealthEvent]:
        other = self._entries.get(
            (transitions.REPLACES.get(cause), obs.subject))
        if other is None:
            return []
        return self._clear(other, now, obs.occurred_at, wall)

    def _is_void(self, cause: Cause) -> bool:
        if cause in transitions.SILENCE and not self.running:
            return True
        return self.is_planned and cause in transitions.DROPPED_WHILE_PLANNED

    def _entry(self, cause, obs, now, wall) -> Entry:
        """Count the observation on its entry, or make one."""
        key = (cause, obs.subject)
        if key not in self._entries and len(self._entries) >= _MAX_NAMED:
            key = (cause, '')
        entry = self._entries.get(key)
        if entry is None or entry.phase is Phase.GONE:
            # a raise goes to the end of the order of conditions
            old = self._entries.pop(key, None)
            entry = Entry(*key, obs.occurred_at, obs.occurred_at, wall,
                           now, obs.details)
            if old is not None:
                entry.raised_now = old.raised_now
            self._entries[key] = entry
        else:
            entry.count += 1
            entry.seen_now = now
        entry.note(obs)
        return entry

    def _due(self, entry: Entry) -> float:
        """Return when the entry wants :meth:`_attend`; inf for never."""
        interval = self._settings.update_interval_s
        if entry.phase is Phase.HELD:
            ready = entry.raised_now + self._raise_interval_s
            if entry.cause in transitions.HELD_WHILE_PLANNED:
                if self._operations:
                    return math.inf
                if self._grace_until is not None:
                    return max(ready, self._grace_until)
            return ready
        if entry.phase is Phase.GONE:
            return math.inf
        update = (entry.told_now + interval if entry.update_pending
                  else math.inf)
        return min(update, self._quiet_at(entry))

    def _quiet_at(self, entry: Entry) -> float:
        if entry.cause is Cause.IO_ERROR and not entry.paused:
            return entry.seen_now + self._settings.io_error_quiet_s
        return math.inf

    def _attend(self, entry, now, wall) -> list[HealthEvent]:
        if entry.phase is Phase.HELD:
            entry.phase = Phase.ACTIVE
            entry.raised_now = now
            return [self._tell(entry, Transition.RAISED, now)]
        if self._quiet_at(entry) <= now:
            return self._clear(entry, now, wall, wall)
        return [self._tell(entry, Transition.UPDATED, now)]

    def _clear(self, entry, now, occurred_at, wall) -> list[HealthEvent]:
        was_told = entry.phase is Phase.ACTIVE
        entry.phase = Phase.GONE
        if not was_told:
            return []
        entry.occurred_at, entry.detected_at = occurred_at, wall
        return [self._tell(entry, Transition.CLEARED, now)]

    def _tell(self, entry, transition, now) -> HealthEvent:
        entry.told_now = now
        entry.update_pending = False
        self._sequence += 1
        previous, self._previous = self._previous, self.health
        return HealthEvent(
            event_id=self._new_id(),
            sequence=self._sequence,
            instance_uuid=self._uuid,
            transition=transition,
            cause=entry.cause,
            subject=entry.subject,
            severity=SEVERITY[entry.cause],
            health=self._previous,
            previous_health=previous,
            conditions=self.conditions,
            occurred_at=entry.occurred_at,
            detected_at=entry.detected_at,
            count=entry.count,
            details=entry.details,
            operation=self._operation,
        )

    def _active(self) -> Iterator[Entry]:
        return (entry for entry in self._entries.values()
                if entry.phase is Phase.ACTIVE)


def _normalized(obs: Observation) -> Observation:
    """Say in one way what observers say in several."""
    if obs.kind is Kind.RECOVERED and obs.cause in transitions.SILENCE:
        # Whichever of the heartbeat's causes is over, the guest beats.
        return dataclasses.replace(
            obs, kind=Kind.HEARTBEAT_ESTABLISHED, cause=None, subject='')
    return obs


def _is_about_another_agent(obs: Observation) -> bool:
    """Say whether it is about some other channel, as QEMU's guest agent's."""
    return (obs.kind in (Kind.AGENT_CONNECTED, Kind.AGENT_DISCONNECTED)
            and obs.details.get('channel') != protocol.CHANNEL_NAME)


def _reason(obs: Observation) -> str:
    return obs.details.get('reason', 'unknown')


def _is_about(obs: Observation, entry: Entry) -> bool:
    if obs.kind is not Kind.RECOVERED:
        return True
    return (obs.subject == entry.subject
            or not obs.subject
            and obs.cause not in transitions.EMPTY_SUBJECT_IS_ONE)
