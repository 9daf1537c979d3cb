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

"""What the comparison asks of nova-conductor and of libvirt.

Each question is a job of a background thread: an RPC, or a call to libvirt,
which the worker may not wait for. The answers are items of its inbox.
"""

import dataclasses
import time
from typing import Optional

from nova import exception as nova_exception
from nova.virt.libvirt import host as nova_host
from oslo_log import log as logging
import oslo_messaging

from nova_vmhealth.core.reconcile import Finding
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.virt import domain_sample

LOG = logging.getLogger(__name__)

# From so many suspects on nova-conductor is asked for all instances of the
# host, by one call, and not for one after the other.
MANY = 4
# Nova is at work on an instance that was here, or nova-conductor failed to
# tell of it; it is asked for again after so many seconds.
AGAIN_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Stocktaken:
    """The instances of this host are known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What libvirt has.

    :ivar states: uuid -> (state, reason) of every domain; None where libvirt
        did not say
    :ivar since: when it was asked for, monotonic seconds
    """

    states: Optional[dict]
    since: float


@dataclasses.dataclass(frozen=True, slots=True)
class Suspect:
    """An instance that is not as expected.

    :ivar finding: what it is
    :ivar since: of the look that found it
    :ivar asked_at: when nova-conductor told of it, monotonic seconds; None
        where it has not yet
    """

    finding: Finding
    since: float
    asked_at: Optional[float] = None


@dataclasses.dataclass(frozen=True, slots=True)
class SecondLook:
    """What libvirt has once nova-conductor has answered.

    :ivar suspects: uuid -> Suspect
    :ivar states: as in Look
    """

    suspects: dict
    states: Optional[dict]


@dataclasses.dataclass(frozen=True, slots=True)
class Disks:
    """The disks of an instance that have an error.

    :ivar errors: nova_vmhealth.core.reconcile.DiskError of each; none where
        libvirt cannot say
    """

    instance_uuid: str
    errors: tuple


class Jobs:
    """Asks, from the worker, and answers.

    :param link: nova_vmhealth.virt.libvirt_link.LibvirtLink
    :param compute_host: this host's name, as instances carry it
    :param cache: nova_vmhealth.virt.identity.InstanceCache
    :param saved: nova_vmhealth.virt.saved_ledger.SavedLedger
    :param ask_conductor: Background.submit of the thread for RPC
    :param ask_libvirt: Background.submit of a thread that no QEMU holds up
    :param ask_qemu: Background.submit of a thread that a QEMU which hangs may
        hold up
    :param answer: puts into the worker's inbox
    :param monotonic: clock, seconds
    """

    def __init__(self, link, compute_host, cache, saved, ask_conductor,
                 ask_libvirt, ask_qemu, answer, monotonic=time.monotonic):
        self._link = link
        self._compute_host = compute_host
        self._cache = cache
        self._saved = saved
        self._ask_conductor = ask_conductor
        self._ask_libvirt = ask_libvirt
        self._ask_qemu = ask_qemu
        self._answer = answer
        self._monotonic = monotonic
        # Suspects that nova-conductor, and then libvirt, is yet to be asked
        # about. A job that is not done yet takes those along that come later.
        # Changed by single operations on the dicts, which are atomic.
        self._unconfirmed = {}
        self._confirmed = {}

    # -- from the worker -----------------------------------------------------

    def take_stock(self):
        """Read which instances are here."""
        self._ask_conductor('reading the instances of this host',
                            self._take_stock)

    def look(self, since):
        """See what libvirt has.

        :param since: the time now, monotonic seconds
        """
        self._ask_libvirt('looking at all domains', lambda: self._answer(
            Look(self._states(), since)))

    def confirm(self, suspects):
        """Ask how suspects ought to be, and look at them once more.

        :param suspects: uuid -> Suspect
        """
        self._unconfirmed.update(suspects)
        self._ask_conductor('reading what is not as expected', self._confirm)

    def name_disks(self, uuid):
        """Ask which disks of an instance have an error."""
        self._ask_qemu(f'asking for the disk errors of {uuid}',
                       lambda: self._answer(
                           Disks(uuid, self._disk_errors(uuid))))

    def tell_unnamed(self, uuid):
        """Wait no longer for the names of an instance's disks."""
        self._answer(Disks(uuid, ()))

    # -- for nova-conductor --------------------------------------------------

    def _take_stock(self):
        here = self._cache.load_all(self._compute_host)
        # First: the heartbeats of those that are here wait for it.
        self._answer(Stocktaken())
        for uuid in sorted(self._saved.instances() - here):
            self._look_for_later(uuid)

    def _look_for_later(self, uuid, delay_s=0.0):
        self._ask_conductor(f'looking for instance {uuid}',
                            lambda: self._look_for(uuid), delay_s)

    def _look_for(self, uuid):
        """Find out whether an instance is here, and forget it if not.

        :returns: whether it is
        """
        found = self._cache.load(uuid, self._compute_host)
        if found.busy and not found.here:
            self._look_for_later(uuid, AGAIN_S)
        elif not found.here:
            self._answer(Observation(Kind.FORGOTTEN, uuid, time.time()))
        return found.here

    def _confirm(self):
        suspects = dict(self._unconfirmed)
        here = ()
        if len(suspects) >= MANY:
            here = self._cache.load_all(self._compute_host)
            loaded_at = self._monotonic()
        for uuid, suspect in suspects.items():
            if uuid in here:
                self._confirmed[uuid] = dataclasses.replace(
                    suspect, asked_at=loaded_at)
            elif not self._confirm_one(uuid, suspect):
                continue
            # The next look may have brought a newer one.
            if self._unconfirmed.get(uuid) is suspect:
                del self._unconfirmed[uuid]
        if self._confirmed:
            self._ask_libvirt('looking again at what is not as expected',
                              self._look_twice)
        if self._unconfirmed:
            self._ask_conductor('reading what is not as expected',
                                self._confirm, AGAIN_S)

    def _confirm_one(self, uuid, suspect):
        """Ask about one suspect.

        :returns: whether there was an answer
        """
        try:
            is_here = self._look_for(uuid)
        except oslo_messaging.MessagingTimeout:
            raise           # The others have to wait for nova-conductor, too.
        except Exception as error:
            # Whatever nova-conductor, or the database behind it, has against
            # this instance, the others are to be judged.
            LOG.warning('Cannot read an instance that is not as expected, '
                        'again in %(seconds)d s: %(error)s',
                        {'seconds': AGAIN_S, 'error': error},
                        instance_uuid=uuid)
            return False
        if is_here:
            self._confirmed[uuid] = dataclasses.replace(
                suspect, asked_at=self._monotonic())
        return True

    # -- for libvirt ---------------------------------------------------------

    def _look_twice(self):
        suspects = {uuid: self._confirmed.pop(uuid)
                    for uuid in list(self._confirmed)}
        self._answer(SecondLook(suspects, self._states()))

    def _states(self):
        try:
            return self._link.ask(domain_sample.all_states)
        except (nova_host.libvirt.libvirtError,
                nova_exception.HypervisorUnavailable) as error:
            # Of libvirt's end there is word, and a look when it is back.
            if not self._link.lost:
                LOG.warning('libvirt does not say what it has: %s', error)
            return None

    def _disk_errors(self, uuid):
        try:
            return domain_sample.disk_errors(
                self._link.get_connection().lookupByUUIDString(uuid))
        except (nova_host.libvirt.libvirtError,
                nova_exception.HypervisorUnavailable) as error:
            LOG.debug('libvirt does not say which disks have an error: %s',
                      error)
            return ()
