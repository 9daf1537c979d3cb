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


"""Many guests lost at once: then the host itself is suspected.

It is suspected from the moment when enough guests have lost their heartbeat
within one window. That ends

* when fewer than that number have been lost for the length of a window: the
  threshold is the same both ways, so it is time that keeps a host on the edge
  from being suspected again and again; or
* when no other guest was lost for ten windows and most guests still answer:
  those that stay lost have a trouble of their own.

A guest that is lost, answers and is lost again within one window is one guest,
and only what is lost still counts.
"""

import dataclasses
import itertools
from typing import Callable, Optional

from nova_vmhealth.core.vocabulary import HOST_SEVERITY
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostEvent
from nova_vmhealth.core.vocabulary import Transition

# Shortest time between two updates, seconds.
UPDATE_INTERVAL_S = 1.0

# Windows without another loss after which the storm is over.
_STILL_WINDOWS = 10

# An event names the instances that were lost, at some 80 bytes each; more than
# this are counted.
MAX_NAMED = 1000

# Guests are forgotten one by one as they leave the host. No host has nearly as
# many: it only keeps a caller's mistake from filling the memory.
_MAX_LOST = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class _Moment:
    """One point in time, on both clocks."""

    now: float
    wall: float


class Storm:
    """Watches how many guests are lost, and says what that means.

    Arguments named ``now`` are the caller's monotonic clock, those named
    ``wall`` the wall clock; both in seconds. It is not thread safe.

    :param guests: fewest guests lost within the window; 0: never suspect
    :param percent: smallest part of the guests watched, in percent
    :param window_s: seconds
    :param new_id: makes the uuid of an event
    """

    def __init__(
        self, guests: int, percent: int, window_s: float,
        new_id: Callable[[], str],
    ) -> None:
        self._guests = guests
        self._percent = percent
        self._window_s = window_s
        self._new_id = new_id
        # those lost and not recovered, the longest lost first; only those of
        # the window while the host is not suspected
        self._lost: dict[str, _Moment] = {}
        self._watched = 0
        self._sequence = 0
        # of the storm that is on
        self._event_id: Optional[str] = None
        self._in_all = 0
        self._last_loss = _Moment(0.0, 0.0)
        self._told_at = 0.0
        self._untold = False
        self._calm_since: Optional[_Moment] = None

    @property
    def suspected(self) -> bool:
        """Whether the host, and not its guests, seems to be at fault."""
        return self._event_id is not None

    @property
    def event_id(self) -> Optional[str]:
        """The id of the event that raised the suspicion; None without."""
        return self._event_id

    # What happens to guests

    def lost(
        self, uuid: str, now: float, wall: float, watched: int,
    ) -> Optional[HostEvent]:
        """Take in that a guest lost its heartbeat.

        :param watched: guests whose heartbeat was established, the lost ones
            among them
        :returns: what to tell, if anything
        """
        if not self._guests:
            return None
        self._watched = watched
        if not self.suspected:
            self._prune(now)
        if uuid in self._lost or len(self._lost) >= _MAX_LOST:
            return None
        self._lost[uuid] = self._last_loss = _Moment(now, wall)
        if not self.suspected:
            return self._raise(now, wall) if self._is_enough() else None
        self._in_all += 1
        self._untold = True
        self._look_for_calm(now, wall)
        return self._update(now, wall) if self._may_update(now) else None

    def recovered(self, uuid: str, now: float, wall: float) -> None:
        """Take in that a guest answers again.

        That the storm is over is for :meth:`handle_timer` to say.
        """
        if self._lost.pop(uuid, None) is not None:
            self._look_for_calm(now, wall)

    def forget(self, uuid: str, now: float, wall: float) -> None:
        """Take in that a guest has stopped, or has left the host."""
        self.recovered(uuid, now, wall)

    # What time does

    def next_deadline(self) -> Optional[float]:
        """Return when to call :meth:`handle_timer`; None for never."""
        if not self.suspected:
            return None
        times = []
        if self._untold:
            times.append(self._told_at + UPDATE_INTERVAL_S)
        if self._calm_since is not None:
            times.append(self._calm_since.now + self._window_s)
        if self._most_answer():
            times.append(self._still_at())
        return min(times, default=None)

    def handle_timer(self, now: float, wall: float) -> list[HostEvent]:
        """Do what time alone asks for; harmless when called too early.

        :returns: what to tell, in order
        """
        if not self.suspected:
            return []
        calm = self._calm_since
        if calm is not None and now >= calm.now + self._window_s:
            return [self._clear(calm.wall, now, wall)]
        if self._most_answer() and now >= self._still_at():
            return [self._clear(wall, now, wall)]
        if self._untold and self._may_update(now):
            return [self._update(now, wall)]
        return []

    # Counting

    def _prune(self, now: float) -> None:
        """Drop what was lost before the window; it is in order of time."""
        begin = now - self._window_s
        while self._lost:
            uuid = next(iter(self._lost))
            if self._lost[uuid].now > begin:
                break
            del self._lost[uuid]

    def _is_enough(self) -> bool:
        lost = len(self._lost)
        return (lost >= self._guests
                and lost * 100 >= self._percent * self._watched)

    def _most_answer(self) -> bool:
        return len(self._lost) * 2 < self._watched

    def _still_at(self) -> float:
        return self._last_loss.now + _STILL_WINDOWS * self._window_s

    def _look_for_calm(self, now: float, wall: float) -> None:
        if len(self._lost) >= self._guests:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = _Moment(now, wall)

    # Telling

    def _may_update(self, now: float) -> bool:
        return now >= self._told_at + UPDATE_INTERVAL_S

    def _raise(self, now: float, wall: float) -> HostEvent:
        first = next(iter(self._lost.values()))
        self._event_id = self._new_id()
        self._in_all = len(self._lost)
        self._calm_since = None
        return self._tell(Transition.RAISED, self._event_id, first.wall, now,
                          wall)

    def _update(self, now: float, wall: float) -> HostEvent:
        return self._tell(Transition.UPDATED, self._new_id(),
                          self._last_loss.wall, now, wall)

    def _clear(
        self, occurred_at: float, now: float, wall: float,
    ) -> HostEvent:
        event = self._tell(Transition.CLEARED, self._new_id(), occurred_at,
                           now, wall)
        self._event_id = None
        # Those that have been lost for long are no news, and count no more.
        self._prune(now)
        return event

    def _tell(self, transition, event_id, occurred_at, now, wall) -> HostEvent:
        self._told_at = now
        self._untold = False
        self._sequence += 1
        cause = HostCause.MANY_GUESTS_LOST
        return HostEvent(
            event_id=event_id,
            sequence=self._sequence,
            transition=transition,
            cause=cause,
            severity=HOST_SEVERITY[cause],
            occurred_at=occurred_at,
            detected_at=wall,
            instance_uuids=tuple(
                itertools.islice(self._lost, MAX_NAMED)),
            instance_count=len(self._lost),
            details={
                'host_event': self._event_id,
                'lost_in_all': str(self._in_all),
                'watched': str(self._watched),
                'window_s': '%g' % self._window_s,
            })
