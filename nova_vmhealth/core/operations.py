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


"""What Nova is doing to one instance: the ledger's planned operations."""

from typing import Optional

from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation


class Operations:
    """The planned operations of one instance, and the grace that follows.

    :param grace_s: how long side effects are expected after the last
        operation's end, seconds
    :ivar name: of the operation that is told; it is the outermost of those
        that are on, and keeps its name through the grace; empty when nothing
        is planned
    :ivar grace_until: when the grace is over, on the caller's monotonic
        clock; None while there is none
    """

    # one for each instance of the host
    __slots__ = ('_grace_s', '_begun', 'name', 'grace_until')

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        # how often each operation was begun and not ended yet
        self._begun: dict[str, int] = {}
        self.name = ''
        self.grace_until: Optional[float] = None

    @property
    def on(self) -> bool:
        """Whether one is on, its grace left aside."""
        return bool(self._begun)

    @property
    def planned(self) -> bool:
        """Whether side effects are expected now."""
        return self.on or self.grace_until is not None

    def note(self, obs: Observation, now: float) -> None:
        """Take in a fact; only PLANNED_BEGUN and PLANNED_ENDED matter."""
        name = obs.details.get('operation') or 'unknown'
        if obs.kind is Kind.PLANNED_BEGUN:
            if not self._begun:
                self.name = name
            self._begun[name] = self._begun.get(name, 0) + 1
            self.grace_until = None
        elif obs.kind is Kind.PLANNED_ENDED and name in self._begun:
            self._begun[name] -= 1
            if not self._begun[name]:
                del self._begun[name]
            if not self._begun:
                self.grace_until = now + self._grace_s

    def expire(self, now: float) -> None:
        """End the grace whose time is over."""
        if self.grace_until is not None and now >= self.grace_until:
            self.grace_until = None
            self.name = ''
