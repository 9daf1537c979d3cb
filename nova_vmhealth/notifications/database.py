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

"""The file that what must not be lost is written to.

It is SQLite with a write-ahead log. A file that is damaged or of another
layout is set aside under another name. Where none can be written, the same
tables are kept in memory, and the disk is tried again now and then.
"""

import contextlib
import glob
import math
import os
import sqlite3
import time
from urllib import parse

from oslo_log import log as logging

from nova_vmhealth.notifications import copying
from nova_vmhealth.notifications import tables

LOG = logging.getLogger(__name__)

# The disk is tried again after so long, seconds.
RETRY_S = 60.0
# A file that somebody else holds is waited for so long, seconds.
BUSY_S = 60.0
# A disk that spoils one file after the other is not to be filled with them:
# the time between two new files doubles up to this, seconds, and begins anew
# after a day without.
LONGEST_RENEWAL_S = 3600.0
_CALM_S = 86400.0
# So many that were set aside are kept, the latest.
KEPT_ASIDE = 3


def path_of(state_path, name):
    """Name the file of a process.

    :param state_path: Nova's, or that of another service
    :param name: of the compute service, or what no other process there has
    """
    return os.path.join(state_path, 'vmhealth',
                        parse.quote(str(name), safe='') + '.sqlite')


def _free_name(path, moment):
    name = path + time.strftime('.corrupt-%Y%m%dT%H%M%SZ', time.gmtime(moment))
    number = 1
    chosen = name
    while os.path.lexists(chosen):
        number += 1
        chosen = f'{name}-{number}'
    return chosen


def _delete_old(path):
    aside = [name for name in glob.glob(glob.escape(path) + '.corrupt-*')
             if not name.endswith(('-wal', '-shm'))]
    for name in sorted(aside, key=os.path.getmtime)[:-KEPT_ASIDE]:
        for suffix in ('', '-wal', '-shm'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name + suffix)


class Database:
    """Events and pages, in a file as long as there is one.

    Not safe from more than one thread at a time.

    :param path: of the file; its folder is made. None: in memory, and nothing
        is said about it
    :param fsync: whether each commit waits for the disk
    :param clock: gives monotonic seconds
    """

    def __init__(self, path, fsync=False, clock=time.monotonic):
        self._path = path
        self._fsync = fsync
        self._clock = clock
        self._connection = None
        self._on_disk = False
        self._retry_at = 0.0
        self._busy_since = None
        # ids of events that the file has besides memory
        self._known = set()
        self._merge = None
        # whether nobody has read yet what an earlier run left in the file
        self._is_unread = False
        self._found = {}
        self._renewed_at = -math.inf
        self._renew_after_s = RETRY_S
        #: how often another store took the place of the one before
        self.switches = 0

    @property
    def on_disk(self):
        """Whether what is written now outlives the process."""
        return self._on_disk

    @property
    def is_returning(self):
        """Whether a way back to the disk has begun."""
        return self._merge is not None

    def open(self):
        """Open the file, or what stands in for it; never raises for either."""
        if self._path is None:
            self._connection = tables.open_memory()
            return
        try:
            self._connection = self._open_file(tables.OPENING_S)
            self._on_disk = True
        except (OSError, sqlite3.Error) as error:
            self._connection = tables.open_memory()
            self._is_unread = True
            self._say_in_memory(error)

    def close(self):
        """Close it; what is in memory only is gone."""
        self._end_merge()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def run(self, work, writes=True):
        """Call a function within one transaction.

        It is called again where the store had to be changed: it must keep no
        state of its own.

        :param work: called with the sqlite3.Connection
        :param writes: whether it does more than read
        :returns: what it returns
        :raises tables.Busy: somebody else holds the file: not now
        :raises sqlite3.Error: the function is wrong; a bad file or disk is
            dealt with here
        """
        while True:
            try:
                with tables.transaction(self._connection, writes):
                    result = work(self._connection)
                # Who reads is not kept out, and says nothing of that.
                self._busy_since = None if writes else self._busy_since
                return result
            except sqlite3.Error as error:
                if not self._on_disk or not tables.is_of_the_disk(error):
                    raise
                if tables.is_busy(error) and self._may_wait():
                    raise tables.Busy(str(error)) from error
                self._leave(error)

    def _may_wait(self):
        if self._busy_since is None:
            self._busy_since = self._clock()
        return self._clock() - self._busy_since < BUSY_S

    def tend(self):
        """Go back to the disk, where that is due, a part at a time."""
        if self._on_disk or self._path is None:
            return
        try:
            if self._merge is None:
                if self._clock() < self._retry_at:
                    return
                self._retry_at = self._clock() + RETRY_S
                disk = self._open_file()
                self._merge = copying.Merge(
                    self._connection, disk, self._known)
                if self._is_unread:
                    self._found = copying.pages(disk)
                    self._is_unread = False
            if self._merge.step():
                self._return()
        except (OSError, sqlite3.Error):
            self._end_merge()               # said already

    def _return(self):
        self._connection.close()
        self._connection, self._on_disk = self._merge.disk, True
        self._merge, self._known = None, set()
        self.switches += 1
        LOG.warning('Health events are kept in %s again', self._path)

    def _end_merge(self):
        merge, self._merge = self._merge, None
        if merge is not None:
            merge.disk.close()

    def take_found(self):
        """Give the pages of an earlier run that were not there at the start.

        :returns: name -> text; nothing the next time
        """
        found, self._found = self._found, {}
        return found

    def connect_beside(self):
        """Connect once more, for :func:`tables.checkpoint`; None if not."""
        return tables.connect_beside(self._path) if self._on_disk else None

    def _open_file(self, *lock_s):
        """Open the file; one that is damaged makes room for a new one."""
        try:
            return tables.open_file(self._path, self._fsync, *lock_s)
        except sqlite3.Error as error:
            if not tables.is_damage(error) or not self._may_renew():
                raise
            aside = self._set_aside(error)
            with contextlib.closing(copying.salvage(aside)) as source:
                return self._new_file(source)

    def _new_file(self, source):
        disk = tables.open_file(self._path, self._fsync)
        try:
            copying.copy(source, disk)
        except BaseException:
            disk.close()
            raise
        return disk

    def _leave(self, error):
        """Take what can be read elsewhere: memory, and on to a new file."""
        memory = tables.open_memory()
        copying.copy(self._connection, memory)
        self._connection.close()
        self._connection, self._on_disk = memory, False
        self._busy_since = None
        self.switches += 1
        if tables.is_damage(error) and self._may_renew():
            try:
                self._set_aside(error)
                self._connection = self._new_file(memory)
                self._on_disk = True
                memory.close()
                return
            except (OSError, sqlite3.Error) as worse:
                error = worse
        self._known = copying.event_ids(memory)
        self._say_in_memory(error)

    def _say_in_memory(self, error):
        self._retry_at = self._clock() + RETRY_S
        LOG.error(
            'Health events cannot be written to %(path)s: %(error)s. They are '
            'kept in memory, and will be lost if this process ends before the '
            'disk takes them; it is tried again every %(retry)d s. See to it '
            'that there is space, and that the user of this process may write '
            'to %(folder)s',
            {'path': self._path, 'error': error, 'retry': RETRY_S,
             'folder': os.path.dirname(self._path)})

    def _may_renew(self):
        return self._clock() - self._renewed_at >= self._renew_after_s

    def _set_aside(self, error):
        name = _free_name(self._path, time.time())
        os.rename(self._path, name)
        for suffix in ('-wal', '-shm'):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._path + suffix, name + suffix)
        calm = self._clock() - self._renewed_at > _CALM_S
        self._renew_after_s = RETRY_S if calm else min(
            self._renew_after_s * 2, LONGEST_RENEWAL_S)
        self._renewed_at = self._clock()
        LOG.error(
            'The database of health events %(path)s cannot be used: '
            '%(error)s. It was set aside as %(name)s, and a new one is begun '
            'with what can be read of it. Keep it for a look at what went '
            'wrong, or delete it',
            {'path': self._path, 'error': error, 'name': name})
        _delete_old(self._path)
        return name
