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

"""From one store of events and pages to another: a damaged file, memory."""

import sqlite3
from urllib import parse

from nova_vmhealth.notifications import tables

# So many events go from memory to a file at a time: some tens of
# milliseconds.
SLICE = 500

_SELECT = f'SELECT {tables.EVENT_COLUMNS} FROM events ORDER BY id'
_SELECT_SLICE = (f'SELECT id, {tables.EVENT_COLUMNS} FROM events '
                 'WHERE id > ? ORDER BY id LIMIT ?')
# A row that the damage left without a value is left out.
_COPY = tables.INSERT_EVENT.replace('INSERT', 'INSERT OR IGNORE', 1)


def _readable(connection, statement, torn):
    """Read rows up to the first that cannot be read; say if there is one."""
    try:
        yield from connection.execute(statement)
    except (sqlite3.Error, ValueError, OverflowError) as error:
        # ValueError: text that is no text any more. What came before it is
        # all that can be had from this side.
        torn.append(error)


def pages(connection):
    """Read the pages that can be read: name -> text, or None."""
    return dict(_readable(connection, 'SELECT name, page FROM pages', []))


def copy(source, target):
    """Add what can be read of one store to another.

    :param source: sqlite3.Connection; the events of a damaged file are read
        from both sides of the damage
    :param target: sqlite3.Connection
    :raises sqlite3.Error: the target does not take it
    """
    torn = []
    with tables.transaction(target):
        target.executemany(_COPY, _readable(source, _SELECT, torn))
        if torn:
            rest = list(_readable(source, _SELECT + ' DESC', torn))
            target.executemany(_COPY, reversed(rest))
        tables.put_pages(target, pages(source))


def event_ids(connection):
    """Return the ids of all events, a set."""
    return {row[0] for row in connection.execute(
        'SELECT event_id FROM events')}


def salvage(path):
    """Open a damaged file to read what can be read; it stays as it is.

    :returns: a sqlite3.Connection; to an empty store where the file is of
        another layout or of none
    """
    connection = None
    try:
        connection = tables.connect(
            'file:%s?mode=ro' % parse.quote(path), uri=True)
        version = connection.execute('PRAGMA user_version').fetchone()[0]
        if version == tables.VERSION:
            return connection
    except sqlite3.Error:
        pass                        # not even its first page
    if connection is not None:
        connection.close()
    return tables.open_memory()


class Merge:
    """Takes what is in memory to a file, slice by slice.

    Memory stays in use until all of it is there. A process that ends before
    leaves nothing in the file that is wrong: older events come before newer
    ones, and the pages are those of the last event or later.

    :param memory: sqlite3.Connection
    :param disk: sqlite3.Connection
    :param known: ids of the events that are in both, or were; a set, which is
        kept up to date
    """

    def __init__(self, memory, disk, known):
        self.disk = disk
        self._memory = memory
        self._known = known
        self._after = None

    def step(self):
        """Take one slice.

        :returns: whether that was the last
        :raises sqlite3.Error: the file does not take it
        """
        rows = self._memory.execute(
            _SELECT_SLICE, (self._after or 0, SLICE)).fetchall()
        gone, is_last = [], len(rows) < SLICE
        if is_last:
            # sent or dropped since
            gone = list(self._known - event_ids(self._memory))[:SLICE]
            is_last = len(gone) < SLICE
        with tables.transaction(self.disk):
            if self._after is None or is_last:
                tables.put_pages(self.disk, pages(self._memory))
            # Those that both have keep the place that they have in the file,
            # before all that came later.
            self.disk.executemany(
                tables.INSERT_EVENT, [row[1:] for row in rows])
            self.disk.executemany('DELETE FROM events WHERE event_id = ?',
                                  [(each,) for each in gone])
            if is_last:
                tables.drop_empty_pages(self.disk)
        self._after = rows[-1][0] if rows else self._after or 0
        self._known.update(row[1] for row in rows)
        self._known.difference_update(gone)
        return is_last
