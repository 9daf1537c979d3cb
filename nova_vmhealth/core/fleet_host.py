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

"""What is known of one host by its beacons."""

import math
from typing import Optional

from nova_vmhealth.core.beacons import Beacon
from nova_vmhealth.core.fleet_table import Event
from nova_vmhealth.core.fleet_table import Standing
from nova_vmhealth.core.fleet_table import step
from nova_vmhealth.core.fleet_words import View

# What a host may say of its own interval, seconds.
MIN_INTERVAL_S = 0.05
MAX_INTERVAL_S = 60.0
# Before the first beacon, as nova-compute has it by default, seconds.
_USUAL_INTERVAL_S = 0.5


class Host:
    """One host. Times are those of core.sight, but for heard_at.

    :ivar heard: when its last beacon came
    :ivar heard_at: the same on the caller's clock; None before the first
    :ivar good: beacons in a row since it returned
    :ivar queued: when it is to be looked whether a beacon came; inf for never
    :ivar free: whether the guard lets it be acted upon
    :ivar held_since: since when that is not certain
    :ivar excused: whether it counts for nothing as long as it is silent
    """

    __slots__ = ('name', 'standing', 'heard', 'heard_at', 'interval_s',
                 'incarnation', 'sequence', 'good', '_counted', 'queued',
                 'free', 'held_since', 'excused')

    def __init__(self, name: str, heard: float) -> None:
        self.name = name
        self.standing = Standing.RETURNING
        self.heard = heard
        self.heard_at: Optional[float] = None
        self.interval_s = _USUAL_INTERVAL_S
        self.incarnation = ''
        self.sequence = 0
        self.good = 0
        self._counted = -math.inf
        self.queued = math.inf
        self.free = False
        self.held_since = math.inf
        self.excused = False

    def happen(self, event: Event) -> None:
        """Let the standing be what follows.

        :raises nova_vmhealth.exception.IllegalTransition: nothing does
        """
        self.standing = step(self.standing, event)

    def is_news(self, beacon: Beacon) -> bool:
        """Say whether a beacon is none that was overtaken by another."""
        return (beacon.sequence > self.sequence
                or beacon.incarnation != self.incarnation)

    def hear(self, beacon: Beacon, time: float, now: float) -> None:
        """Keep what a beacon says."""
        self.incarnation = beacon.incarnation
        self.sequence = beacon.sequence
        self.heard = time
        self.heard_at = now
        self.interval_s = min(max(beacon.interval_ms / 1000, MIN_INTERVAL_S),
                              MAX_INTERVAL_S)

    def know(self, incarnation: str, sequence: int) -> None:
        """Take in which beacon somebody else has heard."""
        if not self.incarnation:
            self.incarnation = incarnation
        if self.incarnation == incarnation:
            self.sequence = max(self.sequence, sequence)

    def begin_return(self) -> None:
        """Count its beacons from none."""
        self.good, self._counted = 0, -math.inf

    def count(self, time: float) -> None:
        """Count a beacon of a row."""
        # What has waited somewhere comes all at once, and says little.
        if time >= self._counted + self.interval_s / 2:
            self.good += 1
            self._counted = time

    def view(self) -> View:
        """Return what others may know."""
        return View(self.standing, self.heard_at, self.incarnation,
                    self.sequence, self.interval_s, self.excused)
