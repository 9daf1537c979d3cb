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

"""What is wrong with the host itself: its conditions and their sequence.

Several parts see something of the host; consumers see one sequence, which
goes on after a restart of nova-compute, as do the conditions.

What a condition does to the compute service record is settled before it is
told, so that whoever hears of it finds Nova's API say the same; but it waits
only so long for that. A condition that is over ends when it has been so for a
quiet time, or the record would follow whatever comes and goes.
"""

import dataclasses
import enum
import itertools
import math
from typing import Any, Callable, Mapping, Optional

from nova_vmhealth.core.saving import Record
from nova_vmhealth.core.vocabulary import HOST_SEVERITY
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostEvent
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth.core.vocabulary import Transition

# An event names that many instances at most, at some 80 bytes each.
MAX_NAMED = 1000
# Storage backends can be many; a host has few that fail, and a person reads
# fewer.
MAX_CONDITIONS = 64
# A condition is told after this many seconds, even if nova-conductor has not
# answered yet: who waits for it has a second in all.
SETTLE_S = 0.5

_STRENGTH = tuple(HostAction)


def is_stronger(action: HostAction, other: HostAction) -> bool:
    """Say whether one action does more than another."""
    return _STRENGTH.index(action) > _STRENGTH.index(other)


class Phase(str, enum.Enum):
    """How far a condition is."""

    RAISING = 'raising'     # it waits for the record, to be told
    ACTIVE = 'active'       # it is told
    ENDING = 'ending'       # it is over, and waits for the record


@dataclasses.dataclass(frozen=True, slots=True)
class HostFault:
    """One thing that is wrong with the host.

    :ivar subject: which of several, such as a storage backend; or empty
    :ivar occurred_at: wall clock, seconds since the epoch
    :ivar reason: for people
    :ivar action: what it does to the compute service record
    :ivar details: short strings, for every event of it
    :ivar quiet_s: how long it has to be over, until it ends
    :ivar named: uuids of the instances that it is about; None: all of the host
    :ivar event_id: of the event that raises it; empty for a new one
    """

    cause: HostCause
    occurred_at: float
    reason: str
    action: HostAction = HostAction.NONE
    subject: str = ''
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)
    quiet_s: float = 0.0
    named: Optional[tuple[str, ...]] = None
    event_id: str = ''

    @property
    def text(self) -> str:
        """Why, in one line: for the reason in the service record."""
        subject = f' ({self.subject})' if self.subject else ''
        return f'{self.cause.value}{subject}: {self.reason}'


@dataclasses.dataclass(slots=True)
class HostCondition:
    """A fault as the page keeps it.

    Times ending in ``_now`` are on the caller's monotonic clock, seconds.

    :ivar detected_at: wall clock, seconds since the epoch
    :ivar over_now: since when it is over; infinity while it is not
    :ivar settle_now: when it is told, whatever the record is
    :ivar untold: whether it was told before the record was as wanted
    """

    fault: HostFault
    detected_at: float
    settle_now: float
    phase: Phase = Phase.RAISING
    over_now: float = math.inf
    untold: bool = False

    @property
    def ends_now(self) -> float:
        """When it ends; infinity for what is not over."""
        if self.phase is not Phase.ACTIVE:
            return math.inf
        return self.over_now + self.fault.quiet_s

    @property
    def deadline(self) -> float:
        """When there is something to do about it; infinity for never."""
        if self.phase is not Phase.ACTIVE:
            return self.settle_now
        return self.ends_now

    def again(self, fault: HostFault) -> bool:
        """Take in that it is wrong still, maybe for another reason.

        :returns: whether there is something new to tell: that reason, or that
            more is to be done to the record than before
        """
        action = self.fault.action
        if is_stronger(fault.action, action):
            action = fault.action
        elif fault.reason == self.fault.reason:
            return False
        self.fault = dataclasses.replace(
            self.fault, action=action, reason=fault.reason,
            details={**self.fault.details, **fault.details,
                     'host_event': self.fault.event_id})
        self.untold = True
        return True

    def save(self) -> dict[str, Any]:
        """Return its record."""
        fault = self.fault
        return {
            'cause': fault.cause.value, 'occurred_at': fault.occurred_at,
            'reason': fault.reason, 'action': fault.action.value,
            'subject': fault.subject, 'details': dict(fault.details),
            'quiet_s': fault.quiet_s, 'event_id': fault.event_id,
            'detected_at': self.detected_at, 'phase': self.phase.value,
            'over': self.over_now < math.inf, 'untold': self.untold,
        }

    @classmethod
    def restored(cls, saved: Record, now: float) -> 'HostCondition':
        """Return the condition that a record is of.

        What waited for the service record does so again, and who is to be
        quiet is to be so for all of the time.

        :raises nova_vmhealth.exception.InvalidRecord: it is of none
        """
        fault = HostFault(
            saved.word('cause', HostCause), saved.time('occurred_at'),
            saved.text('reason'), saved.word('action', HostAction),
            saved.text('subject'), saved.texts('details'),
            saved.time('quiet_s'), None, saved.text('event_id'))
        return cls(
            fault, saved.time('detected_at'), now + SETTLE_S,
            saved.word('phase', Phase),
            now if saved.flag('over') else math.inf, saved.flag('untold'))


class HostPage:
    """What is known of the host; it is not thread safe.

    Arguments named ``now`` are the caller's monotonic clock, those named
    ``wall`` the wall clock; both in seconds.

    :param new_id: makes the uuid of an event
    :param instances: gives the uuids of the host's instances
    """

    def __init__(
        self, new_id: Callable[[], str],
        instances: Callable[[], list[str]] = list,
    ) -> None:
        self._new_id = new_id
        self._all_instances = instances
        self._sequence = 0
        self._conditions: dict[tuple[HostCause, str], HostCondition] = {}

    # What others may ask

    @property
    def conditions(self) -> list[HostCondition]:
        """What is wrong and told, or about to be; not what is ending."""
        return [each for each in self._conditions.values()
                if each.phase is not Phase.ENDING]

    @property
    def told(self) -> dict[HostCause, HostCondition]:
        """What is told and not cleared, by its cause.

        The first of several subjects.
        """
        told: dict[HostCause, HostCondition] = {}
        for each in self._conditions.values():
            if each.phase is not Phase.RAISING:
                told.setdefault(each.fault.cause, each)
        return told

    @property
    def wanted(self) -> tuple[HostAction, str]:
        """The strongest action of what is wrong, and why."""
        return max(
            ((each.fault.action, each.fault.text)
             for each in self.conditions),
            key=lambda each: _STRENGTH.index(each[0]),
            default=(HostAction.NONE, ''))

    @property
    def waits(self) -> bool:
        """Whether something is told once the record is as wanted."""
        return any(each.phase is not Phase.ACTIVE or each.untold
                   for each in self._conditions.values())

    def has(self, cause: HostCause, subject: str = '') -> bool:
        """Say whether something is wrong."""
        condition = self._conditions.get((cause, subject))
        return condition is not None and condition.phase is not Phase.ENDING

    # What happens

    def wrong(self, fault: HostFault, now: float, wall: float) -> bool:
        """Take in that something is wrong.

        :returns: whether that is news; then the service record is to follow
        """
        key = (fault.cause, fault.subject)
        condition = self._conditions.get(key)
        if condition is not None:
            condition.over_now = math.inf
            was_ending = condition.phase is Phase.ENDING
            if was_ending:
                condition.phase = Phase.ACTIVE
            return condition.again(fault) or was_ending
        if len(self._conditions) >= MAX_CONDITIONS:
            return False
        event_id = fault.event_id or self._new_id()
        self._conditions[key] = HostCondition(
            dataclasses.replace(
                fault, event_id=event_id,
                details={**fault.details, 'host_event': event_id}),
            wall, now + SETTLE_S)
        return True

    def over(
        self, cause: HostCause, subject: str, now: float, *,
        quiet: bool = True, details: Optional[Mapping[str, str]] = None,
    ) -> None:
        """Take in that something is not wrong any more.

        It ends by :meth:`handle_timer`, unless it is wrong again before.

        :param quiet: whether it has to be so for a quiet time
        :param details: what is to be said of it besides
        """
        condition = self._conditions.get((cause, subject))
        if condition is None:
            return
        fault = condition.fault
        condition.fault = dataclasses.replace(
            fault, quiet_s=fault.quiet_s if quiet else 0.0,
            details={**fault.details, **(details or {})})
        if condition.over_now == math.inf:
            condition.over_now = now

    def update(
        self, event: HostEvent, status: HostStatus, suppressed: bool,
    ) -> Optional[HostEvent]:
        """Number what a part says more of a condition that is told."""
        condition = self._conditions.get((event.cause, event.subject))
        if condition is None or condition.phase is not Phase.ACTIVE:
            return None
        self._sequence += 1
        return dataclasses.replace(
            event, sequence=self._sequence, reason=condition.fault.reason,
            status=status, action=condition.fault.action,
            suppressed=suppressed)

    # What time does

    def next_deadline(self) -> Optional[float]:
        """Return when to call :meth:`handle_timer`; None for never."""
        soonest = min((each.deadline for each in self._conditions.values()),
                      default=math.inf)
        return None if soonest == math.inf else soonest

    def handle_timer(self, now: float) -> bool:
        """Begin to end what has been over for long enough.

        :returns: whether there was any; then the service record is to follow
        """
        due = [each for each in self._conditions.values()
               if each.ends_now <= now]
        for each in due:
            each.phase = Phase.ENDING
            each.settle_now = now + SETTLE_S
        return bool(due)

    def settled(
        self, now: float, wall: float, status: HostStatus, suppressed: bool,
        in_time: bool,
    ) -> list[HostEvent]:
        """Tell what waited for the service record.

        :param in_time: whether the record is as it is wanted; if not, only
            what has waited for too long is told
        :returns: the events, in order
        """
        events = []
        for key, each in list(self._conditions.items()):
            transition = _due(each, now, in_time)
            if transition is None:
                continue
            each.phase = Phase.ACTIVE
            each.untold = (not in_time
                           and each.fault.action is not HostAction.NONE)
            if transition is Transition.CLEARED:
                del self._conditions[key]
            events.append(self._event(transition, each, wall, status,
                                      suppressed))
        return events

    def _event(self, transition, condition, wall, status,
               suppressed) -> HostEvent:
        fault = condition.fault
        event_id, occurred_at, detected_at = self._new_id(), wall, wall
        if transition is Transition.RAISED:
            event_id, occurred_at = fault.event_id, fault.occurred_at
            detected_at = condition.detected_at
        named = fault.named
        if named is None or transition is Transition.CLEARED:
            named = self._all_instances()
        self._sequence += 1
        return HostEvent(
            event_id=event_id, sequence=self._sequence, transition=transition,
            cause=fault.cause, severity=HOST_SEVERITY[fault.cause],
            occurred_at=occurred_at, detected_at=detected_at,
            instance_uuids=tuple(itertools.islice(named, MAX_NAMED)),
            instance_count=len(named), details=fault.details,
            subject=fault.subject, reason=fault.reason, status=status,
            action=fault.action, suppressed=suppressed)

    # over a restart

    def snapshot(self) -> Optional[dict[str, Any]]:
        """Return what JSON can write down; None as long as nothing was."""
        if not self._sequence and not self._conditions:
            return None
        return {'sequence': self._sequence,
                'conditions': [each.save()
                               for each in self._conditions.values()]}

    def restore(self, record: Any, now: float) -> None:
        """Take up what :meth:`snapshot` gave in an earlier run.

        :raises InvalidRecord: it did not; nothing is changed
        """
        saved = Record(record)
        sequence = saved.count('sequence')
        # One that only a later release knows cannot be cleared by this.
        conditions = [HostCondition.restored(each, now)
                      for each in saved.records('conditions')
                      if each.is_word('cause', HostCause)]
        self._sequence = sequence
        self._conditions = {(each.fault.cause, each.fault.subject): each
                            for each in conditions}


def _due(condition, now, in_time) -> Optional[Transition]:
    """Return what is to be told of a condition now; None for nothing."""
    if condition.phase is Phase.ACTIVE:
        return (Transition.UPDATED if condition.untold and in_time
                else None)
    if not in_time and condition.settle_now > now:
        return None
    return (Transition.RAISED if condition.phase is Phase.RAISING
            else Transition.CLEARED)
