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


"""Flap damping: which sources of an instance raise too often.

A source is what can come and go on its own: the guest's heartbeat, the guest's
word on the whole of itself, each of its audits. One that was told to be wrong
too often within a window flaps, until it has kept still for a while. Which
causes come from which source is said in
:mod:`nova_vmhealth.core.transitions`; what is told in place of them is the
business of :mod:`nova_vmhealth.core.page`.
"""

import collections
import math
from typing import Any, Mapping, Optional

from nova_vmhealth.core import audits
from nova_vmhealth.core.saving import Record
from nova_vmhealth.core.saving import Times
from nova_vmhealth.core import transitions
from nova_vmhealth.core.vocabulary import Cause

# A guest chooses the names of its audits. So many fit into one session: the
# audits, the guest as a whole, the heartbeat. What comes beyond (a guest may
# introduce itself again with other names) shares the place of the guest as a
# whole.
MAX_SOURCES = audits.MAX_AUDITS + 2


class _Source:
    __slots__ = ('raised', 'quiet_at')

    def __init__(self) -> None:
        self.raised: collections.deque[float] = collections.deque()
        # when it ceases to flap; None while it does not
        self.quiet_at: Optional[float] = None


class FlapDamper:
    """The sources of one instance, and which of them flap.

    Arguments named ``now`` are the caller's monotonic clock, seconds.

    :param flips: a source may raise this often within the window; 0 turns
        flap damping off
    :param window_s: seconds
    :param quiet_s: a source flaps until it did not change for so long, seconds
    """

    # one for each instance of the host
    __slots__ = ('_flips', '_window_s', '_quiet_s', '_sources')

    def __init__(self, flips: int, window_s: float, quiet_s: float) -> None:
        self._flips = flips
        self._window_s = window_s
        self._quiet_s = quiet_s
        self._sources: dict[str, _Source] = {}

    def source_of(self, cause: Cause, subject: str) -> str:
        """Name the source that a condition is of; empty for none."""
        source = transitions.SOURCES.get(cause, '')
        if not source or not self._flips:
            return ''
        if source != transitions.AUDIT:
            return source
        name = source + subject
        own = sum(each not in (source, transitions.HEARTBEAT)
                  for each in self._sources)
        if name in self._sources or own < audits.MAX_AUDITS:
            return name
        return source

    def flaps(self, source: str) -> bool:
        """Say whether a source is not to be told of."""
        known = self._sources.get(source)
        return known is not None and known.quiet_at is not None

    def raises(self, source: str, now: float) -> bool:
        """Count that a condition of a source is about to be raised.

        :param source: as :meth:`source_of` names it
        :returns: whether that is once too often: it flaps from now on
        """
        if not source:
            return False
        self._prune(now)
        known = self._sources.setdefault(source, _Source())
        known.raised.append(now)
        if len(known.raised) <= self._flips:
            return False
        known.quiet_at = now + self._quiet_s
        return True

    def changes(self, source: str, now: float) -> None:
        """Note that a source has changed, for the worse or the better."""
        if self.flaps(source):
            self._sources[source].quiet_at = now + self._quiet_s

    def over(self, now: float) -> list[str]:
        """Return the sources that flap no more, to be ended."""
        return [name for name, source in self._sources.items()
                if source.quiet_at is not None and source.quiet_at <= now]

    def end(self, source: str) -> None:
        """Begin anew with a source: what it did before does not count."""
        self._sources.pop(source, None)

    def deadline(self) -> float:
        """Return when :meth:`over` will name one; inf for never."""
        return min((source.quiet_at for source in self._sources.values()
                    if source.quiet_at is not None), default=math.inf)

    def details(self, cause: Cause) -> Mapping[str, str]:
        """Say why a source flaps.

        :param cause: of the condition that it raised once too often
        """
        return {'cause': cause.value, 'flips': str(self._flips + 1),
                'window_s': '%g' % self._window_s}

    @property
    def mark(self) -> tuple[Any, ...]:
        """What is to be written down of it, for who asks if it changed."""
        return tuple((name, len(source.raised), source.quiet_at)
                     for name, source in self._sources.items())

    @property
    def flapping(self) -> set[str]:
        """The sources that flap."""
        return {name for name in self._sources if self.flaps(name)}

    def save(self, times: Times) -> dict[str, Any]:
        """Return its record."""
        return {name: {'raised': [times.save(at) for at in source.raised],
                       'quiet_at': times.save(source.quiet_at)}
                for name, source in self._sources.items()}

    def restore(self, saved: Mapping[str, Record], times: Times) -> None:
        """Take up what a record says.

        :raises nova_vmhealth.exception.InvalidRecord: it says nothing
        """
        for name, record in saved.items():
            source = self._sources[name] = _Source()
            source.raised.extend(
                times.past(at) for at in record.times('raised'))
            source.quiet_at = times.until(
                record.time_or_none('quiet_at'), self._quiet_s)

    def _prune(self, now: float) -> None:
        """Drop what was raised before the window, and who is left empty."""
        begin = now - self._window_s
        for name, source in list(self._sources.items()):
            while source.raised and source.raised[0] <= begin:
                source.raised.popleft()
            if not source.raised and source.quiet_at is None:
                del self._sources[name]
