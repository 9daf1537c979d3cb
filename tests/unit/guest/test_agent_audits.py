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


"""Audits: found in a directory, run in the background, judged, remembered."""

import os
import select
import subprocess
import sys

import pytest

from nova_vmhealth.guest import agent


@pytest.fixture
def audit_file(tmp_path):
    """A function that writes an executable into the audit directory."""
    def write(name, text='#!/bin/sh\n', mode=0o755):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def make_audit(name='db', path='', interval=10.0, timeout=5.0):
    return agent.Audit(name, str(path), interval, timeout)


@pytest.mark.parametrize('status, output, expected', [
    (0, b'', ('healthy', '')),
    (0, b'all well\nsecond line\n', ('healthy', 'all well')),
    (1, b'slow', ('degraded', 'slow')),
    (2, b'gone\r\n', ('unhealthy', 'gone')),
    (3, b'odd\n', ('unhealthy', 'exit status 3: odd')),
    (127, b'', ('unhealthy', 'exit status 127')),
    (-9, b'said before\n', ('unhealthy', 'ended by signal 9')),
    (0, b'x' * 1000, ('healthy', 'x' * 256)),
    (2, b'\x1b[1mbold\x07\n', ('unhealthy', '[1mbold')),
])
def test_exit_status_is_the_health(status, output, expected):
    assert agent.judge(status, output) == expected


@pytest.mark.parametrize('script, health, message', [
    ('echo fine', 'healthy', 'fine'),
    ('echo slow; exit 1', 'degraded', 'slow'),
    ('exit 2', 'unhealthy', ''),
    ('kill -9 $$', 'unhealthy', 'ended by signal 9'),
    ('echo only this >&2', 'healthy', ''),
    # Far more than a pipe holds: it must neither block nor pile up.
    ('head -c 3000000 /dev/zero; exit 1', 'degraded', ''),
])
def test_run_audit(audit_file, script, health, message):
    path = audit_file('db', '#!/bin/sh\n%s\n' % script)

    assert agent.run_audit(make_audit(path=path)) == (
        'db', health, message)


def test_a_child_that_stays_behind_is_not_waited_for(audit_file):
    # Without the check this takes as long as a test may at most.
    path = audit_file('db', '#!/bin/sh\necho done; sleep 70 & exit 0\n')

    assert agent.run_audit(make_audit(path=path, timeout=1000)) == (
        'db', 'healthy', 'done')


def test_little_of_the_output_is_kept(audit_file, monkeypatch):
    monkeypatch.setattr(agent, 'judge', lambda status, output: (
        'healthy', len(output)))
    path = audit_file('db', '#!/bin/sh\nhead -c 3000000 /dev/zero\n')

    assert agent.run_audit(make_audit(path=path)).message == agent.MAX_OUTPUT


def test_an_audit_is_ended_with_its_children(audit_file, tmp_path):
    fifo = tmp_path / 'fifo'
    os.mkfifo(fifo)
    path = audit_file('db', '#!/bin/sh\nexec 9>%s\nsleep 60 & wait\n' % fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        agent.run_audit(make_audit(path=path, timeout=0.5))
        # At its end when the last writer is gone.
        assert select.select([reader], [], [], 10)[0]
        assert os.read(reader, 1) == b''
    finally:
        os.close(reader)


def test_an_audit_has_no_input(audit_file, tmp_path):
    audit_file('db', '#!/bin/sh\nread -r line || echo no input\n')

    done = subprocess.run(
        [sys.executable, agent.__file__, '--once', '--audits-dir',
         str(tmp_path)], input=b'a line\n', capture_output=True)

    assert done.stdout == b'healthy    db: no input\n'


@pytest.mark.parametrize('script', [
    'sleep 20', 'echo early; sleep 20', 'exec >&-; sleep 20',
    'while :; do echo more; done'])
def test_an_audit_that_hangs_is_ended(audit_file, script):
    path = audit_file('db', '#!/bin/sh\n%s\n' % script)

    assert agent.run_audit(make_audit(path=path, timeout=0.2)) == (
        'db', 'unhealthy', 'timed out after 0.2 s')


def test_an_audit_that_cannot_be_started_is_unhealthy(audit_file):
    path = audit_file('db', '#!/no/such/interpreter\n')

    assert agent.run_audit(make_audit(path=path)) == (
        'db', 'unhealthy', 'cannot be run: No such file or directory')


@pytest.mark.parametrize('header, expected', [
    ('', (10.0, 5.0)),
    ('# vmhealth-interval: 2\n', (2.0, 5.0)),
    ('#vmhealth-timeout:0.5\n', (10.0, 0.5)),
    ('# vmhealth-interval: 3\r\n# vmhealth-timeout: 1 \n', (3.0, 1.0)),
    ('# vmhealth-interval: 0\n', (0.1, 5.0)),
    ('# vmhealth-interval: 999999\n', (86400.0, 5.0)),
    ('# vmhealth-interval: soon\n', (10.0, 5.0)),
    ('# vmhealth-interval: -1\n', (10.0, 5.0)),
    ('echo vmhealth-interval: 7\n', (10.0, 5.0)),
    ('\0' * 3000 + '\n# vmhealth-interval: 7\n', (10.0, 5.0)),
])
def test_an_audit_has_settings_in_its_head(audit_file, header, expected):
    path = audit_file('db', '#!/bin/sh\n' + header)

    assert agent.read_settings(str(path), 10.0, 5.0) == expected


def test_executables_of_the_directory_are_found(audit_file, tmp_path):
    for name in ('db', 'a.sh', '.hidden', 'back~', 'sp ace', 'x' * 65):
        audit_file(name)
    audit_file('readme', mode=0o644)
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'dangling').symlink_to('nowhere')

    found = agent.discover(str(tmp_path), 10.0, 5.0, print)

    assert [a.name for a in found] == ['a.sh', 'db']
    assert found[1] == make_audit(path=tmp_path / 'db')


def test_only_so_many_audits_are_taken(audit_file, tmp_path):
    for number in range(20):
        audit_file('%02d' % number)

    found = agent.discover(str(tmp_path), 10.0, 5.0, print)

    assert [a.name for a in found] == ['%02d' % n for n in range(16)]


def test_no_directory_means_no_audits(tmp_path):
    assert agent.discover(str(tmp_path / 'none'), 10.0, 5.0, print) == []


def test_an_audit_whose_settings_cannot_be_read_takes_the_options(
        audit_file, tmp_path, monkeypatch):
    def read_settings(path, interval, timeout):
        if path.endswith('db'):
            raise OSError(5, 'disk error', path)
        return 1.0, 2.0

    monkeypatch.setattr(agent, 'read_settings', read_settings)
    path = audit_file('db')
    audit_file('web')
    said = []

    found = agent.discover(str(tmp_path), 10.0, 5.0, said.append)

    assert [(a.name, a.interval, a.timeout) for a in found] == [
        ('db', 10.0, 5.0), ('web', 1.0, 2.0)]
    [text] = said
    assert 'disk error' in text and str(path) in text


@pytest.mark.parametrize('texts, expected', [
    (['', ''], []),
    (['a', 'a', 'a'], ['a']),
    (['a', 'b', 'a'], ['a', 'b', 'a']),
    (['a', '', 'a'], ['a', 'a']),
    (['50% full'], ['50% full']),
])
def test_a_complaint_is_said_when_its_text_changes(texts, expected, caplog):
    complain = agent.Complaint()
    for text in texts:
        complain(text)

    assert caplog.messages == expected


def make_board(*names):
    board = agent.Board(lambda: None)
    board.keep(names)
    return board


def healths(board, now=0.0):
    """Return the health and each audit's, by name."""
    health, results = board.snapshot(now)
    return health, {r.name: r.health for r in results}


@pytest.mark.parametrize('names, results, expected', [
    ([], {}, 'healthy'),
    (['a'], {}, None),
    (['a', 'b'], {'a': 'healthy'}, None),
    (['a', 'b'], {'a': 'degraded'}, 'degraded'),
    (['a', 'b'], {'a': 'healthy', 'b': 'healthy'}, 'healthy'),
    (['a', 'b'], {'a': 'unhealthy', 'b': 'degraded'}, 'unhealthy'),
])
def test_healthy_is_said_only_when_every_audit_has_ended(
        names, results, expected):
    board = make_board(*names)
    for name, health in results.items():
        board.finish(agent.Result(name, health, ''))

    assert healths(board) == (expected, results)


def test_nothing_is_healthy_before_the_directory_was_read():
    assert healths(agent.Board(lambda: None)) == (None, {})


def test_an_overdue_audit_is_unhealthy_though_its_thread_hangs():
    board = make_board('db')
    board.finish(agent.Result('db', 'healthy', ''))
    board.begin(make_audit(timeout=5.0), now=100.0)

    assert board.next_deadline(100.0) == 105.0
    assert healths(board, 104.9) == ('healthy', {'db': 'healthy'})
    assert healths(board, 105.0) == ('unhealthy', {'db': 'unhealthy'})
    assert board.next_deadline(105.0) is None
    board.finish(agent.Result('db', 'healthy', ''))
    assert healths(board, 105.1) == ('healthy', {'db': 'healthy'})


def test_an_audit_does_not_run_twice_at_a_time():
    board = make_board('db')

    assert board.begin(make_audit(), now=0.0)
    assert not board.begin(make_audit(), now=60.0)
    board.finish(agent.Result('db', 'healthy', ''))
    assert board.begin(make_audit(), now=60.0)


def test_a_removed_audit_is_told_as_healthy():
    board = make_board('db', 'disk')
    board.finish(agent.Result('db', 'unhealthy', 'gone'))
    board.finish(agent.Result('disk', 'degraded', 'slow'))

    board.keep(['disk'])

    assert healths(board) == (
        'degraded', {'db': 'healthy', 'disk': 'degraded'})


def test_removed_audits_do_not_pile_up():
    board = make_board()
    for number in range(50):
        board.finish(agent.Result('%02d' % number, 'unhealthy', ''))
        board.keep([])

    health, results = board.snapshot(0.0)
    assert health == 'healthy'
    assert [r.name for r in results] == ['%02d' % n for n in range(34, 50)]


def test_a_result_wakes_the_talk():
    woken = []
    board = agent.Board(lambda: woken.append(True))

    board.finish(agent.Result('db', 'healthy', ''))

    assert woken == [True]


class Background:
    """Takes what the auditor starts; runs nothing."""

    def __init__(self, board):
        self.board = board
        self.started = []

    def start(self, function, audit):
        self.started.append(audit.name)

    def end_all(self):
        for name in self.started:
            self.board.finish(agent.Result(name, 'healthy', ''))
        self.started = []


def test_audits_run_when_they_are_due():
    found = [make_audit('often', interval=1.0), make_audit('rare')]
    board = agent.Board(lambda: None)
    background = Background(board)
    auditor = agent.Auditor(lambda: found, board, background.start)

    for now, expected in [(0.0, ['often', 'rare']), (0.9, []),
                          (1.0, ['often']), (2.5, ['often']),
                          (10.0, ['often', 'rare'])]:
        delay = auditor.step(now)
        assert background.started == expected, now
        assert agent.MIN_SECONDS <= delay <= agent.SCAN_SECONDS
        background.end_all()


def test_a_hanging_audit_holds_up_no_other():
    found = [make_audit('hung', interval=1.0), make_audit('b', interval=1.0)]
    board = agent.Board(lambda: None)
    background = Background(board)
    auditor = agent.Auditor(lambda: found, board, background.start)
    auditor.step(0.0)
    background.started.remove('hung')
    background.end_all()

    auditor.step(1.0)

    assert background.started == ['b']


def test_an_unreadable_directory_keeps_the_audits_known():
    answers = [[make_audit('db', interval=1.0)], OSError(5, 'disk error')]

    def find():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    board = agent.Board(lambda: None)
    background = Background(board)
    auditor = agent.Auditor(find, board, background.start)
    auditor.step(0.0)
    background.end_all()

    auditor.step(1.0)

    assert background.started == ['db']


def test_an_unreadable_directory_is_said_when_that_is_new(caplog):
    answers = [OSError(5, 'a'), OSError(5, 'a'), OSError(5, 'b'), [],
               OSError(5, 'b')]

    def find():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    auditor = agent.Auditor(find, agent.Board(lambda: None))
    for now in range(5):
        auditor.step(float(now))

    assert [message[-1] for message in caplog.messages] == ['a', 'b', 'b']


@pytest.mark.parametrize('scripts, status, printed', [
    ({}, 0, ''),
    ({'a': 'echo fine'}, 0, 'healthy    a: fine\n'),
    ({'a': 'echo fine', 'b': 'echo bad; exit 2'}, 2,
     'healthy    a: fine\nunhealthy  b: bad\n'),
])
def test_once_runs_the_audits_and_ends(
        audit_file, tmp_path, capsys, scripts, status, printed):
    for name, script in scripts.items():
        audit_file(name, '#!/bin/sh\n%s\n' % script)

    assert agent.main(['--once', '--audits-dir', str(tmp_path)]) == status
    assert capsys.readouterr().out == printed


def test_once_says_that_there_are_no_audits_to_be_had(audit_file):
    # No directory: as root, which tests may be, reads any directory there is.
    path = audit_file('file')

    done = subprocess.run(
        [sys.executable, agent.__file__, '--once', '--audits-dir', str(path)],
        capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (agent.NO_AUDITS, '')
    [line] = done.stderr.splitlines()
    assert 'cannot be listed' in line and str(path) in line
    assert agent.NO_AUDITS not in range(len(agent.HEALTH_BY_STATUS))


@pytest.mark.parametrize('value', ['0', 'soon', '-1', 'nan', '1e9'])
def test_bad_options_are_refused(value, capsys):
    with pytest.raises(SystemExit) as caught:
        agent.parse_args(['--interval', value])

    assert caught.value.code == 2
    assert '--interval' in capsys.readouterr().err
