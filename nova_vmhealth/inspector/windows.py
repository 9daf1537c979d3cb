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

"""The maintenance windows as the inspectors' replica has them.

The keys ``window/<id>`` hold plans, ``told/<id>/<name>`` what projects were
told of them by the inspector of that name; see core.announcements. Each is
read when it has changed.
"""

import math

from oslo_log import log as logging

from nova_vmhealth.core import announcements
from nova_vmhealth.core import maintenance
from nova_vmhealth import exception
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

_WINDOW, _TOLD = 'window/', 'told/'

# How long to remember that a window is over, seconds, for an inspector that
# was switched off meanwhile and still has it: it would tell its end again. One
# that was withdrawn would begin anew, so that is remembered until its end.
KEEP_S = 7 * 24 * 3600.0
LOG_PERIOD_S = 60


class _Host:
    """The open windows of one host, and until when they are that."""

    def __init__(self, plans, wall):
        plans = [plan for plan in plans if wall < plan.over_at]
        self.windows = tuple(maintenance.unexpired(
            (plan.window for plan in plans), wall))
        self.digest = maintenance.digest(self.windows)
        self.holds_until = min((plan.over_at for plan in plans),
                               default=math.inf)


_NONE = _Host((), 0.0)


class Windows:
    """Reads and writes windows. Times: seconds since the epoch.

    :param kept: core.replica.Replica
    """

    def __init__(self, kept):
        self._replica = kept
        self._plans = {}
        # id -> key -> what one inspector has told, None where that cannot be
        # read; and all that together
        self._parts = {}
        self._told = {}
        # host -> ids; and what was made of them, as long as it holds
        self._ids_of = {}
        self._hosts = {}
        # ids that were not given to take_changed() since they changed
        self._changed = set()
        self._may_log = throttle.Throttle(LOG_PERIOD_S)

    def plans(self):
        """Return id -> Plan for all of them, those that are over too."""
        self._refresh()
        return self._plans

    def take_changed(self):
        """Return the ids of which something has changed since the last call.

        That may be ids of windows that are not there any more.
        """
        self._refresh()
        changed, self._changed = self._changed, set()
        return changed

    def told(self, window_id):
        """Return what projects were told of a window; None for nothing."""
        self._refresh()
        return self._told.get(window_id)

    def is_orphan(self, window_id):
        """Say whether somebody has told of a window that is forgotten."""
        self._refresh()
        return (window_id in self._parts and window_id not in self._plans
                and self.forgotten_at(window_id) is not None)

    def open(self, wall):
        """Return the plans that are not over, the earliest first."""
        return _in_order(plan for plan in self.plans().values()
                         if wall < plan.over_at)

    def open_of(self, host, wall):
        """Return those of a host, as :meth:`open` does."""
        self._refresh()
        return _in_order(plan for plan in self._plans_of(host)
                         if wall < plan.over_at)

    def of_host(self, host, wall):
        """Return what is open of a host: its ``windows`` and ``digest``."""
        self._refresh()
        if host not in self._ids_of:
            return _NONE
        found = self._hosts.get(host)
        if found is None or wall >= found.holds_until:
            found = self._hosts[host] = _Host(self._plans_of(host), wall)
        return found

    def record(self, plan):
        """Return a window's record, and how much projects know of it."""
        told = self.told(plan.window.id)
        return {**plan.window.record(),
                'stage': told.stage.value if told else None,
                'projects': list(told.projects) if told else []}

    def put(self, plan, wall):
        """Write a plan down.

        :raises nova_vmhealth.exception.InvalidWindow: there is no room
        """
        if not self._replica.put(_WINDOW + plan.window.id, plan.record(),
                                 wall):
            raise exception.InvalidWindow(
                reason='there is no room for more windows')

    def put_told(self, window_id, told, wall):
        """Write down what projects were told.

        :returns: False where there is no room
        """
        self._refresh()
        key = f'{_TOLD}{window_id}/{self._replica.name}'
        mine = self._parts.get(window_id, {}).get(key)
        if told.is_final and mine is not None:
            told = told.with_those_of(mine)
        return self._replica.put(key, told.record(), wall)

    def forget(self, plan, wall):
        """Drop all that there is of a window."""
        keep_until = wall + KEEP_S
        if plan.withdrawn_at is not None:
            ends_at = plan.window.ends_at
            keep_until = max(keep_until,
                             math.inf if ends_at is None else ends_at)
        self._replica.drop(_WINDOW + plan.window.id, wall, keep_until)
        self.forget_told(plan.window.id, wall)

    def forget_told(self, window_id, wall):
        """Drop what was told of a window that is forgotten."""
        self._refresh()
        for key in self._parts.get(window_id, ()):
            self._replica.drop(key, wall, wall + KEEP_S)

    def forgotten_at(self, window_id):
        """Return when a window was dropped, None if nothing is known."""
        return self._replica.dropped_at(_WINDOW + window_id)

    # -- reading -------------------------------------------------------------

    def _refresh(self):
        ids = set()
        for key in self._replica.take_changed(_WINDOW):
            window_id = key.removeprefix(_WINDOW)
            self._read_plan(key, window_id)
            ids.add(window_id)
        for key in self._replica.take_changed(_TOLD):
            window_id = key.split('/')[1]
            self._read_told(key, window_id)
            ids.add(window_id)
        for window_id in ids:
            plan = self._plans.get(window_id)
            self._told.pop(window_id, None)
            if plan is not None:
                parts = self._parts.get(window_id, {})
                self._told[window_id] = announcements.combined(
                    plan, [parts[key] for key in sorted(parts) if parts[key]])
        self._changed |= ids

    def _read_plan(self, key, window_id):
        before = self._plans.pop(window_id, None)
        if before is not None:
            self._leave(before.window)
        plan = self._restored(announcements.Plan, key)
        if plan is not None and plan.window.id == window_id:
            self._plans[window_id] = plan
            self._ids_of.setdefault(plan.window.host, set()).add(window_id)
            self._hosts.pop(plan.window.host, None)

    def _leave(self, window):
        self._hosts.pop(window.host, None)
        ids = self._ids_of[window.host]
        ids.discard(window.id)
        if not ids:
            del self._ids_of[window.host]

    def _read_told(self, key, window_id):
        parts = self._parts.setdefault(window_id, {})
        parts[key] = self._restored(announcements.Told, key)
        if parts[key] is None and self._replica.get(key) is None:
            del parts[key]
        if not parts:
            del self._parts[window_id]

    def _plans_of(self, host):
        return [self._plans[window_id]
                for window_id in self._ids_of.get(host, ())]

    def _restored(self, kind, key):
        """Read a record; another release may have written it."""
        record = self._replica.get(key)
        if record is None:
            return None
        try:
            return kind.restored(record)
        except exception.InvalidRecord as error:
            if self._may_log.ready():
                LOG.warning('%(key)s is ignored: %(error)s',
                            {'key': key, 'error': error})
            return None


def _in_order(plans):
    return sorted(plans, key=lambda plan: (plan.window.starts_at,
                                           plan.window.id))
