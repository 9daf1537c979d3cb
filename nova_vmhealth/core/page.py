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
from typing import Any, Callable, Iterator, Mapping, Optional

from nova_vmhealth.core.entry import Entry
from nova_vmhealth.core.entry import Phase
from nova_vmhealth.core.flapping import FlapDamper
from nova_vmhealth.core.operations import Operations
from nova_vmhealth.core import reading
from nova_vmhealth.core import saving
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core import transitions
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Condition
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import HealthEvent
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.core.vocabulary import SEVERITY
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth import exception

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
    :ivar flap_flips: how often one source may raise within the window until
        it flaps; 0: as often as it likes
    :ivar flap_window_s: that window, seconds
    :ivar flap_quiet_s: a source flaps until it did not change for so long,
        seconds
    """

    update_interval_s: float = 1.0
    planned_grace_s: float = 10.0
    io_error_quiet_s: float = 60.0
    flap_flips: int = 5
    flap_window_s: float = 60.0
    flap_quiet_s: float = 60.0


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
        # transitions.NOTES sets these
        self.guest = Guest.WAITING
        # it had answered, rebooted by itself, and has not answered since
        self.rebooted = False
        self.beating = False
        self.running = True
        self.shutdown_by = ''
        self._operations = Operations(settings.planned_grace_s)
        self._damper = FlapDamper(
            settings.flap_flips, settings.flap_window_s,
            settings.flap_quiet_s)
        # An owner who leaves the cause ``flapping`` out wants each flip told.
        self._damps = False
        # source that flaps -> the entry that says so
        self._flapping: dict[str, Entry] = {}

    # What others may ask

    @property
    def is_planned(self) -> bool:
        return self._operations.planned

    @property
    def health(self) -> Health:
        severities = {SEVERITY[entry.cause] for entry in self._entries.values()
                      if self._weighs(entry)}
        for severity, health in transitions.WEIGHT.items():
            if severity in severities:
                return health
        return Health.HEALTHY if self.beating else Health.UNKNOWN

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(entry.condition for entry in self._active())

    @property
    def heard(self) -> bool:
        """Whether the guest has answered since it was started."""
        return self.guest not in (Guest.WAITING, Guest.OVERDUE)

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
        self._note(obs, cause)
        self._operations.note(obs, now)
        events = [event for entry in self._ended_by(obs)
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
        return shift

    # On disk and back

    @property
    def mark(self) -> int:
        """Stands for all that may not be lost: another is a change."""
        return hash((
            self._sequence, self.guest, self.rebooted, self.beating,
            self.running, self.shutdown_by, self._operations.mark,
            self._damper.mark,
            tuple(entry.mark for entry in self._entries.values())))

    def save(self, times: saving.Times) -> dict[str, Any]:
        """Return its record."""
        return {
            'version': saving.VERSION,
            'sequence': self._sequence,
            'guest': self.guest.value,
            'rebooted': self.rebooted,
            'beating': self.beating,
            'running': self.running,
            'shutdown_by': self.shutdown_by,
            'operations': self._operations.save(times),
            'entries': [entry.save(times)
                        for entry in self._entries.values()],
            'sources': self._damper.save(times),
            'flapping': {source: teller.subject
                         for source, teller in self._flapping.items()},
        }

    def restore(self, saved: saving.Record, times: saving.Times) -> None:
        """Take up what a record says, on a page on which nothing stands.

        :raises nova_vmhealth.exception.InvalidRecord: it says nothing; the
            page is of no use then
        """
        if saved.count('version') != saving.VERSION:
            raise exception.InvalidRecord(reason='it is of another release')
        self._sequence = saved.count('sequence')
        self.guest = saved.word('guest', Guest)
        self.rebooted = saved.flag('rebooted')
        self.beating = saved.flag('beating')
        self.running = saved.flag('running')
        self.shutdown_by = saved.text('shutdown_by')
        self._operations.restore(saved.record('operations'), times)
        for record in saved.records('entries'):
            entry = Entry.restored(record, times)
            self._entries[entry.key] = entry
        self._damper.restore(saved.named('sources'), times)
        for source, subject in saved.texts('flapping').items():
            teller = self._entries.get((Cause.FLAPPING, subject))
            if teller is None:
                raise exception.InvalidRecord(reason='nobody tells a flapping')
            self._flapping[source] = teller
        if self._flapping.keys() != self._damper.flapping:
            raise exception.InvalidRecord(reason='what flaps is not clear')

    def _begin_turn(self, now: float) -> None:
        self._previous = self.health
        self._operations.expire(now)
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
            (obs.kind, reading.reason_of(obs)),
            transitions.RAISES.get((obs.kind, 'unknown')))
        if (cause is Cause.STOPPED_UNEXPECTEDLY
                and reading.reason_of(obs) == 'shutdown'
                and (obs.details.get('by') or self.shutdown_by) == 'guest'):
            cause = Cause.GUEST_SHUTDOWN
        if (cause in transitions.PART_OF_A_CRASH
                and any(entry.cause is Cause.GUEST_CRASHED
                        and entry.phase is not Phase.GONE
                        for entry in self._entries.values())):
            return None
        return cause

    def _note(self, obs: Observation, cause: Optional[Cause]) -> None:
        guest = self.guest
        if obs.kind is Kind.REBOOTED:
            self.rebooted = ((self.heard or self.rebooted)
                             and not self.is_planned)
        for name, value in transitions.NOTES.get(obs.kind, {}).items():
            setattr(self, name, value)
        if obs.kind is Kind.STOPPED and reading.reason_of(obs) == 'migrated':
            self.guest = guest      # it goes on elsewhere, as it stood
        self.guest = transitions.STANDS.get(cause, self.guest)
        if obs.kind is Kind.FAULT and obs.cause in transitions.SILENCE:
            self.beating = False

    def _ended_by(self, obs: Observation) -> Iterator[Entry]:
        rules = reading.clearing_rules(
            obs, self._operations, self.running)
        for entry in list(self._entries.values()):
            if (entry.cause in rules
                    and entry.matches(rules[entry.cause])
                    and reading.is_about(obs, entry)):
                yield entry

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
        if cause in transitions.SILENCE and not self.running:
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
        """Return when the entry wants :meth:`_attend`; inf for never."""
        interval = self._settings.update_interval_s
        if entry.phase is Phase.HELD:
            if self._damper.flaps(entry.source):
                return math.inf
            ready = entry.raised_now + self._raise_interval_s
            return max(ready, self._operations.held_until(entry.cause))
        if entry.phase is Phase.GONE:
            return math.inf
        update = (entry.told_now + interval if entry.update_pending
                  else math.inf)
        return min(update, self._quiet_at(entry))

    def _quiet_at(self, entry: Entry) -> float:
        if entry.cause is Cause.IO_ERROR and not entry.paused:
            return entry.seen_now + self._settings.io_error_quiet_s
        return math.inf

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
        if self._quiet_at(entry) <= now:
            return self._clear(entry, now, wall, wall)
        return [self._tell(entry, Transition.UPDATED, now)]

    def _clear(self, entry, now, occurred_at, wall) -> list[HealthEvent]:
        was_told = entry.phase is Phase.ACTIVE
        if entry.phase is not Phase.GONE:
            self._damper.changes(entry.source, now)
        entry.phase = Phase.GONE
        for source in [source for source, teller in self._flapping.items()
                       if teller is entry]:
            del self._flapping[source]
            self._damper.end(source)
        if not was_told:
            return []
        entry.occurred_at, entry.detected_at = occurred_at, wall
        return [self._tell(entry, Transition.CLEARED, now)]

    def _begin_flapping(self, held, now, wall) -> list[HealthEvent]:
        """Tell of a source that it flaps, in place of the held entry."""
        source = held.source
        obs = Observation(
            Kind.FAULT, self._uuid, held.occurred_at, subject=source,
            details=self._damper.details(held.cause))
        teller = self._entry(Cause.FLAPPING, obs, now, wall)
        self._flapping[source] = teller
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
        teller = self._flapping.pop(source)
        # with too many subjects one entry tells of several sources
        shared = any(other is teller for other in self._flapping.values())
        events = [] if shared else self._clear(teller, now, wall, wall)
        # After it is told: what is raised next counts in its health too.
        self._damper.end(source)
        return events

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
