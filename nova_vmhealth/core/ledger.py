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

An instance that moves to another host is counted on there: the ledger that it
leaves says how far it has come (:meth:`Ledger.leave`), the ledger that it
comes to goes on from there (:meth:`Ledger.adopt`), and keeps back meanwhile
what it has to tell already (:meth:`Ledger.defer`).
"""

import dataclasses
import heapq
from typing import Any, Callable, Iterable, Mapping, Optional

from nova_vmhealth.core.arrival import Arrival
from nova_vmhealth.core.page import Page
from nova_vmhealth.core import saving
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.settings import Settings
from nova_vmhealth.core.told import Told
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Condition
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import HealthEvent
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation

# Instances whose time has come are attended to in parts, so that of hundreds
# none is told by a clock that was read long before: some ten milliseconds.
MAX_DUE = 32


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
        # Of instances that run here before it is known how far they are.
        self._arrivals: dict[str, Arrival] = {}
        # Instances that moved away, until they are forgotten.
        self._left: set[str] = set()
        # Pages that may differ from what changed() said of them last, and
        # their marks at that time.
        self._touched: set[str] = set()
        self._marks: dict[str, int] = {}

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
            return self._forget(uuid, now, obs.occurred_at, wall)
        if uuid in self._left:
            # The last words of a domain that is not ours any more; a new one
            # is, if the instance did not find another host after all.
            if obs.kind is not Kind.STARTED:
                return []
            self._left.discard(uuid)
        events = self._page(uuid).observe(obs, now, wall, wanted)
        if uuid in self._arrivals:
            events = self._arrivals[uuid].keep(events, obs.kind, now)
        self._arm(uuid)
        return events

    def next_deadline(self) -> Optional[float]:
        """Return when to call :meth:`handle_timer`, on the clock of now."""
        return min(self._deadlines.values(), default=None)

    def handle_timer(self, now: float, wall: float) -> list[HealthEvent]:
        """Do what time alone asks for; harmless when called too early.

        Of at most MAX_DUE instances; the deadline of the rest stays where it
        is, in the past.

        :param now: the caller's monotonic clock, seconds
        :param wall: wall clock, seconds since the epoch
        :returns: what to tell, in order
        """
        due = heapq.nsmallest(MAX_DUE, (
            (at, uuid) for uuid, at in self._deadlines.items() if at <= now))
        events = []
        for _, uuid in due:
            told = self._pages[uuid].handle_timer(now, wall)
            if uuid in self._arrivals:
                told = self._arrivals[uuid].keep(told, None, now)
            events += told
            self._arm(uuid)
        return events

    # -- from host to host ---------------------------------------------------

    def leave(
        self, instance_uuid: str, now: float, wall: float,
    ) -> tuple[list[HealthEvent], int]:
        """End the page of an instance that moved away; it is silent then.

        :param now: the caller's monotonic clock, seconds
        :param wall: wall clock, seconds since the epoch
        :returns: what to tell, in order, and the number of the last event
        """
        page = self._page(instance_uuid)
        events = page.close(now, wall, wall)
        if instance_uuid in self._arrivals:      # it did not stay for long
            events = self._arrivals.pop(instance_uuid).events + events
        self._pages[instance_uuid] = self._new_page(instance_uuid)
        self._pages[instance_uuid].go_on_after(page.sequence, 0)
        self._left.add(instance_uuid)
        self._arm(instance_uuid)
        return events, page.sequence

    def defer(self, instance_uuid: str) -> None:
        """Keep what is told of an instance that comes, until :meth:`adopt`.

        Not for ever: a while after it was resumed here, or after the first
        that is kept, and when there is too much of it, it is told with numbers
        of its own.
        """
        self._left.discard(instance_uuid)
        self._arrivals.setdefault(instance_uuid, Arrival())

    def adopt(self, instance_uuid: str, sequence: int) -> list[HealthEvent]:
        """Go on with the numbers of an instance that came to this host.

        :param sequence: of the last event that its old host told; they do not
            go back
        :returns: what was kept back, in order
        """
        self._left.discard(instance_uuid)
        arrival = self._arrivals.pop(instance_uuid, None)
        events = arrival.events if arrival else []
        shift = self._page(instance_uuid).go_on_after(sequence, len(events))
        self._arm(instance_uuid)
        return [dataclasses.replace(event, sequence=event.sequence + shift)
                for event in events]

    # -- what others may ask -------------------------------------------------

    def health(self, instance_uuid: str) -> Health:
        page = self._pages.get(instance_uuid)
        return page.health if page else Health.UNKNOWN

    def conditions(self, instance_uuid: str) -> tuple[Condition, ...]:
        """Return the active conditions, the one raised first at the head."""
        page = self._pages.get(instance_uuid)
        return page.conditions if page else ()

    def last_told(self, instance_uuid: str) -> Optional[Told]:
        """Return what was told of an instance last; None for nothing."""
        page = self._pages.get(instance_uuid)
        return page.last if page else None

    def is_planned(self, instance_uuid: str) -> bool:
        """Say whether a planned operation or its grace period is on."""
        page = self._pages.get(instance_uuid)
        return page.is_planned if page else False

    def explains(self, instance_uuid: str, causes: Iterable[Cause]) -> bool:
        """Say whether Nova may be why a domain is not as it was.

        By an operation that is on, or its grace.

        :param causes: what would be wrong with the domain
        """
        page = self._pages.get(instance_uuid)
        return page.explains(causes) if page else False

    def is_running(self, instance_uuid: str) -> bool:
        """Say whether an instance runs, as far as is known.

        Paused or not. Nothing is known of one that was not observed yet: it
        is taken to run, as one does that Nova has just begun with.
        """
        page = self._pages.get(instance_uuid)
        return page.standing.running if page else True

    def guest(self, instance_uuid: str) -> Guest:
        """Return how the heartbeat of an instance stands."""
        page = self._pages.get(instance_uuid)
        return page.standing.guest if page else Guest.WAITING

    def rebooted(self, instance_uuid: str) -> bool:
        """Say whether the guest is to answer again after its own reboot."""
        page = self._pages.get(instance_uuid)
        return page is not None and page.standing.rebooted

    def beat_when_saved(self, instance_uuid: str) -> bool:
        """Say whether the guest had answered when it was saved to disk.

        From then on until it is started again.
        """
        page = self._pages.get(instance_uuid)
        return page is not None and page.standing.beat_when_saved

    def said(self, instance_uuid: str) -> Mapping[str, Health]:
        """Return what the guest says is not well.

        :returns: name of the audit, empty for the guest as a whole -> health
        """
        page = self._pages.get(instance_uuid)
        return page.said if page else {}

    # -- on disk and back ----------------------------------------------------

    def touched(self) -> list[str]:
        """Return the instances of which :meth:`changed` may have something."""
        # A page that says more than was told would never be told.
        return [uuid for uuid in self._touched
                if uuid not in self._arrivals
                or not self._arrivals[uuid].events]

    def changed(
        self, instance_uuid: str, now: float, wall: float,
    ) -> dict[str, Optional[dict[str, Any]]]:
        """Return the record of a page, if it changed since the last call.

        :param instance_uuid: one of :meth:`touched`, which it leaves
        :param now: the caller's monotonic clock, seconds
        :param wall: wall clock, seconds since the epoch
        :returns: instance uuid -> what JSON can write down, None for a page
            that is no more; empty where nothing has changed
        """
        records: dict[str, Optional[dict[str, Any]]] = {}
        page = self._pages.get(instance_uuid)
        if page is None:
            records[instance_uuid] = None
            self._marks.pop(instance_uuid, None)
        elif self._marks.get(instance_uuid) != (mark := page.mark):
            records[instance_uuid] = page.save(saving.Times(now, wall))
            self._marks[instance_uuid] = mark
        self._touched.discard(instance_uuid)
        return records

    def restore(self, instance_uuid: str, saved: Any, now: float,
                wall: float) -> bool:
        """Take up a page where an earlier run left it.

        What it was in the middle of is over: a planned operation has only its
        grace left.

        :param saved: what :meth:`changed` gave
        :param now: the caller's monotonic clock, seconds
        :param wall: wall clock, seconds since the epoch
        :returns: whether all of it was; what another release wrote may be
            known in part only
        :raises nova_vmhealth.exception.InvalidRecord: it is no such record;
            nothing has changed
        """
        page = Page(instance_uuid, self._settings, self._new_id)
        whole = page.restore(saving.Record(saved), saving.Times(now, wall))
        self._pages[instance_uuid] = page
        self._marks[instance_uuid] = page.mark
        self._arm(instance_uuid)
        self._touched.discard(instance_uuid)
        return whole

    def rewrite(self, instance_uuid: str) -> None:
        """Have :meth:`changed` give a page that is not what it was saved."""
        self._marks.pop(instance_uuid, None)
        self._touched.add(instance_uuid)

    def rewrite_all(self) -> None:
        """Have :meth:`changed` give every page: nothing of it is saved."""
        self._marks.clear()
        self._touched.update(self._pages)

    def _page(self, uuid: str) -> Page:
        if uuid not in self._pages:
            self._pages[uuid] = self._new_page(uuid)
        return self._pages[uuid]

    def _new_page(self, uuid: str) -> Page:
        return Page(uuid, self._settings, self._new_id)

    def _forget(
        self, uuid: str, now: float, occurred_at: float, wall: float,
    ) -> list[HealthEvent]:
        page = self._pages.pop(uuid, None)
        self._deadlines.pop(uuid, None)
        self._touched.add(uuid)
        self._left.discard(uuid)
        # Of one that did not come after all nobody was told.
        if self._arrivals.pop(uuid, None) is not None or page is None:
            return []
        return page.close(now, occurred_at, wall)

    def _arm(self, uuid: str) -> None:
        self._touched.add(uuid)
        deadline = self._pages[uuid].deadline()
        arrival = self._arrivals.get(uuid)
        if arrival is not None and arrival.over:
            del self._arrivals[uuid]
        elif arrival is not None and arrival.until is not None:
            deadline = (arrival.until if deadline is None
                        else min(deadline, arrival.until))
        if deadline is None:
            self._deadlines.pop(uuid, None)
        else:
            self._deadlines[uuid] = deadline
