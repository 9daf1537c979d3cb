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

from nova_vmhealth.notifications import copying
from nova_vmhealth.notifications import database
from nova_vmhealth.notifications import tables

_RANK_OF = {'cleared': tables.CLEARED, 'updated': tables.UPDATED,
            'raised': tables.RAISED}

# What a row takes on disk besides its payload: the other columns, its places
# in three indices, and what is left over of its pages.
_ROW_BYTES = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One event with all that its sending takes.

    :ivar about: uuid of the instance, name of the host, or project and window
        of maintenance; earlier releases left it empty for their host. Events
        about different things have nothing to do with each other
    :ivar transition: ``raised``, ``updated`` or ``cleared``, or what is as
        important
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
    :param new_thread: makes a native thread, under eventlet too
    """

    def __init__(self, path, *, max_events, max_bytes, fsync=False,
                 clock=time.monotonic, new_thread=threading.Thread):
        self._new_thread = new_thread
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._database = database.Database(path, fsync, clock)
        # Held around all that is done to the store: SQLite's calls, and on a
        # bad day the renaming of a file and a line in the log. Never while
        # the bus is waited for.
        self._lock = threading.Lock()
        self._in_flight = ''
        self._depth = 0
        self._is_untidy = False

    def open(self):
        """Open the file, or go on without one; never raises for it."""
        with self._lock:
            self._database.open()
            self._run(lambda connection: None, writes=False)

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

    @property
    def switches(self):
        """How often another store took the place of the one before.

        The pages in it may be fewer than were written.
        """
        return self._database.switches

    @property
    def is_returning(self):
        """Whether :meth:`write` is to be called soon, to go back to disk."""
        return self._database.is_returning

    def pages(self):
        """Give all pages: name -> text."""
        with self._lock:
            found = self._run(copying.pages, writes=False)
        return {name: page for name, page in found.items()
                if page is not None}

    def take_found(self):
        """Give the pages that could not be read at the start, once."""
        with self._lock:
            return self._database.take_found()

    def write(self, rows, pages):
        """Write down events and pages, in one transaction.

        :param rows: Rows, the oldest first
        :param pages: name -> text, None to drop it
        :returns: a Dropped for each event that there was no room for
        :raises tables.Busy: not now; nothing is written
        """
        def work(connection):
            for row in rows:
                tables.insert(connection, _values(row))
            tables.put_pages(connection, pages)
            if self._database.on_disk and None in pages.values():
                tables.drop_empty_pages(connection)
            return self._make_room(connection)

        with self._lock:
            self._database.tend()
            if not rows and not pages:
                return []
            return self._run(work)

    def oldest(self, besides=()):
        """Give the event that is to be sent next, and keep it for that.

        :param besides: give one that is about none of these
        :returns: a Row; None when there is none
        :raises tables.Busy: not now
        """
        def work(connection):
            found = tables.oldest(connection, besides)
            return None if found is None else _row(found)

        with self._lock:
            row = self._run(work, writes=False)
            self._in_flight = row.event_id if row else ''
        return row

    def remove(self, event_id):
        """Take out an event: it was sent, or is given up.

        :raises tables.Busy: not now; it is still there
        """
        with self._lock:
            self._run(lambda connection: tables.remove(connection, event_id))
            self._in_flight = ''

    def tidy(self):
        """Do what is better done while nothing is to be sent.

        It waits for the disk: a native thread does, as under eventlet any
        other would have all of nova-compute wait.

        :returns: the thread; None where there is nothing to do
        """
        if not self._is_untidy:
            return None
        self._is_untidy = False
        with self._lock:
            # The file has no other name while this is held.
            connection = self._database.connect_beside()
        if connection is None:
            return None
        thread = self._new_thread(
            target=tables.checkpoint, args=(connection,),
            name='vmhealth-checkpoint', daemon=True)
        thread.start()
        return thread

    def _run(self, work, writes=True):
        def counted(connection):
            return work(connection), tables.totals(connection)[0]
        self._is_untidy = self._is_untidy or writes
        result, self._depth = self._database.run(counted, writes)
        return result

    def _make_room(self, connection):
        dropped = []
        while self._is_full(connection):
            # What is on its way to the broker is as good as gone already.
            found = tables.drop_least(connection, self._in_flight)
            if found is None:
                break
            dropped.append(
                Dropped(*found[:4], found[4] == tables.SUPERFLUOUS))
        return dropped

    def _is_full(self, connection):
        events, size = tables.totals(connection)
        return events > self._max_events or size > self._max_bytes


def _values(row):
    return (row.event_id, row.event_type, row.about, row.cause, row.subject,
            row.transition, _RANK_OF[row.transition], row.priority,
            row.project_id, row.user_id, row.payload, row.size, row.noted_at)


def _row(values):
    (event_id, event_type, about, cause, subject, transition, _rank, priority,
     project_id, user_id, payload, _size, noted_at) = values
    return Row(event_id, event_type, about, cause, subject, transition,
               priority, project_id, user_id, payload, noted_at)
