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
import math
import os
import sqlite3
import time
from urllib import parse

from oslo_log import log as logging

from nova_vmhealth.notifications import tables

LOG = logging.getLogger(__name__)

# The disk is tried again after so long, seconds.
RETRY_S = 60.0


def path_of(state_path, host):
    """Name the file of a compute service.

    :param state_path: Nova's
    :param host: the service's name
    """
    return os.path.join(state_path, 'vmhealth',
                        parse.quote(host, safe='') + '.sqlite')


def _free_name(path, moment):
    name = path + time.strftime('.corrupt-%Y%m%dT%H%M%SZ', time.gmtime(moment))
    number = 1
    chosen = name
    while os.path.lexists(chosen):
        number += 1
        chosen = f'{name}-{number}'
    return chosen


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
        # what the file still has of what was carried into memory
        self._carried = []
        self._renewed_at = -math.inf

    @property
    def on_disk(self):
        """Whether what is written now outlives the process."""
        return self._on_disk

    def open(self):
        """Open the file, or what stands in for it; never raises for either."""
        if self._path is None:
            self._connection = tables.open_memory()
            return
        try:
            self._connection = self._open_or_renew()
            self._on_disk = True
        except (OSError, sqlite3.Error) as error:
            self._connection = tables.open_memory()
            self._say_in_memory(error)

    def close(self):
        """Close it; what is in memory only is gone."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def run(self, work):
        """Call a function within one transaction.

        It is called again where the store had to be changed: it must keep no
        state of its own.

        :param work: called with the sqlite3.Connection
        :returns: what it returns
        :raises sqlite3.Error: the function is wrong; a bad file or disk is
            dealt with here
        """
        while True:
            try:
                with tables.transaction(self._connection):
                    return work(self._connection)
            except sqlite3.Error as error:
                if not self._on_disk or not tables.is_of_the_disk(error):
                    raise
                self._leave(error)

    def tend(self):
        """Go back to the disk, where that is due."""
        if (self._on_disk or self._path is None
                or self._clock() < self._retry_at):
            return
        self._retry_at = self._clock() + RETRY_S
        try:
            disk = self._open_or_renew()
        except (OSError, sqlite3.Error):
            return                          # said already
        try:
            with tables.transaction(disk):
                disk.executemany('DELETE FROM events WHERE event_id = ?',
                                 self._carried)
                tables.fill(disk, tables.events(self._connection),
                            tables.pages(self._connection))
                tables.drop_empty_pages(disk)
        except sqlite3.Error:
            disk.close()
            return
        self._connection.close()
        self._connection, self._on_disk, self._carried = disk, True, []
        LOG.warning('Health events are kept in %s again', self._path)

    def tidy(self):
        """Write the log back into the file; may be called beside run()."""
        if self._on_disk:
            tables.checkpoint(self._path)

    def _open_or_renew(self):
        """Open the file; one that is damaged makes room for a new one."""
        try:
            return tables.open_file(self._path, self._fsync)
        except sqlite3.Error as error:
            if not tables.is_damage(error):
                raise
            events, pages = tables.salvage(self._path)
            self._set_aside(error)
            disk = tables.open_file(self._path, self._fsync)
            with tables.transaction(disk):
                tables.fill(disk, events, pages)
            return disk

    def _leave(self, error):
        """Take what can be read elsewhere: a new file, or memory."""
        events = tables.events(self._connection)
        pages = tables.pages(self._connection)
        self._connection.close()
        self._on_disk = False
        # A disk that spoils one file after the other is not to be filled with
        # them.
        is_new = self._clock() - self._renewed_at < RETRY_S
        if tables.is_damage(error) and not is_new:
            try:
                self._set_aside(error)
                self._begin(tables.open_file(self._path, self._fsync),
                            events, pages)
                self._on_disk = True
                return
            except (OSError, sqlite3.Error) as worse:
                error = worse
        self._begin(tables.open_memory(), events, pages)
        self._carried = [(event[0],) for event in events]
        self._say_in_memory(error)

    def _begin(self, connection, events, pages):
        self._connection = connection
        with tables.transaction(connection):
            tables.fill(connection, events, pages)

    def _say_in_memory(self, error):
        self._retry_at = self._clock() + RETRY_S
        LOG.error(
            'Health events cannot be written to %(path)s: %(error)s. They are '
            'kept in memory, and will be lost if nova-compute ends before the '
            'disk takes them; it is tried again every %(retry)d s. See to it '
            'that there is space, and that the user of nova-compute may write '
            'to %(folder)s',
            {'path': self._path, 'error': error, 'retry': RETRY_S,
             'folder': os.path.dirname(self._path)})

    def _set_aside(self, error):
        name = _free_name(self._path, time.time())
        os.rename(self._path, name)
        for suffix in ('-wal', '-shm'):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._path + suffix, name + suffix)
        self._renewed_at = self._clock()
        LOG.error(
            'The database of health events %(path)s cannot be used: '
            '%(error)s. It was set aside as %(name)s, and a new one is begun '
            'with what can be read of it. Keep it for a look at what went '
            'wrong, or delete it',
            {'path': self._path, 'error': error, 'name': name})
