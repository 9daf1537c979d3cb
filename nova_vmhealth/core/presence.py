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


"""A beating guest without a channel: when that is worth telling."""

import math

from nova_vmhealth.core.outcomes import Unreachable
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.session_table import Link

# A beating guest that has had no channel for this long, seconds, and for as
# long as would have made a loss, is not watched any more, and that is told: a
# libvirtd that is started anew takes less.
UNREACHABLE_S = 60.0


class Absence:
    """Times how long a guest has had no channel. Monotonic seconds.

    :ivar told: whether it was told, and no answer came since
    """

    __slots__ = ('told', '_since')

    def __init__(self, now: float) -> None:
        self.told = False
        self._since = now

    def begin(self, now: float) -> None:
        """There is no channel from now on."""
        self._since = now

    def deadline(self, policy: Policy, link: Link, guest: Guest) -> float:
        """Return when :meth:`tell` has something to tell; inf is never."""
        if (self.told or link is not Link.CONNECTING
                or guest is not Guest.BEATING):
            return math.inf
        return self._since + UNREACHABLE_S + (
            policy.misses * policy.interval_ms + policy.timeout_ms) / 1000

    def tell(self, now: float) -> Unreachable:
        """Tell it, once."""
        self.told = True
        return Unreachable(now - self._since)
