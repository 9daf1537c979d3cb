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


"""What an instance takes along to another host: its passport.

The numbers of its events go on there, and a guest that has answered is missed
at once when it does not. The host that it leaves puts that into the instance's
system_metadata, which Nova saves, or sends along, right after; the host that
it comes to reads it before it tells anything. There is no save of our own: it
would race with Nova's.

Between its first moment at its new host and the passport, a guest that is
migrated while it runs may have something to tell already: the ledger keeps
that (:meth:`nova_vmhealth.core.ledger.Ledger.defer`).
"""

import dataclasses
import re
import time

from nova.compute import task_states
from oslo_log import log as logging

from nova_vmhealth.core.session_table import Guest

LOG = logging.getLogger(__name__)

# system_metadata keeps 255 characters of a value.
KEY = 'vmhealth_passport'
_FORM = re.compile(r'v1 (\d{1,18}) ([01])', re.ASCII)

# How long Nova's thread waits for the worker, seconds: a turn of it takes
# milliseconds, and an instance that comes without a passport is watched too.
WAIT_S = 2.0

# Driver methods, of Nova 31-34. After a departure the manager sends the
# instance to the other host by RPC, changes and all (post_live_migration), or
# saves it (the others).
_DEPARTURES = frozenset({'post_live_migration', 'migrate_disk_and_power_off'})
# destroy() leads away only in these; else the instance is deleted or built
# anew, or it was evacuated long ago.
_AWAY = frozenset({
    task_states.RESIZE_REVERTING, task_states.SHELVING,
    task_states.SHELVING_OFFLOADING})
_ARRIVALS = frozenset({
    'post_live_migration_at_destination', 'finish_migration',
    'finish_revert_migration', 'spawn'})
# It comes, if all goes well, and runs here before its passport is here.
_EXPECTED = 'pre_live_migration'


@dataclasses.dataclass(frozen=True, slots=True)
class Passport:
    """What is known of an instance that has left its host.

    :ivar sequence: of its last event
    :ivar heard: whether the guest has answered since it was started
    """

    sequence: int
    heard: bool


def write(instance, passport):
    """Put a passport into an instance, where Nova has loaded what it takes.

    :param instance: nova.objects.Instance
    """
    if 'system_metadata' not in instance:
        return
    # A host that lost what it had saved knows less than the last one said.
    earlier = read(instance)
    sequence = max(passport.sequence, earlier.sequence if earlier else 0)
    instance.system_metadata[KEY] = 'v1 %d %d' % (sequence, passport.heard)


def read(instance):
    """Return the passport of an instance, None without one that is valid.

    :param instance: nova.objects.Instance
    """
    if 'system_metadata' not in instance:
        return None
    found = _FORM.fullmatch(instance.system_metadata.get(KEY, ''))
    return found and Passport(int(found[1]), found[2] == '1')


def leads_away(instance, operation):
    """Say whether an instance leaves its host with an operation.

    :param instance: nova.objects.Instance
    :param operation: name of the driver's method
    """
    return (operation in _DEPARTURES
            or operation == 'destroy' and instance.task_state in _AWAY)


class PassportControl:
    """Writes passports and takes them up, for Nova's threads.

    :param ledger: nova_vmhealth.core.ledger.Ledger
    :param steering: nova_vmhealth.virt.steering.Steering
    :param cache: nova_vmhealth.virt.identity.InstanceCache
    :param worker: nova_vmhealth.virt.worker.Worker
    :param compute_host: this host's name, as instances carry it
    """

    def __init__(self, ledger, steering, cache, worker, compute_host):
        self._ledger = ledger
        self._steering = steering
        self._cache = cache
        self._worker = worker
        self._compute_host = compute_host

    def before(self, instance, operation):
        """Nova begins with an operation; returns at once.

        :param instance: nova.objects.Instance
        :param operation: name of the driver's method
        """
        uuid = instance.uuid
        if operation == _EXPECTED:
            self._worker.post(lambda: self._ledger.defer(uuid))
        elif operation in _ARRIVALS:
            passport = read(instance)
            self._worker.post(lambda: self._arrive(uuid, passport))

    def after(self, instance, operation):
        """Nova's operation has succeeded.

        It waits for the worker, a moment, where the instance leaves.

        :param instance: nova.objects.Instance
        :param operation: name of the driver's method
        """
        if not leads_away(instance, operation):
            return
        uuid = instance.uuid
        passport = self._worker.call(lambda: self._leave(uuid), WAIT_S)
        if passport is None:
            LOG.warning('No passport after %s: the events of this instance '
                        'are counted anew at its next host', operation,
                        instance=instance)
        else:
            write(instance, passport)

    # -- on the worker -------------------------------------------------------

    def _leave(self, uuid):
        guest = self._ledger.guest(uuid)
        events, sequence = self._ledger.leave(
            uuid, time.monotonic(), time.time())
        self._worker.tell(events)
        return Passport(sequence, guest in (Guest.BEATING, Guest.LOST))

    def _arrive(self, uuid, passport):
        self._cache.arrived(uuid, self._compute_host)
        self._worker.tell(self._ledger.adopt(
            uuid, passport.sequence if passport else 0))
        entry = self._cache.get(uuid)
        if passport and passport.heard and entry is not None:
            self._steering.was_heard(uuid, entry)
