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

"""Which entry of an instance tells of which of its sources that it flaps.

Which sources do is said in :mod:`nova_vmhealth.core.flapping`. With too many
subjects on a page one entry tells of several sources.
"""

from typing import Mapping, Optional

from nova_vmhealth.core.entry import Entry
from nova_vmhealth.core.flapping import FlapDamper
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth import exception


class FlapTeller:
    """The entries of one instance that tell of what flaps.

    :param damper: knows what flaps
    """

    # one for each instance of the host
    __slots__ = ('_damper', '_entries')

    def __init__(self, damper: FlapDamper) -> None:
        self._damper = damper
        # source that flaps -> the entry that says so
        self._entries: dict[str, Entry] = {}

    def seen(self, instance_uuid: str, held: Entry) -> Observation:
        """Return what is seen of a source instead of one of its entries.

        :param held: the entry that was raised once too often
        """
        return Observation(
            Kind.FAULT, instance_uuid, held.occurred_at, subject=held.source,
            details=self._damper.details(held.cause))

    def begin(self, source: str, entry: Entry) -> None:
        """Take note of who tells of a source."""
        self._entries[source] = entry

    def end(self, source: str) -> Optional[Entry]:
        """A source flaps no more.

        :returns: the entry that is to be cleared; None where it tells of
            another source still
        """
        entry = self._entries.pop(source)
        shared = any(other is entry for other in self._entries.values())
        return None if shared else entry

    def cleared(self, entry: Entry) -> None:
        """Begin anew with the sources that an entry told of, if it did."""
        for source in [source for source, teller in self._entries.items()
                       if teller is entry]:
            del self._entries[source]
            self._damper.end(source)

    def save(self) -> dict[str, str]:
        """Return its record."""
        return {source: entry.subject
                for source, entry in self._entries.items()}

    def restore(
        self, saved: Mapping[str, str],
        entries: Mapping[tuple[Cause, str], Entry],
    ) -> None:
        """Take up what a record says, after the damper.

        :param entries: what is known of the instance
        :raises nova_vmhealth.exception.InvalidRecord: it is not what the
            damper says
        """
        for source, subject in saved.items():
            entry = entries.get((Cause.FLAPPING, subject))
            if entry is None:
                raise exception.InvalidRecord(
                    reason='nobody tells a flapping')
            self._entries[source] = entry
        if self._entries.keys() != self._damper.flapping:
            raise exception.InvalidRecord(reason='what flaps is not clear')
