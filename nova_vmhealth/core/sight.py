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

"""Whether an inspector hears at all: its own beacons, and its own clock.

What it sends to the others comes back to it by the same broker, exchange and
queue that the hosts' beacons come by, behind them. As long as it does not, an
inspector cannot tell a host that is silent from a broker that is, and judges
nobody. When it does again, the hosts need time: they too connect anew.

Where the inspector itself was not run for a while, that time has not passed
for anybody. Times named ``time`` are on a clock that stood still then.
"""

import math

# The inspector's loop looks at the clock at least this often, seconds.
TICK_S = 0.1
# An own beacon that is under way for longer than this, seconds, has met with
# an outage. A broker that is well takes milliseconds, on a busy machine tens
# of them; oslo.messaging takes a second at least to connect anew.
OUTAGE_S = 0.75
# Own beacons that are on their way: with the shortest interval those of some
# seconds. Of more than these the oldest count as one.
_MAX_SENT = 100


class Sight:
    """Follows one inspector's own beacons; it is not thread safe.

    Arguments named ``now`` are the caller's monotonic clock, seconds.

    :param interval_s: between two of its own beacons
    :param grace_s: time that hosts have to connect anew after an outage
    """

    def __init__(self, interval_s: float, grace_s: float) -> None:
        self._interval_s = interval_s
        self._grace_s = grace_s
        # seconds for which the clock stood still so far
        self._stalled_s = 0.0
        self._woke_at = math.inf
        # sequence -> time, of those that did not come back yet, in order
        self._sent: dict[int, float] = {}
        # the latest time at which one was sent that has come back
        self._proven = -math.inf
        # since when nothing is heard; inf where it is
        self._gone_since = math.inf
        self._sighted_at = math.inf

    # the clock

    def wake(self, now: float) -> float:
        """Take in that the loop goes on, before anything else.

        :returns: for how many seconds it stood still, if it matters
        """
        late = now - self._woke_at - TICK_S
        self._woke_at = now
        if late <= self._interval_s / 2:
            return 0.0
        self._stalled_s += late
        return late

    def time(self, now: float) -> float:
        """Return the time at a moment."""
        return now - self._stalled_s

    def moment(self, time: float) -> float:
        """Return when it will be that time, if nothing stalls any more."""
        return time + self._stalled_s

    # own beacons

    @property
    def latest(self) -> float:
        """The time at which the latest own beacon was sent."""
        return max(self._sent.values(), default=self._proven)

    def sent(self, sequence: int, now: float) -> None:
        """Take in that an own beacon is sent, or at least tried to."""
        if len(self._sent) >= _MAX_SENT:
            second = list(self._sent)[1]
            del self._sent[second]
        self._sent[sequence] = self.time(now)

    def returned(self, sequence: int, now: float) -> float:
        """Take in that an own beacon has come back.

        :returns: how long nothing was heard, seconds, if this ends it
        """
        if sequence not in self._sent:
            return 0.0
        gone_s = self.outage_s(now)
        if gone_s:
            self._gone_since = min(self._gone_since, self.time(now) - gone_s)
        self._proven = self._sent[sequence]
        for older in [each for each in self._sent if each <= sequence]:
            del self._sent[older]
        # What has waited somewhere for long says nothing of what is now.
        if self.outage_s(now) or self._gone_since == math.inf:
            return 0.0
        self._sighted_at = self.time(now)
        outage_s = self._sighted_at - self._gone_since
        self._gone_since = math.inf
        return outage_s

    def outage_s(self, now: float) -> float:
        """Return for how long nothing is heard, seconds; 0 for no outage.

        inf before the first own beacon has come back.
        """
        if self._proven == -math.inf:
            return math.inf
        oldest = next(iter(self._sent.values()), math.inf)
        gone = self.time(now) - oldest
        return gone if gone > OUTAGE_S else 0.0

    def is_proven(self, time: float) -> bool:
        """Say whether all that was sent to us before a time has arrived."""
        return self._proven >= time

    def start_of_silence(self, heard: float) -> float:
        """Return from which time on a host's silence counts.

        :param heard: the time of its last beacon
        """
        if heard >= self._sighted_at:
            return heard
        return self._sighted_at + self._grace_s

    def is_settled(self, now: float) -> bool:
        """Say whether hosts have had their time since the last outage."""
        return self.time(now) >= self._sighted_at + self._grace_s
