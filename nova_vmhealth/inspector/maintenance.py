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

"""The maintenance windows of all hosts, and telling their projects.

Every inspector keeps all of them, in its replica, and any one tells: whoever
has a window's lock asks Nova's API for the instances and tells their projects.
What was told is in the replica too, with the events in one transaction, so
that neither a restart nor another inspector tells it again or leaves it out.
"""

import dataclasses
import itertools
import math
import uuid

from oslo_log import log as logging

from nova_vmhealth.core import announcements
from nova_vmhealth.core import maintenance
from nova_vmhealth import exception
from nova_vmhealth.inspector import enquiries
from nova_vmhealth.inspector import windows

LOG = logging.getLogger(__name__)

# An operator may just be changing a window, seconds, whose end another
# inspector takes for the last word.
LINGER_S = 60.0
# Nobody was told, as far as this inspector knows. It may not have heard of it
# yet: so long, seconds, it may be cut off from another that has told somebody.
UNTOLD_S = 3600.0
# Windows that are looked at in a turn, some 10 ms; others wait for the next.
# Those of a whole cell may begin and end at the same time.
MOST_AT_ONCE = 100
# Events that are told in a turn, but for the last window's: some 20 ms.
MOST_TOLD = 50
# A turn of the thread takes some 20 ms, and seconds where the disk is slow.
HOLD_S = 5.0
# There is no room to write down what was told: again after this, seconds.
NO_ROOM_S = 60.0


class MaintenanceKeeper:
    """Keeps the windows, and has their projects told.

    All methods are called on one thread, which commits the publisher's events
    and the replica's records afterwards, together, and tells the records to
    the others. Times named ``wall`` are seconds since the epoch.

    An inspector that was away should hear what others have told meanwhile
    before it calls :meth:`handle_timer` for the first time.

    :param kept: core.replica.Replica
    :param tell: called with a MaintenanceEvent; Publisher.submit_maintenance
    :param servers_of: called in a job with a host's name; gives its instances
        as Nova's API has them, each with uuid, name and tenant_id
    :param submit: called with a job, which is to be called on another thread
    :param lock: called in a job with a name; gives a context manager that has
        the lock, or None where another inspector has it
    :param hold_s: how long a job waits with its lock, seconds, until what it
        found out was told and written down, which is so at the next
        :meth:`next_deadline`
    """

    def __init__(self, kept, tell, servers_of, submit, lock, hold_s=HOLD_S):
        self._windows = windows.Windows(kept)
        self._tell = tell
        self._enquiries = enquiries.Enquiries(
            servers_of, submit, lock, hold_s)
        # window -> when there is something to do about it; inf for never
        self._due = {}

    # -- what operators and Fenix do -----------------------------------------

    def set(self, record, wall):
        """Announce planned maintenance, or change what was announced.

        :param record: of a core.maintenance.Window. Without ``id`` a new one,
            which starts now unless it says otherwise; with one, what it does
            not name stays as it is
        :returns: the record as it is kept, see :meth:`list`
        :raises nova_vmhealth.exception.InvalidRecord: it cannot be used; the
            message says why
        """
        if not isinstance(record, dict):
            raise exception.InvalidWindow(reason='it is no object')
        given = {name: value for name, value in record.items()
                 if value is not None or name == 'ends_at'}
        known = None
        if 'id' in given:
            known = self._known(given['id'], wall)
            _check_same_host(known.window, given.get('host'))
            given = {**known.window.record(), **given,
                     'source': known.window.source,
                     'created_at': known.window.created_at}
        else:
            given = {'starts_at': wall, 'ends_at': None, 'reason': '', **given,
                     'id': str(uuid.uuid4()), 'source': maintenance.OPERATOR,
                     'created_at': wall}
        window = maintenance.Window.restored(given)
        if window.ends_at is not None and window.ends_at <= wall and (
                known is None or wall < known.window.starts_at):
            raise exception.InvalidWindow(reason='it is over already')
        return self._set(window, wall)

    def begin(self, window, wall):
        """Begin a window that somebody else has given its id.

        It is left alone where it goes on already, or was over since.

        :param window: core.maintenance.Window
        :raises nova_vmhealth.exception.InvalidWindow: there are too many
        """
        plan = self._windows.plans().get(window.id)
        over_at = self._windows.forgotten_at(window.id)
        if plan is not None:
            over_at = plan.over_at
        if over_at is None or over_at < window.starts_at:
            self._set(window, wall)

    def end(self, window_id, wall):
        """Say that a window is over, or is not to be.

        :returns: whether anything is, or was, known of it
        """
        plan = self._windows.plans().get(window_id)
        if plan is None:
            return self._windows.forgotten_at(window_id) is not None
        if wall < plan.over_at:
            self._withdraw(plan, wall)
        return True

    def unset(self, host, window_id, wall):
        """Withdraw all windows of a host, or the one with an id.

        :param host: may be None where there is an id
        :param window_id: may be None where there is a host
        :returns: list of the records that were withdrawn, as they were
        :raises nova_vmhealth.exception.InvalidWindow: neither is given, or no
            window has this id, or the one that has is of another host
        """
        if window_id is not None:
            plans = [self._known(window_id, wall)]
            _check_same_host(plans[0].window, host)
        elif host:
            plans = self._windows.open_of(host, wall)
        else:
            raise exception.InvalidWindow(reason='name a host, or an id')
        records = [self._windows.record(plan) for plan in plans]
        for plan in plans:
            self._withdraw(plan, wall)
        return records

    # -- what others ask -----------------------------------------------------

    def list(self, host, wall):
        """Return the windows that are not over, the earliest first.

        :param host: only those of this one; None: all
        :returns: list of records of core.maintenance.Window, with ``stage``,
            what projects were told last (None: nothing yet), and ``projects``,
            those that were told
        """
        plans = (self._windows.open(wall) if host is None
                 else self._windows.open_of(host, wall))
        return [self._windows.record(plan) for plan in plans]

    def windows_of(self, host, wall):
        """Return the windows of a host that are not over, as a tuple.

        It is cheap: each beacon of a host may ask.
        """
        return self._windows.of_host(host, wall).windows

    def digest_of(self, host, wall):
        """Return core.maintenance.digest of :meth:`windows_of`, as cheaply.

        A host whose clock is not this one's has another one for as long as
        they differ, at the end of a window.
        """
        return self._windows.of_host(host, wall).digest

    def active(self, host, wall):
        """Return the window that a host is in; None for none."""
        return maintenance.active(self.windows_of(host, wall), wall)

    # -- what time does ------------------------------------------------------

    def next_deadline(self, wall):
        """Return when to call :meth:`handle_timer`; None for never.

        It is to be asked again soon, since an answer may come.
        """
        self._enquiries.let_go()
        return self._deadline(wall)

    def _deadline(self, wall):
        if self._enquiries.has_answers:
            return wall
        for window_id in self._windows.take_changed():
            self._schedule(window_id, wall)
        soonest = min(self._due.values(), default=math.inf)
        return None if soonest == math.inf else soonest

    def handle_timer(self, wall):
        """Tell what is due, forget what is over."""
        self._take_answers(wall)
        deadline = self._deadline(wall)
        if deadline is None or wall < deadline:
            return
        due = (window_id for window_id, due_at in self._due.items()
               if due_at <= wall)
        for window_id in list(itertools.islice(due, MOST_AT_ONCE)):
            self._attend(window_id, wall)
            self._schedule(window_id, wall)

    def _take_answers(self, wall):
        told = 0
        while told < MOST_TOLD:
            found = self._enquiries.take(wall)
            if found is None:
                break
            window_id, instances = found
            # It may have been changed, or another inspector have told it.
            plan = self._windows.plans().get(window_id)
            if plan is not None and instances is not None:
                told += self._tell_projects(plan, instances, wall)
            self._schedule(window_id, wall)

    def _schedule(self, window_id, wall):
        self._due[window_id] = self._due_at(window_id, wall)
        if self._due[window_id] == math.inf:
            del self._due[window_id]

    def _due_at(self, window_id, wall):
        plan = self._windows.plans().get(window_id)
        if plan is None:
            return wall if self._windows.is_orphan(window_id) else math.inf
        told = self._windows.told(window_id)
        if announcements.due(plan, told, wall):
            return max(wall, self._enquiries.not_before(window_id))
        if plan.over_at <= wall:
            return _forget_at(plan, told)
        change_at = announcements.next_change(plan, told, wall)
        return math.inf if change_at is None else change_at

    def _attend(self, window_id, wall):
        plan = self._windows.plans().get(window_id)
        if plan is None:
            self._windows.forget_told(window_id, wall)
            return
        told = self._windows.told(window_id)
        if announcements.due(plan, told, wall):
            self._enquiries.ask(plan.window, wall)
        elif _forget_at(plan, told) <= wall:
            self._windows.forget(plan, wall)
            self._enquiries.forget(window_id)
            LOG.info('Maintenance window %(id)s of host %(host)s is over',
                     {'id': window_id, 'host': plan.window.host})

    def _tell_projects(self, plan, instances, wall):
        """Return how many events that has made."""
        window_id = plan.window.id
        before = self._windows.told(window_id)
        events, told = announcements.tell(plan, before, instances, wall)
        if told == before:
            return 0
        # Before the events, which would be told again and again without it.
        if not self._windows.put_told(window_id, told, wall):
            LOG.error('There is no room to write down what is told of '
                      'maintenance window %s: it is not told', window_id)
            self._enquiries.postpone(window_id, wall + NO_ROOM_S)
            return 0
        for event in events:
            self._tell(event)
        LOG.info('Maintenance window %(id)s of host %(host)s: %(stage)s, '
                 '%(number)d projects know of it',
                 {'id': window_id, 'host': plan.window.host,
                  'stage': told.stage.value, 'number': len(told.projects)})
        return len(events)

    # -- what is written down ------------------------------------------------

    def _set(self, window, wall):
        known = self._windows.plans().get(window.id)
        changed_at = float(wall)
        if known is not None:
            if known.window == window:
                return self._windows.record(known)
            # Another one for each change, whatever the clock does.
            changed_at = max(changed_at,
                             math.nextafter(known.changed_at, math.inf))
        others = sum(plan.window.id != window.id for plan
                     in self._windows.open_of(window.host, wall))
        if others >= maintenance.MAX_WINDOWS:
            raise exception.InvalidWindow(
                reason=f'host {window.host} has {others} windows already')
        plan = announcements.Plan(window, changed_at)
        self._write(plan, wall)
        LOG.info('Maintenance is set: %s', window)
        return self._windows.record(plan)

    def _withdraw(self, plan, wall):
        self._write(dataclasses.replace(plan, withdrawn_at=float(wall)), wall)
        LOG.info('Maintenance is withdrawn: %s', plan.window)

    def _write(self, plan, wall):
        self._windows.put(plan, wall)
        # It is not to wait until what was due before is tried again.
        self._enquiries.forget(plan.window.id)

    def _known(self, window_id, wall):
        plan = None
        if isinstance(window_id, str):
            plan = self._windows.plans().get(window_id)
        if plan is None or plan.over_at <= wall:
            raise exception.InvalidWindow(
                reason=f'there is no window {window_id!r:.80}')
        return plan


def _forget_at(plan, told):
    if told is not None and told.is_final:
        return plan.over_at + LINGER_S
    return plan.over_at + UNTOLD_S


def _check_same_host(window, host):
    if host is not None and host != window.host:
        raise exception.InvalidWindow(
            reason=f'{window.id} is a window of host {window.host}')
