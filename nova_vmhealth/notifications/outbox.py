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

"""Events that wait for the broker, and how many of them may.

When there are too many, they go in this order: an ``updated`` that a later
event of the same condition makes superfluous, a ``cleared``, another
``updated``, a ``raised``; of each kind the oldest first.
"""

import dataclasses
import threading
import time
from typing import Optional

from nova_vmhealth.notifications import database
from nova_vmhealth.notifications import tables

# Ranks: what is dropped first has the lowest.
_SUPERFLUOUS, _CLEARED, _UPDATED, _RAISED = range(4)
_RANK_OF = {'cleared': _CLEARED, 'updated': _UPDATED, 'raised': _RAISED}

# What a row takes on disk besides its payload: the other columns, its places
# in three indices, and what is left over of its pages.
_ROW_BYTES = 2048

_SELECT = f'SELECT {tables.EVENT_COLUMNS} FROM events '


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One event with all that its sending takes.

    :ivar about: uuid of the instance, empty for the host itself
    :ivar transition: ``raised``, ``updated`` or ``cleared``
    :ivar priority: ``info``, ``warn`` or ``error``
    :ivar payload: JSON text
    :ivar noted_at: when it was made, seconds since the epoch
    """

    event_id: str
    event_type: str
    about: str
    cause: str
    subject: str
    transition: str
    priority: str
    project_id: Optional[str]
    user_id: Optional[str]
    payload: str
    noted_at: float

    @property
    def size(self):
        """Bytes that it takes on disk, roughly."""
        return len(self.payload) + _ROW_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """What was dropped, since the outbox was full.

    :ivar superfluous: whether a later event says it better
    """

    event_id: str
    about: str
    cause: str
    transition: str
    superfluous: bool


class Outbox:
    """The events that are not sent yet, and the pages of the saved ledger.

    Every method may be called from any thread; none waits for the bus.

    :param path: of the file; None: in memory
    :param max_events: how many may wait
    :param max_bytes: how much they may take on disk
    :param fsync: whether each commit waits for the disk
    :param clock: gives monotonic seconds
    """

    def __init__(self, path, *, max_events, max_bytes, fsync=False,
                 clock=time.monotonic):
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._database = database.Database(path, fsync, clock)
        # Held around calls of sqlite3 and nothing else. Under eventlet none
        # of them gives way to another greenthread.
        self._lock = threading.Lock()
        self._in_flight = ''
        self._depth = 0
        self._is_untidy = False

    def open(self):
        """Open the file, or go on without one; never raises for it."""
        with self._lock:
            self._database.open()
            self._run(lambda connection: None)

    def close(self):
        """Close the file; nothing else may be called after that."""
        with self._lock:
            self._database.close()

    @property
    def depth(self):
        """How many events wait."""
        return self._depth

    @property
    def on_disk(self):
        """Whether they outlive the process."""
        return self._database.on_disk

    def pages(self):
        """Give all pages: name -> text."""
        with self._lock:
            found = self._run(tables.pages)
        return {name: page for name, page in found.items()
                if page is not None}

    def write(self, rows, pages):
        """Write down events and pages, in one transaction.

        :param rows: Rows, the oldest first
        :param pages: name -> text, None to drop it
        :returns: a Dropped for each event that there was no room for
        """
        def work(connection):
            for row in rows:
                _insert(connection, row)
            connection.executemany(
                'INSERT OR REPLACE INTO pages VALUES (?, ?)', pages.items())
            if self._database.on_disk and None in pages.values():
                tables.drop_empty_pages(connection)
            return self._make_room(connection)

        with self._lock:
            self._database.tend()
            if not rows and not pages:
                return []
            return self._run(work)

    def oldest(self, besides=None):
        """Give the event that is to be sent next, and keep it for that.

        :param besides: give one that is about something else
        :returns: a Row; None when there is none
        """
        def work(connection):
            found = connection.execute(
                _SELECT + 'WHERE about IS NOT ? ORDER BY id LIMIT 1',
                (besides,)).fetchone()
            return None if found is None else _row(found)

        with self._lock:
            row = self._run(work)
            self._in_flight = row.event_id if row else ''
        return row

    def remove(self, event_id):
        """Take out an event: it was sent, or is given up."""
        with self._lock:
            self._in_flight = ''
            self._run(lambda connection: tables.remove(connection, event_id))

    def tidy(self):
        """Do what is better done while nothing is to be sent."""
        # Without the lock: it waits for the disk.
        if self._is_untidy:
            self._is_untidy = False
            self._database.tidy()

    def _run(self, work):
        def counted(connection):
            return work(connection), _totals(connection)[0]
        self._is_untidy = True
        result, self._depth = self._database.run(counted)
        return result

    def _make_room(self, connection):
        dropped = []
        while self._is_full(connection):
            # What is on its way to the broker is as good as gone already.
            found = connection.execute(
                'SELECT id, event_id, about, cause, transition, rank '
                'FROM events WHERE event_id != ? ORDER BY rank, id LIMIT 1',
                (self._in_flight,)).fetchone()
            if found is None:
                break
            connection.execute('DELETE FROM events WHERE id = ?', found[:1])
            dropped.append(Dropped(*found[1:5], found[5] == _SUPERFLUOUS))
        return dropped

    def _is_full(self, connection):
        events, size = _totals(connection)
        return events > self._max_events or size > self._max_bytes


def _totals(connection):
    return connection.execute('SELECT events, bytes FROM totals').fetchone()


def _insert(connection, row):
    connection.execute(
        'UPDATE events SET rank = ? '
        'WHERE about = ? AND cause = ? AND subject = ? AND rank = ?',
        (_SUPERFLUOUS, row.about, row.cause, row.subject, _UPDATED))
    connection.execute(tables.INSERT_EVENT, (
        row.event_id, row.event_type, row.about, row.cause, row.subject,
        row.transition, _RANK_OF[row.transition], row.priority,
        row.project_id, row.user_id, row.payload, row.size, row.noted_at))


def _row(values):
    (event_id, event_type, about, cause, subject, transition, _rank, priority,
     project_id, user_id, payload, _size, noted_at) = values
    return Row(event_id, event_type, about, cause, subject, transition,
               priority, project_id, user_id, payload, noted_at)
