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

"""What nova-compute and the inspectors say to show that they live.

On the bus a beacon is a dict, its record. Whoever reads one trusts no field of
it. A field more is left alone: a later release may have sent it.
"""

import dataclasses
from typing import Any

from nova_vmhealth.core import saving
from nova_vmhealth import exception

# As long as Nova's own table has it.
MAX_HOST = 255
# An incarnation is 32 hex digits, a digest 64 at most, an inspector's name the
# name of a machine and a word of the operator's.
MAX_WORD = 255
# An inspector does not act on so many hosts anyway; what is left out is no
# vote. With the longest names that is a message of 256 KiB.
MAX_SUSPECTS = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Beacon:
    """A host's nova-compute lives.

    :ivar host: name of the compute service
    :ivar incarnation: random, new at each start of nova-compute
    :ivar sequence: from 1, one more with each beacon of an incarnation
    :ivar interval_ms: when the next one is to come
    :ivar sent_at: wall clock of the sender, seconds since the epoch
    :ivar leaving: nova-compute stops on purpose and is not to be missed
    :ivar windows: core.maintenance.digest of the windows that the host knows
    """

    host: str
    incarnation: str
    sequence: int
    interval_ms: int
    sent_at: float
    leaving: bool = False
    windows: str = ''

    def record(self) -> dict[str, Any]:
        """Return what JSON can carry."""
        return {'host': self.host, 'incarnation': self.incarnation,
                'sequence': self.sequence, 'interval_ms': self.interval_ms,
                'sent_at': self.sent_at, 'leaving': self.leaving,
                'windows': self.windows}

    @classmethod
    def restored(cls, record: Any) -> 'Beacon':
        """Read what :meth:`record` gave to somebody else.

        :raises nova_vmhealth.exception.InvalidRecord: it did not
        """
        fields = saving.Record(record)
        return cls(
            host=_name(fields, 'host', MAX_HOST),
            incarnation=_name(fields, 'incarnation', MAX_WORD),
            sequence=fields.count('sequence'),
            interval_ms=fields.count('interval_ms'),
            sent_at=fields.time('sent_at'),
            leaving=fields.flag('leaving', default=False),
            windows=_short(fields.text('windows'), 'windows', MAX_WORD))


@dataclasses.dataclass(frozen=True, slots=True)
class InspectorBeacon:
    """An inspector lives, and how it judges.

    :ivar name: of the inspector
    :ivar incarnation: random, new at each of its starts
    :ivar sequence: from 1, one more with each beacon of an incarnation
    :ivar interval_ms: when the next one is to come at the latest
    :ivar suspects: the hosts that are silent for it, or the first of them
    :ivar digest: of its core.replica.Replica
    :ivar judging: whether it can tell at all who is silent: not where nothing
        reaches it, nor shortly after
    """

    name: str
    incarnation: str
    sequence: int
    interval_ms: int
    suspects: tuple[str, ...] = ()
    digest: str = ''
    judging: bool = True

    def record(self) -> dict[str, Any]:
        """Return what JSON can carry."""
        return {'name': self.name, 'incarnation': self.incarnation,
                'sequence': self.sequence, 'interval_ms': self.interval_ms,
                'suspects': list(self.suspects[:MAX_SUSPECTS]),
                'digest': self.digest, 'judging': self.judging}

    @classmethod
    def restored(cls, record: Any) -> 'InspectorBeacon':
        """Read what :meth:`record` gave to somebody else.

        :raises nova_vmhealth.exception.InvalidRecord: it did not
        """
        fields = saving.Record(record)
        suspects = fields.words('suspects')
        if len(suspects) > MAX_SUSPECTS:
            raise exception.InvalidRecord(reason='too many suspects')
        return cls(
            name=_name(fields, 'name', MAX_WORD),
            incarnation=_name(fields, 'incarnation', MAX_WORD),
            sequence=fields.count('sequence'),
            interval_ms=fields.count('interval_ms'),
            suspects=tuple(_short(each, 'suspects', MAX_HOST)
                           for each in suspects),
            digest=_short(fields.text('digest'), 'digest', MAX_WORD),
            judging=fields.flag('judging', default=True))


def _name(fields: saving.Record, field: str, most: int) -> str:
    """Return a text that is not empty."""
    text = fields.text(field)
    if not text:
        raise exception.InvalidRecord(reason=f'bad field {field}')
    return _short(text, field, most)


def _short(text: str, field: str, most: int) -> str:
    # Cut, it would be the name of somebody else.
    if len(text) > most:
        raise exception.InvalidRecord(reason=f'{field} is too long')
    return text
