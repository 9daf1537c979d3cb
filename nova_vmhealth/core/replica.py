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

"""What all inspectors are to know: a small map that they replicate.

Each inspector has one and tells the others what is in it. Whatever was written
last to a key holds, wherever it was written; records that come late, twice or
in another order change nothing about what all have in the end.

What does not fit is refused, so that a sender which goes wild cannot fill the
others' memory; members that are full may differ until there is room again.
"""

import dataclasses
import hashlib
import json
from typing import Any, Iterable, Mapping, Optional

from nova_vmhealth.core import saving
from nova_vmhealth import exception

# One for each window, for who has told of it and for each host that is not
# well: several for each host of a large cell.
MAX_KEYS = 10000
# A host's name has 255 characters, with the prefix before it.
MAX_KEY = 300
# A mark names up to a thousand instances, at 40 bytes each.
MAX_VALUE_BYTES = 64 * 1024
# One message may have to carry it all; RabbitMQ takes 16 MiB by default.
MAX_BYTES = 8 * 1024 * 1024
# A member whose clock is farther ahead than this, seconds, is not believed:
# for as long nobody could write over its records. It is ahead by seconds where
# NTP is at work, by hours where somebody mistook the time zone.
MAX_AHEAD_S = 24 * 3600.0
# Longest time to keep in mind that a key was dropped, seconds: for a member
# that was switched off meanwhile and still has it.
MAX_KEEP_S = 31 * 24 * 3600.0

_MAX_NAME = 255


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """What was written to a key, and when.

    :ivar at: microseconds since the epoch; whole numbers, since a float has
        no room for one more microsecond everywhere
    :ivar by: name of the member that wrote it
    :ivar text: the value as JSON; None: it was dropped
    :ivar until: for one that was dropped, when it may be forgotten, seconds
        since the epoch
    """

    at: int
    by: str
    text: Optional[str] = None
    until: Optional[float] = None

    @property
    def rank(self) -> tuple[int, str, str, float]:
        """The higher one holds.

        Where members have names of their own, and clocks that go on, the first
        two are never the same.
        """
        return self.at, self.by, self.text or '', self.until or 0.0

    @property
    def size(self) -> int:
        return len(self.text or '')

    def record(self) -> dict[str, Any]:
        if self.text is None:
            return {'at': self.at, 'by': self.by, 'until': self.until}
        return {'at': self.at, 'by': self.by, 'value': json.loads(self.text)}


class Replica:
    """One member's copy of the map; it is not thread safe.

    Values are dicts of JSON's types; what is given and returned is a copy.
    Times named ``wall`` are seconds since the epoch.

    :param name: of the member, of which there is no other
    :ivar name: that name
    :ivar ignored: how many records of others could not be used so far
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._entries: dict[str, _Entry] = {}
        self._bytes = 0
        self._changed: set[str] = set()
        # Only for prefixes that somebody asks for: senders choose the keys.
        self._changed_of: dict[str, set[str]] = {}
        self._digest: Optional[str] = None
        self.ignored = 0

    def put(self, key: str, value: Mapping[str, Any], wall: float) -> bool:
        """Write a value.

        :returns: False where it has no room, and nothing is changed
        :raises TypeError, ValueError: it is nothing that JSON can carry
        """
        text = _text_of(value)
        if not _is_key(key) or len(text) > MAX_VALUE_BYTES:
            return False
        return self._take(key, _Entry(self._stamp(key, wall), self.name,
                                      text=text), wall)

    def drop(self, key: str, wall: float, keep_until: float) -> None:
        """Take a key away, if it is there.

        :param keep_until: until when to remember that, seconds since the
            epoch: a member that still has the key and comes back later brings
            it back. MAX_KEEP_S from now at most
        """
        if self.get(key) is not None:
            at = self._stamp(key, wall)
            self._take(key, _Entry(
                at, self.name, until=_bounded(keep_until, at)), wall)

    def get(self, key: str) -> Optional[dict[str, Any]]:
        """Return the value of a key, None if it has none."""
        entry = self._entries.get(key)
        if entry is None or entry.text is None:
            return None
        return json.loads(entry.text)

    def items(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Return key -> value for the keys that begin like this."""
        return {key: json.loads(entry.text)
                for key, entry in self._entries.items()
                if entry.text is not None and key.startswith(prefix)}

    def dropped_at(self, key: str) -> Optional[float]:
        """Return when a key was dropped, as long as that is kept in mind."""
        entry = self._entries.get(key)
        if entry is None or entry.text is not None:
            return None
        return entry.at / 1e6

    def take_changed(self, prefix: str) -> set[str]:
        """Return the keys whose values are others than at the last call.

        For one who reads them, as :meth:`take_changes` is for one who writes
        records down. The first call returns all that there are.

        :param prefix: of the keys, up to their first slash
        """
        changed = self._changed_of.get(prefix)
        if changed is None:
            changed = {key for key in self._entries if key.startswith(prefix)}
        self._changed_of[prefix] = set()
        return changed

    def merge(self, records: Any, wall: float) -> list[str]:
        """Take in what another member, or an earlier run, had.

        A record that is none is ignored and counted.

        :param records: what :meth:`records` gave there, all or a part
        :returns: the keys that have another value now, or none any more
        :raises nova_vmhealth.exception.InvalidRecord: they are no records at
            all
        """
        if not isinstance(records, dict):
            raise exception.InvalidRecord(reason='the records are no object')
        changed = []
        for key, record in records.items():
            try:
                entry = _restored(key, record, wall)
            except exception.InvalidRecord:
                self.ignored += 1
                continue
            before = self.get(key)
            if self._merge(key, entry, wall) and self.get(key) != before:
                changed.append(key)
        return changed

    def records(
        self, keys: Optional[Iterable[str]] = None,
    ) -> dict[str, dict[str, Any]]:
        """Return key -> record, as JSON can carry it, dropped keys included.

        :param keys: only these, as far as there is anything of them
        """
        wanted = self._entries if keys is None else keys
        return {key: self._entries[key].record()
                for key in wanted if key in self._entries}

    def take_changes(self) -> set[str]:
        """Return the keys whose records are others than at the last call.

        Of those that :meth:`records` does not give any more nothing is to be
        kept.
        """
        changed, self._changed = self._changed, set()
        return changed

    def digest(self) -> str:
        """Return a text that is the same where the same is known."""
        if self._digest is None:
            stamps = sorted((key, entry.at, entry.by)
                            for key, entry in self._entries.items())
            self._digest = hashlib.sha256(
                json.dumps(stamps).encode()).hexdigest()
        return self._digest

    def expire(self, wall: float) -> None:
        """Forget the keys that were dropped long enough ago."""
        over = [key for key, entry in self._entries.items()
                if entry.until is not None and entry.until <= wall]
        for key in over:
            self._set(key, None)

    def _stamp(self, key: str, wall: float) -> int:
        """Return a time after all that is known of a key.

        The clock of whoever wrote that may be ahead of this one.
        """
        entry = self._entries.get(key)
        return max(round(wall * 1e6), entry.at + 1 if entry else 0)

    def _merge(self, key: str, entry: _Entry, wall: float) -> bool:
        known = self._entries.get(key)
        if known is None:
            # Others may not have forgotten it yet.
            if entry.until is not None and entry.until <= wall:
                return False
        elif entry.rank <= known.rank:
            return False
        if self._take(key, entry, wall):
            return True
        self.ignored += 1
        return False

    def _take(self, key: str, entry: _Entry, wall: float) -> bool:
        if not self._fits(key, entry):
            self.expire(wall)
            if not self._fits(key, entry):
                return False
        self._set(key, entry)
        return True

    def _fits(self, key: str, entry: _Entry) -> bool:
        known = self._entries.get(key)
        if known is None:
            return (len(self._entries) < MAX_KEYS
                    and self._bytes + entry.size <= MAX_BYTES)
        # What becomes no larger always fits.
        return (entry.size <= known.size
                or self._bytes + entry.size - known.size <= MAX_BYTES)

    def _set(self, key: str, entry: Optional[_Entry]) -> None:
        known = self._entries.pop(key, None)
        self._bytes -= known.size if known else 0
        if entry is not None:
            self._entries[key] = entry
            self._bytes += entry.size
        self._changed.add(key)
        kind, slash, _ = key.partition('/')
        if kind + slash in self._changed_of:
            self._changed_of[kind + slash].add(key)
        self._digest = None


def _is_key(key: Any) -> bool:
    # Half a surrogate, which no database takes, is not printable.
    return (isinstance(key, str) and 0 < len(key) <= MAX_KEY
            and key.isprintable())


def _bounded(keep_until: float, at: int) -> float:
    return min(keep_until, at / 1e6 + MAX_KEEP_S)


def _text_of(value: Mapping[str, Any]) -> str:
    if not isinstance(value, dict):
        raise TypeError('a value is a dict')
    # Of one form only, since it is compared.
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _restored(key: str, record: Any, wall: float) -> _Entry:
    """Read what :meth:`_Entry.record` gave to somebody else."""
    fields = saving.Record(record)
    at, by = fields.count('at'), fields.text('by')
    if not _is_key(key) or len(by) > _MAX_NAME or not by.isprintable():
        raise exception.InvalidRecord(reason='bad key or name')
    if at > (wall + MAX_AHEAD_S) * 1e6:
        raise exception.InvalidRecord(reason='it is of the future')
    if 'value' not in record:
        return _Entry(at, by, until=_bounded(fields.time('until'), at))
    try:
        text = _text_of(record['value'])
    # Nested too deeply is nothing that JSON can carry either.
    except (TypeError, ValueError, RecursionError) as error:
        raise exception.InvalidRecord(reason='bad value') from error
    if len(text) > MAX_VALUE_BYTES:
        raise exception.InvalidRecord(reason='the value is too long')
    return _Entry(at, by, text=text)
