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


"""The connection to libvirt: lost, found again, and told of the host.

Nova reconnects when one of its periodic tasks next needs libvirt, up to a
minute later. Nobody listens meanwhile, so here libvirt is tried a few times a
second, and Nova is made to reconnect as soon as it answers.
"""

import time

from nova import exception as nova_exception
from nova.virt.libvirt import host as nova_host
from oslo_log import log as logging

from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.virt import host as host_lib

LOG = logging.getLogger(__name__)

# Between two attempts, seconds. One that fails is a refused connection to a
# socket, some 50 us.
RETRY_S = 0.25
_JOB = 'reconnecting to libvirt'


class LibvirtLink:
    """Follows the connection.

    :param host: HealthHost
    :param page: nova_vmhealth.core.host_page.HostPage
    :param instances: gives the uuids of this host's instances
    :param submit: Background.submit of a thread for libvirt
    :param answer: puts into the worker's inbox
    :param tell_host: called with each HostEvent, on the worker
    """

    def __init__(self, host, page, instances, submit, answer, tell_host):
        self._host = host
        self._page = page
        self._instances = instances
        self._submit = submit
        self._answer = answer
        self._tell_host = tell_host
        self._lost = False

    @property
    def lost(self):
        """Whether libvirt is away, as far as is known."""
        return self._lost

    # -- from any thread but libvirt's event thread --------------------------

    def get_connection(self):
        """Return Nova's connection to libvirt.

        :raises nova.exception.HypervisorUnavailable: there is none; while it
            is known to be lost that costs nothing and is not logged
        """
        if self._lost:
            raise nova_exception.HypervisorUnavailable()
        return self._host.get_connection()

    # -- from the worker -----------------------------------------------------

    def begin(self, wall):
        """End what an earlier run of nova-compute has raised.

        libvirt's loss ends with the first connection. Guests that were lost
        then are not counted any more.

        :param wall: seconds since the epoch
        """
        self._tell_if(self._page.clearing(
            HostCause.MANY_GUESTS_LOST, wall, (),
            {'reason': 'nova-compute was started anew'}))

    def changed(self, change, wall):
        """Take in that the connection was lost or made.

        :param change: nova_vmhealth.virt.host.LinkChanged
        :param wall: seconds since the epoch
        """
        if change.up:
            self._up(wall)
        else:
            self._down(change, wall)

    def _down(self, change, wall):
        # It may be the end of a connection that has a successor by now: the
        # attempt finds that out.
        self._lost = True
        self._submit(_JOB, self._attempt, RETRY_S)
        self._tell_if(self._page.raising(
            HostCause.LIBVIRT_LOST, change.occurred_at, wall,
            self._instances(), {'reason': change.reason}))

    def _up(self, wall):
        self._lost = False
        # Also what an earlier run of nova-compute has raised.
        self._tell_if(self._page.clearing(
            HostCause.LIBVIRT_LOST, wall, self._instances(), {}))

    def _tell_if(self, event):
        if event is not None:
            self._tell_host(event)

    # -- the background's job ------------------------------------------------

    def _attempt(self):
        try:
            self._host.try_to_connect()
            self._host.get_connection()
        except (nova_host.libvirt.libvirtError,
                nova_exception.HypervisorUnavailable) as error:
            LOG.debug('libvirt is still away: %s', error)
            self._submit(_JOB, self._attempt, RETRY_S)
            return
        # Nova may have been the first to reconnect.
        self._answer(host_lib.LinkChanged(True, time.time()))
