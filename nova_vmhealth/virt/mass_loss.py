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

"""Many guests lost at once: the host is suspected, and told of once."""

import dataclasses

from nova_vmhealth.core import transitions
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Transition

# How many guests are watched is counted anew after this many seconds: to
# count thousands for each of thousands that are lost would take minutes.
COUNT_EVERY_S = 1.0


class MassLoss:
    """Feeds the storm with losses, and tells what it says of the host.

    A loss counts whether its owner wants it told or not; one that a planned
    operation explains does not.

    :param storm: nova_vmhealth.core.storm.Storm
    :param watched: gives the number of guests that are watched
    :param is_planned: says of an instance whether Nova is changing it
    :param tell: called with each HostEvent
    """

    def __init__(self, storm, watched, is_planned, tell):
        self._storm = storm
        self._watched = watched
        self._count = 0
        self._count_until = float('-inf')
        self._is_planned = is_planned
        self._tell = tell

    @property
    def suspected(self):
        """Whether the host is suspected now."""
        return self._storm.suspected

    def next_deadline(self):
        """Return when to call :meth:`handle_timer`; None for never."""
        return self._storm.next_deadline()

    def handle_timer(self, now, wall):
        """Do what time alone asks for.

        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        """
        for event in self._storm.handle_timer(now, wall):
            self._tell(event)

    def observed(self, observation, now, wall):
        """Take in an observation of a heartbeat, before the ledger does."""
        uuid, cause = observation.instance_uuid, observation.cause
        if observation.kind is Kind.FAULT and cause is Cause.HEARTBEAT_LOST:
            if not self._is_planned(uuid):
                self._lost(uuid, now, wall)
        elif observation.kind is Kind.HEARTBEAT_ESTABLISHED:
            self._tell_if(self._storm.recovered(uuid, now, wall))

    def told(self, event, now, wall):
        """Take in what the ledger says of a heartbeat.

        :param event: HealthEvent
        :returns: the event, naming the host's event if there is one
        """
        if event.cause is not Cause.HEARTBEAT_LOST:
            return event
        if event.transition is Transition.RAISED:
            # Also one that a planned operation explained until now.
            self._lost(event.instance_uuid, now, wall)
        elif (event.transition is Transition.CLEARED
                and not transitions.is_withdrawn(event)):
            self._tell_if(
                self._storm.recovered(event.instance_uuid, now, wall))
        if not self._storm.suspected:
            return event
        return dataclasses.replace(event, details={
            **event.details, 'host_event': self._storm.event_id})

    def forget(self, uuid, now, wall):
        """Drop an instance that stopped or left this host."""
        self._tell_if(self._storm.forget(uuid, now, wall))

    def _lost(self, uuid, now, wall):
        if now >= self._count_until:
            self._count = self._watched()
            self._count_until = now + COUNT_EVERY_S
        self._tell_if(self._storm.lost(uuid, now, wall, self._count))

    def _tell_if(self, event):
        if event is not None:
            self._tell(event)
