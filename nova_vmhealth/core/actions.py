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

"""Whether a guest whose heartbeat is lost may be acted upon: the governor.

A loss that asks for an action waits for a while first, so that a fault of the
host, a recovery or an operation of Nova's shows. Then :data:`WITHHELD` says,
row by row, what speaks against it. What is withheld stays withheld for this
loss.
"""

import collections
import dataclasses
import enum
from typing import Callable, Optional

from nova_vmhealth.core.vocabulary import Action


class Withheld(str, enum.Enum):
    """Why an action that was asked for is not taken."""

    PLANNED = 'planned'
    NOT_RUNNING = 'not_running'
    RECOVERED = 'recovered'
    HOST_SUSPECTED = 'host_suspected'
    QUOTA = 'quota'


@dataclasses.dataclass(frozen=True, slots=True)
class Situation:
    """What is known when an action is due.

    :ivar planned: Nova is changing the instance, or has just done so
    :ivar running: the domain runs, and is not paused
    :ivar lost: the guest is silent still, and has not been started anew
    :ivar host_suspected: so many guests are lost that it may be the host
    """

    planned: bool
    running: bool
    lost: bool
    host_suspected: bool


# The first row that holds is the reason; the quota comes after all of them.
WITHHELD: tuple[tuple[Withheld, Callable[[Situation], bool]], ...] = (
    (Withheld.PLANNED, lambda found: found.planned),
    (Withheld.NOT_RUNNING, lambda found: not found.running),
    (Withheld.RECOVERED, lambda found: not found.lost),
    (Withheld.HOST_SUSPECTED, lambda found: found.host_suspected),
)


class Governor:
    """Says when an action is due and whether it may be taken.

    Every ``now`` is monotonic time in seconds. It is not thread safe.

    :param max_actions: on one instance within the window
    :param window_s: length of the window, seconds
    :param delay_s: from the loss to the action, seconds
    """

    def __init__(
        self, max_actions: int, window_s: float, delay_s: float,
    ) -> None:
        self._max_actions = max_actions
        self._window_s = window_s
        self._delay_s = delay_s
        # uuid -> when which action is due; the delay is one for all, so they
        # stand in the order in which they are due
        self._pending: dict[str, tuple[float, Action]] = {}
        # uuid -> when actions were taken
        self._taken: dict[str, collections.deque[float]] = {}

    def lost(self, uuid: str, action: Action, now: float,
             at_least_s: float = 0.0) -> None:
        """Plan the action on an instance whose heartbeat was lost.

        :param at_least_s: not before this many seconds, however short the
            delay is; what is planned meanwhile may be as late
        """
        self._pending.pop(uuid, None)
        self._pending[uuid] = (now + max(self._delay_s, at_least_s), action)

    def cancel(self, uuid: str) -> Optional[Action]:
        """Drop what is planned for an instance.

        :returns: the action, None when there was none
        """
        return self._pending.pop(uuid, (None, None))[1]

    def forget(self, uuid: str) -> None:
        """Drop everything about an instance: it has left this host."""
        self._pending.pop(uuid, None)
        self._taken.pop(uuid, None)

    def next_deadline(self) -> Optional[float]:
        """Return when the next action is due; None for never."""
        return next((at for at, _ in self._pending.values()), None)

    def due(self, now: float) -> list[tuple[str, Action]]:
        """Take out what is due, the longest due first.

        :returns: pairs of the instance's uuid and the action
        """
        # It is asked with every observation, and thousands may be planned:
        # those that are not due are not looked at.
        found = []
        for uuid, (at, action) in self._pending.items():
            if at > now:
                break
            found.append((uuid, action))
        for uuid, _ in found:
            del self._pending[uuid]
        return found

    def decide(
        self, uuid: str, situation: Situation, now: float,
    ) -> Optional[Withheld]:
        """Say why the action is not to be taken.

        :returns: None when it may be taken; then it counts as taken, even if
            it should fail
        """
        for reason, holds in WITHHELD:
            if holds(situation):
                return reason
        taken = self._taken.setdefault(uuid, collections.deque())
        while taken and taken[0] <= now - self._window_s:
            taken.popleft()
        if len(taken) >= self._max_actions:
            return Withheld.QUOTA
        taken.append(now)
        return None

    def refund(self, uuid: str) -> None:
        """Count the latest action as not taken: it was withheld after all."""
        taken = self._taken.get(uuid)
        if taken:
            taken.pop()
