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

"""The word of the host's faults to each of its instances: ``host_fault``.

Each gets the condition once for each cause, whatever number of faults has it,
also one that comes later, and also after a restart.
"""

import collections

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation

# Instances are told in parts, so that a thousand do not hold up what is
# observed meanwhile; each takes some 0.5 ms.
MAX_TOLD = 32


class HostWord:
    """Called on the worker only.

    :param page: nova_vmhealth.core.host_page.HostPage
    :param instances: gives the uuids of this host's instances
    :param conditions: gives the active conditions of an instance
    """

    def __init__(self, page, instances, conditions):
        self._page = page
        self._instances = instances
        self._conditions = conditions
        # (uuid, HostCause): what holds is looked up when it is told
        self._untold = collections.deque()

    @property
    def waits(self):
        """Whether there is something to tell."""
        return bool(self._untold)

    def spread(self, cause):
        """Have all instances told that a cause holds, or not any more.

        :param cause: HostCause
        """
        raised = cause in self._page.told
        self._untold.extend(
            (uuid, cause) for uuid in self._instances()
            if self._has(uuid, cause) is not raised)

    def arrived(self, uuid):
        """Have an instance told that comes while something is wrong."""
        self._untold.extend((uuid, cause) for cause in self._page.told)

    def observations(self, wall):
        """Return what the next instances are told, for the ledger.

        :param wall: seconds since the epoch
        """
        told = [self._untold.popleft()
                for _ in range(min(MAX_TOLD, len(self._untold)))]
        return [self._observation(uuid, cause, wall) for uuid, cause in told
                if self._has(uuid, cause) is not (cause in self._page.told)]

    def _has(self, uuid, cause):
        return any(each.cause is Cause.HOST_FAULT
                   and each.subject == cause.value
                   for each in self._conditions(uuid))

    def _observation(self, uuid, cause, wall):
        condition = self._page.told.get(cause)
        if condition is None:
            return Observation(Kind.RECOVERED, uuid, wall, Cause.HOST_FAULT,
                               cause.value)
        fault = condition.fault
        return Observation(
            Kind.FAULT, uuid, fault.occurred_at, Cause.HOST_FAULT,
            cause.value, {'reason': fault.reason, 'host_cause': cause.value,
                          'host_event': fault.event_id})
