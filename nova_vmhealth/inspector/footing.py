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

"""What all jobs about a host stand on.

A job runs on a thread of its own. It does one thing after the other under the
host's lock, so that one inspector does it; what the inspectors know is looked
at and written on the loop. Wherever it ends, at an error or with the process,
another attempt finds how far it came: in the replica, and in Nova.
"""

import time

from oslo_log import log as logging

from nova_vmhealth import exception
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

# Seconds until the next attempt: another inspector has the lock, which takes
# as long as Nova's API.
HELD_S = 0.25
# Nova's API or the locks are away.
FAILED_S = 2.0
# What was written down travels to the other inspectors in some milliseconds.
# The lock is kept for so long, seconds, or the next who has it would not know.
TRAVEL_S = 0.05
_LOG_PERIOD_S = 60.0


class Footing:
    """The loop and the locks, for jobs.

    :param desk: nova_vmhealth.inspector.desk.Desk, for the loop only
    :param on_loop: calls a function on the loop, waits until what comes of it
        is written down, and gives its result
    :param locks: nova_vmhealth.inspector.locks.Locks
    """

    def __init__(self, desk, on_loop, locks):
        self._desk = desk
        self._on_loop = on_loop
        self._locks = locks
        self._may_log = throttle.Throttle(_LOG_PERIOD_S)

    def do(self, function):
        """Have something looked up or written down on the loop.

        :param function: called with the desk
        :returns: its result
        """
        return self._on_loop(lambda: function(self._desk))

    def look(self, host):
        """Return the Situation of a host."""
        return self.do(lambda desk: desk.look(host))

    def hold(self, host):
        """Take a host's lock, see Locks.hold."""
        return self._locks.hold('host-' + host)

    def under_lock(self, host, function):
        """Call a function while nobody else acts on a host.

        :returns: what it does, or seconds until the next attempt
        """
        try:
            held = self.hold(host)
            if held is None:
                return HELD_S
            with held:
                result = function()
                time.sleep(TRAVEL_S)
                return result
        except (exception.CoordinationFailed, exception.NovaFailed) as error:
            if self._may_log.ready():
                LOG.error('Host %(host)s: %(error)s. It is tried again',
                          {'host': host, 'error': error})
            return FAILED_S
