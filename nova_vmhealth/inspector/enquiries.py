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

"""Find out which projects are to be told of a window, on another thread.

Nova's API may be slow, or away, and so may the backend of the locks.
"""

import collections
import contextlib
import dataclasses
import threading
from typing import Any

from oslo_log import log as logging

from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

# Nova's API does not answer: again after this, seconds.
RETRY_S = 10.0
# Another inspector is at it. It takes as long as Nova's API.
HELD_S = 2.0
# A job that has not come back after this, seconds, is given up: what it waits
# for ends by itself much sooner.
LOST_S = 300.0
# Hundreds of windows may wait for Nova's API.
LOG_PERIOD_S = 60


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    """What a job found out.

    :ivar instances: see core.announcements; None: it is to be tried again
    :ivar again_s: after so many seconds then
    :ivar told: set when what follows was told
    """

    window_id: str
    number: int
    instances: Any = None
    again_s: float = RETRY_S
    told: Any = dataclasses.field(default_factory=threading.Event)


class Enquiries:
    """Asks which instances a host has, one window after the other.

    For the parameters see :class:`.maintenance.MaintenanceKeeper`. Times named
    ``wall`` are seconds since the epoch.
    """

    def __init__(self, servers_of, submit, lock, hold_s):
        self._servers_of = servers_of
        self._submit = submit
        self._lock = lock
        self._hold_s = hold_s
        self._answers = collections.deque()
        # of those that were taken
        self._held = []
        self._count = 0
        # window -> number of its job; and when to ask again
        self._at_hand = {}
        self._not_before = {}
        self._may_log = throttle.Throttle(LOG_PERIOD_S)
        self._may_log_lock = throttle.Throttle(LOG_PERIOD_S)

    @property
    def has_answers(self):
        return bool(self._answers)

    def not_before(self, window_id):
        """Return when to ask for a window; minus infinity for at once."""
        return self._not_before.get(window_id, float('-inf'))

    def postpone(self, window_id, until):
        """Do not ask for a window before a time."""
        self._not_before[window_id] = until

    def forget(self, window_id):
        """Ask for a window at once when it comes again."""
        self._not_before.pop(window_id, None)
        self._at_hand.pop(window_id, None)

    def ask(self, window, wall):
        """Begin to find out who is to be told of a window.

        :param window: core.maintenance.Window
        """
        self._count += 1
        number = self._count
        self._at_hand[window.id] = number
        self._not_before[window.id] = wall + LOST_S
        self._submit(lambda: self._find_out(window, number))

    def take(self, wall):
        """Take the oldest answer out.

        :returns: a window's id, and its host's instances as
            core.announcements has them; None in their place where they are to
            be asked for again. None where there is no answer
        """
        while self._answers:
            answer = self._answers.popleft()
            self._held.append(answer.told)
            window_id = answer.window_id
            if self._at_hand.get(window_id) != answer.number:
                continue            # it was given up
            self.forget(window_id)
            if answer.instances is None:
                self.postpone(window_id, wall + answer.again_s)
            return window_id, answer.instances
        return None

    def let_go(self):
        """Say that what followed from all answers so far was told."""
        for told in self._held:
            told.set()
        self._held.clear()

    def _find_out(self, window, number):
        """Do it; on another thread."""
        held = self._locked(window)
        if held is None:
            self._answers.append(_Answer(window.id, number, again_s=HELD_S))
            return
        try:
            with held:
                answer = _Answer(window.id, number,
                                 _by_project(self._servers_of(window.host)))
                self._answers.append(answer)
                # Or another inspector would tell it before it hears of it.
                answer.told.wait(self._hold_s)
        # Of keystone, of Nova's API or of the network: whatever it is, the
        # next attempt may meet better days.
        except Exception as error:
            if self._may_log.ready():
                LOG.warning('Nobody can be told of the maintenance of host '
                            '%(host)s, again in %(seconds)d s: %(error)s',
                            {'host': window.host, 'seconds': RETRY_S,
                             'error': error})
            self._answers.append(_Answer(window.id, number))

    def _locked(self, window):
        try:
            return self._lock('window-' + window.id)
        # Whatever the backend's library raises. To be told twice does less
        # harm than not to be told: it is one event to those who listen.
        except Exception as error:
            if self._may_log_lock.ready():
                LOG.warning('Projects are told of maintenance without a lock: '
                            '%s', error)
            return contextlib.nullcontext()


def _by_project(servers):
    """Return project -> uuid -> name."""
    instances = {}
    for server in servers:
        if server.tenant_id:
            instances.setdefault(server.tenant_id, {})[
                server.uuid] = server.name
    return instances
