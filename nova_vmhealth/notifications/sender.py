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

"""The thread that takes events out of the outbox and to the bus.

The oldest first, the next one when the broker has confirmed it. An outage of
the bus is waited for without end; an event that is at fault itself is given
up, so that it does not hold up those of others.
"""

import random
import threading
import time

from oslo_log import log as logging

from nova_vmhealth.notifications import delivery as delivery_lib
from nova_vmhealth.notifications import tables
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

# Pauses between attempts, seconds. The longest is what a broker that is back
# may have to wait for, and what its restart with many senders has to take.
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
# A part of each pause is left to chance, so that the hosts of a cloud do not
# all come at once.
_JITTER = 0.2

# An event is given up after so many attempts that failed while there was no
# doubt about the bus.
ATTEMPTS = 3
# From this attempt on another event is sent to see whether the bus or the
# event is at fault.
_SUSPECT_AFTER = 5
# So many others at most, each about somebody else: some may be at fault too.
_OTHERS = 5
# A file that somebody else holds is tried again after so long, seconds.
_BUSY_PAUSE_S = 0.5

# So long after the last event there is time for other things, seconds.
IDLE_S = 1.0
LOG_PERIOD_S = 60.0


class Sender:
    """Sends what is in the outbox.

    :param outbox: nova_vmhealth.notifications.outbox.Outbox
    :param delivery: nova_vmhealth.notifications.delivery.Delivery
    :param clock: gives monotonic seconds
    """

    def __init__(self, outbox, delivery, clock=time.monotonic):
        self._outbox = outbox
        self._delivery = delivery
        self._clock = clock
        self._awake = threading.Event()
        self._stopping = False
        self._thread = None
        #: how many events the bus confirmed
        self.sent = 0
        #: how many events were given up
        self.failed = 0
        # attempts in a row in which nothing was sent
        self._failures = 0
        # the event that may be at fault, and how often it was
        self._suspect = None
        self._faults = 0
        # what the bus confirmed last
        self._last = None
        # event_id of what is done with, and still in the outbox
        self._done = None
        self._away_since = None
        self._busy_since = None
        self._may_log_outage = throttle.Throttle(LOG_PERIOD_S, clock)
        self._may_log_return = throttle.Throttle(LOG_PERIOD_S, clock)
        self._may_log_stuck = throttle.Throttle(LOG_PERIOD_S, clock)

    def start(self):
        """Start the thread, once."""
        self._thread = threading.Thread(
            target=self._run, name='vmhealth-sender', daemon=True)
        self._thread.start()

    def stop(self, timeout_s):
        """Send what the bus takes at once, then end the thread.

        :param timeout_s: seconds to wait for that
        :returns: whether it has ended; one that hangs is left behind
        """
        self._stopping = True
        self._awake.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def wake(self):
        """Say that there is something to send; returns at once."""
        self._awake.set()

    @property
    def outage_s(self):
        """For how long the bus has taken nothing; 0 while it does."""
        since = self._away_since
        return 0.0 if since is None else self._clock() - since

    def tell_stuck(self):
        """Log an attempt that does not end; for another thread to call.

        A broker that sends heartbeats and no confirm, for want of memory or of
        its majority, is waited for by oslo.messaging without end.
        """
        since = self._busy_since
        if since is None or self._clock() - since < LOG_PERIOD_S:
            return
        if self._may_log_stuck.ready():
            LOG.error('The message broker has not confirmed a health event '
                      'for %d s, though it is connected; %d events wait',
                      self._clock() - since, self._outbox.depth)

    def _run(self):
        while True:
            self._awake.clear()
            pause = self._safely(self.step)
            if self._stopping and pause != 0:
                break
            if pause is None:
                if not self._awake.wait(IDLE_S):
                    self._safely(self._outbox.tidy)
                    self._awake.wait()
            elif pause:
                self._sleep(pause)
        self._delivery.close()

    def _safely(self, function):
        try:
            return function()
        except tables.Busy:
            return _BUSY_PAUSE_S
        # A defect must not end the thread that sends; the trace says where it
        # is.
        except Exception:
            LOG.exception('Sending health events failed, again in %d s',
                          LONGEST_PAUSE_S)
            return LONGEST_PAUSE_S

    def _sleep(self, pause):
        # New events are no reason to try a broker earlier.
        until = self._clock() + pause
        while not self._stopping and self._clock() < until:
            self._awake.wait(until - self._clock())
            if not self._stopping:
                self._awake.clear()

    def step(self):
        """Try to send one event.

        :returns: seconds to wait before the next step; 0 when there may be
            more to do, None when nothing waits
        :raises tables.Busy: the outbox cannot be had now
        """
        if self._done is not None:
            self._remove(self._done)
        row = self._outbox.oldest()
        if row is None:
            return None
        error = self._try(row)
        if error is None:
            return 0
        self._failures += 1
        if self._is_at_fault(row, error) and self._count_fault(row, error):
            return 0
        return self._pause()

    def _try(self, row):
        """Send one event; what went wrong, or None."""
        error = self._send(row)
        if error is None:
            self.sent += 1
            self._last = row
            self._remove(row.event_id)
        return error

    def _remove(self, event_id):
        # What cannot be removed now is not sent once more for that.
        self._done = event_id
        self._outbox.remove(event_id)
        self._done = None

    def _send(self, row):
        self._busy_since = self._clock()
        try:
            self._delivery.send(row)
        # oslo.messaging, kombu, amqp and the socket below them each have
        # errors of their own, and none may end the thread.
        except Exception as error:
            if not isinstance(error, delivery_lib.BadEvent):
                self._away(error)
            return error
        finally:
            self._busy_since = None
        self._back()
        return None

    def _is_at_fault(self, row, error):
        """Say whether it is the event that keeps itself from being sent.

        What the bus says does not tell: a message that it refuses ends the
        connection as an outage does. So another event is sent: if that works,
        it was the event.
        """
        if isinstance(error, delivery_lib.BadEvent):
            return True
        if (self._failures < _SUSPECT_AFTER
                and row.event_id != self._suspect):
            return False
        if self._last is not None:
            # Once more: readers know it by its id, and nothing that was told
            # of its instance came after it.
            return self._send(self._last) is None
        return self._sends_another(row)

    def _sends_another(self, row):
        """Try to send an event of somebody else, whose order is its own."""
        abouts = [row.about]
        for _ in range(_OTHERS):
            other = self._outbox.oldest(besides=abouts)
            if other is None:
                return False
            if self._try(other) is None:
                return True
            abouts.append(other.about)
        return False

    def _count_fault(self, row, error):
        """Give the event up after some; true when it was."""
        if row.event_id != self._suspect:
            self._suspect, self._faults = row.event_id, 0
        self._faults += 1
        if self._faults < ATTEMPTS:
            return False
        self.failed += 1
        LOG.error('Health event %(id)s of %(about)s (%(cause)s '
                  '%(transition)s) cannot be sent and is given up: %(error)s',
                  {'id': row.event_id, 'about': row.about or 'the host',
                   'cause': row.cause, 'transition': row.transition,
                   'error': error})
        self._remove(row.event_id)
        return True

    def _pause(self):
        longest = min(FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10),
                      LONGEST_PAUSE_S)
        return longest * random.uniform(1 - _JITTER, 1)  # noqa: S311

    def _away(self, error):
        if self._away_since is None:
            self._away_since = self._clock()
        if self._may_log_outage.ready():
            LOG.error('The message broker takes no health events since '
                      '%(since).0f s: %(error)s. %(depth)d wait, and are sent '
                      'when it does',
                      {'since': self.outage_s, 'error': error,
                       'depth': self._outbox.depth})

    def _back(self):
        self._failures = 0
        if self._away_since is None:
            return
        if self._may_log_return.ready():
            LOG.info('The message broker takes health events again, after '
                     '%.1f s', self.outage_s)
        self._away_since = None
