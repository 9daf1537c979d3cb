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

"""What is known of a host that is silent, and telling of it on its behalf.

All of it happens on the inspector's loop, which writes down what was told, and
that it was told, in one transaction.
"""

import dataclasses
import time
from typing import Optional

from oslo_log import log as logging

from nova_vmhealth.core import behalf
from nova_vmhealth.core import fleet_words
from nova_vmhealth.core import marks as marks_lib
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.notifications import times

LOG = logging.getLogger(__name__)

# Of the instances in an update that names them for the first time.
_INSTANCES = 'instances'
_NO_MARK = marks_lib.Mark('', False, '', 0, {})


@dataclasses.dataclass(frozen=True, slots=True)
class Situation:
    """What the loop knows of a host at one moment.

    :ivar obstacle: core.fleet_words.Obstacle, None for none
    :ivar agreed: whether enough inspectors suspect it
    :ivar mark: core.marks.Mark; one without conditions for none
    :ivar forcing: core.marks.Forcing; None for none
    :ivar in_window: whether a maintenance window is open
    :ivar view: core.fleet_words.View; None for a host that is not known
    :ivar silent_s: for how long it was not heard, seconds; None for never
    :ivar last_beacon_at: seconds since the epoch; None for never
    :ivar at: the moment, seconds since the epoch
    """

    host: str
    obstacle: Optional[fleet_words.Obstacle]
    agreed: bool
    mark: marks_lib.Mark
    forcing: Optional[marks_lib.Forcing]
    in_window: bool
    view: Optional[fleet_words.View]
    silent_s: Optional[float]
    last_beacon_at: Optional[float]
    at: float

    @property
    def since(self):
        """Since when it is silent, as far as anybody knows."""
        if self.last_beacon_at is None:
            return self.at
        return self.last_beacon_at

    def told(self, cause):
        """Return the condition of a cause; None where it was not told."""
        return self.mark.get(cause)


class Desk:
    """Looks things up for those who act, and writes down what they did.

    :param name: of this inspector
    :param watch: core.fleet.BeaconWatch
    :param marks: nova_vmhealth.inspector.marks.Marks
    :param keeper: nova_vmhealth.inspector.maintenance.MaintenanceKeeper
    :param publisher: nova_vmhealth.notifications.publisher.Publisher
    :param monotonic: clock, seconds
    :param wall: clock, seconds since the epoch
    """

    def __init__(self, name, watch, marks, keeper, publisher,
                 monotonic=time.monotonic, wall=time.time):
        self._name = name
        self._watch = watch
        self._marks = marks
        self._keeper = keeper
        self._publisher = publisher
        self._monotonic = monotonic
        self._wall = wall

    def look(self, host):
        """Return the Situation of a host."""
        now, wall = self._monotonic(), self._wall()
        view = self._watch.view(host)
        silent_s = None
        if view is not None and view.heard_at is not None:
            silent_s = now - view.heard_at
        return Situation(
            host=host, obstacle=self._watch.obstacle(host, now),
            agreed=self._watch.agreed(host, now),
            mark=self._marks.get(host) or _NO_MARK,
            forcing=self._marks.forcing(host),
            in_window=self._keeper.active(host, wall) is not None,
            view=view, silent_s=silent_s,
            last_beacon_at=None if silent_s is None else wall - silent_s,
            at=wall)

    def excuse(self, host, excused):
        """Say whether a host is in planned maintenance."""
        self._watch.excuse(host, excused, self._monotonic())

    def forget(self, host):
        """Let a host go that Nova does not know."""
        self._watch.forget(host, self._monotonic())
        self.unforced(host)

    # -- forcing down --------------------------------------------------------

    def begin_forcing(self, host, reported=False):
        """Write down that a request is about to be made.

        :param reported: whether somebody wants it, whatever its beacons say
        :returns: whether it is; not where something has come in between
        """
        if not reported and self._watch.obstacle(
                host, self._monotonic()) is not None:
            return False
        self._put_forcing(host, done=False)
        return True

    def end_forcing(self, host):
        """Write down that Nova has confirmed it."""
        self._put_forcing(host, done=True)

    def _put_forcing(self, host, done):
        wall = self._wall()
        self._marks.put_forcing(
            host, marks_lib.Forcing(self._name, wall, done), wall)

    def unforced(self, host):
        """Write down that the host is not forced down, or not by us."""
        self._marks.put_forcing(host, None, self._wall())

    # -- raising -------------------------------------------------------------

    def raise_(self, situation, cause, told, status, instances):
        """Tell a condition of a host, and write it down.

        Its instances are told by :meth:`tell_instances`.

        :param situation: Situation
        :param cause: HostCause
        :param told: core.marks.Told
        :param status: HostStatus after it
        :param instances: list of InstanceIdentity, as far as they are known
        """
        wall = self._wall()
        before = self._marks.get(situation.host) or _NO_MARK
        first = before.get(cause) is None
        view = situation.view
        self._marks.put(situation.host, marks_lib.Mark(
            self._name, False, view.incarnation if view else '',
            view.sequence if view else 0,
            {**before.conditions, cause: told}), wall)
        self._submit_host(behalf.Saying(
            situation.host, cause,
            Transition.RAISED if first else Transition.UPDATED, told,
            told.since, wall, status, again=_again(told)), instances)

    def take_over(self, host, status, instances):
        """Tell what another inspector had told, and perhaps not sent.

        :returns: the causes of the conditions that were told
        """
        mark = self._marks.get(host)
        if mark is None:
            return []
        wall = self._wall()
        self._marks.put(host, dataclasses.replace(
            mark, by=self._name, sent=False), wall)
        for cause, told in mark.conditions.items():
            self._submit_host(behalf.Saying(
                host, cause, Transition.RAISED, told, told.since, wall,
                status), instances)
        return list(mark.conditions)

    def name_instances(self, host, cause, status, instances):
        """Tell which instances a condition is about that was told before."""
        told = self._told(host, cause)
        if told is not None:
            self._submit_host(behalf.Saying(
                host, cause, Transition.UPDATED, told, told.since,
                self._wall(), status, again=_INSTANCES), instances)

    def tell_instances(self, host, cause, transition, status, instances):
        """Tell some of the instances of a condition.

        :param instances: list of InstanceIdentity
        """
        told = self._told(host, cause)
        if told is None:
            return                  # it is over
        wall = self._wall()
        is_over = transition is Transition.CLEARED
        saying = behalf.Saying(host, cause, transition, told,
                               wall if is_over else told.since, wall, status)
        for identity in instances:
            self._publisher.submit(
                saying.instance_event(identity.uuid),
                dataclasses.replace(identity, host_status=status.value), None)

    def finish(self, host, cause, instances):
        """Write down that all instances of a condition were told.

        :param instances: their uuids
        """
        mark, told = self._marks.get(host), self._told(host, cause)
        if told is not None:
            self._marks.put(host, dataclasses.replace(mark, conditions={
                **mark.conditions, cause: dataclasses.replace(
                    told, listed=True,
                    instances=tuple(instances[:marks_lib.MAX_TOLD]))}),
                self._wall())

    # -- clearing ------------------------------------------------------------

    def clear(self, host, cause, status, instances):
        """Tell that a condition is over; its instances were told before it.

        :param instances: list of InstanceIdentity
        """
        mark, told = self._marks.get(host), self._told(host, cause)
        if told is None:
            return
        wall = self._wall()
        self._submit_host(behalf.Saying(
            host, cause, Transition.CLEARED, told, wall, wall, status),
            instances)
        self._marks.put(host, dataclasses.replace(
            mark, by=self._name, sent=False, conditions={
                other: each for other, each in mark.conditions.items()
                if other is not cause}), wall)

    # -- the parts -----------------------------------------------------------

    def _told(self, host, cause):
        mark = self._marks.get(host)
        return mark and mark.get(cause)

    def _submit_host(self, saying, instances):
        self._publisher.submit_host(
            saying.host_event([each.uuid for each in instances]), saying.host,
            {each.uuid: each.tenant_id for each in instances})
        LOG.info('Host %(host)s: %(cause)s %(transition)s, %(reason)s, '
                 'status %(status)s%(details)s',
                 {'host': saying.host, 'cause': saying.cause.value,
                  'transition': saying.transition.value,
                  'reason': saying.told.reason, 'status': saying.status.value,
                  'details': _shown(saying.told.details)})


def condition(situation, cause, reason, action=HostAction.NONE, *,
              suppressed=False, listed=True, **details):
    """Make what is told of a host on the strength of its beacons.

    Whoever makes it of the same silence gives it the same id.

    :param situation: Situation
    :param details: short strings
    :returns: core.marks.Told
    """
    view, known = situation.view, situation.told(cause)
    if situation.last_beacon_at is not None:
        details['last_beacon_at'] = times.iso_time(situation.last_beacon_at)
    if known is not None:
        # It goes on, and is told in other words.
        return dataclasses.replace(
            known, reason=reason, action=action, suppressed=suppressed,
            details={**details, **{
                name: text for name, text in known.details.items()
                if name == 'last_beacon_at'}})
    return marks_lib.Told(
        event_id=behalf.raised_id(
            situation.host, view.incarnation if view else '',
            view.sequence if view else 0, cause),
        since=situation.since, reason=reason, action=action,
        details=details, suppressed=suppressed, listed=listed)


def _again(told):
    return '/'.join((told.details.get('withheld', ''),
                     told.details.get('check', ''), told.reason))


def _shown(details):
    return ''.join(f', {name} {text}' for name, text in details.items()
                   if name != 'last_beacon_at')

