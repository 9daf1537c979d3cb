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

"""What inspectors have told of a host that does not speak for itself.

One record for each such host, which all inspectors replicate: whoever takes
over knows what was told, and under which names.
"""

import dataclasses
from typing import Any, Mapping, Optional

from nova_vmhealth.core import saving
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause

# The instances that are written down of one condition. Two conditions with so
# many are less than core.replica.MAX_VALUE_BYTES; instances beyond that are
# told all the same, and found by Nova's API when it is over.
MAX_TOLD = 700

# What ends when beacons come again.
BY_BEACONS = frozenset({HostCause.HOST_DOWN, HostCause.BEACONS_LOST})


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """One condition of a host that was told.

    :ivar event_id: of what raised it
    :ivar since: wall clock, seconds since the epoch
    :ivar reason: for people
    :ivar action: what was done about it
    :ivar details: short strings, for every event of it
    :ivar suppressed: it was told as planned
    :ivar listed: whether its instances are known, and were told
    :ivar instances: uuids of those that were told
    """

    event_id: str
    since: float
    reason: str
    action: HostAction = HostAction.NONE
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)
    suppressed: bool = False
    listed: bool = True
    instances: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return what JSON can carry."""
        return {'event_id': self.event_id, 'since': self.since,
                'reason': self.reason, 'action': self.action.value,
                'details': dict(self.details), 'suppressed': self.suppressed,
                'listed': self.listed,
                'instances': list(self.instances[:MAX_TOLD])}

    @classmethod
    def restored(cls, fields: saving.Record) -> 'Told':
        """Read what :meth:`record` gave to somebody else.

        :raises nova_vmhealth.exception.InvalidRecord: it did not
        """
        return cls(
            event_id=fields.text('event_id'), since=fields.time('since'),
            reason=fields.text('reason'),
            action=fields.word('action', HostAction),
            details=fields.texts('details'),
            suppressed=fields.flag('suppressed'),
            listed=fields.flag('listed'),
            instances=tuple(fields.words('instances')))


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """All that was told of a host, and is not over.

    :ivar by: name of the inspector that told it last
    :ivar sent: whether that is on the bus, and not only on its disk
    :ivar incarnation: of the host's last beacon when it was told; or empty
    :ivar sequence: of that beacon; or 0
    """

    by: str
    sent: bool
    incarnation: str
    sequence: int
    conditions: Mapping[HostCause, Told]

    def get(self, cause: HostCause) -> Optional[Told]:
        """Return the condition of a cause; None where it was not told."""
        return self.conditions.get(cause)

    def record(self) -> dict[str, Any]:
        """Return what JSON can carry."""
        return {'by': self.by, 'sent': self.sent,
                'incarnation': self.incarnation, 'sequence': self.sequence,
                'causes': {cause.value: told.record()
                           for cause, told in self.conditions.items()}}

    @classmethod
    def restored(cls, record: Any) -> 'Mark':
        """Read what :meth:`record` gave to somebody else.

        A cause that only a later release knows is left out.

        :raises nova_vmhealth.exception.InvalidRecord: it did not
        """
        fields = saving.Record(record)
        known = {cause.value: cause for cause in HostCause}
        return cls(
            by=fields.text('by'), sent=fields.flag('sent'),
            incarnation=fields.text('incarnation'),
            sequence=fields.count('sequence'),
            conditions={known[word]: Told.restored(told)
                        for word, told in fields.named('causes').items()
                        if word in known})


@dataclasses.dataclass(frozen=True, slots=True)
class Forcing:
    """A host is being forced down by an inspector, or was.

    It is written down before that: whoever takes over from an inspector that
    died knows that a request may be under way, and whose doing it is.

    :ivar by: name of the inspector
    :ivar at: wall clock, seconds since the epoch
    :ivar done: whether Nova has confirmed it
    """

    by: str
    at: float
    done: bool

    def record(self) -> dict[str, Any]:
        """Return what JSON can carry."""
        return dataclasses.asdict(self)

    @classmethod
    def restored(cls, record: Any) -> 'Forcing':
        """Read what :meth:`record` gave to somebody else.

        :raises nova_vmhealth.exception.InvalidRecord: it did not
        """
        fields = saving.Record(record)
        return cls(by=fields.text('by'), at=fields.time('at'),
                   done=fields.flag('done'))
