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

"""What is done about a host that is silent: a job, see footing."""

import dataclasses
import math
import time

from oslo_log import log as logging

from nova_vmhealth.core.checks import Finding
from nova_vmhealth.core.checks import Opinion
from nova_vmhealth.core.checks import weigh
from nova_vmhealth.core.fleet_words import Obstacle
from nova_vmhealth.core.host_record import Owner
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth import exception
from nova_vmhealth.inspector import attempts
from nova_vmhealth.inspector import desk as desk_lib
from nova_vmhealth.inspector import footing as footing_lib
from nova_vmhealth.inspector import locks as locks_lib

LOG = logging.getLogger(__name__)

# It is not settled yet whether anything may be done: seconds until the next
# attempt.
UNSETTLED_S = 0.05
# Nothing is done about too many hosts. The guard says when that is over; an
# operator may see to some of them in Nova meanwhile.
REFUSED_S = 60.0
# What was asked of Nova by an inspector that has died may still be under way
# for so long, seconds.
IN_FLIGHT_S = 2.0
# A host that is found forced down may be told of by whoever has done it: that
# is waited for so long, seconds.
HEARSAY_S = 1.0
# How old the record of a host may be where nothing can be done anyway.
_ROUGHLY_S = 20.0
# A line for people.
_MAX_REASON = 255
# Why a host is left alone, to consumers: it is in planned maintenance, or
# Nova's API is away; besides Opinion and Obstacle.
PLANNED = 'planned'
NOVA_API = 'nova_api'


@dataclasses.dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator wants done.

    :ivar misses: beacons in a row that a silent host has missed
    :ivar quorum: whether the other inspectors must agree
    :ivar check_interval_s: a host that is left alone is looked at so often
    """

    misses: int
    quorum: bool
    check_interval_s: float


class Actor:
    """Acts on hosts, one job for each at a time.

    :param wishes: Wishes
    :param name: of this inspector
    :param footing: nova_vmhealth.inspector.footing.Footing
    :param api: nova_vmhealth.inspector.nova_api.NovaApi
    :param checks: nova_vmhealth.inspector.checks.Checks
    :param herald: nova_vmhealth.inspector.herald.Herald
    :param forget: called with the Situation of a host that Nova does not know
    """

    def __init__(self, wishes, name, footing, api, checks, herald, forget):
        self._wishes = wishes
        self._name = name
        self._footing = footing
        self._api = api
        self._checks = checks
        self._herald = herald
        self._forget = forget
        # host -> what was found, and when
        self._findings = {}
        # (host, what) -> until when it is waited for another to have done that
        self._waits = {}

    # -- a silent host -------------------------------------------------------

    def attend(self, host):
        """Do what is to be done about a silent host now.

        :returns: seconds until it is to be attended again; None for never
        """
        attempt = attempts.Attempt(host)
        situation = self._footing.look(host)
        if _is_over(situation):
            self._done(host)
            return None
        if situation.obstacle is None:
            attempt.finding = self._find(situation)
        attempt.checked_at = time.monotonic()
        again_s = self._footing.under_lock(host, lambda: self._decide(attempt))
        if again_s is None or again_s >= self._wishes.check_interval_s:
            self._done(host)
        return again_s

    def _done(self, host):
        self._findings.pop(host, None)
        for what in ('told', 'forced'):
            self._waits.pop((host, what), None)

    def _find(self, situation):
        """Ask for second opinions, unless that was just done.

        As long as another inspector is at it, it would be done all the time.
        """
        now = time.monotonic()
        finding, found_at = self._findings.get(
            situation.host, (None, -math.inf))
        if (finding is None or finding.opinion is not Opinion.GONE
                or now >= found_at + self._wishes.check_interval_s):
            finding = self._ask_around(situation)
            self._findings[situation.host] = finding, now
        return finding

    def _ask_around(self, situation):
        findings = []
        if self._wishes.quorum:
            findings.append(_quorum(situation))
        if all(each.opinion is Opinion.GONE for each in findings):
            findings += filter(None, [self._checks.ask(situation.host)])
        return weigh(findings)

    def _decide(self, attempt):
        """Find out what is to be done; this inspector is the one to do it."""
        attempt.locked_at = time.monotonic()
        # What was known before is of the past.
        attempt.situation = situation = self._footing.look(attempt.host)
        if _is_over(situation):
            return None
        if (attempt.finding is not None and self._wishes.quorum
                and not situation.agreed):
            attempt.finding = _quorum(situation)
        try:
            service = self._api.service_of(
                attempt.host,
                _ROUGHLY_S if situation.obstacle is not None else 0.0)
        except exception.NovaFailed:
            if situation.told(HostCause.BEACONS_LOST) is None:
                self._withhold(attempt, HostStatus.UNKNOWN, NOVA_API)
            raise
        if service is None:
            self._forget(situation)
            return None
        return self._judge(attempt, service)

    def _judge(self, attempt, service):
        situation, record = attempt.situation, service.record
        obstacle, finding = situation.obstacle, attempt.finding
        status = _unheard(record)
        if situation.in_window or record.owner is Owner.OPERATOR:
            self._withhold(attempt, status, PLANNED)
            return self._wishes.check_interval_s
        if situation.view.excused:
            self._footing.do(lambda desk: desk.excuse(attempt.host, False))
            return UNSETTLED_S
        if obstacle is Obstacle.TOO_MANY_HOSTS:
            if not record.forced_down:
                self._withhold(attempt, status, obstacle.value)
                return REFUSED_S
        elif obstacle is not None or finding is None:
            return UNSETTLED_S
        elif finding.opinion is not Opinion.GONE:
            self._withhold(attempt, status, finding.opinion.value,
                           check=finding.check)
            return self._wishes.check_interval_s
        return self._down(attempt, service)

    def _withhold(self, attempt, status, why, **details):
        """Tell that nothing is done, unless that was told."""
        situation, host = attempt.situation, attempt.host
        told = situation.told(HostCause.BEACONS_LOST)
        details['withheld'] = why
        if told is not None and all(
                told.details.get(name) == text
                for name, text in details.items()):
            return
        # Of too many hosts there is one line for all.
        is_one = why != Obstacle.TOO_MANY_HOSTS.value
        LOG.log(logging.WARNING if is_one else logging.DEBUG,
                'Host %(host)s is silent since %(since)s, and left alone: '
                '%(details)s', {'host': host, 'details': details,
                                'since': attempts.clock(situation)})
        asks = is_one and why != NOVA_API
        self._herald.withhold(
            situation, desk_lib.condition(
                situation, HostCause.BEACONS_LOST, self._reason(attempt),
                suppressed=why == PLANNED, **details),
            status, self._herald.begin_list(host) if asks else None)

    def _down(self, attempt, service):
        """Force a host down, if it is not, and tell it."""
        host, forcing = attempt.host, attempt.situation.forcing
        wait_s = self._wait_s(host, forcing, service)
        if wait_s > 0.0:
            return wait_s
        listing = self._herald.begin_list(host)
        ours = forcing is not None
        if not service.record.forced_down:
            if not self._force(attempt, service):
                return footing_lib.HELD_S
            ours = True
        told = desk_lib.condition(
            attempt.situation, HostCause.HOST_DOWN, self._reason(attempt),
            HostAction.FORCE_DOWN if ours else HostAction.NONE, listed=False)
        self._herald.raise_(attempt.situation, HostCause.HOST_DOWN, told,
                            HostStatus.DOWN, listing)
        attempt.log()
        return None

    def _wait_s(self, host, forcing, service):
        """Return how long to wait for what another may be doing."""
        by_other = forcing is not None and forcing.by != self._name
        if service.record.forced_down:
            what, patience_s = 'told', HEARSAY_S
            wait = forcing is None or by_other
        else:
            what, patience_s = 'forced', IN_FLIGHT_S
            wait = by_other and not forcing.done
        if not wait:
            return 0.0
        # From when it was seen here: the clock of the other may be wrong.
        now = time.monotonic()
        until = self._waits.setdefault((host, what), now + patience_s)
        return min(until - now, footing_lib.HELD_S)

    def _force(self, attempt, service):
        """Force a host down.

        :returns: whether that was done; not where it is heard again
        """
        if not self._footing.do(lambda desk: desk.begin_forcing(attempt.host)):
            return False
        # This process may not have been run for a while.
        if time.monotonic() > attempt.locked_at + locks_lib.GOOD_FOR_S:
            return False
        attempt.decided_at = time.monotonic()
        self._api.change(service, forced_down=True)
        attempt.forced_at = time.monotonic()
        self._footing.do(lambda desk: desk.end_forcing(attempt.host))
        return True

    def _reason(self, attempt):
        misses, finding = self._wishes.misses, attempt.finding
        text = (f'{misses} beacons were missed' if misses > 1
                else 'a beacon was missed')
        if finding is not None:
            text += f'; {finding.check}: {finding.text}'
        return text[:_MAX_REASON]


def _is_over(situation):
    """Say whether nothing is to be done about a host any more."""
    return (situation.obstacle is Obstacle.NOT_SILENT
            or situation.told(HostCause.HOST_DOWN) is not None)


def _quorum(situation):
    if situation.agreed:
        return Finding('quorum', Opinion.GONE, 'the inspectors agree')
    return Finding('quorum', Opinion.ALIVE, 'other inspectors hear it')


def _unheard(record):
    """Return the status of a host that nobody hears of."""
    return HostStatus.UNKNOWN if record.status is HostStatus.UP \
        else record.status
