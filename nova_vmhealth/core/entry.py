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


"""One cause on one subject of one instance, as the ledger keeps it.

An entry is held, then active, then gone. It is held while a planned operation
may explain it, for the rest of the update interval after its last raise, so
that a guest cannot raise more often than that, and while its source flaps. A
held entry that ends is never told.
"""

import dataclasses
import enum
import math
from typing import Any, Mapping

from nova_vmhealth.core.flapping import FlapDamper
from nova_vmhealth.core.operations import Operations
from nova_vmhealth.core.saving import Record
from nova_vmhealth.core.saving import Times
from nova_vmhealth.core.settings import Settings
from nova_vmhealth.core.transitions import When
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Condition
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.core.vocabulary import SEVERITY


class Phase(enum.Enum):
    HELD = 'held'        # observed, not told
    ACTIVE = 'active'    # raised
    GONE = 'gone'        # cleared; kept to know when it was raised last


@dataclasses.dataclass(slots=True)
class Entry:
    """One cause and subject of one instance.

    Times ending in ``_now`` are on the caller's monotonic clock, the others
    on the wall clock; both in seconds.

    :ivar source: what is damped when it flaps; empty for what never is
    """

    cause: Cause
    subject: str
    since: float
    occurred_at: float
    detected_at: float
    seen_now: float
    details: Mapping[str, str]
    source: str = ''
    raised_now: float = -math.inf
    told_now: float = -math.inf
    phase: Phase = Phase.HELD
    count: int = 1
    update_pending: bool = False
    paused: bool = False
    resumed: bool = False

    @property
    def key(self) -> tuple[Cause, str]:
        return self.cause, self.subject

    @property
    def condition(self) -> Condition:
        return Condition(self.cause, self.subject, SEVERITY[self.cause],
                         self.since, self.count)

    @property
    def mark(self) -> tuple[Any, ...]:
        """What may not be lost of it, for those who ask whether it changed.

        How often it was seen is not in it: that is told with an update, and
        written down with that.
        """
        return (self.cause, self.subject, self.since, self.phase,
                self.update_pending, self.paused, self.resumed)

    def save(self, times: Times) -> dict[str, Any]:
        """Return its record."""
        return {
            'cause': self.cause.value, 'subject': self.subject,
            'since': self.since, 'occurred_at': self.occurred_at,
            'detected_at': self.detected_at,
            'details': dict(self.details), 'source': self.source,
            'raised_at': times.save(self.raised_now),
            'told_at': times.save(self.told_now),
            'phase': self.phase.value, 'count': self.count,
            'update_pending': self.update_pending,
            'paused': self.paused, 'resumed': self.resumed,
        }

    @classmethod
    def restored(cls, saved: Record, times: Times) -> 'Entry':
        """Return the entry that a record is of.

        Nobody was listening meanwhile: what is over when it is not seen for
        some time has all of that time again.

        :raises nova_vmhealth.exception.InvalidRecord: it is of none
        """
        return cls(
            saved.word('cause', Cause), saved.text('subject'),
            saved.time('since'), saved.time('occurred_at'),
            saved.time('detected_at'), times.now,
            saved.texts('details'), saved.text('source'),
            times.past(saved.time_or_none('raised_at')),
            times.past(saved.time_or_none('told_at')),
            saved.word('phase', Phase), saved.count('count'),
            saved.flag('update_pending'), saved.flag('paused'),
            saved.flag('resumed'))

    def note(self, obs: Observation) -> None:
        """Take over what the latest observation says."""
        self.details = obs.details
        # Errors that were under way when the guest was paused may still
        # come in as merely reported: paused stays true until it is resumed.
        self.paused |= obs.details.get('action') == 'pause'
        self.resumed = False

    def learn(self, obs: Observation, wall: float) -> bool:
        """Add the observation's details to those that are known.

        :returns: whether that is anything new about an entry not yet gone
        """
        details = {**self.details, **obs.details}
        if self.phase is Phase.GONE or details == self.details:
            return False
        self.details = details
        if self.phase is Phase.ACTIVE:
            self.occurred_at, self.detected_at = obs.occurred_at, wall
            self.update_pending = True
        return True

    def matches(self, when: When) -> bool:
        return (when is When.ALWAYS
                or when is When.IF_IT_PAUSED and self.paused
                or when is When.IF_RESUMED_SINCE and self.resumed)

    def due(self, settings: Settings, operations: Operations,
            damper: FlapDamper) -> float:
        """Return when there is something to do about it; inf for never.

        :param operations: what Nova is doing to the instance
        :param damper: knows whether its source flaps
        """
        if self.phase is Phase.HELD:
            if damper.flaps(self.source):
                return math.inf
            ready = self.raised_now + settings.raise_interval_s
            return max(ready, operations.held_until(self.cause))
        if self.phase is Phase.GONE:
            return math.inf
        update = (self.told_now + settings.update_interval_s
                  if self.update_pending else math.inf)
        return min(update, self.quiet_at(settings))

    def quiet_at(self, settings: Settings) -> float:
        """Return when it is over unless it is seen again; inf for never."""
        if self.cause is Cause.IO_ERROR and not self.paused:
            return self.seen_now + settings.io_error_quiet_s
        return math.inf
