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

"""What waits for the inspector's loop: beacons, and calls of other threads."""

import collections
import threading

from oslo_log import log as logging

from nova_vmhealth import exception
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

# Some seconds of the beacons of the largest cell. More come only where the
# loop does not run at all.
MAX_ARRIVALS = 100000
_LOG_PERIOD_S = 60.0


class Call:
    """A function that another thread wants run on the loop."""

    __slots__ = ('_function', '_done', '_result', '_error')

    def __init__(self, function):
        self._function = function
        self._done = threading.Event()
        self._result = self._error = None

    def run(self):
        """Run it; on the loop."""
        try:
            self._result = self._function()
        except Exception as error:
            self._error = error

    def finish(self):
        """Say that what came of it is written down."""
        self._done.set()

    def result(self, timeout_s):
        """Wait for what came of it.

        :param timeout_s: longest wait, seconds
        :returns: what the function returned
        :raises nova_vmhealth.exception.LoopStuck: it took too long
        """
        if not self._done.wait(timeout_s):
            raise exception.LoopStuck(seconds=timeout_s)
        if self._error is not None:
            raise self._error
        return self._result


class Inbox:
    """From all threads to the loop; nobody waits here but the loop.

    :ivar dropped: arrivals that had no room
    """

    def __init__(self):
        self._items = collections.deque()
        self._wake = threading.Event()
        self.dropped = 0
        self._may_log = throttle.Throttle(_LOG_PERIOD_S)

    def __len__(self):
        return len(self._items)

    def arrive(self, item):
        """Put in what may be lost, such as a beacon; the loop looks soon."""
        if len(self._items) < MAX_ARRIVALS:
            self._items.append(item)
            return
        self.dropped += 1
        if self._may_log.ready():
            LOG.error('%d messages wait, others are dropped: this machine is '
                      'too busy, or the inspector hangs', len(self._items))

    def put(self, item):
        """Put in what the loop is to look at now."""
        self._items.append(item)
        self._wake.set()

    def wake(self):
        """Have the loop look now."""
        self._wake.set()

    def take(self):
        """Return the oldest item.

        :raises IndexError: there is none
        """
        return self._items.popleft()

    def wait(self, timeout_s):
        """Wait until there is something to look at now.

        :param timeout_s: longest wait, seconds
        """
        self._wake.wait(timeout_s)
        self._wake.clear()
