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

"""Faults of the host itself: seen, acted upon, told, and told of each guest.

What several parts see of the host meets here, on the worker: libvirt that is
lost, many guests that are lost, storage that fails, bad memory, the word of
somebody outside. Each may change the compute service record; then it is told,
and each instance on the host gets the condition ``host_fault``, its subject
the cause.
"""

import dataclasses
import math
import time

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_vmhealth import conf
from nova_vmhealth.core import host_page
from nova_vmhealth.core import maintenance
from nova_vmhealth.core import storage
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth import exception
from nova_vmhealth.virt import host_word
from nova_vmhealth.virt import mounts

LOG = logging.getLogger(__name__)

# Names of the records that are saved.
_PAGE = 'host'
_STORAGE = 'storage'
_FORCED = 'forced_down'
_ACTION = 'host_action'
_WINDOWS = 'windows'

# Whoever named them in the details of I/O errors and memory failures:
# virt.libvirt_events.
_PAUSE = 'pause'
_HYPERVISOR = 'hypervisor'


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the operator wants done.

    :ivar actions: HostCause -> HostAction
    :ivar quiet_s: how long a fault has to be over, seconds
    :ivar memory_quiet_s: and a memory failure, seconds
    """

    actions: dict
    quiet_s: float
    memory_quiet_s: float


class HostFaults:
    """Called on the worker only, but for what is said of a method.

    :param settings: Settings
    :param page: nova_vmhealth.core.host_page.HostPage
    :param standing: nova_vmhealth.core.host_standing.HostStanding
    :param watch: nova_vmhealth.core.storage.StorageWatch
    :param keeper: nova_vmhealth.virt.host_status.RecordKeeper
    :param instances: gives the uuids of this host's instances
    :param conditions: gives the active conditions of an instance
    :param tell: called with each HostEvent, numbered
    :param get_mounts: gives (source, mount point, type) of what is mounted
    :param monotonic: clock, seconds
    :param wall_clock: seconds since the epoch
    :ivar answers: how often it was said how the record is
    """

    def __init__(self, settings, page, standing, watch, keeper, instances,
                 conditions, tell, get_mounts, monotonic, wall_clock):
        self._settings = settings
        self._page = page
        self._standing = standing
        self._watch = watch
        self._keeper = keeper
        self._conditions = conditions
        self._word = host_word.HostWord(page, instances, conditions)
        self._tell = tell
        self._get_mounts = get_mounts
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self.answers = 0
        # of the last wish, and the last that the record is known to follow
        self._wished = self._settled = 0
        self._applied = HostAction.NONE
        self._forced = False
        self._memory_over_at = None

    # -- at the start --------------------------------------------------------

    def restore(self, saved, now):
        """Go on where an earlier run ended; before the worker runs.

        :param saved: nova_vmhealth.virt.saved_ledger.SavedLedger
        :param now: monotonic time, seconds
        """
        for name, restore, snapshot in (
                (_PAGE, lambda record: self._page.restore(record, now),
                 self._page.snapshot),
                (_STORAGE, lambda record: self._watch.restore(record, now),
                 self._watch.snapshot),
                (_FORCED, self._restore_forced, lambda: self._forced or None),
                (_ACTION, self._restore_action, self._save_action),
                (_WINDOWS, self._restore_windows, self._save_windows)):
            record = saved.kept(name)
            try:
                if record is not None:
                    restore(record)
            except exception.InvalidRecord as error:
                LOG.warning('What was saved of the host (%(name)s) is not '
                            'used: %(error)s', {'name': name, 'error': error})
            saved.keep(name, snapshot)

    def begin(self, now):
        """Look at the record, and at what an earlier run has left.

        Before the worker runs.

        :param now: monotonic time, seconds
        """
        # Guests that were lost in an earlier run are not counted any more.
        self.over(HostCause.MANY_GUESTS_LOST, quiet=False,
                  details={'reason': 'nova-compute was started anew'})
        for condition in self._page.conditions:
            fault = condition.fault
            if fault.cause is HostCause.MEMORY_FAILURE:
                self._memory_over_at = now + self._settings.memory_quiet_s
            elif fault.cause is HostCause.STORAGE_FAULT:
                self._begin_storage(fault.subject, now)
        action, text, is_more = self._permitted(self._wall_clock())
        self._applied = action
        self._wished = self._keeper.begin(
            self._forced, action, text, is_more or any(
                each.phase is host_page.Phase.RAISING or each.untold
                for each in self._page.conditions))

    def _begin_storage(self, backend, now):
        for uuid in self._watch.failing(backend):
            # That it was resumed meanwhile is found only where it is known to
            # be paused: not where its owner does not want to be told.
            if not any(each.cause is Cause.IO_ERROR
                       for each in self._conditions(uuid)):
                self._watch.stopped(uuid, now)
        if not self._watch.failing(backend):
            self._page.over(HostCause.STORAGE_FAULT, backend, now)

    def stocktaken(self):
        """Take in that the instances of this host are known."""
        for cause in HostCause:
            self._word.spread(cause)

    def _restore_forced(self, record):
        self._forced = record is True

    def _restore_action(self, record):
        try:
            self._applied = HostAction(record)
        except ValueError:
            raise exception.InvalidRecord(reason='no action') from None

    def _save_action(self):
        return (None if self._applied is HostAction.NONE
                else self._applied.value)

    def _restore_windows(self, records):
        if not isinstance(records, list):
            raise exception.InvalidRecord(reason='no list of windows')
        self._standing.windows = tuple(
            map(maintenance.Window.restored,
                records[:maintenance.MAX_WINDOWS]))

    def _save_windows(self):
        return [each.record() for each in self._standing.windows] or None

    # -- what is seen --------------------------------------------------------

    def wrong(self, cause, occurred_at, wall, reason, *, details=None,
              **given):
        """Take in that something is wrong with the host.

        :param cause: HostCause
        :param occurred_at: seconds since the epoch
        :param wall: now, seconds since the epoch
        :param reason: for people
        :param details: short strings
        :param given: other fields of core.host_page.HostFault
        :returns: whether that is news
        """
        given.setdefault('action', self._settings.actions.get(
            cause, HostAction.NONE))
        given.setdefault('quiet_s', self._settings.quiet_s)
        now = self._monotonic()
        # Another reason for what is wrong already is nothing to overrule an
        # operator for.
        was_known = self._page.has(cause, given.get('subject', ''))
        is_news = self._page.wrong(
            host_page.HostFault(cause, occurred_at, reason,
                                details=details or {}, **given), now, wall)
        if is_news:
            self._follow(wall, anew=not was_known and
                         given['action'] is not HostAction.NONE)
        return is_news

    def over(self, cause, subject='', **given):
        """Take in that something is not wrong any more.

        :param given: as for core.host_page.HostPage.over
        """
        self._page.over(cause, subject, self._monotonic(), **given)

    def storm(self, event):
        """Take in what the losses of many guests say of the host.

        :param event: HostEvent of core.storm.Storm
        """
        wall, cause = event.detected_at, event.cause
        if event.transition is Transition.RAISED:
            self.wrong(cause, event.occurred_at, wall,
                       f'{event.instance_count} guests lost at once',
                       details=event.details, quiet_s=0.0,
                       named=event.instance_uuids, event_id=event.event_id)
        elif event.transition is Transition.CLEARED:
            # It has been quiet for long already.
            self.over(cause, quiet=False, details=event.details)
        else:
            told = self._page.update(event, self._standing.status,
                                     self._standing.is_planned(wall))
            if told is not None:
                self._tell(told)

    def observed(self, observation, now, wall):
        """Take in what was observed of an instance of this host.

        :param observation: nova_vmhealth.core.vocabulary.Observation
        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        """
        kind, uuid = observation.kind, observation.instance_uuid
        if kind is Kind.FAULT and observation.cause is Cause.IO_ERROR:
            self._io_error(observation, now, wall)
        elif kind is Kind.FAULT and observation.cause is Cause.MEMORY_FAILURE:
            self._memory_failure(observation, now, wall)
        elif kind is Kind.RESUMED:
            self._watch.resumed(uuid)
        elif kind is Kind.STOPPED:
            self._watch.stopped(uuid, now)
        elif kind is Kind.STARTED:
            self._watch.started(uuid)
            self._word.arrived(uuid)

    def left(self, uuid, now):
        """Take in that an instance has left this host.

        :param now: monotonic time, seconds
        """
        self._watch.stopped(uuid, now)

    def _io_error(self, observation, now, wall):
        details = observation.details
        backend = storage.backend_of(details.get('path', ''),
                                     self._get_mounts())
        if not self._watch.failed(
                observation.instance_uuid, backend,
                details.get('action') == _PAUSE, now):
            return
        failing = self._watch.failing(backend)
        self.wrong(
            HostCause.STORAGE_FAULT, observation.occurred_at, wall,
            f'I/O errors of {len(failing)} instances', subject=backend,
            details={'failing': str(len(failing)),
                     'io_error': details.get('reason', ''),
                     'path': details.get('path', '')})

    def _memory_failure(self, observation, now, wall):
        details = observation.details
        if details.get('recipient') != _HYPERVISOR:
            return
        self._memory_over_at = now + self._settings.memory_quiet_s
        self.wrong(
            HostCause.MEMORY_FAILURE, observation.occurred_at, wall,
            'the memory of QEMU itself is bad',
            details={'action': details.get('action', ''),
                     'flags': details.get('flags', ''),
                     'instance': observation.instance_uuid})

    # -- what is said from outside -------------------------------------------

    def report(self, reason, force_down, reporter):
        """Take in that somebody outside says that the host is at fault.

        :param reason: for people
        :param force_down: whether the record is to be forced down, whatever
            the operator's options say
        :param reporter: who says so
        """
        wall = self._wall_clock()
        given = {'action': HostAction.FORCE_DOWN} if force_down else {}
        self.wrong(HostCause.REPORTED_FAULT, wall, wall, reason,
                   details={'reporter': reporter}, quiet_s=0.0, **given)

    def clear(self, reporter):
        """End what only somebody outside can know to be over.

        :returns: the causes that end
        """
        causes = [cause for cause in (HostCause.REPORTED_FAULT,
                                      HostCause.MEMORY_FAILURE)
                  if self._page.has(cause)]
        for cause in causes:
            self.over(cause, quiet=False, details={'cleared_by': reporter})
        return causes

    def set_windows(self, records):
        """Take in all maintenance windows of this host.

        :param records: of nova_vmhealth.core.maintenance.Window
        :raises nova_vmhealth.exception.InvalidRecord: they are none
        """
        self._restore_windows(records)

    @property
    def waits(self):
        """Whether something is yet to be told."""
        return self._page.waits or self._word.waits

    def look(self):
        """Have the record read.

        :returns: ``answers``, which counts when that was done
        """
        self._keeper.look()
        return self.answers

    def view(self):
        """Return what is wrong, for people; see rpcapi.ComputeAPI.show."""
        return [{'cause': fault.cause.value, 'subject': fault.subject,
                 'since': fault.occurred_at, 'reason': fault.reason,
                 'action': fault.action.value}
                for fault in (each.fault for each in self._page.conditions)]

    # -- what time and nova-conductor do -------------------------------------

    def settle(self, answer):
        """Take in how the record is.

        :param answer: nova_vmhealth.virt.host_status.Settled
        """
        self.answers += 1
        self._standing.record = answer.record
        self._settled = max(self._settled, answer.number)
        self._forced = answer.forced

    def next_deadline(self):
        """Return when to call :meth:`handle_timer`; None for never."""
        if self._word.waits or self._page.waits and self._is_settled():
            return -math.inf
        wall = self._wall_clock()
        change_at = maintenance.next_change(self._standing.windows, wall)
        times = (self._page.next_deadline(), self._watch.next_deadline(),
                 self._memory_over_at,
                 None if change_at is None
                 else self._monotonic() + change_at - wall)
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now, wall):
        """Do what is due.

        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        :returns: observations for the worker to take
        """
        for backend in self._watch.handle_timer(now):
            self._page.over(HostCause.STORAGE_FAULT, backend, now)
        if self._memory_over_at is not None and self._memory_over_at <= now:
            self._memory_over_at = None
            self._page.over(HostCause.MEMORY_FAILURE, '', now)
        self._standing.windows = maintenance.unexpired(
            self._standing.windows, wall)
        if self._page.handle_timer(now) or self._permitted(wall)[2]:
            self._follow(wall, anew=False)
        self._settle(now, wall)
        return self._word.observations(wall)

    # -- what follows --------------------------------------------------------

    def _follow(self, wall, anew):
        """Have the record do what is wanted."""
        action, text, is_more = self._permitted(wall)
        if action is HostAction.NONE and self._applied is HostAction.NONE:
            return                  # there is nothing to wait for
        self._applied = action
        self._wished = self._keeper.wish(action, text, anew or is_more)

    def _permitted(self, wall):
        """Return what is to be done to the record now.

        In a window of maintenance nothing is done that was not done before.

        :returns: HostAction, why, and whether it is more than was done before
        """
        action, text = self._page.wanted
        is_more = host_page.is_stronger(action, self._applied)
        if is_more and self._is_in_window(wall):
            return self._applied, text, False
        return action, text, is_more

    def _is_settled(self):
        return self._settled >= self._wished

    def _is_in_window(self, wall):
        return maintenance.active(self._standing.windows, wall) is not None

    def _settle(self, now, wall):
        """Tell what need not wait any more."""
        for event in self._page.settled(
                now, wall, self._standing.status,
                self._standing.is_planned(wall),
                in_time=self._is_settled()):
            self._tell(event)
            if event.transition is not Transition.UPDATED:
                self._word.spread(event.cause)


def build(options, standing, keeper, cache, ledger, tell):
    """Make the parts and what joins them.

    :param options: the option group [vmhealth]
    :param standing: nova_vmhealth.core.host_standing.HostStanding
    :param keeper: nova_vmhealth.virt.host_status.RecordKeeper
    :param cache: nova_vmhealth.virt.identity.InstanceCache
    :param ledger: nova_vmhealth.core.ledger.Ledger
    :param tell: called with each HostEvent
    :returns: HostFaults
    """
    return HostFaults(
        Settings({cause: HostAction(getattr(options, f'on_{cause.value}'))
                  for cause in conf.HOST_CAUSES},
                 options.host_fault_quiet_s, options.memory_failure_quiet_s),
        host_page.HostPage(uuidutils.generate_uuid, cache.uuids), standing,
        storage.StorageWatch(
            options.storage_fault_instances, options.storage_fault_window_s,
            options.io_error_quiet_s),
        keeper, cache.uuids, ledger.conditions, tell, mounts.Mounts(),
        time.monotonic, time.time)
