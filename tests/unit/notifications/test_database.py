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

"""Whatever becomes of the file, what is known goes on in another place."""

import contextlib
import glob
import os
import sqlite3
import stat

import pytest

from nova_vmhealth.notifications import copying
from nova_vmhealth.notifications import database
from nova_vmhealth.notifications import tables


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def path(tmp_path):
    return database.path_of(str(tmp_path / 'state'), 'compute/1')


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(path, clock):
    made = []

    def new(**options):
        made.append(database.Database(path, clock=clock, **options))
        made[-1].open()
        return made[-1]
    yield new
    for each in made:
        each.close()


def add(subject, *names, payload='{}'):
    def work(connection):
        for name in names:
            connection.execute(tables.INSERT_EVENT, (
                name, 'instance.health', 'uuid', 'cause', '', 'raised', 3,
                'info', None, None, payload, 10, 0.0))
    subject.run(work)


def put(subject, name, page):
    subject.run(lambda connection: connection.execute(
        'INSERT OR REPLACE INTO pages VALUES (?, ?)', (name, page)))


def names(subject):
    return subject.run(lambda connection: [
        row[0] for row in connection.execute(
            'SELECT event_id FROM events ORDER BY id')], writes=False)


def pages(subject):
    return subject.run(copying.pages)


def totals(subject):
    return subject.run(lambda connection: connection.execute(
        'SELECT events, bytes FROM totals').fetchone())


def connection_of(subject):
    return subject._connection


def disk_is_full(subject):
    """Let SQLite have no page more; an event of some KiB takes two."""
    connection = connection_of(subject)
    used = connection.execute('PRAGMA page_count').fetchone()[0]
    connection.execute('PRAGMA max_page_count = %d' % used)


BIG = 'x' * 20000


def test_the_file_is_for_its_user_alone(path, opened):
    assert os.path.basename(path) == 'compute%2F1.sqlite'
    subject = opened()
    add(subject, 'a')
    assert subject.on_disk
    folder = os.path.dirname(path)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    found = sorted(os.listdir(folder))
    assert found == ['compute%2F1.sqlite' + each
                     for each in ('', '-shm', '-wal')]
    for name in found:
        assert stat.S_IMODE(
            os.stat(os.path.join(folder, name)).st_mode) == 0o600


def test_modes_that_are_too_wide_are_narrowed(path, opened):
    folder = os.path.dirname(path)
    os.makedirs(folder)
    os.chmod(folder, 0o755)
    open(path, 'w').close()
    os.chmod(path, 0o644)
    opened()
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize('fsync, level', [(False, 1), (True, 2)])
def test_when_a_commit_waits_for_the_disk(opened, fsync, level):
    connection = connection_of(opened(fsync=fsync))
    assert connection.execute('PRAGMA synchronous').fetchone() == (level,)
    assert connection.execute('PRAGMA journal_mode').fetchone() == ('wal',)


def test_outlives_a_process_that_never_closes_it(opened):
    first = opened()
    add(first, 'a', 'b')
    put(first, 'page', 'text')
    second = opened()
    assert names(second) == ['a', 'b']
    assert pages(second) == {'page': 'text'}
    assert totals(second) == (2, 20)


@pytest.mark.parametrize('host, name', [
    ('compute-1', 'compute-1'), ('a/b', 'a%2Fb'), (('x',), '%28%27x%27%2C%29'),
])
def test_the_name_of_the_file(host, name):
    """Nova's own tests have a host that is a tuple."""
    assert database.path_of('/s', host) == f'/s/vmhealth/{name}.sqlite'


def test_a_transaction_is_whole_or_not_at_all(opened):
    subject = opened()

    def work(connection):
        connection.execute('INSERT INTO pages VALUES (?, ?)', ('a', 'b'))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        subject.run(work)
    assert pages(subject) == {}


@pytest.mark.parametrize('statement', [
    'INSERT INTO nowhere VALUES (1)',
    'INSERT INTO pages VALUES (NULL, NULL, NULL)',
])
def test_a_wrong_statement_in_memory_is_its_callers(statement):
    subject = database.Database(None)
    subject.open()
    with pytest.raises(sqlite3.Error):
        subject.run(lambda connection: connection.execute(statement))


def test_a_row_that_breaks_a_rule_is_no_fault_of_the_file(opened, path):
    subject = opened()
    add(subject, 'a')
    with pytest.raises(sqlite3.IntegrityError):
        subject.run(lambda connection: connection.execute(
            'INSERT INTO events (event_id) VALUES (?)', ('a',)))
    assert subject.on_disk
    assert glob.glob(path + '.corrupt*') == []


def garbage(path):
    with open(path, 'wb') as f:
        f.write(b'this is no database' * 1000)


def other_version(path):
    subject = database.Database(path)
    subject.open()
    add(subject, 'from the future')
    subject._connection.execute('PRAGMA user_version = 99')
    subject.close()


def other_tables(path):
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE events (id INTEGER)')
    connection.execute('PRAGMA user_version = %d' % tables.VERSION)
    connection.close()


def no_version(path):
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE anything (id INTEGER)')
    connection.close()


def no_totals(path):
    subject = database.Database(path)
    subject.open()
    subject.run(lambda connection: connection.execute('DELETE FROM totals'))
    subject.close()


def torn_page(path):
    subject = database.Database(path)
    subject.open()
    add(subject, *map(str, range(100)), payload='x' * 3000)
    subject.close()
    with open(path, 'r+b') as f:
        f.seek(4096 * 20)
        f.write(b'\xff' * 4096 * 5)


@pytest.mark.parametrize('spoil', [
    garbage, other_version, other_tables, no_version, no_totals, torn_page])
def test_a_file_that_cannot_be_used_is_set_aside(
        path, opened, caplog, spoil):
    os.makedirs(os.path.dirname(path))
    spoil(path)
    with open(path, 'rb') as f:
        spoiled = f.read()
    subject = opened()
    assert subject.on_disk
    add(subject, 'a')
    assert names(subject)[-1] == 'a'
    [aside] = glob.glob(path + '.corrupt-????????T??????Z')
    with open(aside, 'rb') as f:
        assert f.read() == spoiled
    [record] = caplog.records
    assert record.levelname == 'ERROR'
    assert path in record.getMessage()
    assert aside in record.getMessage()


def test_nothing_is_taken_over_from_another_layout(path, opened):
    os.makedirs(os.path.dirname(path))
    other_version(path)
    assert names(opened()) == []


def test_what_can_be_read_of_a_file_that_is_set_aside_is_taken_over(
        path, opened):
    os.makedirs(os.path.dirname(path))
    torn_page(path)
    left = names(opened())
    assert '0' in left and '99' in left
    assert 50 < len(left) < 100
    assert left == sorted(left, key=int)


def test_two_that_are_set_aside_in_one_second(path, opened):
    os.makedirs(os.path.dirname(path))
    for _ in range(3):
        garbage(path)
        opened().close()
    assert len(glob.glob(path + '.corrupt-*')) == 3


def test_what_can_be_read_of_a_damaged_file_goes_on_in_a_new_one(
        path, opened, caplog):
    subject = opened()
    every = ['%03d' % n for n in range(200)]
    add(subject, *every, payload='x' * 3000)
    put(subject, 'page', 'text')
    connection_of(subject).execute('PRAGMA wal_checkpoint(TRUNCATE)')
    # pages in the middle of the file, behind the back of its cache
    with open(path, 'r+b') as f:
        f.seek(4096 * 100)
        f.write(b'\xff' * 4096 * 20)
    connection_of(subject).execute('PRAGMA cache_size = 0')
    connection_of(subject).execute('PRAGMA shrink_memory')
    subject.run(lambda connection: connection.execute(
        'DELETE FROM events WHERE payload = ?', ('none',)))
    assert subject.on_disk
    left = names(subject)
    assert '000' in left and '199' in left
    assert left == sorted(left)
    assert 100 < len(left) < 200
    assert totals(subject) == (len(left), 10 * len(left))
    assert pages(subject) == {'page': 'text'}
    assert len(glob.glob(path + '.corrupt-*')) == 1
    add(subject, 'new')
    assert names(subject)[-1] == 'new'


def test_a_disk_that_spoils_one_file_after_the_other(path, opened, clock):
    subject = opened()
    for name in ('a', 'b'):
        add(subject, name)
        failed = []

        def spoiled(connection, name=name, failed=failed):
            if not failed:
                failed.append(name)
                raise tables.Damaged('spoiled')
        subject.run(spoiled)
        clock.now += 10
    assert not subject.on_disk
    assert names(subject) == ['a', 'b']
    assert len(glob.glob(path + '.corrupt-*')) == 1


def test_a_disk_that_spoils_every_file_on_the_way_back_too(
        path, opened, clock, caplog):
    """For six hours; it was 360 files."""
    subject = opened()

    def spoiled(_connection):
        if subject.on_disk:
            raise tables.Damaged('spoiled')
    for _ in range(360):
        subject.tend()
        subject.run(spoiled)
        if os.path.exists(path):
            garbage(path)
        clock.now += database.RETRY_S
    lines = [line for line in caplog.messages if 'set aside' in line]
    assert len(lines) < 15
    aside = [name for name in glob.glob(path + '.corrupt-*')
             if not name.endswith(('-wal', '-shm'))]
    assert len(aside) == database.KEPT_ASIDE


def test_files_that_are_set_aside_go_with_all_that_belongs_to_them(
        path, opened):
    os.makedirs(os.path.dirname(path))
    for number in range(database.KEPT_ASIDE + 2):
        name = f'{path}.corrupt-2026010{number}T000000Z'
        for suffix in ('', '-wal', '-shm'):
            open(name + suffix, 'w').close()
            os.utime(name + suffix, (number, number))
    garbage(path)
    opened()
    left = glob.glob(path + '.corrupt-2026010*')
    assert {name.partition('.corrupt-')[2][:8] for name in left} == {
        '20260103', '20260104'}
    assert len(left) == 6


def test_what_is_only_in_the_log_of_a_damaged_file_is_read_and_stays(
        path, opened):
    subject = database.Database(path)
    subject.open()
    add(subject, 'a')
    subject.run(lambda connection: connection.execute('DELETE FROM totals'))
    files = {}
    for suffix in ('', '-wal'):             # as a kill leaves them
        with open(path + suffix, 'rb') as f:
            files[suffix] = f.read()
    subject.close()
    for suffix, content in files.items():
        with open(path + suffix, 'wb') as f:
            f.write(content)
    assert names(opened()) == ['a']
    [aside] = glob.glob(path + '.corrupt-*Z')
    for suffix, content in files.items():
        with open(aside + suffix, 'rb') as f:
            assert f.read() == content


def hold(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute('BEGIN IMMEDIATE')
    return connection


def test_a_file_that_is_held_for_too_long_is_left_for_memory(
        path, opened, clock, caplog):
    subject = opened()
    add(subject, 'a')
    other = hold(path)
    for _ in range(3):
        with pytest.raises(tables.Busy):
            add(subject, 'b')
        assert subject.on_disk
        assert names(subject) == ['a']      # who reads is not kept out
        clock.now += database.BUSY_S / 3
    add(subject, 'b')
    assert not subject.on_disk
    assert 'locked' in caplog.text
    clock.now += database.RETRY_S
    subject.tend()
    assert not subject.on_disk
    other.close()
    clock.now += database.RETRY_S
    subject.tend()
    assert subject.on_disk
    assert names(subject) == ['a', 'b']
    assert glob.glob(path + '.corrupt-*') == []


def test_the_wait_for_a_held_file_begins_anew_each_time(path, opened, clock):
    subject = opened()
    for name in 'abc':
        other = hold(path)
        with pytest.raises(tables.Busy):
            add(subject, name)
        other.close()
        add(subject, name)
        clock.now += database.BUSY_S
    assert subject.on_disk
    assert subject.switches == 0


def test_a_large_backlog_goes_back_in_parts(
        path, opened, clock, monkeypatch):
    monkeypatch.setattr(copying, 'SLICE', 10)
    subject = opened()
    first = ['a%02d' % n for n in range(25)]
    add(subject, *first)
    put(subject, 'page', '1')
    disk_is_full(subject)
    add(subject, 'big', payload=BIG)
    assert not subject.on_disk
    more = ['b%02d' % n for n in range(30)]
    add(subject, *more)
    put(subject, 'page', '2')
    clock.now += database.RETRY_S
    left, steps = first + ['big'] + more, 0
    while not subject.on_disk:
        assert not steps or subject.is_returning
        subject.tend()
        # a crash here finds the order, and a page that is no older
        with contextlib.closing(sqlite3.connect(path)) as file:
            found = [row[0] for row in file.execute(
                'SELECT event_id FROM events ORDER BY id')]
            assert found == sorted(found, key=(
                first + ['big'] + more).index)
            assert dict(file.execute('SELECT * FROM pages')) == {'page': '2'}
        if left and not subject.on_disk:
            gone = left.pop(0)              # the sender goes on meanwhile
            subject.run(lambda connection, gone=gone: tables.remove(
                connection, gone))
        steps += 1
        assert steps < 20
    assert steps > 5
    assert names(subject) == left
    assert not subject.is_returning


def test_a_way_back_that_fails_is_tried_again(
        path, opened, clock, monkeypatch):
    monkeypatch.setattr(copying, 'SLICE', 2)
    subject = opened()
    add(subject, 'a')
    disk_is_full(subject)
    add(subject, 'b', 'c', 'd', payload=BIG)
    clock.now += database.RETRY_S
    subject.tend()
    other = hold(path)
    subject.tend()
    assert not subject.on_disk and not subject.is_returning
    other.close()
    subject.run(lambda connection: tables.remove(connection, 'b'))
    clock.now += database.RETRY_S
    for _ in range(3):
        subject.tend()
    assert subject.on_disk
    assert names(subject) == ['a', 'c', 'd']


def test_a_full_disk_is_left_for_memory_and_taken_again(
        path, opened, clock, caplog):
    subject = opened()
    add(subject, 'a', 'b')
    put(subject, 'kept', '1')
    put(subject, 'gone', '1')
    disk_is_full(subject)
    add(subject, 'c', payload=BIG)
    assert not subject.on_disk
    assert names(subject) == ['a', 'b', 'c']
    [record] = caplog.records
    assert record.levelname == 'ERROR'
    assert path in record.getMessage() and 'full' in record.getMessage()

    # meanwhile one is sent, one comes, and a page goes
    subject.run(lambda connection: tables.remove(connection, 'a'))
    add(subject, 'd')
    put(subject, 'gone', None)
    put(subject, 'new', '2')
    clock.now += database.RETRY_S - 1
    subject.tend()
    assert not subject.on_disk
    clock.now += 1
    subject.tend()
    assert subject.on_disk
    assert names(subject) == ['b', 'c', 'd']
    assert pages(subject) == {'kept': '1', 'new': '2'}
    assert totals(subject) == (3, 30)
    # nothing was wrong with the file
    assert glob.glob(path + '.corrupt-*') == []
    assert len(caplog.records) == 2

    subject.close()
    assert names(opened()) == ['b', 'c', 'd']


def test_a_crash_while_in_memory_loses_nothing_of_the_disk(opened):
    subject = opened()
    add(subject, 'a', 'b')
    disk_is_full(subject)
    add(subject, 'c', payload=BIG)
    assert names(opened()) == ['a', 'b']


def test_a_folder_that_cannot_be_made(tmp_path, clock, caplog):
    """Root may write anywhere, but not below a file."""
    (tmp_path / 'state').write_text('')
    path = database.path_of(str(tmp_path / 'state'), 'c')
    subject = database.Database(path, clock=clock)
    subject.open()
    assert not subject.on_disk
    assert path in caplog.text
    add(subject, 'a')
    put(subject, 'page', 'text')
    clock.now += database.RETRY_S
    subject.tend()                          # still so
    assert not subject.on_disk
    assert len(caplog.records) == 1
    (tmp_path / 'state').unlink()
    clock.now += database.RETRY_S
    subject.tend()
    assert subject.on_disk
    assert (names(subject), pages(subject)) == (['a'], {'page': 'text'})
    subject.close()


def test_what_the_file_had_before_it_could_be_opened_comes_first(
        path, opened, clock):
    first = opened()
    add(first, 'old')
    put(first, 'old', '1')
    put(first, 'both', '1')
    first.close()
    hidden = os.path.dirname(path) + '.away'
    os.rename(os.path.dirname(path), hidden)
    open(os.path.dirname(path), 'w').close()
    second = opened()
    add(second, 'new')
    put(second, 'both', '2')
    os.unlink(os.path.dirname(path))
    os.rename(hidden, os.path.dirname(path))
    clock.now += database.RETRY_S
    second.tend()
    assert names(second) == ['old', 'new']
    assert pages(second) == {'old': '1', 'both': '2'}


def test_a_damaged_file_whose_name_cannot_be_changed(
        path, opened, monkeypatch, caplog):
    os.makedirs(os.path.dirname(path))
    garbage(path)

    def refuse(*_names):
        raise PermissionError('no')
    monkeypatch.setattr(os, 'rename', refuse)
    subject = opened()
    add(subject, 'a')
    assert not subject.on_disk
    assert names(subject) == ['a']


def test_in_memory_by_choice_says_nothing(caplog):
    subject = database.Database(None)
    subject.open()
    add(subject, 'a')
    subject.tend()
    assert names(subject) == ['a']
    assert caplog.records == []
    subject.close()


def test_a_backlog_gives_its_space_back(path, opened):
    subject = opened()
    every = [str(n) for n in range(1000)]
    add(subject, *every, payload='x' * 8000)
    full = connection_of(subject).execute('PRAGMA page_count').fetchone()[0]
    for name in every:
        subject.run(lambda connection, name=name: tables.remove(
            connection, name))
    left = connection_of(subject).execute('PRAGMA page_count').fetchone()[0]
    assert full > 2000
    assert left < 400
