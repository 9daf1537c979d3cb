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

"""The hosts that are silent, and whether so many may be acted upon."""

import dataclasses
import math
from typing import Iterable, Optional

from nova_vmhealth.core.fleet_host import Host
from nova_vmhealth.core.fleet_table import Event
from nova_vmhealth.core.fleet_table import EXPECTED
from nova_vmhealth.core.fleet_table import Standing
from nova_vmhealth.core.fleet_words import Decision
from nova_vmhealth.core.fleet_words import Obstacle
from nova_vmhealth.core.fleet_words import Refused
from nova_vmhealth.core.fleet_words import Settings
from nova_vmhealth.core.fleet_words import Suspected
from nova_vmhealth.core.share_guard import ShareGuard
from nova_vmhealth.core.sight import Sight

# Who is silent for so many intervals may be falling silent with the others.
_DOUBT = 1.25
# While hosts are suspected, all others are counted this often, seconds, and
# where only refused ones are left, this often.
_JUDGE_S = 0.1
_REFUSED_S = 1.0
# What is refused is said after so long, seconds, when it is known how many
# there are; and again after so long.
_SAY_S = 1.0
_SAY_AGAIN_S = 60.0


class Suspicion:
    """Holds the hosts of which something is still to be decided.

    Times are those of core.sight.

    :ivar hosts: name -> Host
    """

    def __init__(self, settings: Settings, sight: Sight) -> None:
        self._misses = settings.misses
        self._sight = sight
        self._guard = ShareGuard(settings.percent, settings.window_s)
        self.hosts: dict[str, Host] = {}
        #: when the hosts are to be judged anew
        self.judge_at = math.inf
        self._say_at = math.inf
        self._said_at = -math.inf

    def add(self, host: Host, time: float) -> None:
        """Suspect a host."""
        host.happen(Event.SILENCE)
        host.free, host.held_since = False, math.inf
        self.hosts[host.name] = host
        self.judge_at = time

    def drop(self, name: str) -> None:
        """Suspect a host no longer."""
        self.hosts.pop(name, None)

    def marked(self, name: str, marked: float, time: float) -> None:
        """Take in that a host was told to be down, at some time."""
        self.drop(name)
        self._guard.marked(name, marked)
        self.judge_at = time

    def unmarked(self, name: str, time: float) -> None:
        """Take in that this does not hold any longer."""
        self.drop(name)
        self._guard.forget(name)
        self.judge_at = time

    def excuse(self, host: Host, excused: bool, time: float) -> None:
        """Count a host for nothing, since it is in planned maintenance."""
        if host.excused is not excused:
            host.excused = excused
            self.judge_at = time

    def obstacle(self, name: str) -> Optional[Obstacle]:
        """Say what speaks against acting upon a host; None for nothing."""
        host = self.hosts.get(name)
        if host is None:
            return Obstacle.NOT_SILENT
        if host.standing is Standing.REFUSED:
            return Obstacle.TOO_MANY_HOSTS
        return None if host.free else Obstacle.UNSETTLED

    def handle_timer(self, everybody: Iterable[Host],
                     time: float) -> list[Decision]:
        """Let the suspected hosts go, or refuse them.

        :param everybody: all hosts, the suspected among them
        """
        if not self.hosts or time < self.judge_at:
            return []
        self.judge_at = time + _JUDGE_S
        recent = self._guard.recent(time)
        watched, doubtful = self._count(everybody, recent, time)
        limit = self._guard.limit(watched)
        certain = len(recent.union(
            name for name, host in self.hosts.items() if not host.excused))
        if certain + doubtful <= limit:
            return self._free()
        refused = self._silent() if certain > limit else self._hold(time)
        return self._refuse(refused, time, Refused(
            (), certain + doubtful, limit, watched))

    def _count(self, everybody: Iterable[Host], recent: frozenset[str],
               time: float) -> tuple[int, int]:
        """Return how many there are, and how many may be falling silent."""
        watched = doubtful = 0
        for host in everybody:
            standing = host.standing
            if standing is Standing.LEFT or (
                    standing is Standing.MARKED and host.name not in recent):
                continue
            watched += 1
            doubtful += standing in EXPECTED and self._is_doubtful(host, time)
        return watched, doubtful

    def _is_doubtful(self, host: Host, time: float) -> bool:
        return time > (self._sight.start_of_silence(host.heard)
                       + _DOUBT * host.interval_s)

    def _silent(self) -> list[Host]:
        return [host for host in self.hosts.values()
                if host.standing is Standing.SILENT and not host.excused]

    def _hold(self, time: float) -> list[Host]:
        """Wait until the doubtful are silent or heard, but not for ever.

        :returns: those that have waited long enough
        """
        late = []
        for host in self._silent():
            host.free = False
            host.held_since = min(host.held_since, time)
            if time > host.held_since + self._misses * host.interval_s:
                late.append(host)
        return late

    def _refuse(self, hosts: list[Host], time: float,
                refusal: Refused) -> list[Decision]:
        for host in hosts:
            host.free = False
            host.happen(Event.REFUSAL)
        names = tuple(name for name, host in self.hosts.items()
                      if host.standing is Standing.REFUSED)
        if names and not self._silent():
            self.judge_at = time + _REFUSED_S
        if names and self._say_at == math.inf:
            self._say_at = max(time + _SAY_S, self._said_at + _SAY_AGAIN_S)
        if not names or time < self._say_at:
            return []
        self._said_at, self._say_at = time, time + _SAY_AGAIN_S
        return [dataclasses.replace(refusal, hosts=names)]

    def _free(self) -> list[Decision]:
        self._say_at = math.inf
        decisions: list[Decision] = []
        for name, host in self.hosts.items():
            host.free, host.held_since = True, math.inf
            if host.standing is Standing.REFUSED:
                host.happen(Event.PARDON)
                decisions.append(Suspected(name))
        return decisions
