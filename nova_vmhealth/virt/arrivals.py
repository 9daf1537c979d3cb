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

"""Observations of instances that are not known yet.

They wait until nova-conductor has said whose the instance is. libvirt may
also run domains that are not Nova's, which are looked up now and then only.
"""

# A domain that is not Nova's is not looked up again for this many seconds.
FOREIGN_S = 60.0
# Observations kept of one instance while it is looked up: libvirt tells a few
# for one fault, more is a storm.
MAX_PARKED = 100
# Domains that are not Nova's, far above what one host runs; it bounds what
# domains that come and go can pile up.
MAX_FOREIGN = 10000


class Arrivals:
    """What waits for its instance to be looked up.

    :param look_up: called with a uuid; :meth:`looked` is to follow. Returns
        False when it cannot be done now
    """

    def __init__(self, look_up):
        self._look_up = look_up
        self._parked = {}
        # uuid of a domain that is not Nova's -> monotonic time until when
        self._foreign = {}

    def park(self, observation, now):
        """Keep an observation until its instance is looked up.

        :param now: monotonic time, seconds
        """
        uuid = observation.instance_uuid
        parked = self._parked.get(uuid)
        if parked is None:
            if self._foreign.get(uuid, now) > now or not self._look_up(uuid):
                return
            parked = self._parked[uuid] = []
        if len(parked) < MAX_PARKED:
            parked.append(observation)

    def claim(self, uuid):
        """Take out what waits for an instance that is known now.

        :returns: the observations in their order
        """
        return self._parked.pop(uuid, ())

    def looked(self, uuid, found, now):
        """Take out what waited for the answer about an instance.

        :param found: whether it is one of this host
        :param now: monotonic time, seconds
        :returns: the observations in their order; none of a foreign domain
        """
        parked = self.claim(uuid)
        if found:
            return parked
        if len(self._foreign) >= MAX_FOREIGN:
            self._foreign.clear()
        self._foreign[uuid] = now + FOREIGN_S
        return ()
