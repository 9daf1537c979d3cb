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

"""Tells health events: to the publisher, and in the log."""

import dataclasses
import logging as levels
import time

from oslo_log import log as logging

from nova_vmhealth.core.vocabulary import Severity
from nova_vmhealth.core.vocabulary import Transition

LOG = logging.getLogger(__name__)

# An agent may exit and come back ten times a second; the log says so once in
# this many seconds, for each way to an instance.
ESTABLISHED_EVERY_S = 60.0


class Reporter:
    """Hands events on, in the order in which it gets them.

    :param publisher: nova_vmhealth.notifications.publisher.Publisher
    :param compute_host: this host's name
    :param entry_of: gives the identity.Entry of an instance, or None
    :param status_of: gives the HeartbeatStatus of an instance, or None
    :param standing: nova_vmhealth.core.host_standing.HostStanding
    :param wall_clock: seconds since the epoch
    """

    def __init__(self, publisher, compute_host, entry_of, status_of,
                 standing, wall_clock=time.time):
        self._publisher = publisher
        self._compute_host = compute_host
        self._entry_of = entry_of
        self._status_of = status_of
        self._standing = standing
        self._wall_clock = wall_clock
        # uuid -> way -> when the log says next that it was taken; of the
        # instances of this host only
        self._established = {}

    def tell(self, event, entry):
        """Tell a change of an instance's health.

        :param event: nova_vmhealth.core.vocabulary.HealthEvent
        :param entry: nova_vmhealth.virt.identity.Entry
        """
        uuid = event.instance_uuid
        event = dataclasses.replace(
            event, suppressed=self._standing.is_planned(self._wall_clock()))
        self._publisher.submit(
            event, dataclasses.replace(
                entry.identity, host_status=self._standing.status.value),
            self._status_of(uuid))
        LOG.log(_level(event),
                '[instance: %(uuid)s] %(cause)s%(subject)s '
                '%(transition)s, health %(health)s: %(details)s',
                {'uuid': uuid, 'cause': event.cause.value,
                 'subject': f' ({event.subject})' if event.subject else '',
                 'transition': event.transition.value,
                 'health': event.health.value,
                 'details': dict(event.details)})

    def established(self, uuid, way, now):
        """Log which way a heartbeat takes, unless that was said just now.

        :param uuid: the instance
        :param way: how the guest's port is reached
        :param now: monotonic time, seconds
        """
        ways = self._established.setdefault(uuid, {})
        if now < ways.get(way, now):
            return
        ways[way] = now + ESTABLISHED_EVERY_S
        LOG.info('[instance: %(uuid)s] heartbeat established, way: %(way)s',
                 {'uuid': uuid, 'way': way})

    def forget(self, uuid):
        """Drop what was said of an instance that was started, or has left."""
        self._established.pop(uuid, None)

    def tell_host(self, event):
        """Tell a change of the host's own health.

        :param event: nova_vmhealth.core.vocabulary.HostEvent
        """
        entries = {uuid: self._entry_of(uuid) for uuid in event.instance_uuids}
        self._publisher.submit_host(
            event, self._compute_host,
            {uuid: entry.identity.tenant_id
             for uuid, entry in entries.items() if entry is not None})
        LOG.log(_level(event),
                'host %(host)s: %(cause)s%(subject)s %(transition)s, status '
                '%(status)s, %(guests)d guests: %(details)s',
                {'host': self._compute_host, 'cause': event.cause.value,
                 'subject': f' ({event.subject})' if event.subject else '',
                 'status': event.status.value,
                 'transition': event.transition.value,
                 'guests': event.instance_count,
                 'details': dict(event.details)})


def _level(event):
    if event.transition is Transition.RAISED \
            and event.severity is Severity.CRITICAL and not event.suppressed:
        return levels.WARNING
    return levels.INFO
