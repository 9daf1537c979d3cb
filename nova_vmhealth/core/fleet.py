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

"""Which hosts have fallen silent, and whether that may be acted upon.

An inspector feeds in all beacons and the time, and is told what follows. The
parts: ``sight`` (does it hear at all?), ``fleet_table`` (how does each host
stand?), ``suspicion`` (are too many silent at once?), ``electorate`` (do the
other inspectors think so too?).
"""

import heapq
import math
from typing import Iterable, Optional

from nova_vmhealth.core.beacons import Beacon
from nova_vmhealth.core.beacons import InspectorBeacon
from nova_vmhealth.core.beacons import MAX_SUSPECTS
from nova_vmhealth.core.electorate import Electorate
from nova_vmhealth.core.fleet_host import Host
from nova_vmhealth.core.fleet_table import Event
from nova_vmhealth.core.fleet_table import EXPECTED
from nova_vmhealth.core.fleet_table import Standing
from nova_vmhealth.core.fleet_table import UNHEARD
from nova_vmhealth.core.fleet_words import Blinded
from nova_vmhealth.core.fleet_words import Decision
from nova_vmhealth.core.fleet_words import Heard
from nova_vmhealth.core.fleet_words import Left
from nova_vmhealth.core.fleet_words import Namesake
from nova_vmhealth.core.fleet_words import Obstacle
from nova_vmhealth.core.fleet_words import Probe
from nova_vmhealth.core.fleet_words import Recovered
from nova_vmhealth.core.fleet_words import Settings
from nova_vmhealth.core.fleet_words import Sighted
from nova_vmhealth.core.fleet_words import Stalled
from nova_vmhealth.core.fleet_words import Suspected
from nova_vmhealth.core.fleet_words import View
from nova_vmhealth.core.sight import Sight
from nova_vmhealth.core.suspicion import Suspicion

# Far more than one cell has: it only keeps a sender that makes up names from
# filling the memory.
MAX_HOSTS = 10000

_NOTHING: tuple[Decision, ...] = ()


class BeaconWatch:
    """What an inspector makes of all beacons; it is not thread safe.

    Arguments named ``now`` are the caller's monotonic clock, seconds. In each
    of its turns, at least every ``sight.TICK_S``, the caller calls
    :meth:`wake`, hands over all that has arrived, then calls
    :meth:`handle_timer`.

    :param settings: Settings
    :param name: of this inspector
    :param incarnation: of this inspector
    :param interval_s: between two of its own beacons
    :ivar ignored: beacons that were old, or of one host too many
    """

    def __init__(self, settings: Settings, name: str, incarnation: str,
                 interval_s: float) -> None:
        self._settings = settings
        self._me = name, incarnation
        self._sight = Sight(interval_s, settings.grace_s)
        self._suspicion = Suspicion(settings, self._sight)
        self._others = Electorate()
        self._hosts: dict[str, Host] = {}
        # (time, name) of the hosts whose next beacon is waited for. A beacon
        # does not touch it: when the time has come it is looked whether one
        # came. What is not Host.queued is void
        self._deadlines: list[tuple[float, str]] = []
        # those whose time has come, as long as it is not certain that all has
        # arrived that was sent to us
        self._overdue: dict[str, Host] = {}
        self._blind = True
        self.ignored = 0

    # what arrives

    def hear(self, beacon: Beacon, now: float) -> Iterable[Decision]:
        """Take in a host's beacon."""
        time = self._sight.time(now)
        host = self._hosts.get(beacon.host) or self._add(beacon.host, time)
        if host is None or not host.is_news(beacon):
            self.ignored += 1
            return _NOTHING
        host.hear(beacon, time, now)
        if beacon.leaving:
            return self._leave(host)
        if host.standing is Standing.WATCHED:
            self._await(host)
            return _NOTHING
        return self._return(host, time)

    def hear_inspector(self, beacon: InspectorBeacon,
                       now: float) -> list[Decision]:
        """Take in an inspector's beacon, be it an own one."""
        if (beacon.name, beacon.incarnation) == self._me:
            return self._hear_myself(beacon.sequence, now)
        if beacon.name == self._me[0]:
            return [Namesake()]
        time = self._sight.time(now)
        if self._others.hear(beacon, time):
            for name in beacon.suspects:
                if name not in self._hosts:
                    self._add(name, time + self._settings.grace_s)
        return []

    def _hear_myself(self, sequence: int, now: float) -> list[Decision]:
        outage_s = self._sight.returned(sequence, now)
        if not outage_s:
            return []
        self._blind = False
        return [Sighted(outage_s)]

    def _add(self, name: str, heard: float) -> Optional[Host]:
        if len(self._hosts) >= MAX_HOSTS:
            return None
        host = self._hosts[name] = Host(name, heard)
        self._await(host)
        return host

    def _leave(self, host: Host) -> list[Decision]:
        host.happen(Event.GOODBYE)
        if host.standing is not Standing.LEFT:
            return []
        self._suspicion.drop(host.name)
        return [Left(host.name)]

    def _return(self, host: Host, time: float) -> list[Decision]:
        """Take in a beacon of a host that was not simply there."""
        decisions: list[Decision] = []
        if host.standing is not Standing.RETURNING:
            if host.standing in UNHEARD:
                decisions.append(Heard(host.name))
            self._suspicion.drop(host.name)
            host.begin_return()
        host.happen(Event.BEACON)
        if not self._blind:
            host.count(time)
        if host.good >= self._settings.recover_beacons:
            host.happen(Event.RECOVERY)
            decisions.append(Recovered(host.name))
        self._await(host)
        return decisions

    # what the caller does

    def sent(self, sequence: int, now: float) -> None:
        """Take in that an own beacon is on its way."""
        self._sight.sent(sequence, now)

    def restore(self, name: str, left: bool) -> None:
        """Take up a host that an earlier run has watched."""
        if name in self._hosts:
            return
        host = self._add(name, -math.inf)
        if host is not None and left:
            host.happen(Event.GOODBYE)

    def mark(self, name: str, incarnation: str, sequence: int, age_s: float,
             now: float) -> None:
        """Take in that a host was told to be down.

        :param incarnation: of its last beacon then
        :param sequence: of its last beacon then: what was sent before, and
            comes late, is no return
        :param age_s: how long ago that was, seconds
        """
        host = self._hosts.get(name) or self._add(name, -math.inf)
        if host is None:
            return
        host.know(incarnation, sequence)
        if host.standing is not Standing.MARKED:
            time = self._sight.time(now)
            host.happen(Event.MARK)
            self._suspicion.marked(name, time - max(0.0, age_s), time)

    def unmark(self, name: str, now: float) -> None:
        """Take in that it was told to be down no more."""
        host = self._hosts.get(name)
        if host is not None:
            host.happen(Event.UNMARK)
            self._suspicion.unmarked(name, self._sight.time(now))

    def excuse(self, name: str, excused: bool, now: float) -> None:
        """Take in whether a host is in planned maintenance.

        As long as it is, its silence counts for nothing.
        """
        host = self._hosts.get(name)
        if host is not None:
            self._suspicion.excuse(host, excused, self._sight.time(now))

    def forget(self, name: str, now: float) -> None:
        """Take in that there is no such host any more."""
        self._hosts.pop(name, None)
        self._overdue.pop(name, None)
        self._suspicion.unmarked(name, self._sight.time(now))

    # what time does

    def wake(self, now: float) -> list[Decision]:
        """Begin a turn."""
        stalled_s = self._sight.wake(now)
        return [Stalled(stalled_s)] if stalled_s else []

    def handle_timer(self, now: float) -> list[Decision]:
        """Do what time asks for, once all that has arrived is handed over."""
        if self._sight.outage_s(now):
            if self._blind:
                return []
            self._blind = True
            return [Blinded()]
        time = self._sight.time(now)
        self._collect(time)
        return [*self._settle(time),
                *self._suspicion.handle_timer(self._hosts.values(), time)]

    def next_deadline(self) -> float:
        """Return when to call :meth:`handle_timer` at the latest.

        :returns: on the caller's clock; inf for not before something is heard
        """
        if self._blind:
            return math.inf
        times = [math.inf]
        if self._deadlines:
            times.append(self._deadlines[0][0])
        if self._suspicion.hosts:
            times.append(self._suspicion.judge_at)
        return self._sight.moment(min(times))

    def _await(self, host: Host) -> None:
        """See to it that it is looked in time whether the next one came."""
        if host.name in self._overdue:
            return
        deadline = self._deadline(host)
        if deadline == math.inf:
            # As long as nothing is heard nobody knows when.
            deadline = host.heard
        if deadline < host.queued:
            host.queued = deadline
            heapq.heappush(self._deadlines, (deadline, host.name))

    def _deadline(self, host: Host) -> float:
        return (self._sight.start_of_silence(host.heard)
                + self._settings.misses * host.interval_s)

    def _collect(self, time: float) -> None:
        """Find the hosts whose time has come."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= time:
            queued, name = heapq.heappop(deadlines)
            host = self._hosts.get(name)
            if host is None or queued != host.queued:
                continue
            host.queued = math.inf
            if host.standing not in EXPECTED:
                continue
            if self._deadline(host) > time:
                self._await(host)
            else:
                self._overdue[name] = host

    def _settle(self, time: float) -> list[Decision]:
        """Say of those whose time has come which are silent."""
        decisions: list[Decision] = []
        latest = -math.inf
        for name, host in list(self._overdue.items()):
            deadline = self._deadline(host)
            if host.standing not in EXPECTED:
                del self._overdue[name]
            elif deadline > time:
                del self._overdue[name]
                self._await(host)
            elif self._sight.is_proven(deadline):
                del self._overdue[name]
                self._suspicion.add(host, time)
                decisions.append(Suspected(name))
            else:
                latest = max(latest, deadline)
        if latest > self._sight.latest:
            decisions.append(Probe())
        return decisions

    # what is known

    def obstacle(self, name: str, now: float) -> Optional[Obstacle]:
        """Say what speaks against acting upon a host; None for nothing.

        Quorum apart, see :meth:`agreed`. It holds for the moment.
        """
        if self._blind or self._sight.outage_s(now):
            return Obstacle.BLIND
        return self._suspicion.obstacle(name)

    def agreed(self, name: str, now: float) -> bool:
        """Say whether more than half of the inspectors suspect a host.

        This one does.
        """
        return self._others.agree(name, self._sight.time(now))

    def suspects(self) -> tuple[str, ...]:
        """Return the hosts to name in an own beacon, the undecided first."""
        marked = (host.name for host in self._hosts.values()
                  if host.standing is Standing.MARKED)
        return (*self._suspicion.hosts, *marked)[:MAX_SUSPECTS]

    def is_judging(self, now: float) -> bool:
        """Say whether this inspector can tell who is silent."""
        return (not self._blind and not self._sight.outage_s(now)
                and self._sight.is_settled(now))

    def peers(self, now: float) -> list[str]:
        """Return the names of the other inspectors that are heard."""
        return self._others.names(self._sight.time(now))

    def differs(self, digest: str, now: float) -> bool:
        """Say whether another inspector's digest is not this one."""
        return self._others.differ(digest, self._sight.time(now))

    def hosts(self) -> list[str]:
        """Return the names of all hosts that are known."""
        return list(self._hosts)

    def view(self, name: str) -> Optional[View]:
        """Return how a host stands; None for one that is not known."""
        host = self._hosts.get(name)
        return host and host.view()
