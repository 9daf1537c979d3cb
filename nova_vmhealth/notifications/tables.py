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

"""The tables of the outbox and the saved ledger, in a file or in memory."""

import contextlib
import os
import sqlite3
import stat
from urllib import parse

# Goes up with each change of the tables; what an older release wrote is to be
# converted, what a newer one wrote is set aside.
VERSION = 1

# Nobody else writes; a tool that looks in may hold the file for a moment.
_LOCK_S = 1.0
# Writing the log back into the file waits for the disk. That is done when
# there is nothing else to do, and within a commit only after so many pages, a
# thousand events or so in a row.
_LOG_PAGES = 8000
# The log is cut back to this after a burst, bytes.
_JOURNAL_BYTES = 4 * 1024 * 1024

# Pages of 4 KiB that the file keeps for what comes next, and how many of more
# it gives back with each event that is sent: a backlog of any size goes away
# without a moment's pause.
_SPARE_PAGES = 256
_PAGES_A_TIME = 4

_EVENT = ('event_id', 'event_type', 'about', 'cause', 'subject', 'transition',
          'rank', 'priority', 'project_id', 'user_id', 'payload', 'size',
          'noted_at')
EVENT_COLUMNS = ', '.join(_EVENT)
INSERT_EVENT = 'INSERT OR IGNORE INTO events (%s) VALUES (%s)' % (
    EVENT_COLUMNS, ', '.join('?' * len(_EVENT)))

# AUTOINCREMENT: an id is never given out twice, so that it is the order.
# Totals are kept by triggers, so that they hold whatever becomes of a
# transaction. A page of NULL stands for one to be dropped from the file.
_TABLES = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    event_type TEXT NOT NULL,
    about TEXT NOT NULL,
    cause TEXT NOT NULL,
    subject TEXT NOT NULL,
    transition TEXT NOT NULL,
    rank INTEGER NOT NULL,
    priority TEXT NOT NULL,
    project_id TEXT,
    user_id TEXT,
    payload TEXT NOT NULL,
    size INTEGER NOT NULL,
    noted_at REAL NOT NULL
);
CREATE INDEX events_by_rank ON events (rank, id);
CREATE INDEX events_by_condition ON events (about, cause, subject, rank);
CREATE TABLE pages (name TEXT PRIMARY KEY, page TEXT);
CREATE TABLE totals (events INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
CREATE TRIGGER events_added AFTER INSERT ON events BEGIN
    UPDATE totals SET events = events + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER events_removed AFTER DELETE ON events BEGIN
    UPDATE totals SET events = events - 1, bytes = bytes - old.size;
END;
"""


class Damaged(sqlite3.DatabaseError):
    """The file is there and cannot be used as it is."""


@contextlib.contextmanager
def transaction(connection):
    """Do all of it or nothing."""
    connection.execute('BEGIN IMMEDIATE')
    try:
        yield
        connection.execute('COMMIT')
    except BaseException:
        # SQLite ends the transaction by itself where the disk is full.
        if connection.in_transaction:
            connection.execute('ROLLBACK')
        raise


def _connect(target):
    # Transactions are ours alone, and a lock of the outbox sees to it that
    # one thread at a time is in here.
    return sqlite3.connect(target, timeout=_LOCK_S, isolation_level=None,
                           check_same_thread=False)


def is_damage(error):
    """Say whether the file is at fault, and not the disk below it.

    A damaged file is a bare DatabaseError; a disk that is full, read-only or
    gone is an OperationalError.
    """
    return isinstance(error, Damaged) or type(error) in (
        sqlite3.DatabaseError, sqlite3.InternalError)


def is_of_the_disk(error):
    """Say whether file or disk are at fault, and not the statement."""
    return is_damage(error) or isinstance(error, sqlite3.OperationalError)


def _check(connection):
    version = connection.execute('PRAGMA user_version').fetchone()[0]
    found = connection.execute('SELECT count(*) FROM sqlite_master')
    if version == 0 and not found.fetchone()[0]:
        return False
    if version != VERSION:
        raise Damaged(f'its layout is {version}, known is {VERSION}')
    verdict = connection.execute('PRAGMA quick_check(1)').fetchone()[0]
    if verdict != 'ok':
        raise Damaged(verdict)
    try:
        connection.execute(f'SELECT id, {EVENT_COLUMNS} FROM events LIMIT 0')
        connection.execute('SELECT name, page FROM pages LIMIT 0')
        totals = connection.execute('SELECT events, bytes FROM totals')
    except sqlite3.OperationalError as error:
        raise Damaged(error) from error
    if totals.fetchone() is None:
        raise Damaged('its totals are missing')
    return True


def _create_tables(connection):
    with transaction(connection):
        for statement in _statements(_TABLES):
            connection.execute(statement)
        connection.execute(f'PRAGMA user_version = {VERSION}')


def _statements(script):
    # executescript() would end the transaction.
    statement = ''
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ''


def open_memory():
    """Make the same tables in memory."""
    connection = _connect(':memory:')
    _create_tables(connection)
    return connection


def open_file(path, fsync):
    """Open the file or make it.

    :param path: of the file; its folder is made
    :param fsync: whether each commit waits for the disk
    :raises OSError, sqlite3.Error: it cannot be used
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    # Both may be there from before, with whatever mode. SQLite gives the
    # files beside it the mode of the first.
    os.chmod(folder, stat.S_IRWXU)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    os.chmod(path, 0o600)
    connection = _connect(path)
    try:
        # First of all, so that a file of somebody else stays as it is.
        is_made = _check(connection)
        # Before the first table, or it has no effect.
        connection.execute('PRAGMA auto_vacuum = INCREMENTAL')
        connection.execute('PRAGMA journal_mode = WAL')
        connection.execute('PRAGMA wal_autocheckpoint = %d' % _LOG_PAGES)
        connection.execute('PRAGMA journal_size_limit = %d' % _JOURNAL_BYTES)
        connection.execute('PRAGMA synchronous = %s' % (
            'FULL' if fsync else 'NORMAL'))
        if not is_made:
            _create_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _readable(connection, statement):
    """Read rows up to the first that cannot be read."""
    rows = []
    try:
        for row in connection.execute(statement):
            rows.append(row)
    except (sqlite3.Error, ValueError, OverflowError):
        # ValueError: text that is no text any more. What came before it is
        # all that can be had from this side.
        pass
    return rows


def events(connection):
    """Read what can be read of the events, from both sides of a damage.

    :returns: values of EVENT_COLUMNS, the oldest first
    """
    select = f'SELECT id, {EVENT_COLUMNS} FROM events ORDER BY id'
    found = {row[0]: row[1:] for row in _readable(connection, select)}
    found.update((row[0], row[1:])
                 for row in _readable(connection, select + ' DESC'))
    return [found[key] for key in sorted(found)]


def pages(connection):
    """Read the pages that can be read: name -> text, or None."""
    return dict(_readable(connection, 'SELECT name, page FROM pages'))


def checkpoint(path):
    """Write the log back into the file, beside whoever writes to it.

    A connection of its own: nobody has to wait for it.
    """
    # Does not make the file, where it was set aside meanwhile.
    uri = 'file:%s?mode=rw' % parse.quote(path)
    with contextlib.suppress(sqlite3.Error), contextlib.closing(
            sqlite3.connect(uri, uri=True, timeout=0)) as connection:
        connection.execute('PRAGMA wal_checkpoint(PASSIVE)')


def salvage(path):
    """Read what can be read of a damaged file of ours.

    :returns: as :func:`events` and :func:`pages`; nothing of another layout
    """
    try:
        with contextlib.closing(_connect(path)) as connection:
            version = connection.execute('PRAGMA user_version').fetchone()[0]
            if version == VERSION:
                return events(connection), pages(connection)
    except sqlite3.Error:
        pass                        # not even its first page
    return [], {}


def fill(connection, found, pages):
    """Write down what :func:`events` and :func:`pages` gave.

    An event that is there already is left as it is.
    """
    connection.executemany(INSERT_EVENT, found)
    connection.executemany('INSERT OR REPLACE INTO pages VALUES (?, ?)',
                           pages.items())


def drop_empty_pages(connection):
    """Forget the pages that are no more; only memory has to remember them."""
    connection.execute('DELETE FROM pages WHERE page IS NULL')


def remove(connection, event_id):
    """Delete an event, and give back some of the space after many."""
    connection.execute('DELETE FROM events WHERE event_id = ?', (event_id,))
    free = connection.execute('PRAGMA freelist_count').fetchone()[0]
    if free > _SPARE_PAGES:
        for _ in range(_PAGES_A_TIME):
            # Python takes the first step of the statement only, one page.
            connection.execute('PRAGMA incremental_vacuum(1)')
