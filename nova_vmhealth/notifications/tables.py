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

# Nobody else writes; a tool that looks in, or copies the file, may hold it for
# a moment. Under eventlet all of nova-compute waits, so not for long: what is
# to be written goes with the next commit.
_LOCK_S = 0.1
# At the start it may be for longer.
OPENING_S = 5.0
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
# An event that is there already is left as it is.
INSERT_EVENT = (
    'INSERT INTO events (%s) VALUES (%s) ON CONFLICT(event_id) DO NOTHING' % (
        EVENT_COLUMNS, ', '.join('?' * len(_EVENT))))

# What is dropped first, where there is no room, has the lowest.
SUPERFLUOUS, CLEARED, UPDATED, RAISED = range(4)

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


class Busy(Exception):
    """Somebody else holds the file; it may be free the next time."""


@contextlib.contextmanager
def transaction(connection, writes=True):
    """Do all of it or nothing.

    :param writes: whether it does more than read: who reads waits for nobody
    """
    connection.execute('BEGIN IMMEDIATE' if writes else 'BEGIN')
    try:
        yield
        connection.execute('COMMIT')
    except BaseException:
        # SQLite ends the transaction by itself where the disk is full.
        if connection.in_transaction:
            connection.execute('ROLLBACK')
        raise


def connect(target, lock_s=_LOCK_S, uri=False):
    """Connect to a file, whatever is in it.

    :param lock_s: how long to wait for somebody else who holds it, seconds
    :param uri: whether the target is one
    """
    # Transactions are ours alone, and a lock of the outbox sees to it that
    # one thread at a time is in here.
    return sqlite3.connect(target, timeout=lock_s, isolation_level=None,
                           check_same_thread=False, uri=uri)


def is_damage(error):
    """Say whether the file is at fault, and not the disk below it.

    A damaged file is a bare DatabaseError; a disk that is full, read-only or
    gone is an OperationalError.
    """
    return isinstance(error, Damaged) or type(error) in (
        sqlite3.DatabaseError, sqlite3.InternalError)


def is_busy(error):
    """Say whether somebody else holds the file, and nothing is wrong."""
    # Python 3.10 does not tell SQLite's code.
    return (isinstance(error, sqlite3.OperationalError)
            and ' is locked' in str(error))


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
    connection = connect(':memory:')
    _create_tables(connection)
    return connection


def open_file(path, fsync, lock_s=_LOCK_S):
    """Open the file or make it.

    :param path: of the file; its folder is made
    :param fsync: whether each commit waits for the disk
    :param lock_s: how long to wait for somebody else who holds it, seconds
    :raises OSError, sqlite3.Error: it cannot be used
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    # Both may be there from before, with whatever mode. SQLite gives the
    # files beside it the mode of the first.
    os.chmod(folder, stat.S_IRWXU)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    os.chmod(path, 0o600)
    connection = connect(path, lock_s)
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
        connection.execute('PRAGMA busy_timeout = %d' % (_LOCK_S * 1000))
    except BaseException:
        connection.close()
        raise
    return connection


def connect_beside(path):
    """Connect once more to the file that is in use, to write its log back.

    :returns: a connection that has seen the file, whatever name it gets; None
        where it cannot be had
    """
    # Does not make the file, where it was set aside meanwhile.
    uri = 'file:%s?mode=rw' % parse.quote(path)
    connection = None
    try:
        connection = connect(uri, lock_s=0, uri=True)
        connection.execute('SELECT count(*) FROM totals').fetchone()
    except sqlite3.Error:
        if connection is not None:
            connection.close()
        return None
    return connection


def checkpoint(connection):
    """Write the log back into the file, beside whoever writes to it.

    :param connection: that :func:`connect_beside` made; it is closed
    """
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connection):
        connection.execute('PRAGMA wal_checkpoint(PASSIVE)')


def totals(connection):
    """Count the events, and the bytes that they take."""
    return connection.execute('SELECT events, bytes FROM totals').fetchone()


def insert(connection, event):
    """Add an event, and mark what it makes superfluous.

    :param event: values of EVENT_COLUMNS
    """
    about, cause, subject = event[2:5]
    connection.execute(
        'UPDATE events SET rank = ? '
        'WHERE about = ? AND cause = ? AND subject = ? AND rank = ?',
        (SUPERFLUOUS, about, cause, subject, UPDATED))
    connection.execute(INSERT_EVENT, event)


def oldest(connection, besides=()):
    """Read the event that came first.

    :param besides: what it must not be about
    :returns: values of EVENT_COLUMNS; None where there is none
    """
    return connection.execute(
        f'SELECT {EVENT_COLUMNS} FROM events WHERE about NOT IN (%s) '
        'ORDER BY id LIMIT 1' % ', '.join('?' * len(besides)),
        tuple(besides)).fetchone()


def drop_least(connection, spared):
    """Delete the event that is missed least.

    :param spared: event_id of one that has to stay
    :returns: its event_id, about, cause, transition and rank; None where
        there is none
    """
    found = connection.execute(
        'SELECT id, event_id, about, cause, transition, rank '
        'FROM events WHERE event_id != ? ORDER BY rank, id LIMIT 1',
        (spared,)).fetchone()
    if found is None:
        return None
    connection.execute('DELETE FROM events WHERE id = ?', found[:1])
    return found[1:]


def put_pages(connection, pages):
    """Write pages: name -> text, or None."""
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
