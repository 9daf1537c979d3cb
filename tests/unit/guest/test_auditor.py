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


"""When the auditor starts which audit."""

from nova_vmhealth.guest import auditor
from nova_vmhealth.guest.audits import MIN_SECONDS
from nova_vmhealth.guest.board import Board
from nova_vmhealth.guest.health import Result
from tests.unit.guest.test_audits import make_audit


class Background:
    """Takes what the auditor starts; runs nothing."""

    def __init__(self, board):
        self.board = board
        self.started = []

    def start(self, function, audit):
        self.started.append(audit.name)

    def end_all(self):
        for name in self.started:
            self.board.finish(Result(name, 'healthy', ''))
        self.started = []


def make(find):
    """Return an Auditor and its Background."""
    board = Board(lambda: None)
    background = Background(board)
    return auditor.Auditor(find, board, background.start), background


def answering(*answers):
    """Return a function that returns the answers, or raises the errors."""
    left = list(answers)

    def find():
        answer = left.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    return find


def test_audits_run_when_they_are_due():
    found = [make_audit('often', interval=1.0), make_audit('rare')]
    made, background = make(lambda: found)

    for now, expected in [(0.0, ['often', 'rare']), (0.9, []),
                          (1.0, ['often']), (2.5, ['often']),
                          (10.0, ['often', 'rare'])]:
        delay = made.step(now)
        assert background.started == expected, now
        assert MIN_SECONDS <= delay <= auditor.SCAN_SECONDS
        background.end_all()


def test_a_hanging_audit_holds_up_no_other():
    found = [make_audit('hung', interval=1.0), make_audit('b', interval=1.0)]
    made, background = make(lambda: found)
    made.step(0.0)
    background.started.remove('hung')
    background.end_all()

    made.step(1.0)

    assert background.started == ['b']


def test_an_unreadable_directory_keeps_the_audits_known():
    made, background = make(answering([make_audit('db', interval=1.0)],
                                      OSError(5, 'disk error')))
    made.step(0.0)
    background.end_all()

    made.step(1.0)

    assert background.started == ['db']


def test_an_unreadable_directory_is_said_when_that_is_new(caplog):
    made, _ = make(answering(OSError(5, 'a'), OSError(5, 'a'),
                             OSError(5, 'b'), [], OSError(5, 'b')))
    for now in range(5):
        made.step(float(now))

    assert [message[-1] for message in caplog.messages] == ['a', 'b', 'b']


def test_every_look_is_noted_and_serves_others_too():
    board = Board(lambda: None)
    looks = []
    made = auditor.Auditor(list, board, also=lambda: looks.append(True))
    made.step(100.0)
    made.step(101.0)

    assert looks == [True, True]
    assert board.snapshot(110.9).health == 'healthy'
    assert board.snapshot(111.0).health == 'degraded'


def test_an_audit_without_a_thread_is_unhealthy_and_tried_again():
    def start(function, audit):
        raise RuntimeError("can't start new thread")

    board = Board(lambda: None)
    made = auditor.Auditor(lambda: [make_audit('db')], board, start)
    for now in (0.0, 10.0):
        made.step(now)
        assert board.snapshot(now).results == (
            ('db', 'unhealthy', "cannot be run: can't start new thread"),)
        board.finish(Result('db', 'healthy', ''))
