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

"""How what the ledger knows is written down, and read again by another run.

A record is a dict of JSON's types. Times are on the wall clock in it, since
nothing else is common to two runs; in the ledger those that matter for what
is due are on a monotonic clock. Whoever reads a record trusts no field of it:
a disk may have kept something else than what was written.
"""

import math
from typing import Any, Mapping, Optional

from nova_vmhealth.core.session_table import Guest
from nova_vmhealth import exception

# Of a page's record. Whatever an older release could misread asks for another
# number; a field more, with a default where it is missing, does not.
VERSION = 1

# What a database and a consumer can still count.
_MAX_NUMBER = 2 ** 63


def of_another_boot(page: Any) -> Any:
    """Return the record of a page after the host itself was started anew.

    Whoever runs there now has not answered yet, and may be booting.
    """
    if not isinstance(page, dict):
        return page
    return {**page, 'guest': Guest.WAITING.value, 'rebooted': False,
            'beating': False}


class Times:
    """One moment on both clocks, and with it every other.

    :param now: monotonic time, seconds
    :param wall: the same moment in seconds since the epoch
    """

    __slots__ = ('now', 'wall')

    def __init__(self, now: float, wall: float) -> None:
        self.now = now
        self.wall = wall

    def save(self, at: Optional[float]) -> Optional[float]:
        """Return a monotonic time on the wall clock; None for never."""
        if at is None or math.isinf(at):
            return None
        return self.wall - (self.now - at)

    def past(self, saved: Optional[float]) -> float:
        """Return when something happened, on the monotonic clock.

        The wall clock may have been set back meanwhile: what has happened is
        never to come.

        :returns: seconds, minus infinity for None
        """
        if saved is None:
            return -math.inf
        return self.now - max(0.0, self.wall - saved)

    def until(self, saved: Optional[float],
              most_s: float) -> Optional[float]:
        """Return when something is due, on the monotonic clock.

        :param most_s: it was due so many seconds after it was decided, so it
            is not farther away now, wherever the wall clock was set
        """
        if saved is None:
            return None
        return self.now + min(saved - self.wall, most_s)


class Record:
    """Reads the fields of a record, each of the type that it has to have.

    Every method raises :class:`nova_vmhealth.exception.InvalidRecord` for
    anything else.

    :param fields: what JSON made of it
    """

    __slots__ = ('_fields',)

    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise exception.InvalidRecord(reason='it is no object')
        self._fields = fields

    def has(self, name: str) -> bool:
        """Say whether it has a field, which an older release did not know."""
        return name in self._fields

    def text(self, name: str) -> str:
        return self._typed(name, str)

    def text_or_none(self, name: str) -> Optional[str]:
        return None if self._fields.get(name) is None else self.text(name)

    def words(self, name: str) -> list[str]:
        found = self._typed(name, list)
        if not all(isinstance(each, str) for each in found):
            raise self._bad(name)
        return found

    def flag(self, name: str, default: Optional[bool] = None) -> bool:
        """Return a truth value.

        :param default: for a record of a release that did not know the field
        """
        if default is not None and name not in self._fields:
            return default
        return self._typed(name, bool)

    def count(self, name: str) -> int:
        """Return a whole number that is not negative."""
        number = self._typed(name, int)
        if isinstance(number, bool) or not 0 <= number < _MAX_NUMBER:
            raise self._bad(name)
        return number

    def time(self, name: str) -> float:
        """Return seconds since the epoch."""
        return _seconds(self._fields.get(name), self._bad(name))

    def time_or_none(self, name: str) -> Optional[float]:
        """Return seconds since the epoch, None for never."""
        return None if self._fields.get(name) is None else self.time(name)

    def times(self, name: str) -> list[float]:
        return [_seconds(each, self._bad(name))
                for each in self._typed(name, list)]

    def texts(self, name: str) -> Mapping[str, str]:
        found = self._typed(name, dict)
        if not all(isinstance(each, str) for each in found.values()):
            raise self._bad(name)
        return found

    def word(self, name: str, words: Any) -> Any:
        """Return the member of an enumeration that a text stands for.

        :param words: the enumeration
        """
        try:
            return words(self.text(name))
        except ValueError:
            raise self._bad(name) from None

    def is_word(self, name: str, words: Any) -> bool:
        """Say whether a text stands for a member of an enumeration.

        :param words: the enumeration
        """
        return self.text(name) in {word.value for word in words}

    def record(self, name: str) -> 'Record':
        return Record(self._fields.get(name))

    def records(self, name: str) -> list['Record']:
        return [Record(each) for each in self._typed(name, list)]

    def named(self, name: str) -> dict[str, 'Record']:
        return {key: Record(each)
                for key, each in self._typed(name, dict).items()}

    def _typed(self, name: str, kind: type) -> Any:
        value = self._fields.get(name)
        if not isinstance(value, kind):
            raise self._bad(name)
        return value

    def _bad(self, name: str) -> exception.InvalidRecord:
        return exception.InvalidRecord(reason=f'bad field {name}')


def _seconds(value: Any, error: exception.InvalidRecord) -> float:
    # JSON has no NaN and no infinity, but Python reads and writes both.
    if (isinstance(value, bool) or not isinstance(value, (int, float))
            or not -_MAX_NUMBER < value < _MAX_NUMBER):
        raise error
    return float(value)
