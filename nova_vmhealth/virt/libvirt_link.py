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

A libvirtd that hangs keeps its connections, and whoever asks it waits for
ever. It is told as lost as well, and none of our threads asks it meanwhile but
the one that waits already.
"""

import dataclasses
import time

from nova import exception as nova_exception
from nova.virt.libvirt import host as nova_host
from oslo_log import log as logging

from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.virt import background
from nova_vmhealth.virt import host as host_lib

LOG = logging.getLogger(__name__)

# Between two attempts, seconds. One that fails is a refused connection to a
# socket, some 50 us.
RETRY_S = 0.25
# libvirt hangs when what it answers by itself takes so long, seconds.
PATIENCE_S = background.STUCK_S
# Why libvirt is lost although the connection is there; libvirt's own reasons
# are those of a connection that has ended.
NO_ANSWER = 'no answer'
_JOB = 'reconnecting to libvirt'


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """One that libvirt has not answered yet.

    :ivar since: monotonic seconds
    :ivar wall: the same, seconds since the epoch
    """

    since: float
    wall: float


class LibvirtLink:
    """Follows the connection.

    :param host: HealthHost
    :param faults: nova_vmhealth.virt.host_faults.HostFaults
    :param submit: Background.submit of a thread that no QEMU can hold up
    :param answer: puts into the worker's inbox
    :param monotonic: clock, seconds
    :param wall_clock: seconds since the epoch
    """

    def __init__(self, host, faults, submit, answer,
                 monotonic=time.monotonic, wall_clock=time.time):
        self._host = host
        self._faults = faults
        self._submit = submit
        self._answer = answer
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._lost = False
        # how many losses there were: an attempt ends the last one before it
        self._losses = 0
        # what is out, and whether that takes too long
        self._question = None
        self._hangs = False
        # whether one was answered since the worker last looked
        self._answered = False

    @property
    def lost(self):
        """Whether libvirt is away or hangs, as far as is known."""
        return self._lost or self._hangs

    # -- from any thread but libvirt's event thread --------------------------

    def get_connection(self):
        """Return Nova's connection to libvirt.

        :raises nova.exception.HypervisorUnavailable: there is none, or it
            does not answer; while that is known it costs nothing and is not
            logged
        """
        if self.lost:
            raise nova_exception.HypervisorUnavailable()
        return self._host.get_connection()

    def ask(self, question):
        """Ask libvirt what it answers without asking a QEMU.

        One question is out at a time. If it is not answered, libvirt hangs.

        :param question: called with the connection
        :returns: what it returns
        :raises nova.exception.HypervisorUnavailable: there is no connection,
            or the question of before is not answered yet
        :raises libvirtError: as the question does
        """
        if self.lost or self._question is not None:
            raise nova_exception.HypervisorUnavailable()
        mine = self._question = _Question(self._monotonic(),
                                          self._wall_clock())
        self._answer(None)      # the worker is to see when it takes too long
        try:
            # Nova's call, too: it tries the connection first.
            found = question(self._host.get_connection())
            self._answered = True
            return found
        finally:
            if self._question is mine:
                self._question = None

    # -- from the worker -----------------------------------------------------

    def begin(self):
        """Take in that the instances of this host are known."""
        self._faults.stocktaken()

    def changed(self, change, wall):
        """Take in that the connection was lost or made.

        :param change: nova_vmhealth.virt.host.LinkChanged
        :param wall: seconds since the epoch
        :returns: whether it is news: libvirt was lost, or is back
        """
        if not change.up:
            self._down(change, wall)
            return True
        if not self._lost:
            # The first one, and an earlier run may have raised it; or Nova
            # was faster than the word of the loss, which is to come.
            if not self._hangs:
                self._clear()
            return False
        # Only an attempt knows which loss it ended: word of a connection may
        # come after word of its end.
        if change.loss != self._losses:
            return False
        self._lost = False
        self._question = None       # it was one of the old connection
        self._clear()
        return True

    def next_deadline(self):
        """Return when to call :meth:`handle_timer`; None for never."""
        question = self._question
        if question is None or self._hangs:
            return None
        return question.since + PATIENCE_S

    def handle_timer(self, now):
        """Tell when libvirt hangs, and when it answers again.

        :param now: monotonic time, seconds
        """
        question = self._question
        if question is None:
            self._hangs = False
        elif now - question.since >= PATIENCE_S and not self._hangs:
            self._hangs = True
            self._raise(question.wall, self._wall_clock(), NO_ANSWER)
        if self._answered and not self.lost:
            self._answered = False
            self._clear()

    def _down(self, change, wall):
        # It may be the end of a connection that has a successor by now: the
        # attempt finds that out.
        self._lost = True
        self._losses += 1
        self._submit(_JOB, self._attempt, RETRY_S)
        self._raise(change.occurred_at, wall, change.reason)

    def _raise(self, occurred_at, wall, reason):
        self._faults.wrong(
            HostCause.LIBVIRT_LOST, occurred_at, wall,
            f'no connection to libvirt: {reason}', details={'reason': reason})

    def _clear(self):
        self._faults.over(HostCause.LIBVIRT_LOST)

    # -- the background's job ------------------------------------------------

    def _attempt(self):
        loss = self._losses
        try:
            self._host.try_to_connect()
            self._host.get_connection()
        except (nova_host.libvirt.libvirtError,
                nova_exception.HypervisorUnavailable) as error:
            LOG.debug('libvirt is still away: %s', error)
            self._submit(_JOB, self._attempt, RETRY_S)
            return
        # Nova may have been the first to reconnect.
        self._answer(host_lib.LinkChanged(True, time.time(), loss=loss))
