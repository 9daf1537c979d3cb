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

"""What is told of an instance before it is known how far it has come."""

from typing import Optional, Sequence

from nova_vmhealth.core.vocabulary import HealthEvent
from nova_vmhealth.core.vocabulary import Kind

# Nova tells the new host within a second or so that the guest is there, and
# before that there is nothing to tell of it, as a rule. Where its old
# host died Nova never does.
KEEP_S = 60.0
# A guest may say a lot at once; kept are some kilobytes of each event.
MAX_KEPT = 100


class Arrival:
    """The events of an instance that is on its way to this host.

    :ivar events: what is kept back, in order
    :ivar until: when it is told without waiting any longer, on the caller's
        monotonic clock; None while the guest does not run here and nothing is
        kept back
    :ivar over: whether that is so
    """

    __slots__ = ('events', 'until', 'over')

    def __init__(self) -> None:
        self.events: list[HealthEvent] = []
        self.until: Optional[float] = None
        self.over = False

    def keep(
        self, events: Sequence[HealthEvent], kind: Optional[Kind], now: float,
    ) -> list[HealthEvent]:
        """Keep events back.

        :param events: what is to be told, in order
        :param kind: of the observation that they come from, if any
        :param now: the caller's monotonic clock, seconds
        :returns: what is told now: nothing, or all once it is over
        """
        self.events += events
        is_there = kind is Kind.RESUMED or bool(self.events)
        if is_there and self.until is None:
            self.until = now + KEEP_S
        self.over = (len(self.events) > MAX_KEPT
                     or self.until is not None and now >= self.until)
        return self.events if self.over else []
