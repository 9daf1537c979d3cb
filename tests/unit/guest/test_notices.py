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


"""Notices: programs run in the background, answered in time or not at all."""

import threading

import pytest

from nova_vmhealth.guest import notices
from nova_vmhealth.guest.talk import Notice


class Background:
    """Takes the programs that are started; each ends when a test says so."""

    def __init__(self):
        self.started = {}

    def start(self, function, entry, name, path):
        self.started[name] = entry


class Made(notices.Notices):
    """Notices with programs that no test runs.

    :ivar woken: one entry for every wake-up
    """

    def __init__(self, *names):
        self.woken = []
        self.background = Background()
        super().__init__('/nowhere', lambda: self.woken.append(True),
                         self.background.start)
        self._programs = [(name, '/nowhere/' + name) for name in names]

    def end(self, name):
        self._end(self.background.started[name], name, '')


@pytest.mark.parametrize('timeout, expected', [
    (0.01, 0.005), (0.15, 0.075), (0.3, 0.2), (1.0, 0.9), (2.0, 1.8),
    (600.0, 540.0),
])
def test_the_latest_time_to_answer(timeout, expected):
    assert notices.ack_time(timeout) == pytest.approx(expected)


@pytest.mark.parametrize('now, ended, answered', [
    (100.0, [], []),
    (101.0, ['a'], []),
    (101.0, ['a', 'b'], [3]),
    (101.7, [], []),
    (101.8, [], [3]),
    (101.9, ['a', 'b'], [3]),
    # The host waits no more.
    (102.0, [], []),
    (102.0, ['a', 'b'], []),
])
def test_a_notice_is_answered_once_and_never_late(now, ended, answered):
    made = Made('a', 'b')
    made.begin(Notice(3, 'reboot', 2000), 100.0)
    for name in ended:
        made.end(name)

    assert made.due(now) == answered
    if now >= 101.8 or answered:
        assert made.due(now) == []
        assert made.next_deadline() is None
    else:
        assert made.next_deadline() == pytest.approx(101.8)


def test_a_notice_that_nobody_waits_for_is_not_answered(caplog):
    made = Made('a')
    made.begin(Notice(3, 'resumed', 0), 100.0)

    assert made.due(100.0) == []
    assert made.next_deadline() is None
    made.end('a')
    assert made.due(101.0) == []
    # Nor does anybody say that it is late.
    assert caplog.messages == []


def test_a_notice_without_programs_is_answered_at_once():
    made = Made()
    made.begin(Notice(3, 'stop', 2000), 100.0)

    assert made.due(100.0) == [3]


def test_an_end_wakes_the_talk():
    made = Made('a')
    made.begin(Notice(3, 'stop', 2000), 100.0)
    assert made.woken == []
    made.end('a')
    assert made.woken == [True]


def test_who_is_not_ready_is_said_once(caplog):
    made = Made('a', 'b', 'c')
    made.begin(Notice(3, 'stop', 2000), 100.0)
    made.end('b')
    for _ in range(3):
        made.due(103.0)

    assert caplog.messages == ['notice stop: not ready in time: a, c']


def test_a_client_that_is_gone_gets_no_answer():
    made = Made('a')
    made.begin(Notice(3, 'stop', 2000), 100.0)
    made.forget()
    made.end('a')

    assert made.due(100.5) == []


def test_notices_do_not_pile_up(caplog):
    made = Made('hung')
    for number in range(notices.MAX_UNDER_WAY + 1):
        made.background.started.clear()
        made.begin(Notice(number, 'stop', 2000), 100.0)

    # The one too many runs nothing, and nobody says that the guest is ready.
    assert made.background.started == {}
    assert made.due(101.8) == list(range(notices.MAX_UNDER_WAY))
    assert 'too many' in caplog.text
    # Ended or not: once answered, hanging programs still count.
    made.due(102.0)
    made.begin(Notice(9, 'stop', 2000), 102.0)
    assert made.background.started == {}


@pytest.mark.parametrize('hung, next_one, run', [
    (0, 0, False), (0, 2000, True), (2000, 0, True), (2000, 2000, False)])
def test_those_awaited_and_the_others_do_not_keep_each_other_out(
        hung, next_one, run):
    made = Made('app')
    for number in range(notices.MAX_UNDER_WAY):
        made.begin(Notice(number, 'x', hung), 100.0)
    made.due(103.0)
    made.background.started.clear()
    made.begin(Notice(9, 'stop', next_one), 110.0)

    assert bool(made.background.started) is run
    assert made.due(111.9) == ([9] if run and next_one else [])


def test_many_notices_with_nothing_to_run_are_all_answered():
    made = Made()
    for number in range(8):
        made.begin(Notice(number, 'stop', 2000), 100.0)

    assert made.due(100.0) == list(range(8))


def test_a_program_without_a_thread_holds_up_nothing(caplog):
    def start(*args):
        raise RuntimeError("can't start new thread")

    made = Made('a')
    made._start = start
    made.begin(Notice(3, 'stop', 2000), 100.0)

    assert made.due(100.0) == [3]
    assert "can't start new thread" in caplog.text


def test_executables_of_the_directory_want_notices(program, tmp_path):
    woken = []
    made = notices.Notices(str(tmp_path), lambda: woken.append(True))
    found = []
    for change in (lambda: None,
                   lambda: program('readme', mode=0o644),
                   lambda: program('app'),
                   lambda: program('db'),
                   lambda: [(tmp_path / n).unlink() for n in ('app', 'db')]):
        change()
        made.look()
        found.append(made.wanted)

    assert found == [False, False, True, True, False]
    assert len(woken) == 2    # told when it changes


def test_only_so_many_programs_are_run(program, tmp_path):
    for number in range(20):
        program('%02d' % number)
    made = notices.Notices(str(tmp_path), lambda: None, Background().start)
    made.look()

    made.begin(Notice(1, 'stop', 100), 0.0)

    assert len(made._start.__self__.started) == notices.MAX_PROGRAMS


def test_an_unreadable_directory_keeps_the_programs(program, caplog):
    made = Made('a')
    made._directory = str(program('file'))
    for _ in range(3):
        made.look()

    assert made.wanted
    [message] = caplog.messages
    assert 'notices cannot be listed' in message


@pytest.mark.parametrize('script, said', [
    ('', None),
    ('[ "$1 $2 $#" = "reboot 5000 2" ]', None),
    ('echo busy; exit 3', 'notice reboot: app: status 3 busy'),
    ('kill -9 $$', 'notice reboot: app: status -9'),
])
def test_programs_get_operation_and_timeout(
        program, tmp_path, caplog, script, said):
    program('app', '#!/bin/sh\n%s\n' % script)
    ended = threading.Event()
    made = notices.Notices(str(tmp_path), lambda: None)
    made.look()
    made._wake = ended.set

    made.begin(Notice(3, 'reboot', 5000), 0.0)

    assert ended.wait(30)
    assert made.due(0.0) == [3]
    assert [m.strip() for m in caplog.messages] == ([said] if said else [])


def test_a_program_that_cannot_be_started_is_said(program, tmp_path, caplog):
    program('app', '#!/no/such/interpreter\n')
    ended = threading.Event()
    made = notices.Notices(str(tmp_path), lambda: None)
    made.look()
    made._wake = ended.set

    made.begin(Notice(3, 'stop', 5000), 0.0)

    assert ended.wait(30)
    assert 'app: cannot be run: No such file' in caplog.text


def test_a_program_that_never_ends_is_ended(
        program, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(notices, 'LINGER_SECONDS', 0.2)
    program('app', '#!/bin/sh\nsleep 60\n')
    ended = threading.Event()
    made = notices.Notices(str(tmp_path), lambda: None)
    made.look()
    made._wake = ended.set

    made.begin(Notice(3, 'stop', 100), 0.0)

    assert ended.wait(30)
    assert 'app: did not end and was killed' in caplog.text
