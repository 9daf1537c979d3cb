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

"""Hosts that beat, a broker, and an inspector's watch: time is simulated."""

from nova_vmhealth.core.beacons import Beacon
from nova_vmhealth.core.beacons import InspectorBeacon
from nova_vmhealth.core import fleet
from nova_vmhealth.core.fleet_words import Probe
from nova_vmhealth.core.fleet_words import Settings
from nova_vmhealth.core.fleet_words import Suspected

TICK_S = 0.02
OWN_S = 0.5
ME = 'here'


class Fleet:
    """A watch that is fed with what a broker would give it.

    :ivar now: seconds
    :ivar told: (time, decision) for all so far
    :ivar broker: whether it takes and gives anything
    :ivar beating: host -> seconds between its beacons; the others are dead
    """

    def __init__(self, hosts=(), settings=None, interval_s=OWN_S, **wanted):
        self.settings = settings or Settings(**wanted)
        self.watch = fleet.BeaconWatch(self.settings, ME, 'own', OWN_S)
        self.now = 1000.0
        self.told = []
        self.broker = True
        self.beating = {}
        # what their beacons say of that, where it is something else
        self.said_ms = {}
        self.incarnations = {}
        self.sequences = {}
        self._next = {}
        self._own_at = self.now
        self._sequence = 0
        # own beacons that are under way
        self._under_way = []
        for number, host in enumerate(hosts):
            # spread over an interval, as they are in a cloud
            self.beat(host, interval_s, number / max(1, len(hosts)))

    def beat(self, host, interval_s=OWN_S, phase=0.0):
        """Have a host's nova-compute run from now on."""
        self.beating[host] = interval_s
        self._next[host] = self.now + phase * interval_s
        self.incarnations.setdefault(host, 'first')

    def die(self, *hosts):
        for host in hosts:
            del self.beating[host]

    def restart(self, host):
        """A new nova-compute on a host."""
        self.incarnations[host] = f'{self.incarnations.get(host)}+'
        self.sequences[host] = 0
        self.beat(host, self.beating.get(host, OWN_S))

    def beacon(self, host, leaving=False):
        sequence = self.sequences[host] = self.sequences.get(host, 0) + 1
        interval_ms = self.said_ms.get(
            host, round(self.beating.get(host, OWN_S) * 1000))
        return Beacon(host, self.incarnations.setdefault(host, 'first'),
                      sequence, interval_ms, self.now, leaving)

    def hear(self, beacon):
        self._tell(self.watch.hear(beacon, self.now))

    def hear_peer(self, name, suspects=(), sequence=1, **fields):
        """Hear the beacon of another inspector."""
        self._tell(self.watch.hear_inspector(InspectorBeacon(
            name, 'other', sequence, 500, tuple(suspects), **fields),
            self.now))

    def run(self, seconds):
        """Let the time pass in turns of the loop; what was told meanwhile."""
        before = len(self.told)
        end = self.now + seconds - TICK_S / 2
        while self.now < end:
            self.now += TICK_S
            self.turn()
        return [decision for _, decision in self.told[before:]]

    def turn(self):
        """One turn of the loop, now."""
        self._tell(self.watch.wake(self.now))
        self._deliver()
        self._tell(self.watch.handle_timer(self.now))
        if self.now >= self._own_at:
            self._send_own()

    def stall(self, seconds):
        """Neither the loop runs, nor what reads for it."""
        self.now += seconds

    def _deliver(self):
        for host, interval_s in self.beating.items():
            while self._next[host] <= self.now:
                self._next[host] += interval_s
                beacon = self.beacon(host)
                if self.broker:
                    self.hear(beacon)
        if self.broker:
            own, self._under_way = self._under_way, []
            for sequence in own:
                self._tell(self.watch.hear_inspector(InspectorBeacon(
                    ME, 'own', sequence, 500), self.now))

    def _send_own(self):
        self._own_at = self.now + OWN_S
        self._sequence += 1
        self.watch.sent(self._sequence, self.now)
        if self.broker:
            self._under_way.append(self._sequence)

    def _tell(self, decisions):
        for decision in decisions:
            self.told.append((self.now, decision))
            if isinstance(decision, (Probe, Suspected)):
                self._own_at = self.now

    # what was told

    def of(self, kind):
        return [decision for _, decision in self.told
                if isinstance(decision, kind)]

    def when(self, kind):
        """When such a thing was told for the first time; None for never."""
        return next((at for at, decision in self.told
                     if isinstance(decision, kind)), None)
