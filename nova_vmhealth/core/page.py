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
:mod:`nova_vmhealth.core.transitions`. What flaps is said by
:mod:`nova_vmhealth.core.flapping`: of such a source only ``flapping`` is told,
its entries are held until it keeps still, and count for the health meanwhile.
"""

import dataclasses
import math
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional

from nova_vmhealth.core.entry import Entry
from nova_vmhealth.core.entry import Phase
from nova_vmhealth.core.flap_teller import FlapTeller
from nova_vmhealth.core.flapping import FlapDamper
from nova_vmhealth.core.operations import Operations
from nova_vmhealth.core import reading
from nova_vmhealth.core import saving
from nova_vmhealth.core.settings import Settings
from nova_vmhealth.core.standing import Standing
from nova_vmhealth.core.told import Told
from nova_vmhealth.core import transitions
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
        self._new_id = new_id
        self._entries: dict[tuple[Cause, str], Entry] = {}
        self._sequence = 0
        # what was told last, for people who ask
        self.last: Optional[Told] = None
        self._previous = Health.UNKNOWN
        self.standing = Standing()
        self._operations = Operations(settings.planned_grace_s)
        self._damper = FlapDamper(
            settings.flap_flips, settings.flap_window_s,
            settings.flap_quiet_s)
        # An owner who leaves the cause ``flapping`` out wants each flip told.
        self._damps = False
        self._flapping = FlapTeller(self._damper)

    # What others may ask

    @property
    def is_planned(self) -> bool:
        return self._operations.planned

    def explains(self, causes: Iterable[Cause]) -> bool:
        """Say whether Nova may be why the domain is not as it was."""
        return self._operations.explains(causes)

    @property
    def health(self) -> Health:
        severities = {SEVERITY[entry.cause] for entry in self._entries.values()
                      if self._weighs(entry)}
        for severity, health in transitions.WEIGHT.items():
            if severity in severities:
                return health
        return Health.HEALTHY if self.standing.beating else Health.UNKNOWN

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(entry.condition for entry in self._active())

    @property
    def sequence(self) -> int:
        """The number of the last event."""
        return self._sequence

    @property
    def said(self) -> Mapping[str, Health]:
        """What the guest says is not well, by the name of its audit."""
        return {entry.subject: transitions.WEIGHT[SEVERITY[entry.cause]]
                for entry in self._entries.values()
                if entry.cause in transitions.REPLACES
                and entry.phase is not Phase.GONE}

    def deadline(self) -> Optional[float]:
        """Return when to call :meth:`handle_timer`; None for never."""
        times = [self._due(entry) for entry in self._entries.values()]
        soonest = min(times, default=math.inf)
        soonest = min(soonest, self._operations.deadline(),
                      self._damper.deadline())
        return None if soonest == math.inf else soonest

    # What happens to it

    def observe(
        self, obs: Observation, now: float, wall: float,
        wanted: frozenset[Cause],
    ) -> list[HealthEvent]:
        """Take in one fact and return what to tell, in order."""
        self._begin_turn(now)
        self._damps = Cause.FLAPPING in wanted
        if reading.is_ignored(obs):
            return []
        obs = reading.normalized(obs)
        cause = self._cause_of(obs)
        self.standing.note(obs, cause, self._operations)
        self._operations.note(obs, now)
        ended = reading.ended_by(obs, self._entries.values(),
                                 self._operations, self.standing.running)
        events = [event for entry in ended
                  for event in self._clear(entry, now, obs.occurred_at, wall)]
        if obs.kind is Kind.RESUMED:
            for entry in self._entries.values():
                entry.resumed = True
        if obs.kind is Kind.DETAILS:
            events += self._tell_more(obs, now, wall)
        if cause is not None:
            events += self._fault(cause, obs, now, wall, wanted)
        return events

    def handle_timer(self, now: float, wall: float) -> list[HealthEvent]:
        """Do what time alone asks for and return what to tell, in order."""
        self._begin_turn(now)
        events = []
        for source in self._damper.over(now):
            events += self._end_flapping(source, now, wall)
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

    def go_on_after(self, sequence: int, untold: int) -> int:
        """Number what is told from now on after the events of another host.

        :param sequence: of the last event that was told there
        :param untold: how many of the latest events here are not told yet
        :returns: what those are to add to their numbers
        """
        shift = max(0, sequence - (self._sequence - untold))
        self._sequence += shift
        if self.last is not None and untold:
            self.last = dataclasses.replace(
                self.last, sequence=self.last.sequence + shift)
        return shift

    # On disk and back

    @property
    def mark(self) -> int:
        """Stands for all that may not be lost: another is a change."""
        return hash((
            self._sequence, self.standing.mark, self._operations.mark,
            self._damper.mark,
            tuple(entry.mark for entry in self._entries.values())))

    def save(self, times: saving.Times) -> dict[str, Any]:
        """Return its record."""
        return {
            'version': saving.VERSION,
            'sequence': self._sequence,
            **self.standing.save(),
            'operations': self._operations.save(times),
            'entries': [entry.save(times)
                        for entry in self._entries.values()],
            'sources': self._damper.save(times),
            'flapping': self._flapping.save(),
            **({'last': self.last.save()} if self.last else {}),
        }

    def restore(self, saved: saving.Record, times: saving.Times) -> bool:
        """Take up what a record says, on a page on which nothing stands.

        Of one in another release's form only the sequence, of which that of
        the events has to go on.

        :returns: whether nothing was left out
        :raises nova_vmhealth.exception.InvalidRecord: it says nothing; the
            page is of no use then
        """
        self._sequence = saved.count('sequence')
        if saved.count('version') != saving.VERSION:
            return False
        self.standing.restore(saved)
        self._operations.restore(saved.record('operations'), times)
        records = saved.records('entries')
        # A cause that another release knew is not told by this one.
        known = [each for each in records if each.is_word('cause', Cause)]
        for record in known:
            entry = Entry.restored(record, times)
            self._entries[entry.key] = entry
        self._damper.restore(saved.named('sources'), times)
        self._flapping.restore(saved.texts('flapping'), self._entries)
        if saved.has('last') and saved.record('last').is_word('cause', Cause):
            self.last = Told.restored(saved.record('last'))
        return len(known) == len(records)

    def _begin_turn(self, now: float) -> None:
        self._previous = self.health
        self._operations.expire(now)
        interval_s = self._settings.raise_interval_s
        for entry in list(self._entries.values()):
            if (entry.phase is Phase.GONE
                    and now >= entry.raised_now + interval_s):
                del self._entries[entry.key]

    def _cause_of(self, obs: Observation) -> Optional[Cause]:
        return reading.cause_of(
            obs, self._entries.values(), beating=self.standing.beating,
            shutdown_by=self.standing.shutdown_by)

    # From an entry to what is told

    def _fault(self, cause, obs, now, wall, wanted) -> list[HealthEvent]:
        events = self._replace(cause, obs, now, wall)
        if cause not in wanted or self._is_void(cause):
            return events
        entry = self._entry(cause, obs, now, wall)
        return events + self._observed(entry, obs, now, wall)

    def _observed(self, entry, obs, now, wall) -> list[HealthEvent]:
        if entry.phase is Phase.ACTIVE:
            entry.occurred_at, entry.detected_at = obs.occurred_at, wall
            entry.update_pending = True
        return self._attend_if_due(entry, now, wall)

    def _tell_more(self, obs, now, wall) -> list[HealthEvent]:
        """Add to what is told of a condition; the latest word holds."""
        entry = self._entries.get((obs.cause, obs.subject))
        if entry is None or not entry.learn(obs, wall):
            return []
        return self._attend_if_due(entry, now, wall)

    def _replace(self, cause, obs, now, wall) -> list[HealthEvent]:
        other = self._entries.get(
            (transitions.REPLACES.get(cause), obs.subject))
        if other is None:
            return []
        return self._clear(other, now, obs.occurred_at, wall)

    def _is_void(self, cause: Cause) -> bool:
        if cause in transitions.SILENCE and not self.standing.running:
            return True
        return self._operations.expects(cause)

    def _entry(self, cause, obs, now, wall) -> Entry:
        """Count the observation on its entry, or make one."""
        key = (cause, obs.subject)
        if key not in self._entries and len(self._entries) >= _MAX_NAMED:
            key = (cause, '')
        entry = self._entries.get(key)
        if entry is None or entry.phase is Phase.GONE:
            # a raise goes to the end of the order of conditions
            old = self._entries.pop(key, None)
            source = self._damper.source_of(*key) if self._damps else ''
            entry = Entry(*key, obs.occurred_at, obs.occurred_at, wall,
                          now, obs.details, source)
            self._damper.changes(source, now)
            if old is not None:
                entry.raised_now = old.raised_now
            self._entries[key] = entry
        else:
            entry.count += 1
            entry.seen_now = now
        entry.note(obs)
        return entry

    def _due(self, entry: Entry) -> float:
        return entry.due(self._settings, self._operations, self._damper)

    def _attend_if_due(self, entry, now, wall) -> list[HealthEvent]:
        if self._due(entry) > now:
            return []
        return self._attend(entry, now, wall)

    def _attend(self, entry, now, wall) -> list[HealthEvent]:
        if entry.phase is Phase.HELD:
            if self._damper.raises(entry.source, now):
                return self._begin_flapping(entry, now, wall)
            entry.phase = Phase.ACTIVE
            entry.raised_now = now
            return [self._tell(entry, Transition.RAISED, now)]
        if entry.quiet_at(self._settings) <= now:
            return self._clear(entry, now, wall, wall)
        return [self._tell(entry, Transition.UPDATED, now)]

    def _clear(self, entry, now, occurred_at, wall) -> list[HealthEvent]:
        was_told = entry.phase is Phase.ACTIVE
        if entry.phase is not Phase.GONE:
            self._damper.changes(entry.source, now)
        entry.phase = Phase.GONE
        self._flapping.cleared(entry)
        if not was_told:
            return []
        entry.occurred_at, entry.detected_at = occurred_at, wall
        return [self._tell(entry, Transition.CLEARED, now)]

    def _begin_flapping(self, held, now, wall) -> list[HealthEvent]:
        """Tell of a source that it flaps, in place of the held entry."""
        source = held.source
        obs = self._flapping.seen(self._uuid, held)
        teller = self._entry(Cause.FLAPPING, obs, now, wall)
        self._flapping.begin(source, teller)
        events = self._observed(teller, obs, now, wall)
        for entry in list(self._active()):
            if entry.source == source:
                events.append(
                    self._withdraw(entry, now, held.occurred_at, wall))
        return events

    def _withdraw(self, entry, now, occurred_at, wall) -> HealthEvent:
        """Tell that it is cleared, and hold it: it is wrong all the same."""
        entry.phase = Phase.HELD
        event = self._tell(entry, Transition.CLEARED, now)
        return dataclasses.replace(
            event, occurred_at=occurred_at, detected_at=wall,
            details={**event.details, **transitions.WITHDRAWN})

    def _end_flapping(self, source, now, wall) -> list[HealthEvent]:
        teller = self._flapping.end(source)
        events = self._clear(teller, now, wall, wall) if teller else []
        # After it is told: what is raised next counts in its health too.
        self._damper.end(source)
        return events

    def _tell(self, entry, transition, now) -> HealthEvent:
        entry.told_now = now
        entry.update_pending = False
        self._sequence += 1
        previous, self._previous = self._previous, self.health
        self.last = Told(self._sequence, transition, entry.cause,
                         entry.subject, entry.occurred_at)
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
            operation=self._operations.name,
        )

    def _weighs(self, entry: Entry) -> bool:
        """Say whether it counts for the instance's health."""
        if entry.phase is not Phase.HELD:
            return entry.phase is Phase.ACTIVE
        # What flaps is not told, and wrong all the same, unless it is what
        # Nova is doing.
        return (self._damper.flaps(entry.source)
                and not self._operations.holds(entry.cause))

    def _active(self) -> Iterator[Entry]:
        return (entry for entry in self._entries.values()
                if entry.phase is Phase.ACTIVE)
