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

"""Take health events from whoever has them, and see to it that they arrive.

An event is built at once, with what is known of its instance then, written to
disk together with what the ledger knows, and sent from a thread of its own:
what goes wrong on the bus holds up that thread and nobody else, and nothing
that was written is lost by it.
"""

import collections
import json
import threading
import time

from oslo_log import log as logging

from nova_vmhealth.core import vocabulary
from nova_vmhealth.notifications import outbox
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import sender
from nova_vmhealth.notifications import tables
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

MAX_EVENTS = 100000
MAX_BYTES = 256 * 1024 * 1024

# A full outbox drops an event for each that comes; a file that somebody else
# holds is tried at each commit.
LOG_PERIOD_S = 60

_PRIORITY_OF = {
    vocabulary.Severity.INFO: 'info',
    vocabulary.Severity.WARNING: 'warn',
    vocabulary.Severity.CRITICAL: 'error',
}

# What a full outbox may drop first. Each event says all there is to know of
# its window: one that only changed it is made superfluous by the next.
_TRANSITION_OF = {
    vocabulary.MaintenanceStage.ANNOUNCED: 'raised',
    vocabulary.MaintenanceStage.CHANGED: 'updated',
    vocabulary.MaintenanceStage.STARTED: 'raised',
    vocabulary.MaintenanceStage.ENDED: 'cleared',
    vocabulary.MaintenanceStage.CANCELLED: 'cleared',
}


def _owner(identity):
    if identity is None:
        return None, None
    return identity.tenant_id, identity.user_id


class Publisher:
    """Publish health events in the order in which they were submitted.

    :param delivery: nova_vmhealth.notifications.delivery.Delivery
    :param path: of the file that keeps what is not sent yet; None: in memory
    :param max_events: how many events may wait
    :param max_bytes: how much they may take on disk
    :param fsync: whether to wait for the disk at each commit
    :param priority: ``info`` for all events, or ``severity`` to follow the
        condition's (critical: error, warning: warn), for ``cleared`` too, so
        that who hears of a fault hears of its end
    :param new_thread: makes a native thread, as threading.Thread does where
        eventlet has not replaced it
    :raises ValueError: for any other priority
    """

    def __init__(self, delivery, path=None, *, max_events=MAX_EVENTS,
                 max_bytes=MAX_BYTES, fsync=False, priority='info',
                 new_thread=threading.Thread):
        if priority not in ('info', 'severity'):
            raise ValueError(f'priority: info or severity, not {priority!r}')
        self._follow_severity = priority == 'severity'
        self._outbox = outbox.Outbox(path, max_events=max_events,
                                     max_bytes=max_bytes, fsync=fsync,
                                     new_thread=new_thread)
        self._sender = sender.Sender(self._outbox, delivery)
        self._is_open = False
        # submitted, and not written down yet
        self._rows = []
        # name -> text, not written down yet
        self._pages = {}
        self._switches = 0
        self._unreadable = 0
        self._dropped = collections.Counter()
        self._coalesced = 0
        self._may_log_drop = throttle.Throttle(LOG_PERIOD_S)
        self._may_log_busy = throttle.Throttle(LOG_PERIOD_S)

    @classmethod
    def configured(cls, delivery, path, options, **others):
        """Make one as the operator wants it.

        :param delivery: as for the class, as are the others
        :param path: as for the class
        :param options: the group ``[vmhealth]``
        """
        return cls(delivery, path, max_events=options.outbox_max_events,
                   max_bytes=options.outbox_max_mib * 1024 * 1024,
                   fsync=options.outbox_fsync,
                   priority=options.notification_priority, **others)

    def start(self):
        """Open the file and start to send what an earlier run left in it."""
        self._outbox.open()
        self._is_open = True
        # What the one before had, if any, was not given to anybody.
        self._switches = self._outbox.switches
        if self._outbox.depth:
            LOG.info('%d health events of an earlier run are to be sent',
                     self._outbox.depth)
        self._sender.start()

    def saved_pages(self):
        """Return what :meth:`commit` wrote down, in this run or earlier ones.

        :returns: name of the page -> text
        """
        return self._outbox.pages()

    def stop(self, timeout_s):
        """Send what the bus takes now, then end; the rest stays on disk.

        What was not committed is of a turn that did not end: its pages are
        not known, and the next run would number other events like its own.

        :param timeout_s: seconds to wait for that; a send that hangs is left
            behind in its daemon thread
        """
        if not self._is_open:
            return
        self._is_open = False
        ended = self._sender.stop(timeout_s)
        left = self._outbox.depth
        if left and self._outbox.on_disk:
            LOG.info('%d health events stay on disk until the next start',
                     left)
        elif left:
            LOG.error('%d health events were not sent before the stop, and '
                      'are lost: they were in memory only', left)
        if ended:
            self._outbox.close()

    def submit(self, event, identity, heartbeat):
        """Take an event; it is on disk after the next :meth:`commit`.

        Never blocks and never raises. From the thread that commits.

        :param event: a HealthEvent
        :param identity: the InstanceIdentity of its instance
        :param heartbeat: the instance's HeartbeatStatus, or None
        """
        project_id, user_id = _owner(identity)
        self._submit(
            lambda: payload.payload_of(event, identity, heartbeat),
            event_type=payload.EVENT_TYPE, about=event.instance_uuid,
            project_id=project_id, user_id=user_id,
            **self._of_condition(event))

    def submit_host(self, event, host, projects):
        """Take an event of a host itself, as :meth:`submit` does.

        Its context has no project: it is about those of many.

        :param event: a HostEvent
        :param host: name of the compute service that it is about
        :param projects: instance uuid -> its project, for the instances that
            the event names
        """
        self._submit(
            lambda: payload.host_payload_of(event, host, projects),
            event_type=payload.HOST_EVENT_TYPE, about=host,
            **self._of_condition(event))

    def submit_maintenance(self, event):
        """Take what a project is told of maintenance, as :meth:`submit` does.

        Its context has that project, and no user. Its priority is ``info``,
        whatever that of others follows.

        :param event: a MaintenanceEvent
        """
        self._submit(
            lambda: payload.maintenance_payload_of(event),
            event_id=event.event_id,
            event_type=payload.MAINTENANCE_EVENT_TYPE,
            about=f'{event.project_id}/{event.window_id}',
            cause='maintenance', subject='',
            transition=_TRANSITION_OF[event.stage], priority='info',
            project_id=event.project_id)

    def _of_condition(self, event):
        priority = 'info'
        if self._follow_severity:
            priority = _PRIORITY_OF[event.severity]
        return {'event_id': event.event_id, 'cause': event.cause.value,
                'subject': event.subject,
                'transition': event.transition.value, 'priority': priority}

    def _submit(self, build, *, project_id=None, user_id=None, **columns):
        try:
            text = json.dumps(build())
            # Half a surrogate is no text, and no other row may wait for it.
            for each in (*columns.values(), project_id or '', user_id or ''):
                each.encode()
        # A defect in what describes one event must not keep the others from
        # being told; the trace says where it is.
        except Exception:
            self._unreadable += 1
            LOG.exception('Health event %(event_id)s of %(about)r is given up',
                          columns)
            return
        self._rows.append(outbox.Row(
            project_id=project_id, user_id=user_id, payload=text,
            noted_at=time.time(), **columns))

    def commit(self, pages):
        """Write down what was submitted since the last commit, and send it.

        All of it or nothing is on disk afterwards, unless the disk fails: then
        it is in memory. What could not be written goes with the next call,
        whatever kept it: an error of this call loses nothing.

        :param pages: name -> text to keep with it, None to drop it
        :returns: whether it is written
        """
        self._pages.update(pages)
        if not self._is_open:
            return False
        self._sender.tell_stuck()
        try:
            dropped = self._outbox.write(self._rows, self._pages)
        except tables.Busy as error:
            if self._may_log_busy.ready():
                LOG.warning('Somebody else holds the database of health '
                            'events, %(error)s: %(rows)d events wait for it',
                            {'error': error, 'rows': len(self._rows)})
            return False
        if self._rows:
            self._sender.wake()
        self._rows, self._pages = [], {}
        if dropped:
            self._tell(dropped)
        return True

    @property
    def is_behind(self):
        """Whether :meth:`commit` is to be called again soon."""
        return self._is_open and bool(
            self._pages or self._rows or self._outbox.is_returning)

    def was_renewed(self):
        """Say whether another file, or memory, took the place of the one used.

        Not all pages may be in it: they are to be committed again, all.

        :returns: whether it did since the last call
        """
        before, self._switches = self._switches, self._outbox.switches
        return before != self._switches

    def take_found(self):
        """Give pages of an earlier run that could not be read at the start.

        To be called when :meth:`was_renewed` says so.

        :returns: as :meth:`saved_pages`; nothing the next time
        """
        return self._outbox.take_found()

    def _tell(self, dropped):
        for each in dropped:
            if each.superfluous:
                self._coalesced += 1
                continue
            self._dropped[each.transition] += 1
            if each.transition == 'raised':
                LOG.error(
                    'Health event %(id)s is dropped, since too many wait for '
                    'the broker: %(cause)s of %(about)s was raised',
                    {'id': each.event_id, 'cause': each.cause,
                     'about': each.about or 'the host'})
        if self._may_log_drop.ready():
            LOG.error(
                'Too many health events wait for the broker, %(depth)d. So '
                'far %(coalesced)d were dropped that a later one replaces, '
                'and %(dropped)d others',
                {'depth': self._outbox.depth, 'coalesced': self._coalesced,
                 'dropped': self._dropped.total()})

    def statistics(self):
        """Return the counters, all numbers, by name."""
        return {
            'notifications_waiting': self._outbox.depth,
            'notifications_on_disk': int(self._outbox.on_disk),
            'notifications_outage_s': self._sender.outage_s,
            'notifications_sent': self._sender.sent,
            'notifications_failed': self._sender.failed + self._unreadable,
            'notifications_coalesced': self._coalesced,
            'notifications_dropped_raised': self._dropped['raised'],
            'notifications_dropped_updated': self._dropped['updated'],
            'notifications_dropped_cleared': self._dropped['cleared'],
        }
