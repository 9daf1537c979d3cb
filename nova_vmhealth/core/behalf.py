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

"""Events that an inspector tells on behalf of a host that cannot speak.

Their ids follow from what they say: two inspectors that tell the same tell it
under one id, so that it is one event to consumers.
"""

import dataclasses
import json
from typing import Mapping, Sequence
import uuid

from nova_vmhealth.core.marks import Told
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Condition
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import HealthEvent
from nova_vmhealth.core.vocabulary import HOST_SEVERITY
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostEvent
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth.core.vocabulary import SEVERITY
from nova_vmhealth.core.vocabulary import Transition

# An event names that many instances at most, at some 80 bytes each.
MAX_NAMED = 1000

# Ids of events are made in this namespace, so that they are no others'.
_NAMESPACE = uuid.UUID('1d0f7a54-9b5f-4c4e-8a57-2f6f0f4d9e63')
# Nobody who tells on behalf of a host counts its events.
_UNCOUNTED = 0


def raised_id(host: str, incarnation: str, sequence: int,
              cause: HostCause) -> str:
    """Make the id of the event that raises a condition of a host.

    :param incarnation: of the host's last beacon
    :param sequence: of the host's last beacon
    """
    return _id(host, incarnation, sequence, cause.value)


@dataclasses.dataclass(frozen=True, slots=True)
class Saying:
    """What is said of one condition of a host now.

    :ivar told: the condition
    :ivar occurred_at: wall clock, seconds since the epoch
    :ivar detected_at: wall clock, seconds since the epoch
    :ivar status: how the host is after it
    :ivar again: another word for each of several updates of a condition
    """

    host: str
    cause: HostCause
    transition: Transition
    told: Told
    occurred_at: float
    detected_at: float
    status: HostStatus
    again: str = ''

    def host_event(self, instances: Sequence[str]) -> HostEvent:
        """Make the event of the host itself.

        :param instances: uuids of those that it is about
        """
        return HostEvent(
            event_id=self._event_id(''), sequence=_UNCOUNTED,
            transition=self.transition, cause=self.cause,
            severity=HOST_SEVERITY[self.cause],
            occurred_at=self.occurred_at, detected_at=self.detected_at,
            instance_uuids=tuple(instances[:MAX_NAMED]),
            instance_count=len(instances), details=self._details(),
            reason=self.told.reason, status=self.status,
            action=self.told.action, suppressed=self.told.suppressed)

    def instance_event(self, instance: str) -> HealthEvent:
        """Make the event of one of its instances.

        :param instance: its uuid
        """
        is_over = self.transition is Transition.CLEARED
        bad, unknown = Health.UNHEALTHY, Health.UNKNOWN
        severity = SEVERITY[Cause.HOST_FAULT]
        conditions = () if is_over else (Condition(
            Cause.HOST_FAULT, self.cause.value, severity, self.told.since, 1),)
        return HealthEvent(
            event_id=self._event_id(instance), sequence=_UNCOUNTED,
            instance_uuid=instance, transition=self.transition,
            cause=Cause.HOST_FAULT, subject=self.cause.value,
            severity=severity, health=unknown if is_over else bad,
            previous_health=bad if is_over else unknown,
            conditions=conditions, occurred_at=self.occurred_at,
            detected_at=self.detected_at,
            details={'reason': self.told.reason,
                     'host_event': self.told.event_id,
                     'host_cause': self.cause.value},
            suppressed=self.told.suppressed)

    def _event_id(self, instance: str) -> str:
        if self.transition is Transition.RAISED and not instance:
            return self.told.event_id
        return _id(self.told.event_id, self.transition.value, self.again,
                   instance)

    def _details(self) -> Mapping[str, str]:
        return {**self.told.details, 'host_event': self.told.event_id}


def _id(*words: object) -> str:
    # JSON keeps apart what words run together would not.
    return str(uuid.uuid5(_NAMESPACE, json.dumps(words)))
