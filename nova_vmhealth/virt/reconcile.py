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
planned operation explains it, or something was observed of the instance since
the first look. What a difference means is said in
:mod:`nova_vmhealth.core.reconcile`.

What may have ended unseen is kept by instance, until the instance is judged.
"""

import random

from nova_vmhealth.core.operations import row_of
from nova_vmhealth.core import reconcile
from nova_vmhealth.core.reconcile import Doing
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt.host import LinkChanged
from nova_vmhealth.virt.reconcile_jobs import Disks
from nova_vmhealth.virt.reconcile_jobs import Look
from nova_vmhealth.virt.reconcile_jobs import Stocktaken
from nova_vmhealth.virt.reconcile_jobs import Suspect

# The time between two comparisons varies by this part, so that the hosts of a
# cloud that was started at once do not ask nova-conductor at once.
JITTER = 0.1
# What is on its way is looked at again after so many seconds, and then each
# time after twice as many.
SOON_S = 1.0
# nova-conductor's word is no good for a verdict after so many seconds: it may
# have been told something else since. Nor is it so soon after an operation,
# however short its grace. A QEMU that does not name its disks within this time
# is not waited for.
FRESH_S = 5.0

_PLANNED = (Kind.PLANNED_BEGUN, Kind.PLANNED_ENDED)


class Reconciler:
    """Compares at start, on every reconnect to libvirt, and on a period.

    :param link: nova_vmhealth.virt.libvirt_link.LibvirtLink
    :param compute_host: this host's name, as instances carry it
    :param cache: nova_vmhealth.virt.identity.InstanceCache
    :param ledger: nova_vmhealth.core.ledger.Ledger
    :param steering: nova_vmhealth.virt.steering.Steering
    :param last_seen_at: gives, by uuid, when a heartbeat was answered last,
        seconds since the epoch; None for never
    :param jobs: nova_vmhealth.virt.reconcile_jobs.Jobs
    :param interval_s: between two comparisons, seconds
    :param vary: gives a number between two others
    """

    def __init__(self, link, compute_host, cache, ledger, steering,
                 last_seen_at, jobs, interval_s, vary=random.uniform):
        self._link = link
        self._compute_host = compute_host
        self._cache = cache
        self._ledger = ledger
        self._steering = steering
        self._last_seen_at = last_seen_at
        self._jobs = jobs
        self._interval_s = interval_s
        self._vary = vary
        # None until the instances are known
        self._look_at = None
        self._soon_s = SOON_S
        # A libvirtd that has just started answers before it has heard of all
        # of its QEMUs: then is the time of a second comparison.
        self._again_at = None
        # when the look that is out was asked for; None when none is
        self._looking_since = None
        # instances of which events may have been missed since they were
        # judged last; those of them that had crashed, until they are back
        self._unseen = set()
        self._crashed = set()
        # uuid -> a look that was asked for before that time is no good
        self._changed = {}
        # instances that are not as expected, and could not be judged yet
        self._open = set()
        # uuid -> when QEMU was asked for its disks
        self._naming = {}

    def start(self):
        """Compare for the first time; returns at once."""
        self._jobs.take_stock()

    # -- from the worker -----------------------------------------------------

    def observed(self, observation, now):
        """Take note of what others have observed: a look may be older.

        :param observation: nova_vmhealth.core.vocabulary.Observation
        :param now: monotonic time, seconds
        """
        uuid, kind = observation.instance_uuid, observation.kind
        if not reconcile.is_change(observation):
            return
        at = now
        if kind in _PLANNED:
            if not row_of(observation.details.get('operation', '')).explains:
                return
            if kind is Kind.PLANNED_ENDED:
                at += FRESH_S
                if uuid in self._open:
                    self._soon_s = SOON_S
                    self._look_again(now)
        self._changed[uuid] = max(at, self._changed.get(uuid, at))

    def take(self, item, now, wall):
        """Take in what libvirt or nova-conductor answered.

        :param item: Stocktaken, Look, SecondLook, Disks or host.LinkChanged
        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        :returns: observations for the ledger, in their order
        """
        if isinstance(item, LinkChanged):
            is_news = self._link.changed(item, wall)
            if is_news and item.up and self._look_at is not None:
                self._missed(now)
                self._again_at = now + SOON_S
        elif isinstance(item, Stocktaken):
            self._link.begin()
            self._missed(now)
        elif isinstance(item, Look):
            self._compare(item, now)
        elif isinstance(item, Disks):
            return self._name(item, wall)
        else:
            return self._judge(item, now, wall)
        return ()

    def next_deadline(self):
        """Return when to call :meth:`handle_timer`; None for never."""
        times = [self._link.next_deadline(), *(
            at + FRESH_S for at in self._naming.values())]
        if self._looking_since is None and not self._link.lost:
            times.append(self._look_at)
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now):
        """Do what time alone asks for.

        :param now: monotonic time, seconds
        """
        self._link.handle_timer(now)
        for uuid, at in self._naming.items():
            if at + FRESH_S <= now:
                self._jobs.tell_unnamed(uuid)
        if (self._look_at is None or now < self._look_at
                or self._looking_since is not None or self._link.lost):
            return
        self._look_at = now + self._interval_s * self._vary(1 - JITTER,
                                                            1 + JITTER)
        if self._again_at is not None and now < self._again_at:
            self._look_at = min(self._look_at, self._again_at)
        self._looking_since = now
        self._jobs.look(now)

    def _missed(self, now):
        """Look at once: events of every instance may have been missed."""
        self._unseen = set(self._cache.uuids())
        self._crashed = {uuid for uuid in self._unseen if self._crash(uuid)}
        self._changed = {uuid: max(now, self._changed.get(uuid, now))
                         for uuid in self._unseen}
        self._soon_s = SOON_S
        self._look_at = now
        # It asked the connection of before.
        self._looking_since = None

    def _look_again(self, now):
        """See to it that what is on its way is looked at soon."""
        self._look_at = min(self._look_at, now + self._soon_s)
        self._soon_s = min(2 * self._soon_s, self._interval_s)

    # -- the first look ------------------------------------------------------

    def _compare(self, look, now):
        if look.since != self._looking_since:
            return                              # There is a newer one.
        self._looking_since = None
        if look.states is None:
            self._look_again(now)
            return
        ours = {uuid: entry for uuid in self._cache.uuids()
                for entry in [self._cache.get(uuid)] if self._is_ours(entry)}
        self._keep_only(ours)
        suspects = {}
        for uuid, entry in ours.items():
            finding = reconcile.finding_of(look.states.get(uuid))
            if self._is_open(uuid, entry, finding, look.since):
                self._open.add(uuid)
            elif self._differs(uuid, entry, finding):
                suspects[uuid] = Suspect(finding, look.since)
            else:
                self._unseen.discard(uuid)
        if suspects:
            self._jobs.confirm(suspects)
        if self._open or self._crashed:
            self._look_again(now)
        elif not suspects:
            self._soon_s = SOON_S

    def _keep_only(self, ours):
        self._open = set()
        self._unseen &= ours.keys()
        self._crashed = {uuid for uuid in self._crashed & ours.keys()
                         if self._crash(uuid)}
        self._changed = {uuid: at for uuid, at in self._changed.items()
                         if uuid in ours}

    def _is_open(self, uuid, entry, finding, since):
        """Say whether it is too soon to see how an instance is."""
        if finding.doing is Doing.UNSETTLED:
            return uuid in self._unseen or self._ought_to_run(entry)
        if self._is_old(uuid, since) or self._is_explained(uuid, finding):
            return uuid in self._unseen or self._differs(uuid, entry, finding)
        if (finding.doing is Doing.RUNNING and uuid in self._unseen
                and self._ledger.is_running(uuid)):
            self._steering.present(uuid, entry)
        return False

    def _differs(self, uuid, entry, finding):
        """Say whether it is not as known: nova-conductor knows if it is so."""
        if finding.doing is Doing.RUNNING:
            return bool(self._ended(uuid, entry, 0.0))
        if finding.doing is Doing.STOPPED:
            return self._ledger.is_running(uuid)
        if finding.doing is Doing.UNSETTLED:
            return False
        wrong = reconcile.news(finding, self._ledger.conditions(uuid))
        return not self._steering.is_paused(uuid) or (
            self._ought_to_run(entry)
            and not entry.policy.events.isdisjoint(wrong))

    def _ended(self, uuid, entry, wall):
        crash = self._crash(uuid)
        return reconcile.ended(
            uuid, wall, self._ledger.conditions(uuid),
            running=self._ledger.is_running(uuid),
            held=self._steering.is_paused(uuid),
            unseen=uuid in self._unseen,
            is_back=uuid in self._crashed and crash is not None
            and reconcile.is_back(crash, self._last_seen_at(uuid),
                                  entry.policy.heartbeat))

    def _crash(self, uuid):
        return next((condition for condition in self._ledger.conditions(uuid)
                     if condition.cause is Cause.GUEST_CRASHED), None)

    def _is_ours(self, entry):
        return (entry is not None
                and entry.identity.host == self._compute_host)

    def _ought_to_run(self, entry):
        identity = entry.identity
        return reconcile.ought_to_run(identity.state, identity.task_state,
                                      identity.host, self._compute_host)

    def _is_old(self, uuid, since):
        return since < self._changed.get(uuid, since)

    def _is_explained(self, uuid, finding):
        # The first from the moment in which Nova begins, the second with the
        # grace that follows.
        return (self._steering.explains(uuid, finding.causes)
                or self._ledger.explains(uuid, finding.causes))

    # -- the second look -----------------------------------------------------

    def _judge(self, look, now, wall):
        seen = []
        for uuid, suspect in look.suspects.items():
            entry = self._cache.get(uuid)
            if not self._is_ours(entry):
                continue
            if self._may_judge(uuid, entry, suspect, look.states, now):
                seen += self._verdict(uuid, entry, suspect.finding, now, wall)
                self._unseen.discard(uuid)
            else:
                self._open.add(uuid)
        if self._open:
            self._look_again(now)
        return seen

    def _may_judge(self, uuid, entry, suspect, states, now):
        finding = suspect.finding
        return (states is not None
                and reconcile.finding_of(states.get(uuid)) == finding
                # Of one that runs nothing is said but that.
                and (entry.identity.task_state is None
                     or finding.doing is Doing.RUNNING)
                and now - suspect.asked_at <= FRESH_S
                and not self._is_old(uuid, suspect.since)
                and not self._is_explained(uuid, finding))

    def _verdict(self, uuid, entry, finding, now, wall):
        running = self._ledger.is_running(uuid)
        held = self._steering.is_paused(uuid)
        conditions = self._ledger.conditions(uuid)
        if finding.doing is Doing.RUNNING:
            return self._ended(uuid, entry, wall)
        if not self._ought_to_run(entry):
            return reconcile.unwanted(finding, uuid, wall, running)
        wrong = reconcile.news(finding, conditions)
        if (Cause.IO_ERROR in entry.policy.events.intersection(wrong)
                and uuid not in self._naming):
            self._naming[uuid] = now
            self._jobs.name_disks(uuid)
        return reconcile.observations(finding, uuid, wall, conditions,
                                      running, held)

    def _name(self, disks, wall):
        """Say what paused a guest, if that still holds."""
        uuid = disks.instance_uuid
        asked_at = self._naming.pop(uuid, None)
        # Without a time it was told already, of no disk in particular.
        if (asked_at is None or self._is_old(uuid, asked_at)
                or not self._steering.is_paused(uuid)):
            return []
        return reconcile.disk_errors(uuid, wall, disks.errors)
