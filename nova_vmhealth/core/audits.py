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


"""What a guest says of its own health, made into a bounded flow of changes."""

import dataclasses
import math
import types
from typing import Mapping, Optional, Sequence

from nova_vmhealth.core.protocol import AuditReport
from nova_vmhealth.core.vocabulary import Health

# A guest chooses the names of its audits, and each can become a condition
# with its notifications: more than these at a time are ignored.
MAX_AUDITS = 16
# A guest that toggles is told of once a second and audit, with the last state.
MIN_CHANGE_S = 1.0

# The subject of the guest's health as a whole.
OVERALL = ''

_RANK = {Health.HEALTHY: 0, Health.DEGRADED: 1, Health.UNHEALTHY: 2}


@dataclasses.dataclass(frozen=True, slots=True)
class HealthChanged:
    """The guest says another health than was told last.

    :ivar audit: the audit's name, empty for the guest as a whole
    :ivar message: the audit's own words, cleaned
    """

    audit: str
    health: Health
    message: str


class _Subject:
    __slots__ = ('told', 'health', 'message', 'free_at')

    def __init__(self) -> None:
        self.told: Optional[Health] = None
        self.health = Health.HEALTHY
        self.message = ''
        self.free_at = float('-inf')


NOTHING_SAID: Mapping[str, Health] = types.MappingProxyType({})

# Shared by the boards of all guests that say nothing; never changed.
_NOTHING: dict[str, _Subject] = {}


class AuditBoard:
    """The latest word of every audit, and which of them was told.

    The first word on a subject is told even if it is healthy, unless it was
    told before: the board of a guest that is taken up begins with what is not
    well.

    When there is no place for another audit, one that is told to be healthy
    and that the guest does not mention any more makes way.

    :param told: what an earlier run of the host has told and not taken back:
        name of the audit, empty for the guest as a whole -> health
    :ivar ignored: how many words on audits found no place
    """

    __slots__ = ('_subjects', '_next_at', 'ignored')

    def __init__(self, told: Mapping[str, Health] = NOTHING_SAID) -> None:
        # Of most guests nothing is ever said.
        self._subjects: dict[str, _Subject] = _NOTHING
        self._next_at = math.inf
        self.ignored = 0
        if told:
            self._subjects = {}
        for name, health in told.items():
            subject = self._subjects[name] = _Subject()
            subject.told = subject.health = health

    def take(self, health: Optional[Health], audits: Sequence[AuditReport],
             now: float) -> list[HealthChanged]:
        """Take in what a message says.

        The guest's health as a whole is told only where no audit explains it;
        healthy as a whole makes audits healthy that are not mentioned.

        :param health: of the guest as a whole, None when not said
        :param audits: what is said of single audits
        :param now: monotonic time, seconds
        :returns: what is to be told now
        """
        changes: list[HealthChanged] = []
        mentioned = {audit.name for audit in audits}
        if health is Health.HEALTHY:
            for name in self._subjects.keys() - mentioned:
                self._note(name, Health.HEALTHY, '', now, changes)
        for audit in audits:
            if self._has_place(audit.name, mentioned, now):
                self._note(audit.name, audit.health, audit.message, now,
                           changes)
        if health is not None:
            explained = health is Health.HEALTHY or any(
                _RANK[subject.health] >= _RANK[health]
                for name, subject in self._subjects.items()
                if name != OVERALL)
            self._note(OVERALL, Health.HEALTHY if explained else health, '',
                       now, changes)
        return changes

    def flush(self, now: float) -> list[HealthChanged]:
        """Tell what had to wait, if its time has come.

        :param now: monotonic time, seconds
        """
        changes: list[HealthChanged] = []
        if self._next_at <= now:
            self._next_at = math.inf
            for name, subject in self._subjects.items():
                self._tell(name, subject, now, changes)
        return changes

    def next_deadline(self) -> float:
        """Return when :meth:`flush` has something to do; inf is never."""
        return self._next_at

    def _has_place(self, name: str, mentioned: set[str], now: float) -> bool:
        """Say whether an audit can be noted, after making way for it."""
        # One more than the audits: the guest as a whole has its place.
        if (name in self._subjects or name == OVERALL
                or len(self._subjects.keys() - {OVERALL}) < MAX_AUDITS):
            return True
        leaving = [(subject.free_at, other)
                   for other, subject in self._subjects.items()
                   if other != OVERALL and other not in mentioned
                   and subject.told is subject.health is Health.HEALTHY]
        if not leaving:
            self.ignored += 1
            return False
        free_at, other = min(leaving)
        if now < free_at:
            # A guest with ever new names is told of no faster than one that
            # toggles. Until then there is something to do, so that what it
            # says next is looked at though it says the same.
            self._next_at = min(self._next_at, free_at)
            return False
        del self._subjects[other]
        return True

    def _note(self, name: str, health: Health, message: str, now: float,
              changes: list[HealthChanged]) -> None:
        subject = self._subjects.get(name)
        if subject is None:
            if self._subjects is _NOTHING:
                self._subjects = {}
            subject = self._subjects[name] = _Subject()
        subject.health = health
        subject.message = message
        self._tell(name, subject, now, changes)

    def _tell(self, name: str, subject: _Subject, now: float,
              changes: list[HealthChanged]) -> None:
        if subject.health is subject.told:
            return
        if now < subject.free_at:
            self._next_at = min(self._next_at, subject.free_at)
            return
        subject.told = subject.health
        subject.free_at = now + MIN_CHANGE_S
        changes.append(HealthChanged(name, subject.health, subject.message))
