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

"""Lets the heartbeats follow what Nova plans and what libvirt tells."""

import collections
import dataclasses
import math
import threading
import time

from nova_vmhealth.core import audits
from nova_vmhealth.core import operations
from nova_vmhealth.core.operations import row_of
from nova_vmhealth.core import protocol
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import channel

# What is done to a guest, besides the names of planned operations.
_PAUSED = 'paused'
# A guest that beat and then reboots by itself is to beat again within this
# many seconds, where its owner set no boot deadline: longer than any check of
# its disks should take. Without one its silence would never be told.
REBOOT_DEADLINE_S = 600
# An operation of Nova's waits this many seconds at most for an action that is
# under way, and looks this often. It is a call to libvirt of milliseconds.
CLAIM_WAIT_S = 10.0
_POLL_S = 0.010


class Steering:
    """Begins, holds and ends the heartbeats of this host's guests.

    :param heartbeat: nova_vmhealth.virt.heartbeat.HeartbeatMonitor
    :param saved: nova_vmhealth.virt.saved_ledger.SavedLedger, which knows how
        those stand whose heartbeat is taken up
    :param monotonic: clock of :meth:`wait_for_action`, seconds
    :param sleep: called with seconds; by default whatever Nova's threads use
    """

    def __init__(self, heartbeat, saved, monotonic=time.monotonic, sleep=None):
        self._heartbeat = heartbeat
        self._saved = saved
        self._monotonic = monotonic
        self._sleep = sleep or time.sleep
        # guests that are acted upon at this moment
        self._claimed = set()
        # uuid -> what is done to it: _PAUSED, and one per planned operation;
        # Nova's threads and the worker both change it.
        self._holds = collections.defaultdict(list)
        # uuid -> those of them for which its heartbeat holds, and until when
        # at most, monotonic seconds
        self._held = collections.defaultdict(dict)
        self._lock = threading.Lock()

    # -- from any thread -----------------------------------------------------

    # The heartbeat only takes note of what it is asked, so it is asked with
    # the lock held: in the order in which the reasons change.

    def hold(self, uuid, reason):
        """Take note of an operation until :meth:`release` of the same reason.

        The guest is judged no more, if the operation is one that explains its
        silence, for as long as it does.

        :param reason: name of a planned operation
        :returns: whether this is the only planned operation on the guest
        """
        patience_s = _patience_s(reason)
        with self._lock:
            first = not _planned(self._holds.get(uuid, ()))
            if reason != _PAUSED or reason not in self._holds[uuid]:
                self._holds[uuid].append(reason)
                if patience_s:
                    self._held[uuid].setdefault(
                        reason, self._monotonic() + patience_s)
                    self._heartbeat.hold(uuid)
            return first

    def release(self, uuid, reason):
        """Go on with a guest once no other reason holds it."""
        with self._lock:
            reasons = self._holds.get(uuid, [])
            if reason not in reasons:
                return
            reasons.remove(reason)
            if reason not in reasons:
                self._let_go(uuid, reason)
            if not reasons:
                del self._holds[uuid]

    def _let_go(self, uuid, reason):
        held = self._held.get(uuid, {})
        if held.pop(reason, None) is not None and not held:
            del self._held[uuid]
            self._heartbeat.release(uuid)

    def is_planned(self, uuid):
        """Say whether a planned operation is on, without its grace."""
        with self._lock:
            return bool(_planned(self._holds.get(uuid, ())))

    def explains(self, uuid, causes):
        """Say whether an operation that is on may be why a domain is not well.

        From the moment in which Nova begins it; its grace is the ledger's.

        :param causes: what would be wrong with the domain
        """
        with self._lock:
            return operations.explain(
                _planned(self._holds.get(uuid, ())), causes)

    def claim(self, uuid):
        """Begin an action upon a guest, unless Nova is at work on it.

        :returns: whether the action may be taken; then :meth:`unclaim` is due
            after it
        """
        with self._lock:
            if _planned(self._holds.get(uuid, ())):
                return False
            self._claimed.add(uuid)
            return True

    def unclaim(self, uuid):
        """An action upon a guest is over, or not waited for any more."""
        with self._lock:
            self._claimed.discard(uuid)

    def wait_for_action(self, uuid):
        """Let an action end that began before :meth:`hold`.

        Called on Nova's thread that runs the operation.
        """
        began = self._monotonic()
        while (uuid in self._claimed
               and self._monotonic() - began < CLAIM_WAIT_S):
            self._sleep(_POLL_S)

    def is_running(self, uuid):
        """Say whether a watched domain runs and is not paused."""
        with self._lock:
            paused = _PAUSED in self._holds.get(uuid, ())
        return not paused and self._heartbeat.status(uuid) is not None

    def is_paused(self, uuid):
        """Say whether a heartbeat holds because its domain is paused."""
        with self._lock:
            return _PAUSED in self._holds.get(uuid, ())

    def is_lost(self, uuid):
        """Say whether a guest is silent for as long as makes a loss."""
        status = self._heartbeat.status(uuid)
        return (status is not None and status.established
                and status.misses >= status.misses_allowed)

    def has_not_recovered(self, uuid):
        """Say whether a guest that was lost is so still.

        It may have answered since, but not often enough to be well.
        """
        return self._heartbeat.is_lost(uuid)

    # -- from the worker -----------------------------------------------------

    def watch(self, uuid, entry, guest=Guest.WAITING,
              said=audits.NOTHING_SAID, boot_deadline_s=0):
        """Begin with a domain that runs, anew if it is watched already.

        :param entry: nova_vmhealth.virt.identity.Entry
        :param guest: how it stood when it was watched before
        :param said: what it said then that is not well, audit -> Health
        :param boot_deadline_s: where its owner set none, seconds
        """
        policy = entry.policy
        if not policy.heartbeat:
            return
        if not policy.boot_deadline_s:
            policy = dataclasses.replace(policy,
                                         boot_deadline_s=boot_deadline_s)
        with self._lock:
            self._heartbeat.watch(
                uuid, channel.socket_path(entry.domain_name), policy,
                guest, said)
            if uuid in self._held:
                self._heartbeat.hold(uuid)

    def present(self, uuid, entry):
        """Take up a domain that runs, where it was left."""
        # Who is watched is taken up already.
        if self._heartbeat.status(uuid) is None:
            rebooted = self._saved.rebooted(uuid)
            self.watch(uuid, entry, self._saved.session_of(uuid),
                       self._saved.said_of(uuid),
                       REBOOT_DEADLINE_S if rebooted else 0)

    def was_heard(self, uuid, entry):
        """Take up a guest that came from another host, where it answered.

        Its silence is a loss from now on.
        """
        status = self._heartbeat.status(uuid)
        if status is not None and not status.established:
            self.watch(uuid, entry, Guest.BEATING)

    def leave(self, uuid):
        """Let go of a domain that has ended."""
        self._heartbeat.unwatch(uuid)
        self.release(uuid, _PAUSED)

    def forget(self, uuid, drop):
        """Drop a guest that left this host, unless it is on its way back.

        :param drop: called when it is dropped, before it can be held again
        :returns: whether it was dropped
        """
        with self._lock:
            if _planned(self._holds.get(uuid, ())):
                return False
            self._holds.pop(uuid, None)
            self._held.pop(uuid, None)
            self._heartbeat.unwatch(uuid)
            drop()
        return True

    def handle_timer(self, now):
        """Judge those again whose operations take longer than they may.

        :param now: monotonic time, seconds
        """
        with self._lock:
            late = [(uuid, reason) for uuid, held in self._held.items()
                    for reason, until in held.items() if until <= now]
            for uuid, reason in late:
                self._let_go(uuid, reason)

    def follow(self, observation, entry):
        """Let the heartbeat follow what was seen of the domain.

        The ledger sees it afterwards, and is asked how things stood before.

        :param observation: nova_vmhealth.core.vocabulary.Observation
        :param entry: nova_vmhealth.virt.identity.Entry
        """
        uuid, kind = observation.instance_uuid, observation.kind
        reason = observation.details.get('reason')
        if kind in (Kind.STARTED, Kind.REBOOTED):
            beats = (reason == 'restored'
                     and self._saved.beat_when_saved(uuid))
            self.release(uuid, _PAUSED)
            self.watch(uuid, entry,
                       Guest.BEATING if beats else Guest.WAITING,
                       boot_deadline_s=self._reboot_deadline(uuid, kind))
            if reason == 'migrated':      # it runs on the source until resumed
                self.hold(uuid, _PAUSED)
        elif kind is Kind.PAUSED:
            self.hold(uuid, _PAUSED)
        elif kind is Kind.RESUMED:
            self.present(uuid, entry)
            self.release(uuid, _PAUSED)
        elif kind is Kind.STOPPED:
            self.leave(uuid)
        elif kind is Kind.AGENT_DISCONNECTED \
                and observation.details.get('channel') \
                == protocol.CHANNEL_NAME:
            self._heartbeat.port_closed(uuid)

    def _reboot_deadline(self, uuid, kind):
        status = self._heartbeat.status(uuid)
        # One that reboots again before it beats is expected to beat as well.
        has_beaten = (self._saved.rebooted(uuid)
                      or (status is not None and status.established))
        if kind is not Kind.REBOOTED or not has_beaten \
                or self._is_restarted(uuid):
            return 0
        return REBOOT_DEADLINE_S

    def _is_restarted(self, uuid):
        with self._lock:
            return any(
                Cause.STOPPED_UNEXPECTEDLY in row_of(reason).expects
                for reason in _planned(self._holds.get(uuid, ())))


def _patience_s(reason):
    if reason == _PAUSED:
        return math.inf         # until it is resumed
    done = row_of(reason)
    return done.patience_s if done.holds_heartbeat else 0.0


def _planned(reasons):
    return [reason for reason in reasons if reason != _PAUSED]
