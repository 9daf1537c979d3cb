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


"""Whether there is a way to one guest, and whether it was ever heard there."""

import math
from typing import Optional

from nova_vmhealth.core.outcomes import Unheard
from nova_vmhealth.core.outcomes import Unreachable
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.session_table import Link

# A channel on which nothing was heard for this long, seconds, may be held by
# somebody else.
UNHEARD_S = 10.0
# A beating guest that has had no channel for this long, seconds, and for as
# long as would have made a loss, is not watched any more, and that is told: a
# libvirtd that is started anew takes less.
UNREACHABLE_S = 60.0


class Presence:
    """Since when there is a channel, or none. Monotonic seconds.

    :ivar since: when it came or went
    :ivar missed: whether its absence was told, and no answer came since
    """

    __slots__ = ('since', 'missed', '_heard')

    def __init__(self, now: float) -> None:
        self.since = now
        self.missed = False
        self._heard = True

    def came(self, now: float) -> None:
        """There is a channel from now on."""
        self.since = now
        self._heard = False

    def went(self, now: float) -> None:
        """There is none from now on, or none that is to be judged."""
        self.since = now

    def heard(self) -> None:
        """Something came through the channel."""
        self._heard = True

    def unheard(self, now: float) -> Optional[Unheard]:
        """Return what is to be told of a silent channel, once for each."""
        if self._heard or now - self.since < UNHEARD_S:
            return None
        self._heard = True
        return Unheard(now - self.since)

    def deadline(self, policy: Policy, link: Link, guest: Guest) -> float:
        """Return when :meth:`absent` has something to tell; inf is never."""
        if (self.missed or link is not Link.CONNECTING
                or guest is not Guest.BEATING):
            return math.inf
        return self.since + UNREACHABLE_S + (
            policy.misses * policy.interval_ms + policy.timeout_ms) / 1000

    def absent(self, now: float) -> Unreachable:
        """Tell that there has been no channel for long, once."""
        self.missed = True
        return Unreachable(now - self.since)
