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

"""What projects are told of a maintenance window: a table of rules, no more.

A window is written down as a *plan*, by whoever sets or withdraws it; what
projects were told of it is written down apart from that, by whoever told them,
so that neither writes over the other.
"""

import dataclasses
import itertools
import math
from typing import Any, Iterable, Mapping, Optional
import uuid

from nova_vmhealth.core import maintenance
from nova_vmhealth.core import saving
from nova_vmhealth.core.vocabulary import MaintenanceEvent
from nova_vmhealth.core.vocabulary import MaintenanceStage
from nova_vmhealth import exception

# Far more than have instances on one host; with the length of a project's id
# what is written down of them fits into core.replica.MAX_VALUE_BYTES.
MAX_PROJECTS = 1000
# An event names that many instances at most, at some 80 bytes each.
MAX_NAMED = 1000
# What was over for longer than this, seconds, is no news: Nova's API was away
# all the time, or an inspector was that knows no better.
_NEWS_S = 7 * 24 * 3600.0

_ANNOUNCED = MaintenanceStage.ANNOUNCED
_CHANGED = MaintenanceStage.CHANGED
_STARTED = MaintenanceStage.STARTED
_LAST = (MaintenanceStage.ENDED, MaintenanceStage.CANCELLED)
# How far it may have come, in this order.
_REACHED = (_ANNOUNCED, _STARTED, *_LAST)

# Ids of events are made in this namespace, so that they are no others'.
_NAMESPACE = uuid.UUID('0ac9a9c5-6a3c-4d5c-9e0b-6b0f3c8d1f27')

# project -> its instances on the host, uuid -> name
Instances = Mapping[str, Mapping[str, Optional[str]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A window, and what was done about it. Times: seconds since the epoch.

    :ivar changed_at: when it was set, or changed for the last time; another
        one for each change
    :ivar withdrawn_at: when it was withdrawn, or said to be over; None as long
        as it was not
    """

    window: maintenance.Window
    changed_at: float
    withdrawn_at: Optional[float] = None

    @property
    def begins_at(self) -> float:
        """When it begins; one that is set afterwards begins with that."""
        return max(self.window.starts_at, self.changed_at)

    @property
    def over_at(self) -> float:
        """When it is over, as :attr:`begins_at`; inf while nobody knows."""
        ends_at, withdrawn_at = self.window.ends_at, self.withdrawn_at
        return min(
            math.inf if ends_at is None else max(ends_at, self.changed_at),
            math.inf if withdrawn_at is None else withdrawn_at)

    def record(self) -> dict[str, Any]:
        """Return what JSON can carry."""
        return {'window': self.window.record(), 'changed_at': self.changed_at,
                'withdrawn_at': self.withdrawn_at}

    @classmethod
    def restored(cls, record: Any) -> 'Plan':
        """Read what :meth:`record` gave to somebody else.

        :raises nova_vmhealth.exception.InvalidRecord: it did not
        """
        fields = saving.Record(record)
        return cls(maintenance.Window.restored(record.get('window')),
                   fields.time('changed_at'),
                   fields.time_or_none('withdrawn_at'))


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What projects were told of a plan.

    :ivar stage: how far that goes: ANNOUNCED, STARTED, or one of the last
    :ivar changed_at: of the plan that they were told
    :ivar projects: who they are; they are told what follows too
    """

    stage: MaintenanceStage
    changed_at: float
    projects: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether nothing is to follow."""
        return self.stage in _LAST

    def with_those_of(self, earlier: 'Told') -> 'Told':
        """Add the projects that were told the same plan's end before."""
        if not earlier.is_final or earlier.changed_at != self.changed_at:
            return self
        projects = dict.fromkeys((*earlier.projects, *self.projects))
        return dataclasses.replace(
            self, projects=tuple(itertools.islice(projects, MAX_PROJECTS)))

    def record(self) -> dict[str, Any]:
        """Return what JSON can carry."""
        return {'stage': self.stage.value, 'changed_at': self.changed_at,
                'projects': list(self.projects)}

    @classmethod
    def restored(cls, record: Any) -> 'Told':
        """Read what :meth:`record` gave to somebody else.

        :raises nova_vmhealth.exception.InvalidRecord: it did not
        """
        fields = saving.Record(record)
        stage = fields.word('stage', MaintenanceStage)
        if stage not in _REACHED:
            raise exception.InvalidRecord(reason='bad field stage')
        return cls(stage, fields.time('changed_at'),
                   tuple(fields.words('projects')))


def combined(plan: Plan, parts: Iterable[Told]) -> Optional[Told]:
    """Return what was told of a plan by several, who did not know it all.

    Its projects are those that are to be told the rest: some may have heard
    the last word already, from somebody who did not know of the others.
    """
    known = [told for told in parts
             if not (told.is_final and told.changed_at < plan.changed_at)]
    done = {project for told in known if told.is_final
            for project in told.projects}
    waiting = dict.fromkeys(
        project for told in known if not told.is_final
        for project in told.projects if project not in done)
    if done and waiting:
        known = [told for told in known if not told.is_final]
    last = max(known, default=None, key=lambda told: (
        told.changed_at, _REACHED.index(told.stage)))
    if last is None or last.is_final:
        return last
    return dataclasses.replace(
        last, projects=tuple(itertools.islice(waiting, MAX_PROJECTS)))


def due(
    plan: Plan, told: Optional[Told], wall: float,
) -> list[MaintenanceStage]:
    """Return what is to be told now, in this order.

    :param told: what was told so far, see :func:`combined`; None: nothing
    """
    over = plan.over_at <= wall
    if told is None:
        # Nobody waits for the end of what nobody has heard of.
        return [] if over else _beginning(plan, _ANNOUNCED, wall)
    if (told.is_final or (over and not told.projects)
            or plan.over_at + _NEWS_S <= wall):
        return []
    stages = []
    if told.changed_at != plan.changed_at and not over:
        stages.append(_CHANGED)
    if told.stage is not _STARTED and _has_begun(plan, wall):
        stages.append(_STARTED)
    if over:
        stages.append(_last_of(plan, told, wall))
    return stages


def next_change(
    plan: Plan, told: Optional[Told], wall: float,
) -> Optional[float]:
    """Return when :func:`due` has something to tell that it has not yet."""
    times = [plan.over_at]
    if told is None or told.stage is not _STARTED:
        times.append(plan.begins_at)
    soonest = min((time for time in times if time > wall), default=math.inf)
    return None if soonest == math.inf else soonest


def tell(
    plan: Plan, told: Optional[Told], instances: Instances, wall: float,
) -> tuple[list[MaintenanceEvent], Optional[Told]]:
    """Make the events that are due.

    A project that is not in ``instances`` and was told something before is
    told the rest; one that was told nothing so far hears of the window at each
    stage but the last.

    :param instances: those on the host now
    :returns: the events in order, and what was told with them
    """
    stages = due(plan, told, wall)
    if not stages:
        return [], told
    known = list(told.projects) if told else []
    events = []
    for stage in stages:
        events += [_event(plan, stage, project, instances)
                   for project in known]
        first = _first_word(stage, stages, _has_begun(plan, wall))
        if first is None:
            continue
        new = sorted(instances.keys() - set(known))
        new = new[:MAX_PROJECTS - len(known)]
        events += [_event(plan, first, project, instances) for project in new]
        known += new
    return events, Told(_reached(plan, stages, wall), plan.changed_at,
                        tuple(known))


def _has_begun(plan: Plan, wall: float) -> bool:
    return plan.begins_at <= wall and plan.begins_at < plan.over_at


def _beginning(plan: Plan, stage: MaintenanceStage,
               wall: float) -> list[MaintenanceStage]:
    return [stage, _STARTED] if _has_begun(plan, wall) else [stage]


def _last_of(plan: Plan, told: Told, wall: float) -> MaintenanceStage:
    if told.stage is _STARTED or _has_begun(plan, wall):
        return MaintenanceStage.ENDED
    return MaintenanceStage.CANCELLED


def _first_word(
    stage: MaintenanceStage, stages: list[MaintenanceStage], begun: bool,
) -> Optional[MaintenanceStage]:
    """Return what a project hears first of a window, at this stage or not."""
    if stages[-1] in _LAST:
        return None
    if stage is _CHANGED:
        if _STARTED in stages:
            return None
        return _STARTED if begun else _ANNOUNCED
    return stage


def _reached(plan: Plan, stages: list[MaintenanceStage],
             wall: float) -> MaintenanceStage:
    if stages[-1] in _LAST:
        return stages[-1]
    return _STARTED if _has_begun(plan, wall) else _ANNOUNCED


def _event(plan: Plan, stage: MaintenanceStage, project: str,
           instances: Instances) -> MaintenanceEvent:
    window = plan.window
    theirs = instances.get(project, {})
    ends_at = window.ends_at
    if stage is MaintenanceStage.ENDED:
        ends_at = plan.over_at
    return MaintenanceEvent(
        # Whoever tells it, it is one to those who listen.
        event_id=str(uuid.uuid5(_NAMESPACE, '/'.join((
            window.id, repr(plan.changed_at), stage.value, project)))),
        window_id=window.id, stage=stage, project_id=project,
        host_id=maintenance.host_id(project, window.host),
        starts_at=window.starts_at, ends_at=ends_at, reason=window.reason,
        occurred_at=_occurred_at(plan, stage),
        instances=dict(itertools.islice(sorted(theirs.items()), MAX_NAMED)),
        instance_count=len(theirs))


def _occurred_at(plan: Plan, stage: MaintenanceStage) -> float:
    if stage in _LAST:
        return plan.over_at
    return plan.begins_at if stage is _STARTED else plan.changed_at
