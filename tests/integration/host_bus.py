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


"""What is told of a host and of its instances, from a moment on."""

import time

from tests.integration import clients
from tests.integration import processes


class Bus:
    """What a listener hears since the test began."""

    def __init__(self, listener):
        self._listener = listener
        self._began = time.time()

    def _new(self, events):
        return [each for each in events
                if clients.epoch(each['detected_at']) >= self._began]

    def of_host(self, cause, transition='raised'):
        return [each for each in self._new(self._listener.host_events(cause))
                if each['transition'] == transition]

    def of_instance(self, uuid, cause, transition='raised', subject=''):
        return [each for each in self._new(self._listener.events(uuid))
                if (each['cause'], each['transition'], each['subject'])
                == (cause, transition, subject)]

    def wait_host(self, cause, transition='raised', seconds=20):
        return processes.wait_for(
            lambda: self.of_host(cause, transition), seconds,
            'host.health %s %s' % (cause, transition))[0]

    def wait_each(self, uuids, cause, transition='raised', seconds=20):
        """Until each instance has host_fault for that; the events."""
        return [processes.wait_for(
            lambda uuid=uuid: self.of_instance(
                uuid, 'host_fault', transition, cause), seconds,
            'host_fault %s %s of %s' % (cause, transition, uuid))[0]
            for uuid in uuids]
