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

"""What nova-conductor and libvirt are asked; the answers go to the inbox.

Each question is a job of a background thread: an RPC, or a call to libvirt,
which nobody else may wait for.
"""

import dataclasses
import time

from nova import exception as nova_exception

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation

# Nova writes an instance's new state after the driver's method returned; the
# identity is read again this many seconds later, and then at this period for
# as long as Nova is still at work on the instance.
REFRESH_DELAY_S = 3.0
REFRESH_AGAIN_S = 10.0
# After a control error the domain is asked this many seconds later whether it
# answers again.
PROBE_DELAY_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Looked:
    """The answer whether an unknown instance is one of ours."""

    instance_uuid: str
    found: bool


class Enquiries:
    """Asks on the background threads.

    :param get_connection: gives libvirt's connection
    :param compute_host: this host's name, as instances carry it
    :param cache: nova_vmhealth.virt.identity.InstanceCache
    :param ask_conductor: Background.submit of the thread for RPC
    :param ask_libvirt: Background.submit of the thread for libvirt
    :param answer: takes an observation or a Looked
    """

    def __init__(self, get_connection, compute_host, cache, ask_conductor,
                 ask_libvirt, answer):
        self._get_connection = get_connection
        self._compute_host = compute_host
        self._cache = cache
        self._ask_conductor = ask_conductor
        self._ask_libvirt = ask_libvirt
        self._answer = answer

    def refresh_later(self, uuid, delay_s=REFRESH_DELAY_S):
        """Read an instance again, and forget it once it has left this host.

        :param delay_s: not before this many seconds from now
        """
        self._ask_conductor(f'reading instance {uuid}',
                            lambda: self._refresh(uuid), delay_s)

    def look_up(self, uuid):
        """Ask whether an instance that is not known is one of ours.

        :returns: False when there are too many questions already
        """
        return self._ask_conductor(f'looking up instance {uuid}',
                                   lambda: self._look_up(uuid))

    def probe_later(self, uuid):
        """See in a while whether libvirt gets an answer about a domain."""
        self._ask_libvirt(f'asking libvirt about {uuid}',
                          lambda: self._probe(uuid), PROBE_DELAY_S)

    def _refresh(self, uuid):
        if self._cache.get(uuid) is None:
            return
        found = self._cache.load(uuid, self._compute_host)
        if found.busy:
            self.refresh_later(uuid, REFRESH_AGAIN_S)
        elif not found.here:
            self._answer(Observation(Kind.FORGOTTEN, uuid, time.time()))

    def _look_up(self, uuid):
        self._answer(
            Looked(uuid, self._cache.load(uuid, self._compute_host).here))

    def _probe(self, uuid):
        if self._cache.get(uuid) is None:
            return
        try:
            connection = self._get_connection()
        except nova_exception.HypervisorUnavailable:
            self.probe_later(uuid)      # that is told of the host
            return
        connection.lookupByUUIDString(uuid).info()
        self._answer(Observation(Kind.RECOVERED, uuid, time.time(),
                                 Cause.CONTROL_ERROR))
