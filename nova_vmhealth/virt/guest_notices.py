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

"""Tells a guest what Nova is about to do to it, and what it has done.

Only a guest whose agent asked for notices is told, and Nova waits for its
answer for the operator's limit at most.
"""

import time

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

# Driver methods that end or freeze a guest, and what it is told before them.
# ``destroy`` too: a server that is deleted stops like any other, and its
# cluster wants to know. Not here are those that find no guest to tell, such as
# ``spawn``, those that freeze it for moments, such as ``snapshot``, and
# ``unrescue``, which stops a rescue system that is nobody's application.
BEFORE = {
    'power_off': 'stop',
    'destroy': 'stop',
    'reboot': 'reboot',
    'suspend': 'suspend',
    'pause': 'pause',
    'live_migration': 'migrate',
    'migrate_disk_and_power_off': 'resize',
    'rescue': 'rescue',
}
# Driver methods after which a guest's clock and peers have moved on. A guest
# that boots anew need not be told.
AFTER = {
    'resume': 'resumed',
    'unpause': 'resumed',
    'post_live_migration_at_destination': 'migrated',
}
# libvirt tells of a domain that is there again at about the time at which
# Nova's operation ends; this much later, seconds, it is about something else.
_KEEP_S = 60.0
# An answer is seen this late at most, seconds.
_POLL_S = 0.010


class GuestNotices:
    """Notices to the guests of this host.

    :param heartbeat: nova_vmhealth.virt.heartbeat.HeartbeatMonitor
    :param steering: nova_vmhealth.virt.steering.Steering
    :param timeout_ms: longest wait for an answer, milliseconds; 0 sends
        nothing that would be waited for
    :param monotonic: the clock of that wait, seconds
    :param sleep: called with seconds; by default whatever Nova's threads use
    """

    def __init__(self, heartbeat, steering, timeout_ms,
                 monotonic=time.monotonic, sleep=None):
        self._heartbeat = heartbeat
        self._steering = steering
        self._timeout_ms = timeout_ms
        self._monotonic = monotonic
        self._sleep = sleep or time.sleep
        # uuid -> what a guest that is not watched yet is to be told, and until
        # when; Nova's threads and the worker both take from it
        self._kept = {}

    def before(self, uuid, method):
        """Tell a guest what comes, and wait until it is ready for it.

        Called on Nova's thread that runs the operation; no other waits.

        :param uuid: the instance
        :param method: name of the driver's method
        """
        operation = BEFORE.get(method)
        # Who cannot answer is not waited for.
        if (operation is None or not self._timeout_ms
                or not self._steering.is_running(uuid)
                or self._steering.is_lost(uuid)):
            return
        notice = self._heartbeat.notice(uuid, operation, self._timeout_ms)
        if notice is not None:
            began = self._monotonic()
            outcome = self._wait(notice, began)
            LOG.info('[instance: %(uuid)s] its guest was told of %(operation)s'
                     ' and %(outcome)s after %(ms)d ms',
                     {'uuid': uuid, 'operation': operation,
                      'outcome': outcome,
                      'ms': round((self._monotonic() - began) * 1000)})

    def after(self, uuid, method):
        """Tell a guest what has happened, as soon as it listens.

        :param uuid: the instance
        :param method: name of the driver's method, which succeeded
        """
        operation = AFTER.get(method)
        if operation is None:
            return
        # Kept before it is looked whether the guest is watched: whoever comes
        # second, this thread or the worker, finds it.
        self._kept[uuid] = (operation, self._monotonic() + _KEEP_S)
        if self._heartbeat.status(uuid) is not None:
            self.watched(uuid)

    def watched(self, uuid):
        """Take note that a guest is watched now.

        :param uuid: the instance
        """
        operation, until = self._kept.pop(uuid, (None, 0.0))
        if operation is not None and self._monotonic() <= until:
            self._heartbeat.notice_later(uuid, operation)

    def forget(self, uuid):
        """Drop an instance that left this host."""
        self._kept.pop(uuid, None)

    def _wait(self, notice, began):
        while True:
            if notice.acked:
                return 'was ready'
            if notice.over:
                return 'was gone'
            if self._monotonic() - began >= self._timeout_ms / 1000:
                return 'gave no answer'
            self._sleep(_POLL_S)
