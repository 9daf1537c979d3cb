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


"""What Nova expects against what libvirt has."""

import dataclasses

from nova.compute import power_state
from nova import exception as nova_exception


@dataclasses.dataclass(frozen=True, slots=True)
class Present:
    """A domain that libvirt has when nova-compute starts."""

    instance_uuid: str
    running: bool


class Reconciler:
    """Compares at start, on every reconnect to libvirt, and on a period.

    :param host: HealthHost
    :param compute_host: this host's name, as instances carry it
    :param cache: nova_vmhealth.virt.identity.InstanceCache
    :param ledger: nova_vmhealth.core.ledger.Ledger
    :param steering: nova_vmhealth.virt.steering.Steering
    :param saved: nova_vmhealth.virt.saved_ledger.SavedLedger
    :param ask_conductor: Background.submit of the thread for RPC
    :param ask_libvirt: Background.submit of a thread that a QEMU which hangs
        may hold up
    :param answer: puts into the worker's inbox
    :param tell_host: called with each HostEvent, on the worker
    :param interval_s: between two comparisons, seconds
    """

    def __init__(self, host, compute_host, cache, ledger, steering, saved,
                 ask_conductor, ask_libvirt, answer, tell_host, interval_s):
        self._host = host
        self._compute_host = compute_host
        self._cache = cache
        self._steering = steering
        self._ask_conductor = ask_conductor
        self._answer = answer

    def start(self):
        """Compare for the first time; returns at once."""
        self._ask_conductor('reading the instances of this host',
                            self._take_stock)

    def take(self, item, now, wall):
        """Take in what libvirt or nova-conductor answered.

        :param item: Present
        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        :returns: observations for the ledger, in their order
        """
        entry = self._cache.get(item.instance_uuid)
        if entry is not None and item.running:
            self._steering.present(item.instance_uuid, entry)
        return ()

    def next_deadline(self):
        """Return when to call :meth:`handle_timer`; None for never."""
        return None

    def handle_timer(self, now):
        """Do what time alone asks for.

        :param now: monotonic time, seconds
        """

    def _take_stock(self):
        self._cache.load_all(self._compute_host)
        for guest in self._host.list_guests(only_running=False):
            try:
                state = guest.get_power_state(self._host)
            except nova_exception.InstanceNotFound:     # just deleted
                continue
            self._answer(Present(guest.uuid, state == power_state.RUNNING))
