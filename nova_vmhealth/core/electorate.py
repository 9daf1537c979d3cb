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

"""The other inspectors, as far as they are heard, and what they think."""

import dataclasses
import math

from nova_vmhealth.core.beacons import InspectorBeacon

# An inspector has a vote for so many of its intervals after its last beacon.
INTERVALS = 3
# A cell has a few; a sender that makes up names must not fill the memory.
MAX_PEERS = 100
# What an inspector may say of its own interval, seconds.
_MIN_INTERVAL_S = 0.05
_MAX_INTERVAL_S = 60.0


@dataclasses.dataclass(slots=True)
class _Peer:
    beacon: InspectorBeacon
    suspects: frozenset[str]
    gone_at: float


class Electorate:
    """Whether enough inspectors are of one opinion; it is not thread safe.

    Times are seconds, on the caller's one clock.
    """

    def __init__(self) -> None:
        self._peers: dict[str, _Peer] = {}

    def hear(self, beacon: InspectorBeacon, time: float) -> bool:
        """Take in another inspector's beacon.

        :returns: whether it says something new
        """
        peer = self._peers.get(beacon.name)
        if peer is None:
            if len(self._peers) >= MAX_PEERS:
                self._forget(time)
            if len(self._peers) >= MAX_PEERS:
                return False
        elif (peer.beacon.incarnation == beacon.incarnation
              and peer.beacon.sequence >= beacon.sequence):
            return False
        interval_s = min(max(beacon.interval_ms / 1000, _MIN_INTERVAL_S),
                         _MAX_INTERVAL_S)
        self._peers[beacon.name] = _Peer(
            beacon, frozenset(beacon.suspects),
            time + INTERVALS * interval_s)
        return True

    def agree(self, host: str, time: float) -> bool:
        """Say whether more than half suspect a host, this one among them.

        Those that do not judge at all have no vote.
        """
        voters = [peer for peer in self._heard(time) if peer.beacon.judging]
        votes = 1 + sum(host in peer.suspects for peer in voters)
        return votes * 2 > 1 + len(voters)

    def names(self, time: float) -> list[str]:
        """Return the names of those that are heard."""
        return sorted(peer.beacon.name for peer in self._heard(time))

    def differ(self, digest: str, time: float) -> bool:
        """Say whether somebody's copy of what all are to know is another."""
        return any(peer.beacon.digest != digest
                   for peer in self._heard(time))

    def next_change(self, time: float) -> float:
        """Return when the next of them loses its vote; inf for never."""
        return min((peer.gone_at for peer in self._heard(time)),
                   default=math.inf)

    def _heard(self, time: float) -> list[_Peer]:
        return [peer for peer in self._peers.values() if peer.gone_at > time]

    def _forget(self, time: float) -> None:
        self._peers = {peer.beacon.name: peer for peer in self._heard(time)}
