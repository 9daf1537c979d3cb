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


"""What systemd wants to know of a service of Type=notify."""

import os
import socket

from nova_vmhealth.guest.board import audits_run
from nova_vmhealth.guest.health import Complaint
from nova_vmhealth.guest.stall import TICK_SECONDS

# Twice in the time that systemd waits, as it recommends (sd_watchdog_enabled).
PETS = 2
# The least time between two, seconds: a watchdog in milliseconds is a mistake.
MIN_PERIOD_SECONDS = 0.1


def watchdog_period(environ, pid):
    """Return the seconds between two signs of life, None for no watchdog.

    :param environ: the environment that systemd made
    :param pid: our own, for a watchdog that is meant for another process
    """
    if environ.get('WATCHDOG_PID', str(pid)) != str(pid):
        return None
    try:
        period = int(environ.get('WATCHDOG_USEC', '0')) / 1e6 / PETS
    except ValueError:
        return None
    return max(period, MIN_PERIOD_SECONDS) if period > 0 else None


def take_notifier(environ):
    """Return the Notifier that an environment asks for, or None.

    The variables are taken out: they are not for the programs that we start.
    """
    address = environ.get('NOTIFY_SOCKET', '')
    period = watchdog_period(environ, os.getpid())
    for name in ('NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'):
        environ.pop(name, None)
    if address[:1] not in ('/', '@'):
        return None
    return Notifier(address, period)


class Notifier:
    """Tells systemd that we are ready, alive and what we do.

    :param address: of systemd's socket; '@' stands for an abstract one
    :param pet_period: seconds between two signs of life, None for none
    """

    def __init__(self, address, pet_period=None):
        if address.startswith('@'):
            address = '\0' + address[1:]
        self._address = address
        self._pet_period = pet_period
        self._pet_at = 0.0
        self._ready = False
        self._status = ''
        self._complain = Complaint()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # The answers to the host must not wait for systemd.
        self._socket.setblocking(False)

    @property
    def period(self):
        """How often, in seconds, tick() has to be called."""
        return min(self._pet_period or TICK_SECONDS, TICK_SECONDS)

    def tick(self, snapshot, status, now):
        """Say what there is to say.

        :param snapshot: the Snapshot of the audits; no sign of life is given
            while their thread hangs
        :param status: what the agent does, in a few words
        :param now: monotonic time, in seconds
        """
        lines = [] if self._ready else ['READY=1']
        if status != self._status:
            lines.append('STATUS=' + status)
        pet = (self._pet_period is not None and now >= self._pet_at
               and audits_run(snapshot))
        if pet:
            lines.append('WATCHDOG=1')
        if lines and self._send(lines):
            self._ready, self._status = True, status
            if pet:
                self._pet_at = now + self._pet_period

    def excuse(self, late, now):
        """Take note that the agent did not run; there is nothing to mend."""

    def stop(self):
        """Say that the agent is about to end."""
        self._send(['STOPPING=1'])
        self._socket.close()

    def _send(self, lines):
        try:
            self._socket.sendto('\n'.join(lines).encode(), self._address)
        except OSError as error:
            # Said again at the next tick.
            self._complain('systemd cannot be told: %s' % error)
            return False
        self._complain('')
        return True
