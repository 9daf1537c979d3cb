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

"""See to it that each host knows its maintenance windows.

A host's beacon says which it knows. They are sent at once where ours are new,
and otherwise once that has been others than ours for a while: a host that has
just been told sends one more beacon that does not know it, and what is new may
have come to it from another inspector before it came here.
"""

# Seconds.
PATIENCE_S = 2.0
AGAIN_S = 5.0
# Far more than a cell has; senders of beacons choose the names.
MAX_HOSTS = 20000


class WindowCourier:
    """Compares what hosts know with what they should; on the loop.

    :param keeper: nova_vmhealth.inspector.maintenance.MaintenanceKeeper
    :param send: called with a host's name and a list of records of
        core.maintenance.Window
    """

    def __init__(self, keeper, send):
        self._keeper = keeper
        self._send = send
        # host -> when it is to be told, monotonic seconds
        self._due = {}
        # host -> digest of our windows when it was looked at last
        self._ours = {}

    def look(self, beacon, now, wall):
        """Look at a host's beacon; it is cheap.

        :param beacon: core.beacons.Beacon
        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        """
        host = beacon.host
        ours = self._keeper.digest_of(host, wall)
        before = self._ours.get(host)
        if before != ours and (before is not None
                               or len(self._ours) < MAX_HOSTS):
            self._ours[host] = ours
        if beacon.windows == ours:
            if self._due:
                self._due.pop(host, None)
            return
        # What was there at the start of the inspector may be old.
        if before is not None and before != ours:
            self._due[host] = now
        due_at = self._due.setdefault(host, now + PATIENCE_S)
        # One that stops does not listen any more.
        if due_at <= now and not beacon.leaving:
            self._due[host] = now + AGAIN_S
            self._send(host, [each.record() for each
                              in self._keeper.windows_of(host, wall)])
