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

"""What was told of hosts, as the inspectors' replica has it.

The keys ``mark/<host>`` hold core.marks.Mark, ``forced/<host>`` its Forcing.
"""

import types

from oslo_log import log as logging

from nova_vmhealth.core import marks
from nova_vmhealth import exception
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

_MARK, _FORCED = 'mark/', 'forced/'

# How long to remember that something is over, seconds, for an inspector that
# was switched off meanwhile and still has it.
_KEEP_S = 7 * 24 * 3600.0
_LOG_PERIOD_S = 60


class Marks:
    """Reads and writes marks. Times: seconds since the epoch.

    :param kept: core.replica.Replica
    :ivar all: host -> Mark
    """

    def __init__(self, kept):
        self._replica = kept
        self._marks = {}
        self.all = types.MappingProxyType(self._marks)
        # hosts whose mark is another one
        self._changed = set()
        self._may_log_unreadable = throttle.Throttle(_LOG_PERIOD_S)
        self._may_log_full = throttle.Throttle(_LOG_PERIOD_S)

    def get(self, host):
        """Return the mark of a host; None for none."""
        return self._marks.get(host)

    def put(self, host, mark, wall):
        """Write a mark; one without conditions is dropped.

        What has no room is told all the same, and may be told again.
        """
        key = _MARK + host
        if not mark.conditions:
            self._replica.drop(key, wall, wall + _KEEP_S)
        elif (not self._replica.put(key, mark.record(), wall)
                and self._may_log_full.ready()):
            LOG.error('There is no room to write down what is told of host '
                      '%s: it may be told again', host)
        self.reread([key])

    def reread(self, keys):
        """Read those of the replica's keys again that are marks."""
        for key in keys:
            if not key.startswith(_MARK):
                continue
            host = key.removeprefix(_MARK)
            mark = self._restored(marks.Mark, key)
            if mark is None:
                self._marks.pop(host, None)
            else:
                self._marks[host] = mark
            self._changed.add(host)

    def take_changes(self):
        """Return the hosts whose marks were written since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def forcing(self, host):
        """Return whether an inspector has forced a host down; or None."""
        return self._restored(marks.Forcing, _FORCED + host)

    def put_forcing(self, host, forcing, wall):
        """Write down that a host is forced down.

        :param forcing: core.marks.Forcing; None: it is not
        """
        if forcing is None:
            self._replica.drop(_FORCED + host, wall, wall + _KEEP_S)
        else:
            self._replica.put(_FORCED + host, forcing.record(), wall)

    def _restored(self, kind, key):
        record = self._replica.get(key)
        try:
            return None if record is None else kind.restored(record)
        except exception.InvalidRecord as error:
            if self._may_log_unreadable.ready():
                LOG.warning('%(key)s is ignored: %(error)s',
                            {'key': key, 'error': error})
            return None
