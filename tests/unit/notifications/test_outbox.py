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

"""The outbox keeps the order, and drops by a rule when it is full."""

import contextlib
import dataclasses
import os
import random
import sqlite3
import threading

import pytest

from nova_vmhealth.notifications import copying
from nova_vmhealth.notifications import database
from nova_vmhealth.notifications import outbox
from nova_vmhealth.notifications import tables

LARGE = 10 ** 9
PATIENCE_S = 30


def row(number, transition='raised', about='a', cause='io_error', subject='',
        payload='{}'):
    return outbox.Row(
        event_id='e%05d' % number, event_type='instance.health', about=about,
        cause=cause, subject=subject, transition=transition, priority='info',
        project_id='p', user_id=None, payload=payload, noted_at=float(number))


@pytest.fixture
def opened(tmp_path):
    made = []

    def new(max_events=LARGE, max_bytes=LARGE):
        made.append(outbox.Outbox(
            str(tmp_path / 'vmhealth' / 'c.sqlite'), max_events=max_events,
            max_bytes=max_bytes))
        made[-1].open()
        return made[-1]
    yield new
    for each in made:
        each.close()


@contextlib.contextmanager
def held(path):
    """Hold a file as a tool does that looks into it, or copies it."""
    with contextlib.closing(
            sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute('BEGIN IMMEDIATE')
        yield


def drain(subject):
    found = []
    while True:
        each = subject.oldest()
        if each is None:
            return found
        found.append(each.event_id)
        subject.remove(each.event_id)


def ids(*numbers):
    return ['e%05d' % number for number in numbers]


def test_gives_them_back_as_they_were_in_their_order(opened):
    subject = opened()
    rows = [dataclasses.replace(
        row(n, 'updated', subject='vda', payload='{"n": %d}' % n),
        project_id=None, user_id='u', priority='error')
        for n in (3, 1, 2)]
    assert subject.write(rows, {}) == []
    assert subject.depth == 3
    for each in rows:
        assert subject.oldest() == each
        assert subject.oldest() == each
        subject.remove(each.event_id)
    assert subject.oldest() is None
    assert subject.depth == 0


def test_another_run_goes_on_where_the_first_was(opened):
    first = opened()
    first.write([row(1), row(2), row(3)], {'x': '1', 'y': '2'})
    first.remove('e00001')
    second = opened()
    assert second.depth == 2
    assert second.pages() == {'x': '1', 'y': '2'}
    second.write([row(4)], {'x': None, 'y': '3'})
    assert second.pages() == {'y': '3'}
    assert drain(second) == ids(2, 3, 4)


def test_a_page_that_is_dropped_leaves_nothing_on_disk(opened):
    subject = opened()
    subject.write([], {'x': '1', 'y': '2'})
    subject.write([], {'x': None, 'z': None})
    assert subject._database.run(copying.pages) == {'y': '2'}


def test_goes_back_to_the_disk_by_itself(tmp_path):
    (tmp_path / 'state').write_text('')
    now = [0.0]
    subject = outbox.Outbox(
        str(tmp_path / 'state' / 'c.sqlite'), max_events=10, max_bytes=LARGE,
        clock=lambda: now[0])
    subject.open()
    subject.write([row(1)], {'x': '1'})
    assert not subject.on_disk
    (tmp_path / 'state').unlink()
    now[0] += database.RETRY_S
    subject.write([], {})
    assert subject.on_disk
    assert subject.pages() == {'x': '1'}
    assert drain(subject) == ids(1)
    subject.close()


def test_the_log_is_written_back_when_there_is_time(opened, tmp_path):
    subject = opened()
    subject.write([row(n, payload='x' * 5000) for n in range(100)], {})
    path = tmp_path / 'vmhealth' / 'c.sqlite'
    before = os.path.getsize(path)
    thread = subject.tidy()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert os.path.getsize(path) > before + 400000
    subject.oldest()
    assert subject.tidy() is None           # nothing was written since
    assert drain(subject) == ids(*range(100))


def test_who_waits_for_the_disk_is_a_thread_of_the_given_kind(tmp_path):
    made = []

    class Native(threading.Thread):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            made.append(self)
    subject = outbox.Outbox(str(tmp_path / 'c.sqlite'), max_events=LARGE,
                            max_bytes=LARGE, new_thread=Native)
    subject.open()
    subject.write([row(1)], {})
    thread = subject.tidy()
    assert made == [thread]
    thread.join(PATIENCE_S)
    subject.close()


def test_the_same_event_is_there_once(opened):
    subject = opened()
    subject.write([row(1)], {})
    subject.write([row(1), row(2)], {})
    assert subject.depth == 2


def test_events_and_pages_are_written_together(opened):
    subject = opened()
    subject._database._connection.execute(
        "CREATE TRIGGER no BEFORE INSERT ON pages WHEN new.name = 'bad' "
        "BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(sqlite3.IntegrityError):
        subject.write([row(1)], {'good': '1', 'bad': '2'})
    assert subject.depth == 0
    assert subject.pages() == {}


def test_one_about_something_else(opened):
    subject = opened()
    subject.write([row(1), row(2), row(3, about='b'), row(4, about='')], {})
    assert subject.oldest(besides=['a']).event_id == 'e00003'
    assert subject.oldest(besides=['b']).event_id == 'e00001'
    assert subject.oldest(besides=['a', 'b']).event_id == 'e00004'
    subject.remove('e00003')
    assert subject.oldest(besides=['a']).event_id == 'e00004'
    subject.remove('e00004')
    assert subject.oldest(besides=['a']) is None


def test_an_event_without_a_value_is_not_taken_for_one_that_is_there(opened):
    subject = opened()
    with pytest.raises(sqlite3.IntegrityError):
        subject.write([dataclasses.replace(row(1), event_type=None)], {})


def test_who_holds_the_file_keeps_nobody_from_reading(opened, tmp_path):
    subject = opened()
    subject.write([row(1)], {'x': '1'})
    with held(tmp_path / 'vmhealth' / 'c.sqlite'):
        with pytest.raises(tables.Busy):
            subject.write([row(2)], {'x': '2'})
        assert subject.on_disk
        assert subject.oldest().event_id == 'e00001'
        with pytest.raises(tables.Busy):
            subject.remove('e00001')
        assert subject.pages() == {'x': '1'}
    subject.write([row(2)], {'x': '2'})
    assert subject.switches == 0
    assert drain(subject) == ids(1, 2)


# (transition, about, cause, subject) of rows 1, 2, 3, ...; how many may stay;
# the numbers of those that go, in their order
FULL = {
    'nothing': ([('raised',), ('updated',)], 2, []),
    'an update that another replaces': (
        [('raised',), ('updated',), ('cleared', 'b'), ('updated',)], 3, [2]),
    'an update that the end replaces': (
        [('cleared', 'b'), ('updated',), ('cleared',)], 2, [2]),
    'an update that a new beginning replaces': (
        [('cleared', 'b'), ('updated',), ('raised',)], 2, [2]),
    'several of them, the oldest first': (
        [('updated',), ('updated',), ('updated',), ('updated',)], 2, [1, 2]),
    'another cause replaces nothing': (
        [('updated',), ('updated', 'a', 'watchdog_expired'), ('cleared', 'b')],
        2, [3]),
    'another subject replaces nothing': (
        [('updated',), ('updated', 'a', 'io_error', 'vdb'), ('cleared', 'b')],
        2, [3]),
    'another instance replaces nothing': (
        [('updated',), ('updated', 'b'), ('cleared', 'c')], 2, [3]),
    'then the oldest end': (
        [('raised',), ('updated',), ('cleared', 'b'), ('cleared', 'c')],
        3, [3]),
    'then the oldest update': (
        [('raised',), ('updated', 'b'), ('updated', 'c'), ('cleared', 'd')],
        2, [2, 4]),
    'then the oldest beginning': (
        [('raised', 'a'), ('raised', 'b'), ('cleared', 'c')], 1, [1, 3]),
}


@pytest.mark.parametrize('rows, keep, dropped', FULL.values(), ids=FULL)
def test_what_goes_when_it_is_full(opened, rows, keep, dropped):
    subject = opened(max_events=keep)
    found = []
    for number, spec in enumerate(rows, 1):
        found += subject.write([row(number, *spec)], {})
    assert [each.event_id for each in found] == ids(*dropped)
    assert subject.depth == keep
    assert drain(subject) == ids(*(
        n for n in range(1, len(rows) + 1) if n not in dropped))


def test_what_is_dropped_says_what_it_was(opened):
    subject = opened(max_events=1)
    found = subject.write([row(1, 'updated'), row(2, 'updated'),
                           row(3, 'cleared', 'b', 'host_fault')], {})
    assert found == [
        outbox.Dropped('e00001', 'a', 'io_error', 'updated', True),
        outbox.Dropped('e00003', 'b', 'host_fault', 'cleared', False)]


def test_bytes_are_bounded_too(opened):
    subject = opened(max_bytes=100000)
    found = []
    for number in range(1, 101):
        found += subject.write([row(number, payload='x' * 8000)], {})
    assert subject.depth == 9
    assert len(found) == 91
    assert drain(subject) == ids(*range(92, 101))


def test_the_file_keeps_to_its_bound(opened, tmp_path):
    """What the table of rows says is what the file takes, or less."""
    bound = 4 * 1024 * 1024
    subject = opened(max_bytes=bound)
    for number in range(1000):
        size = (500, 3000, 5000, 9000)[number % 4]
        subject.write([row(number, payload='x' * size)], {})
    subject.close()
    taken = os.path.getsize(tmp_path / 'vmhealth' / 'c.sqlite')
    assert bound * 0.5 < taken <= bound * 1.05
    subject.open()


def test_the_one_that_is_being_sent_is_not_dropped(opened):
    subject = opened(max_events=2)
    subject.write([row(1), row(2)], {})
    assert subject.oldest().event_id == 'e00001'
    assert [each.event_id for each in subject.write([row(3)], {})] == ids(2)
    subject.remove('e00001')
    # no longer: the next is
    assert [each.event_id for each in subject.write(
        [row(4), row(5)], {})] == ids(3)


def expected_drops(rows, new, most):
    """What goes, by the rule and by nothing else: slow and plain."""
    rows = rows + [new]
    gone = []
    while len(rows) > most:
        def rank(each):
            later = rows[rows.index(each) + 1:]
            if each.transition != 'updated':
                return {'cleared': 1, 'raised': 3}[each.transition]
            return 0 if any(
                (other.about, other.cause, other.subject)
                == (each.about, each.cause, each.subject)
                for other in later) else 2
        worst = min(rows, key=lambda each: (rank(each), rows.index(each)))
        rows.remove(worst)
        gone.append(worst.event_id)
    return rows, gone


@pytest.mark.parametrize('seed', range(20))
def test_any_story_follows_the_rule(opened, seed):
    """Events, sendings and restarts at random, against the plain rule."""
    chance = random.Random(seed)
    most = chance.choice([1, 3, 8, 20])
    subject = opened(max_events=most)
    rows = []
    for number in range(150):
        action = chance.random()
        if action < 0.75:
            new = row(number, chance.choice(['raised', 'updated', 'updated',
                                             'cleared']),
                      chance.choice('ab'), chance.choice(['x', 'y']),
                      chance.choice(['', 'vda']))
            rows, gone = expected_drops(rows, new, most)
            found = subject.write([new], {})
            assert [each.event_id for each in found] == gone
        elif action < 0.95 and rows:
            assert subject.oldest() == rows[0]
            subject.remove(rows.pop(0).event_id)
        else:
            subject = opened(max_events=most)
        assert subject.depth == len(rows)
    assert drain(subject) == [each.event_id for each in rows]
