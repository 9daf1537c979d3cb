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

"""Which hosts something is to be done about, and when.

Lives on the loop. What takes time is a job, see footing; there is one at a
time for each host.
"""

import dataclasses
import math
import time

from oslo_log import log as logging

from nova_vmhealth.core.fleet_table import EXPECTED
from nova_vmhealth.core.fleet_table import Standing
from nova_vmhealth.core.fleet_table import UNHEARD
from nova_vmhealth.core.fleet_words import Obstacle
from nova_vmhealth.core.marks import BY_BEACONS
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.inspector import acting

LOG = logging.getLogger(__name__)

# The others have so long to miss the host too, seconds, before it counts as
# one that they hear.
_QUORUM_S = 2.0
# How often it is looked whether they do, or whether a host may be acted upon,
# or whether anything is heard again, seconds.
_VOTES_S = 0.02
_BLIND_S = 0.5
# After a job it is looked once more whether there is something to do, seconds.
_AFTER_S = 0.25
# A job that failed for a reason that nobody has thought of, seconds.
_FAILED_S = 10.0
# How often it is looked whether what was told has been sent, seconds.
_TEND_S = 1.0


class _Case:
    """A host that something may be to be done about."""

    __slots__ = ('due_at', 'busy', 'patient_until')

    def __init__(self):
        self.due_at = math.inf
        self.busy = False
        self.patient_until = math.inf


class Cases:
    """Has jobs done as they are due.

    :param name: of this inspector
    :param watch: core.fleet.BeaconWatch
    :param marks: nova_vmhealth.inspector.marks.Marks
    :param actor: nova_vmhealth.inspector.acting.Actor
    :param aftermath: nova_vmhealth.inspector.aftermath.Aftermath
    :param quorum: whether the other inspectors must agree
    :param act: called with a job of the actor, and with what is to be called
        with its result on the loop; says whether it is taken
    :param follow_up: the same for other jobs, which may take longer
    :param is_idle: says whether all that was told is sent
    :param monotonic: clock, seconds
    """

    def __init__(self, name, watch, marks, actor, aftermath, quorum, act,
                 follow_up, is_idle, monotonic=time.monotonic):
        self._name = name
        self._watch = watch
        self._marks = marks
        self._actor = actor
        self._aftermath = aftermath
        self._quorum = quorum
        self._act = act
        self._follow_up = follow_up
        self._is_idle = is_idle
        self._monotonic = monotonic
        self._cases = {}
        # hosts that the watch knows to be told down, or of which it was told
        # that they are silent
        self._down = set()
        self._lost = set()
        # hosts of which not all was told, or sent
        self._unsettled = set()
        self._tend_at = 0.0

    # -- what happens --------------------------------------------------------

    def hurry(self, host, now):
        """Look at once what is to be done about a host."""
        case = self._cases.get(host)
        if case is None:
            case = self._cases[host] = _Case()
        case.due_at = min(case.due_at, now)

    def suspect(self, host, now):
        """Take in that a host fell silent."""
        self.hurry(host, now)
        self._cases[host].patient_until = now + _QUORUM_S

    def census(self, known):
        """Take in which hosts Nova knows, to forget the others.

        :param known: their names
        """
        for host in self._watch.hosts():
            view = self._watch.view(host)
            if host in known or view.standing in EXPECTED:
                continue
            case = self._cases.setdefault(host, _Case())
            if not case.busy:
                self._do(host, case, self._follow_up,
                         lambda host=host: self._aftermath.bury(host))

    def follow_marks(self, now, wall):
        """Take in which marks were written, here and elsewhere."""
        for host in self._marks.take_changes():
            mark = self._marks.get(host)
            self._follow_down(host, mark, now, wall)
            self._follow_lost(host, mark, now)
            if mark is not None and not (mark.sent and _is_listed(mark)):
                self._unsettled.add(host)
            else:
                self._unsettled.discard(host)
            case = self._cases.get(host)
            # A job that writes looks at the host once more anyway.
            if mark is not None and not (case is not None and case.busy):
                self.hurry(host, now)

    def _follow_down(self, host, mark, now, wall):
        told = mark and mark.get(HostCause.HOST_DOWN)
        if told is not None:
            if host not in self._down:
                self._down.add(host)
                self._mark(host, mark, now, wall)
        elif host in self._down:
            self._down.discard(host)
            self._watch.unmark(host, now)

    def _mark(self, host, mark, now, wall):
        told = mark.get(HostCause.HOST_DOWN)
        # One that others have forced down is no one's doing here.
        age_s = (wall - told.since if told.action is HostAction.FORCE_DOWN
                 else math.inf)
        self._watch.mark(host, mark.incarnation, mark.sequence, age_s, now)

    def _follow_lost(self, host, mark, now):
        told = mark and mark.get(HostCause.BEACONS_LOST)
        self._watch.excuse(host, told is not None and told.details.get(
            'withheld') == acting.PLANNED, now)
        if told is not None:
            self._lost.add(host)
        elif host in self._lost:
            self._lost.discard(host)
            view = self._watch.view(host)
            if view is not None and view.standing in UNHEARD \
                    and host not in self._down:
                # Somebody said that all is well.
                self._watch.unmark(host, now)

    # -- what time does ------------------------------------------------------

    def handle_timer(self, now, wall):
        """Do what is due."""
        for host, case in list(self._cases.items()):
            if not case.busy and case.due_at <= now:
                self._look(host, case, now, wall)
        if self._tend_at <= now:
            self._tend_at = now + _TEND_S
            self._tend(now, wall)

    def next_deadline(self):
        """Return when to call :meth:`handle_timer`, monotonic seconds."""
        return min((case.due_at for case in self._cases.values()
                    if not case.busy), default=math.inf)

    def _look(self, host, case, now, wall):
        obstacle = self._watch.obstacle(host, now)
        view, mark = self._watch.view(host), self._marks.get(host)
        if obstacle is Obstacle.NOT_SILENT:
            self._attend_heard(host, case, view, mark, now)
        elif host in self._down:
            # It is silent once more, before it was told to be back.
            self._mark(host, mark, now, wall)
            case.due_at = now
        elif obstacle is Obstacle.BLIND:
            case.due_at = now + _BLIND_S
        elif obstacle is Obstacle.UNSETTLED and not view.excused:
            case.due_at = now + _VOTES_S
        elif (obstacle is None and self._quorum
                and now < case.patient_until
                and not self._watch.agreed(host, now)):
            case.due_at = now + _VOTES_S
        else:
            self._do(host, case, self._act, lambda: self._actor.attend(host))

    def _attend_heard(self, host, case, view, mark, now):
        if (mark and view and view.standing is Standing.WATCHED
                and not BY_BEACONS.isdisjoint(mark.conditions)):
            self._do(host, case, self._follow_up,
                     lambda: self._aftermath.welcome(host))
        elif mark and host in self._unsettled and self._is_mine(mark, now):
            take_over = mark.by != self._name
            if take_over or not _is_listed(mark):
                self._do(host, case, self._follow_up,
                         lambda: self._aftermath.complete(host, take_over))
            else:
                del self._cases[host]
        else:
            del self._cases[host]

    def _is_mine(self, mark, now):
        """Say whether nobody else will do what is left to be done."""
        return mark.by == self._name or (
            self._watch.is_judging(now)
            and mark.by not in self._watch.peers(now))

    def _do(self, host, case, submit, job):
        case.busy, case.due_at = True, math.inf
        if not submit(lambda: _safely(host, job),
                      lambda again_s: self._done(case, again_s)):
            self._done(case, _FAILED_S)

    def _done(self, case, again_s):
        case.busy = False
        # Something may have happened meanwhile that will not wait.
        case.due_at = min(case.due_at, self._monotonic() + (
            _AFTER_S if again_s is None else again_s))

    def _tend(self, now, wall):
        """See to it that what was told is sent, by whomever."""
        for host in list(self._unsettled):
            mark = self._marks.get(host)
            if mark.by == self._name and _is_listed(mark):
                if self._is_idle():
                    self._marks.put(
                        host, dataclasses.replace(mark, sent=True), wall)
            elif self._is_mine(mark, now):
                self.hurry(host, now)


def _safely(host, job):
    try:
        return job()
    except Exception:
        # A defect in what is done about one host must not end it for all; the
        # trace says where it is.
        LOG.exception('Failed at host %(host)s, again in %(seconds)d s',
                      {'host': host, 'seconds': _FAILED_S})
        return _FAILED_S


def _is_listed(mark):
    return all(told.listed for told in mark.conditions.values())
