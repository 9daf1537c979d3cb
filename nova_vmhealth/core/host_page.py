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


"""What is wrong with the host itself: its conditions and their sequence.

Several parts see something of the host; consumers see one sequence, which
goes on after a restart of nova-compute, as do the conditions.
"""

import dataclasses
import itertools
from typing import Any, Callable, Mapping, Optional

from nova_vmhealth.core.vocabulary import HOST_SEVERITY
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostEvent
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth import exception

# An event names that many instances at most, at some 80 bytes each.
MAX_NAMED = 1000

_CAUSES = {cause.value: cause for cause in HostCause}


class HostPage:
    """What is known of the host; it is not thread safe.

    :param new_id: makes the uuid of an event
    """

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._sequence = 0
        # cause -> event_id of what raised it
        self._active: dict[HostCause, str] = {}

    def number(self, event: HostEvent) -> HostEvent:
        """Give an event that is told its place among all of the host's.

        :param event: from whichever part; its own sequence is not kept
        """
        self._sequence += 1
        if event.transition is Transition.RAISED:
            self._active[event.cause] = event.event_id
        elif event.transition is Transition.CLEARED:
            self._active.pop(event.cause, None)
        return dataclasses.replace(event, sequence=self._sequence)

    def raising(
        self, cause: HostCause, occurred_at: float, wall: float,
        instances: list[str], details: Mapping[str, str],
    ) -> Optional[HostEvent]:
        """Make the event that raises a condition; None if it is active.

        :param occurred_at: seconds since the epoch
        :param wall: now, seconds since the epoch
        :param instances: uuids of those that it is about
        :param details: short strings
        """
        if cause in self._active:
            return None
        event_id = self._new_id()
        return self._event(
            Transition.RAISED, cause, event_id, occurred_at, wall, instances,
            {**details, 'host_event': event_id})

    def clearing(
        self, cause: HostCause, wall: float, instances: list[str],
        details: Mapping[str, str],
    ) -> Optional[HostEvent]:
        """Make the event that clears a condition; None if it is not active.

        Arguments as for :meth:`raising`.
        """
        if cause not in self._active:
            return None
        return self._event(
            Transition.CLEARED, cause, self._new_id(), wall, wall, instances,
            {**details, 'host_event': self._active[cause]})

    def _event(self, transition, cause, event_id, occurred_at, wall, instances,
               details) -> HostEvent:
        return HostEvent(
            event_id=event_id, sequence=0, transition=transition, cause=cause,
            severity=HOST_SEVERITY[cause], occurred_at=occurred_at,
            detected_at=wall,
            instance_uuids=tuple(itertools.islice(instances, MAX_NAMED)),
            instance_count=len(instances), details=details)

    # over a restart

    def snapshot(self) -> Optional[dict[str, Any]]:
        """Return what JSON can write down; None as long as nothing was."""
        if not self._sequence:
            return None
        return {'sequence': self._sequence,
                'active': {cause.value: event_id
                           for cause, event_id in self._active.items()}}

    def restore(self, record: Any) -> None:
        """Take up what :meth:`snapshot` gave in an earlier run.

        :raises InvalidRecord: it did not; nothing is changed
        """
        try:
            sequence = record['sequence']
            # One that only a later release knows cannot be cleared by this.
            active = {_CAUSES[word]: str(event_id)
                      for word, event_id in record['active'].items()
                      if word in _CAUSES}
        except (AttributeError, KeyError, TypeError) as error:
            raise exception.InvalidRecord(reason=repr(error)) from error
        if type(sequence) is not int or sequence < 0:
            raise exception.InvalidRecord(reason=f'sequence {sequence!r}')
        self._sequence, self._active = sequence, active
