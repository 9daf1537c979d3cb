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

"""The worker's inbox: what every thread puts into, and one takes out of."""

import queue

from oslo_log import log as logging

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind

LOG = logging.getLogger(__name__)

# What a guest or a disk can repeat without end. The rest, lifecycle and
# heartbeat, is told once by those who see it, and bounded by them.
_REPEATING = frozenset({Cause.IO_ERROR, Cause.MEMORY_FAILURE,
                        Cause.WATCHDOG_EXPIRED, Cause.CONTROL_ERROR})
DROP_LOG_INTERVAL_S = 60.0


class Inbox:
    """The worker's queue: bounded, never blocks the one who puts.

    Only the faults that repeat are bounded: of the others each one counts.

    libvirt's event thread puts, and must wait for nobody. A Queue has a lock
    which the worker may hold just when it loses Python's own lock, for as long
    as others compute. A SimpleQueue has none that can be held: it is one step
    in C. Where eventlet has patched the process it has put its own in place,
    made of what greenthreads can wait for; only they put and take there.

    :param size: from how many items on such a fault is dropped
    """

    def __init__(self, size):
        self._size = size
        self._queue = queue.SimpleQueue()
        self.dropped = 0
        self._told = 0
        self._told_at = float('-inf')

    def put_observation(self, observation):
        """Queue an observation, or count it as dropped when full."""
        if (observation.kind is Kind.FAULT and observation.cause in _REPEATING
                and self._queue.qsize() >= self._size):
            self.dropped += 1
            return
        self._queue.put(observation)

    def put(self, item):
        """Queue what must not be lost."""
        self._queue.put(item)

    def get(self, timeout_s):
        """Return the next item, or raise queue.Empty after timeout_s."""
        return self._queue.get(timeout=timeout_s)

    @property
    def depth(self):
        """How many items wait."""
        return self._queue.qsize()

    def tell_drops(self, now):
        """Log what was dropped, once in a while.

        :param now: monotonic time, seconds
        """
        dropped = self.dropped
        if dropped == self._told or now - self._told_at < DROP_LOG_INTERVAL_S:
            return
        LOG.warning('%(new)d observations dropped since the last such line, '
                    '%(all)d in all: the queue was full. Raise '
                    '[vmhealth]event_queue_size if this goes on.',
                    {'new': dropped - self._told, 'all': dropped})
        self._told, self._told_at = dropped, now
