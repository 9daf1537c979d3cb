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


"""Compares what Nova expects with what libvirt has.

Nova changes instances all the time, and no two of the three, its database,
this driver and libvirt, are read at the same moment. So a difference is only
a suspicion: nova-conductor is asked how the instance ought to be, libvirt is
asked once more, and the worker judges what was the same both times, unless a
planned operation explains it. What a difference means is said in
:mod:`nova_vmhealth.core.reconcile`.
"""

import dataclasses
import random
import time
from typing import Optional

from nova import exception as nova_exception
from nova.virt.libvirt import host as nova_host
from oslo_log import log as logging

from nova_vmhealth.core import reconcile
from nova_vmhealth.core.reconcile import Doing
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.virt import domain_sample
from nova_vmhealth.virt.host import LinkChanged

LOG = logging.getLogger(__name__)

# The time between two comparisons varies by this part, so that the hosts of a
# cloud that was started at once do not ask nova-conductor at once.
JITTER = 0.1
# What is on its way is looked at again after so many seconds, and then each
# time after twice as many.
SOON_S = 1.0
# From so many suspects on nova-conductor is asked for all instances of the
# host, by one call, and not for one after the other.
MANY = 4
# nova-conductor's word is no good for a verdict after so many seconds: Nova
# may have begun and ended an operation since.
FRESH_S = 5.0
# Nova is at work on an instance that was here; it is asked for again after so
# many seconds.
AGAIN_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Stocktaken:
    """The instances of this host are known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What libvirt has.

    :ivar states: uuid -> (state, reason) of every domain; None where libvirt
        did not say
    :ivar unseen: whether events may have been missed before it
    """

    states: Optional[dict]
    unseen: bool


@dataclasses.dataclass(frozen=True, slots=True)
class SecondLook:
    """The same for the suspects, once nova-conductor has answered.

    :ivar suspects: uuid -> Suspect
    :ivar disks: uuid -> reconcile.DiskError of each disk that has one
    :ivar asked_at: when nova-conductor answered, monotonic seconds
    """

    suspects: dict
    states: dict
    disks: dict
    asked_at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Suspect:
    """An instance that is not as expected.

    :ivar finding: nova_vmhealth.core.reconcile.Finding
    :ivar conditions: its active ones at that time
    :ivar unseen: as in Look
    """

    finding: reconcile.Finding
    conditions: tuple
    unseen: bool


class Reconciler:
    """Compares at start, on every reconnect to libvirt, and on a period.

    :param link: nova_vmhealth.virt.libvirt_link.LibvirtLink
    :param compute_host: this host's name, as instances carry it
    :param cache: nova_vmhealth.virt.identity.InstanceCache
    :param ledger: nova_vmhealth.core.ledger.Ledger
    :param steering: nova_vmhealth.virt.steering.Steering
    :param saved: nova_vmhealth.virt.saved_ledger.SavedLedger
    :param ask_conductor: Background.submit of the thread for RPC
    :param ask_libvirt: Background.submit of a thread that a QEMU which hangs
        may hold up
    :param answer: puts into the worker's inbox
    :param interval_s: between two comparisons, seconds
    :param monotonic: clock, seconds
    :param vary: gives a number between two others
    """

    def __init__(self, link, compute_host, cache, ledger, steering, saved,
                 ask_conductor, ask_libvirt, answer, interval_s,
                 monotonic=time.monotonic, vary=random.uniform):
        self._link = link
        self._compute_host = compute_host
        self._cache = cache
        self._ledger = ledger
        self._steering = steering
        self._saved = saved
        self._ask_conductor = ask_conductor
        self._ask_libvirt = ask_libvirt
        self._answer = answer
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._vary = vary
        # None until the instances are known
        self._look_at = None
        self._soon_s = SOON_S
        # whether the next look is the first since events may have been missed
        self._unseen = True

    def start(self):
        """Compare for the first time; returns at once."""
        self._ask_conductor('reading the instances of this host',
                            self._take_stock)

    # -- from the worker -----------------------------------------------------

    def take(self, item, now, wall):
        """Take in what libvirt or nova-conductor answered.

        :param item: Stocktaken, Look, SecondLook or host.LinkChanged
        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        :returns: observations for the ledger, in their order
        """
        if isinstance(item, LinkChanged):
            self._link.changed(item, wall)
            self._unseen = True
            if item.up and self._look_at is not None:
                self._look_at = now
        elif isinstance(item, Stocktaken):
            self._link.begin(wall)
            self._look_at = now
        elif isinstance(item, Look):
            self._compare(item, now)
        else:
            return self._judge(item, now, wall)
        return ()

    def next_deadline(self):
        """Return when to call :meth:`handle_timer`; None for never."""
        return None if self._link.lost else self._look_at

    def handle_timer(self, now):
        """Do what time alone asks for.

        :param now: monotonic time, seconds
        """
        if self._look_at is None or now < self._look_at or self._link.lost:
            return
        self._look_at = now + self._interval_s * self._vary(1 - JITTER,
                                                            1 + JITTER)
        unseen, self._unseen = self._unseen, False
        if unseen:
            self._soon_s = SOON_S
        self._ask_libvirt('looking at all domains',
                          lambda: self._look(unseen))

    def _look_again(self, now):
        """See to it that what is on its way is looked at soon."""
        self._look_at = min(self._look_at, now + self._soon_s)
        self._soon_s = min(2 * self._soon_s, self._interval_s)

    def _compare(self, look, now):
        if look.states is None:
            self._unseen |= look.unseen
            self._look_again(now)
            return
        suspects = {}
        settled = True
        for uuid in self._cache.uuids():
            entry = self._cache.get(uuid)
            if entry is None or self._is_planned(uuid):
                continue
            finding = reconcile.finding_of(look.states.get(uuid))
            if finding.doing is Doing.RUNNING and look.unseen:
                self._steering.present(uuid, entry)
            if finding.doing is Doing.UNSETTLED:
                settled = settled and not self._ought_to_run(entry)
            elif self._is_suspect(uuid, entry, finding, look.unseen):
                suspects[uuid] = Suspect(
                    finding, self._ledger.conditions(uuid), look.unseen)
        if suspects:
            self._ask_conductor('reading what is not as expected',
                                lambda: self._confirm(suspects))
        if settled and not suspects:
            self._soon_s = SOON_S
        elif not settled:
            self._look_again(now)

    def _is_suspect(self, uuid, entry, finding, unseen):
        conditions = self._ledger.conditions(uuid)
        if finding.doing is Doing.RUNNING:
            return (self._steering.is_paused(uuid) or reconcile.ended(
                finding, conditions, unseen) is not None)
        if not self._ought_to_run(entry):
            return False
        wrong = set(reconcile.news(finding, conditions))
        return bool(wrong & entry.policy.events) or (
            finding.doing is Doing.PAUSED
            and not self._steering.is_paused(uuid))

    def _judge(self, look, now, wall):
        if now - look.asked_at > FRESH_S:
            self._look_again(now)
            return ()
        seen = []
        for uuid, suspect in look.suspects.items():
            entry = self._cache.get(uuid)
            if entry is None or self._is_planned(uuid):
                continue
            finding = reconcile.finding_of(look.states.get(uuid))
            if finding != suspect.finding:
                self._look_again(now)
            elif finding.doing is Doing.RUNNING:
                seen += self._runs(uuid, suspect, wall)
            elif self._ought_to_run(entry):
                seen += reconcile.observations(
                    finding, uuid, wall,
                    reconcile.news(finding, self._ledger.conditions(uuid)),
                    look.disks.get(uuid, ()), self._steering.is_paused(uuid))
        return seen

    def _runs(self, uuid, suspect, wall):
        # What was raised or seen since may be newer than the look.
        if self._ledger.conditions(uuid) != suspect.conditions:
            return []
        kind = reconcile.ended(
            suspect.finding, suspect.conditions, suspect.unseen)
        if kind is None and self._steering.is_paused(uuid):
            kind = Kind.RESUMED
        return [] if kind is None else [
            Observation(kind, uuid, wall, details=reconcile.FOUND_BY)]

    def _is_planned(self, uuid):
        # The first from the moment in which Nova begins, the second with the
        # grace that follows.
        return (self._steering.is_planned(uuid)
                or self._ledger.is_planned(uuid))

    def _ought_to_run(self, entry):
        identity = entry.identity
        return reconcile.ought_to_run(identity.state, identity.task_state,
                                      identity.host, self._compute_host)

    # -- jobs for nova-conductor ---------------------------------------------

    def _take_stock(self):
        here = self._cache.load_all(self._compute_host)
        for uuid in self._saved.instances() - here:
            self._look_for(uuid)
        self._answer(Stocktaken())

    def _look_for(self, uuid):
        """Find out whether an instance is here, and forget it if not.

        :returns: whether it is
        """
        found = self._cache.load(uuid, self._compute_host)
        if found.busy and not found.here:
            self._ask_conductor(f'looking for instance {uuid}',
                                lambda: self._look_for(uuid), AGAIN_S)
        elif not found.here:
            self._answer(Observation(Kind.FORGOTTEN, uuid, time.time()))
        return found.here

    def _confirm(self, suspects):
        here = ()
        if len(suspects) >= MANY:
            here = self._cache.load_all(self._compute_host)
        here = {uuid: suspect for uuid, suspect in suspects.items()
                if uuid in here or self._look_for(uuid)}
        asked_at = self._monotonic()
        if here:
            self._ask_libvirt(
                'looking again at what is not as expected',
                lambda: self._look_twice(here, asked_at))

    # -- jobs for libvirt ----------------------------------------------------

    def _look(self, unseen):
        self._answer(Look(self._states(), unseen))

    def _look_twice(self, suspects, asked_at):
        states = self._states()
        if states is None:
            return
        disks = {uuid: self._disk_errors(uuid)
                 for uuid, suspect in suspects.items()
                 if Cause.IO_ERROR in suspect.finding.causes}
        self._answer(SecondLook(suspects, states, disks, asked_at))

    def _states(self):
        try:
            return domain_sample.all_states(self._link.get_connection())
        except (nova_host.libvirt.libvirtError,
                nova_exception.HypervisorUnavailable) as error:
            # Of libvirt's end there is word, and a look when it is back.
            if not self._link.lost:
                LOG.warning('libvirt does not say what it has: %s', error)
            return None

    def _disk_errors(self, uuid):
        try:
            return domain_sample.disk_errors(
                self._link.get_connection().lookupByUUIDString(uuid))
        except (nova_host.libvirt.libvirtError,
                nova_exception.HypervisorUnavailable) as error:
            LOG.debug('libvirt does not say which disks have an error: %s',
                      error)
            return ()
