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


"""Every instance's health: observations in, health events out.

The ledger has no clock and no thread: time comes in as an argument, the next
deadline goes out. It is not thread safe. What raises and what clears is said
in :mod:`nova_vmhealth.core.transitions`.
"""

from typing import Callable, Optional

from nova_vmhealth.core.page import Page
from nova_vmhealth.core.page import Settings
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Condition
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import HealthEvent
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation


class Ledger:
    """Every instance's conditions and health.

    :param settings: how patient to be
    :param new_id: makes the uuid of an event
    """

    def __init__(
        self, settings: Settings, new_id: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._new_id = new_id
        self._pages: dict[str, Page] = {}
        self._deadlines: dict[str, float] = {}

    def observe(
        self, obs: Observation, now: float, wall: float,
        wanted: frozenset[Cause],
    ) -> list[HealthEvent]:
        """Take in one fact.

        Keep what is not ours away: an observation about an instance not
        known yet opens a page that only FORGOTTEN closes.

        :param obs: the fact
        :param now: the caller's monotonic clock, seconds
        :param wall: wall clock, seconds since the epoch
        :param wanted: the causes to tell for this instance
        :returns: what to tell, in order
        """
        uuid = obs.instance_uuid
        if obs.kind is Kind.FORGOTTEN:
            page = self._pages.pop(uuid, None)
            self._deadlines.pop(uuid, None)
            return page.close(now, obs.occurred_at, wall) if page else []
        if uuid not in self._pages:
            self._pages[uuid] = Page(uuid, self._settings, self._new_id)
        events = self._pages[uuid].observe(obs, now, wall, wanted)
        self._arm(uuid)
        return events

    def next_deadline(self) -> Optional[float]:
        """Return when to call :meth:`handle_timer`, on the clock of now."""
        return min(self._deadlines.values(), default=None)

    def handle_timer(self, now: float, wall: float) -> list[HealthEvent]:
        """Do what time alone asks for; harmless when called too early.

        :param now: the caller's monotonic clock, seconds
        :param wall: wall clock, seconds since the epoch
        :returns: what to tell, in order
        """
        due = [uuid for uuid, at in self._deadlines.items() if at <= now]
        events = []
        for uuid in due:
            events += self._pages[uuid].handle_timer(now, wall)
            self._arm(uuid)
        return events

    def health(self, instance_uuid: str) -> Health:
        page = self._pages.get(instance_uuid)
        return page.health if page else Health.UNKNOWN

    def conditions(self, instance_uuid: str) -> tuple[Condition, ...]:
        """Return the active conditions, the one raised first at the head."""
        page = self._pages.get(instance_uuid)
        return page.conditions if page else ()

    def is_planned(self, instance_uuid: str) -> bool:
        """Say whether a planned operation or its grace period is on."""
        page = self._pages.get(instance_uuid)
        return page.is_planned if page else False

    def _arm(self, uuid: str) -> None:
        deadline = self._pages[uuid].deadline()
        if deadline is None:
            self._deadlines.pop(uuid, None)
        else:
            self._deadlines[uuid] = deadline
