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


"""A watchdog device that is petted only while the audits are well.

Once open, the device resets the guest when nobody writes to it for its
timeout. So it fires when the kernel or the agent hangs, and, because we stop
petting it, when an audit has been unhealthy for too long.
"""

import fcntl
import os
import struct

from nova_vmhealth.guest.board import audits_run
from nova_vmhealth.guest.board import OWN_AUDIT
from nova_vmhealth.guest.health import Complaint
from nova_vmhealth.guest.health import LOG
from nova_vmhealth.guest.health import UNHEALTHY
from nova_vmhealth.guest.stall import TICK_SECONDS

# linux/watchdog.h: _IOWR('W', 6, int), the same on all architectures.
WDIOC_SETTIMEOUT = 0xc0045706
# A 'V' right before the close stops the device; anything else is a pet.
MAGIC_CLOSE, PET = b'V', b'.'


class Grace:
    """Decides whether the guest is well enough to be kept running.

    :param names: the audits that matter, none for all
    :param seconds: how long one may be unhealthy, or not looked after
    """

    def __init__(self, names, seconds):
        self._names = frozenset(names)
        self._seconds = seconds
        self._ill_since = None

    def refusal(self, snapshot, now):
        """Return why the watchdog must not be petted, '' if it may be.

        What is not known yet does no harm: an audit that never ends gets
        unhealthy by its timeout.

        :param snapshot: the Snapshot of the audits
        :param now: monotonic time, in seconds
        """
        ill = [r.name for r in snapshot.results if r.health == UNHEALTHY
               and (not self._names or r.name in self._names)]
        if not audits_run(snapshot):
            ill.append(OWN_AUDIT)
        if not ill:
            self._ill_since = None
            return ''
        if self._ill_since is None:
            self._ill_since = now
        if now - self._ill_since <= self._seconds:
            return ''
        return ', '.join(ill)

    def unknown(self, snapshot):
        """Return the names that matter and of which nothing is known.

        Before the health is known there are none: audits may not have ended.

        :param snapshot: the Snapshot of the audits
        """
        if snapshot.health is None:
            return []
        known = {result.name for result in snapshot.results} | {OWN_AUDIT}
        return sorted(self._names - known)

    def excuse(self, late, now):
        """Do not count some seconds in which the guest did not run."""
        if self._ill_since is not None:
            self._ill_since = min(self._ill_since + late, now)


class Watchdog:
    """Pets a watchdog device; see the module.

    :param path: of the device
    :param timeout: seconds to ask the device for
    :param grace: a Grace
    """

    period = TICK_SECONDS

    def __init__(self, path, timeout, grace, ioctl=fcntl.ioctl):
        self._path = path
        self._timeout = timeout
        self._grace = grace
        self._ioctl = ioctl
        self._fd = None
        self._pet_at = 0.0
        self._complain = Complaint()
        self._complain_of_names = Complaint()

    def tick(self, snapshot, status, now):
        """Pet the device if it is time and the audits allow it.

        :param snapshot: the Snapshot of the audits
        :param status: what the agent does; of no interest here
        :param now: monotonic time, in seconds
        """
        if now < self._pet_at:
            return
        self._pet_at = now + self.period
        unknown = ', '.join(self._grace.unknown(snapshot))
        self._complain_of_names(
            'the watchdog minds audits of which nothing is known: ' + unknown
            if unknown else '')
        refusal = self._grace.refusal(snapshot, now)
        if refusal:
            self._complain('%s is not petted any more: unhealthy for too '
                           'long: %s' % (self._path, refusal))
            return
        try:
            if self._fd is None:
                self._open()
            os.write(self._fd, PET)
            self._complain('')
        except OSError as error:
            self._complain('the watchdog cannot be petted: %s' % error)

    def _open(self):
        """Open the device, which starts it, and set its timeout."""
        self._fd = os.open(self._path, os.O_WRONLY)
        wanted = struct.pack('i', self._timeout)
        try:
            [timeout] = struct.unpack(
                'i', self._ioctl(self._fd, WDIOC_SETTIMEOUT, wanted))
        except OSError as error:
            LOG.warning('%s keeps its own timeout: %s', self._path, error)
        else:
            LOG.info('%s resets the guest after %d s', self._path, timeout)

    def excuse(self, late, now):
        """Do not count some seconds in which the guest did not run."""
        self._grace.excuse(late, now)

    def stop(self):
        """Stop the device, unless its driver was told never to stop."""
        if self._fd is None:
            return
        try:
            os.write(self._fd, MAGIC_CLOSE)
        except OSError as error:
            LOG.warning('%s goes on: %s', self._path, error)
        os.close(self._fd)
        self._fd = None
