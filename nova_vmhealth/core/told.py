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

"""The last event of an instance, as much of it as people ask for."""

import dataclasses
from typing import Any

from nova_vmhealth.core.saving import Record
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Transition


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What was told last.

    :ivar sequence: its number
    :ivar occurred_at: wall clock, seconds since the epoch
    """

    sequence: int
    transition: Transition
    cause: Cause
    subject: str
    occurred_at: float

    def save(self) -> dict[str, Any]:
        """Return its record."""
        return {'sequence': self.sequence,
                'transition': self.transition.value,
                'cause': self.cause.value, 'subject': self.subject,
                'occurred_at': self.occurred_at}

    @classmethod
    def restored(cls, saved: Record) -> 'Told':
        """Return what a record is of.

        :raises nova_vmhealth.exception.InvalidRecord: it is of none
        """
        return cls(saved.count('sequence'),
                   saved.word('transition', Transition),
                   saved.word('cause', Cause), saved.text('subject'),
                   saved.time('occurred_at'))
