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

"""What outlives the inspector, and what all inspectors are to know.

Both are written down with the events that were told, in one transaction: a
page for each host that is watched, and one for each record of the replica.
"""

import json

from oslo_log import log as logging

from nova_vmhealth.core.fleet_table import Standing
from nova_vmhealth import exception
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

_HOST, _REPLICA = 'host/', 'replica/'

# How often it is looked which hosts are watched, seconds. One that comes and
# dies within this, together with the inspector, is not missed afterwards.
_LOOK_S = 1.0
# What others do not know is told them whole so often at most, seconds: it may
# be some MiB.
_SYNC_S = 2.0
_EXPIRE_S = 60.0
_LOG_PERIOD_S = 60.0


class Keeping:
    """Keeps the pages and the replica; on the loop.

    :param kept: core.replica.Replica
    :param marks: nova_vmhealth.inspector.marks.Marks
    :param watch: core.fleet.BeaconWatch
    :param voice: nova_vmhealth.inspector.voice.Voice
    :param name: of this inspector
    """

    def __init__(self, kept, marks, watch, voice, name):
        self._replica = kept
        self._marks = marks
        self._watch = watch
        self._voice = voice
        self._name = name
        # host -> whether it has left, as it is on disk
        self._hosts = {}
        self._pages = {}
        self._look_at = self._expire_at = 0.0
        # when the others are to be told everything, and since when they differ
        self._sync_at = 0.0
        self._may_log = throttle.Throttle(_LOG_PERIOD_S)

    # -- at the start --------------------------------------------------------

    def restore(self, pages, wall):
        """Take up what an earlier run wrote down.

        :param pages: name -> text
        :param wall: seconds since the epoch
        """
        records = {}
        for name, text in pages.items():
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                LOG.warning('What was saved of %(name)s is not used: '
                            '%(error)s', {'name': name, 'error': error})
                continue
            if name.startswith(_HOST):
                host = name.removeprefix(_HOST)
                self._hosts[host] = record == {'left': True}
                self._watch.restore(host, self._hosts[host])
            elif name.startswith(_REPLICA):
                records[name.removeprefix(_REPLICA)] = record
        self._marks.reread(self._replica.merge(records, wall))
        # They are on disk already.
        self._replica.take_changes()

    # -- what others say -----------------------------------------------------

    def hear(self, sender, records, wall):
        """Take in what another inspector knows.

        :param sender: its name
        :param records: of core.replica.Replica
        """
        if sender == self._name:
            return
        self._tell_own()
        try:
            self._marks.reread(self._replica.merge(records, wall))
        except exception.InvalidRecord as error:
            if self._may_log.ready():
                LOG.warning('What inspector %(sender)s knows is ignored: '
                            '%(error)s', {'sender': sender, 'error': error})
        # The others have heard it too.
        self._write(self._replica.take_changes())

    # -- after each turn -----------------------------------------------------

    def changes(self, now, wall):
        """Return what is to be written down, and tell the others.

        :returns: name -> text, None for what is to be dropped
        """
        if self._expire_at <= now:
            self._expire_at = now + _EXPIRE_S
            self._replica.expire(wall)
        self._tell_own()
        if self._look_at <= now:
            self._look_at = now + _LOOK_S
            self._look()
            self._compare(now)
        pages, self._pages = self._pages, {}
        return pages

    def rewrite_all(self):
        """Have :meth:`changes` return everything: nothing of it is saved."""
        self._hosts.clear()
        self._look_at = 0.0
        self._write(self._replica.records())

    def _tell_own(self):
        """Tell the others what was written here."""
        keys = self._replica.take_changes()
        if keys:
            self._voice.sync(self._replica.records(keys))
            self._write(keys)

    def _write(self, keys):
        records = self._replica.records(keys)
        for key in keys:
            record = records.get(key)
            self._pages[_REPLICA + key] = record and json.dumps(record)

    def _look(self):
        """See which hosts are watched."""
        known = {}
        for host in self._watch.hosts():
            known[host] = self._watch.view(host).standing is Standing.LEFT
        for host, left in known.items():
            if self._hosts.get(host) is not left:
                self._pages[_HOST + host] = json.dumps({'left': left})
        for host in self._hosts.keys() - known.keys():
            self._pages[_HOST + host] = None
        self._hosts = known

    def _compare(self, now):
        """Tell everything where somebody knows something else."""
        if self._sync_at <= now and self._watch.differs(
                self._replica.digest(), now):
            self._sync_at = now + _SYNC_S
            self._voice.sync(self._replica.records())
