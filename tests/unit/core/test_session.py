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


"""The session against a guest on the test's own clock."""

import dataclasses
import itertools
import json
import math
import pathlib
import runpy

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_vmhealth.core.audits import HealthChanged
from nova_vmhealth.core import inbound
from nova_vmhealth.core.outcomes import AgentExited
from nova_vmhealth.core.outcomes import Complaint
from nova_vmhealth.core.outcomes import Established
from nova_vmhealth.core.outcomes import Lost
from nova_vmhealth.core.outcomes import Missed
from nova_vmhealth.core.outcomes import NotEstablished
from nova_vmhealth.core.outcomes import NoticeAcked
from nova_vmhealth.core.outcomes import Unheard
from nova_vmhealth.core.outcomes import Unreachable
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core import protocol
from nova_vmhealth.core.session import QUIET
from nova_vmhealth.core.session import Session
from nova_vmhealth.core import session_table
from nova_vmhealth.core.session_table import Event
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.session_table import Link
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth import exception
from nova_vmhealth.guest.health import Result
from nova_vmhealth.guest.health import Snapshot
from nova_vmhealth.guest.talk import Talk

POLICY = Policy(heartbeat=True, interval_ms=1000, timeout_ms=1000, misses=3,
                boot_deadline_s=0, panic_device=False, events=frozenset())

ESTABLISHED = Established(Guest.WAITING)


def _audit_of(name):
    return {'name': name, 'health': 'unhealthy', 'message': 'm'}


class Bench:
    """A session, its clock, and a guest that answers when told to."""

    def __init__(self, connected=True, short=False, **changes):
        self.short = short      # whether it asks for next_challenge() first
        self.shorts = 0
        options = {name: changes.pop(name) for name in
                   ('guest', 'said', 'recover_beats', 'phase')
                   if name in changes}
        numbers = itertools.count(1)
        self.now = 100.0
        self.session = Session(dataclasses.replace(POLICY, **changes),
                               lambda: 'nonce%d' % next(numbers), self.now,
                               **options)
        self.answering = True
        self.delay = 0.001
        self.sent = []          # every line that the guest has read
        self.found = []         # (time, outcome)
        self.asides = []        # likewise: what is told of misses by the way
        if connected:
            self.session.connected(self.now)

    def say(self, **message):
        return self.feed(json.dumps(message).encode() + b'\n')

    def feed(self, data):
        outcomes = self.session.receive(data, self.now)
        self.note(outcomes)
        return list(outcomes)

    def note(self, outcomes):
        for outcome in outcomes:
            aside = isinstance(outcome, (Missed, Unheard))
            (self.asides if aside else self.found).append(
                (round(self.now, 3), outcome))

    def answer(self, challenge, **more):
        return self.say(type='challenge_response',
                        sequence=challenge['sequence'],
                        nonce=challenge['nonce'], **more)

    def tick(self):
        line = self.session.next_challenge(self.now) if self.short else None
        if line is not None:
            self.shorts += 1
            self.sent.append(json.loads(line))
            return self.sent[-1:]
        self.note(self.session.handle_timer(self.now))
        return self.read()

    def read(self):
        data = self.session.data_to_send()
        self.session.sent(len(data))
        lines = [json.loads(line) for line in data.splitlines()]
        self.sent += lines
        return [line for line in lines if line['type'] == 'challenge']

    def run(self, seconds):
        """Let time pass; return the outcomes with their times."""
        end = self.now + seconds
        before = len(self.found)
        due = []
        while True:
            moments = [self.session.next_deadline(), *(d[0] for d in due)]
            if min(moments) > end:
                break
            self.now = max(self.now, min(moments))
            while due and due[0][0] <= self.now:
                self.answer(due.pop(0)[1])
            for challenge in self.tick():
                if self.answering:
                    due.append((self.now + self.delay, challenge))
        self.now = end
        return self.found[before:]

    def outcomes(self, seconds):
        return [outcome for _, outcome in self.run(seconds)]

    def hang(self):
        """Answer up to a moment right after an answer, then no more."""
        self.run(5.01)
        self.answering = False


# -- the table ---------------------------------------------------------------

STATES = [*Link, *Guest]


@pytest.mark.parametrize('state, event',
                         list(itertools.product(STATES, Event)))
def test_every_pair_of_the_table(state, event):
    following = session_table.TRANSITIONS[state].get(event)
    if following is not None:
        assert type(following) is type(state)
        assert session_table.step(state, event) is following
    else:
        with pytest.raises(exception.IllegalTransition):
            session_table.step(state, event)


def test_every_state_can_be_reached():
    reached = {Link.CONNECTING, Guest.WAITING}
    while True:
        more = {following for state in reached for following
                in session_table.TRANSITIONS[state].values()}
        if more <= reached:
            break
        reached |= more
    assert reached == set(STATES)


def test_the_documented_table_is_current():
    root = pathlib.Path(__file__).parents[3]
    made = runpy.run_path(str(root / 'tools' / 'session_diagram.py'))
    assert made['TARGET'].read_text(encoding='utf-8') == made['render']()


@pytest.mark.parametrize('connected, method', [
    (True, 'connected'), (False, 'disconnected'), (True, 'release')])
def test_an_illegal_event_changes_nothing(connected, method):
    bench = Bench(connected=connected)
    before = (bench.session.link, bench.session.next_deadline(),
              bench.session.data_to_send())
    with pytest.raises(exception.IllegalTransition):
        getattr(bench.session, method)(bench.now + 50)
    assert before == (bench.session.link, bench.session.next_deadline(),
                      bench.session.data_to_send())


# -- beats and misses --------------------------------------------------------

def test_challenges_keep_to_the_grid():
    bench = Bench(phase=0.25, interval_ms=200, timeout_ms=200)
    times = []
    for _ in range(5):
        times.append(round(bench.session.next_deadline(), 6))
        bench.now = bench.session.next_deadline() + 0.003
        bench.session.handle_timer(bench.now)
        bench.answer(bench.read()[0])
    assert times == [100.05, 100.25, 100.45, 100.65, 100.85]


LOSSES = [    # interval, timeout, misses: lost so long after the last beat
    (1000, 1000, 3, 4.0),
    (200, 200, 2, 0.6),
    (1000, 300, 3, 3.3),
    (1000, 2500, 1, 3.5),
    (100, 5000, 10, 6.0),
    (500, 500, 1, 1.0),
]


@pytest.mark.parametrize('interval, timeout, misses, seconds', LOSSES)
def test_lost_on_the_nth_miss(interval, timeout, misses, seconds):
    bench = Bench(interval_ms=interval, timeout_ms=timeout, misses=misses)
    bench.hang()
    last = 100 + 5.0
    [(when, lost)] = bench.run(3600)
    assert when == pytest.approx(last + seconds)
    assert lost.misses == misses
    assert lost.first_missed_at == pytest.approx(last + interval / 1000)
    assert lost.silent_s == pytest.approx(seconds, abs=0.01)
    assert bench.session.guest is Guest.LOST


def test_one_miss_less_is_no_loss():
    bench = Bench()
    bench.hang()
    assert bench.run(3.0) == []
    assert bench.session.misses == 2
    bench.answer(bench.sent[-1])
    bench.answering = True
    assert bench.run(5.0) == []
    assert bench.session.misses == 0


def test_nothing_is_lost_before_the_first_answer():
    bench = Bench(misses=1)
    bench.answering = False
    assert bench.run(1000) == []
    assert not bench.session.established


def test_silence_of_a_guest_known_from_before_is_a_loss():
    bench = Bench(guest=Guest.BEATING)
    bench.answering = False
    [(when, lost)] = bench.run(1000)
    assert (when, lost.misses) == (104.0, 3)
    assert bench.session.last_answer_at is None


# -- where an earlier session of the guest ended ------------------------------

# How it stood, what is told when it is silent, and when it answers.
TAKEN_UP = [
    (Guest.WAITING, [], Established(Guest.WAITING)),
    (Guest.OVERDUE, [], Established(Guest.OVERDUE)),
    (Guest.BEATING, [Guest.LOST], Established(Guest.BEATING)),
    (Guest.LOST, [], Established(Guest.LOST)),
    (Guest.EXITED, [], Established(Guest.EXITED)),
]


@pytest.mark.parametrize('guest, lost, _', TAKEN_UP)
def test_what_was_told_of_a_silent_guest_is_not_told_again(guest, lost, _):
    bench = Bench(guest=guest, boot_deadline_s=0)
    bench.answering = False
    assert [type(told) for _, told in bench.run(1000)] == [Lost] * len(lost)
    assert bench.session.guest is (lost[0] if lost else guest)


@pytest.mark.parametrize('guest, _, answers', TAKEN_UP)
def test_the_first_beat_of_a_guest_that_is_taken_up_is_told(guest, _,
                                                            answers):
    bench = Bench(guest=guest)
    assert bench.outcomes(20.0) == [answers]
    assert bench.session.guest is Guest.BEATING


def test_one_that_is_overdue_is_not_so_again():
    bench = Bench(guest=Guest.OVERDUE, boot_deadline_s=5)
    bench.answering = False
    assert bench.run(100) == []


def test_what_a_guest_said_before_is_over_when_all_is_well():
    """Whether it mentions its audits or not."""
    bench = Bench(guest=Guest.BEATING, said={'db': Health.UNHEALTHY,
                                             '': Health.DEGRADED})
    told = bench.say(type='report', health='healthy')
    assert sorted((change.audit, change.health) for change in told) == [
        ('', Health.HEALTHY), ('db', Health.HEALTHY)]


def test_what_a_guest_says_again_is_not_told_again():
    bench = Bench(guest=Guest.BEATING, said={'db': Health.UNHEALTHY})
    assert bench.say(type='report', health='unhealthy',
                     audits=[_audit_of('db')]) == [
        HealthChanged('', Health.HEALTHY, '')]
    assert bench.say(type='report', audits=[_audit_of('net')]) == [
        HealthChanged('net', Health.UNHEALTHY, 'm')]


def test_a_late_answer_is_a_sign_of_life():
    bench = Bench()
    bench.hang()
    bench.run(2.5)
    late = bench.sent[-2]
    assert bench.session.misses == 1
    bench.answer(late)
    assert bench.session.misses == 0


def test_an_answer_counts_once_and_only_with_its_nonce():
    bench = Bench()
    bench.hang()
    for forged in (bench.sent[-1],                             # a replay
                   {'sequence': 7, 'nonce': 'nonce6'},
                   {'sequence': 99, 'nonce': 'nonce99'}):
        bench.run(1.0)
        before = bench.session.last_answer_at
        assert bench.answer(forged, health='unhealthy') == []
        assert bench.session.last_answer_at == before
    assert [type(o) for o in bench.outcomes(2.0)] == [Lost]


def test_an_answer_discharges_the_challenges_before_it():
    bench = Bench(timeout_ms=5000, misses=1)
    bench.hang()
    bench.run(3.0)
    bench.answer(bench.sent[-1])
    bench.answer(bench.sent[-2])        # worth nothing now
    assert bench.run(5.5) == []
    assert [type(o) for o in bench.outcomes(0.5)] == [Lost]


# -- recovery ----------------------------------------------------------------

@pytest.mark.parametrize('beats', [1, 2, 5])
def test_recovered_after_so_many_beats(beats):
    bench = Bench(recover_beats=beats)
    bench.hang()
    bench.run(10)
    bench.answering = True
    assert bench.run(beats - 0.5) == []
    assert bench.outcomes(1.0) == [Established(Guest.LOST)]


def test_beats_of_a_recovery_are_in_a_row():
    bench = Bench()
    bench.hang()
    bench.run(10)
    for _ in range(3):
        bench.answering = True
        assert bench.run(1.0) == []
        bench.answering = False
        assert bench.run(2.0) == []
    assert bench.session.guest is Guest.LOST


def test_late_answers_end_no_loss():
    bench = Bench(timeout_ms=300)
    bench.hang()
    bench.run(10)
    bench.answering = True
    bench.delay = 0.5
    assert bench.run(10) == []
    bench.delay = 0.2
    assert bench.outcomes(3) == [Established(Guest.LOST)]


def test_what_a_thawed_guest_answers_in_one_breath_is_one_beat():
    bench = Bench(timeout_ms=5000)
    bench.hang()
    bench.run(20)
    for challenge in bench.sent[-8:]:
        assert bench.answer(challenge) == []
    bench.answering = True
    assert bench.outcomes(1.0) == [Established(Guest.LOST)]


# -- boot deadline, exit -----------------------------------------------------

@pytest.mark.parametrize('connected', [True, False])
def test_boot_deadline_is_told_once(connected):
    bench = Bench(connected=connected, boot_deadline_s=30)
    bench.answering = False
    assert bench.run(100) == [(130.0, NotEstablished(30))]
    if not connected:
        bench.session.connected(bench.now)
    bench.answering = True
    assert bench.outcomes(1.5) == [Established(Guest.OVERDUE)]


def test_boot_deadline_starts_anew_with_a_release():
    bench = Bench(boot_deadline_s=30)
    bench.answering = False
    bench.run(20)
    bench.session.hold(bench.now)
    assert bench.run(100) == []
    bench.session.release(bench.now)
    assert bench.run(100) == [(250.0, NotEstablished(30))]


def test_exit_then_beating_again():
    bench = Bench()
    bench.hang()
    assert bench.say(type='exit', reason='bye\x1b') == [AgentExited('bye')]
    assert bench.say(type='exit', reason='again') == []
    assert bench.run(100) == []
    bench.answering = True
    assert bench.outcomes(1.0) == [Established(Guest.EXITED)]


@pytest.mark.parametrize('lost', [True, False])
def test_exit_without_a_heartbeat_tells_nothing(lost):
    bench = Bench(guest=Guest.BEATING if lost else Guest.WAITING)
    bench.answering = False
    bench.run(10)
    assert bench.say(type='exit') == []
    assert bench.session.guest is (Guest.LOST if lost else Guest.WAITING)


# -- the short way of a beat --------------------------------------------------

HEALTHY = {'health': 'healthy',
           'audits': [{'name': 'db', 'health': 'healthy', 'message': ''}]}


def _answered(challenge, **more):
    """Return an answer in the spelling of the agents that ship."""
    return json.dumps(
        dict(type='challenge_response', sequence=challenge['sequence'],
             nonce=challenge['nonce'], **more),
        separators=(',', ':')).encode() + b'\n'


def _calm(**changes):
    """Return a bench whose guest beats in the usual spelling."""
    bench = Bench(short=True, **changes)
    for _ in range(3):
        bench.now = bench.session.next_deadline()
        bench.feed(_answered(bench.tick()[0], **HEALTHY))
    return bench


def test_a_guest_that_says_the_same_again_takes_the_short_way():
    bench = _calm()
    before = bench.shorts
    for _ in range(5):
        bench.now = bench.session.next_deadline()
        [challenge] = bench.tick()
        assert bench.session.receive(_answered(challenge, **HEALTHY),
                                     bench.now) is QUIET
        assert bench.session.last_answer_at == bench.now
    assert bench.shorts == before + 5
    bench.now += 0.5
    assert bench.session.handle_timer(bench.now) == []      # too early
    assert bench.session.next_challenge(bench.now) is None


@pytest.mark.parametrize('interval, timeout', [
    (1000, 1000), (1000, 300), (1000, 2500), (100, 100)])
def test_a_calm_guest_is_lost_no_later(interval, timeout):
    bench = _calm(interval_ms=interval, timeout_ms=timeout)
    last = bench.now
    bench.answering = False
    [(when, lost)] = bench.run(3600)
    assert when == pytest.approx(last + (3 * interval + timeout) / 1000)
    assert lost.first_missed_at == pytest.approx(last + interval / 1000)
    assert lost.misses == 3


SICK = {'health': 'unhealthy', 'audits': [_audit_of('db')]}
NOT_QUITE = [      # what a calm guest sends in place of its usual answer
    lambda asked: _answered(asked, **SICK),
    lambda asked: _answered(asked, **HEALTHY)[:-1],
    lambda asked: _answered({**asked, 'nonce': 'x'}, **HEALTHY),
    lambda asked: _answered({**asked, 'sequence': 1}, **HEALTHY),
    lambda asked: 2 * _answered(asked, **HEALTHY),
    lambda asked: b'x' + _answered(asked, **HEALTHY),
    lambda asked: b'{"type":"exit"}\n',
    lambda asked: b'{"type":"report","health":"degraded"}\n',
    lambda asked: b'{"type":"init","notices":true}\n',
]


@pytest.mark.parametrize('number', range(len(NOT_QUITE)))
def test_both_ways_lead_to_the_same(number):
    told = []
    for short in (True, False):
        bench = _calm()
        bench.short = short
        bench.now = bench.session.next_deadline()
        [asked] = bench.tick()
        bench.now += 0.2
        bench.feed(NOT_QUITE[number](asked))
        bench.run(20)
        told.append((bench.found, bench.asides, bench.sent,
                     bench.session.misses, bench.session.guest))
    assert told[0] == told[1]


@pytest.mark.parametrize('step', ['hold', 'disconnected', 'void_round'])
def test_what_happens_to_a_calm_guest_is_as_ever(step):
    bench = _calm()
    bench.now = bench.session.next_deadline()
    bench.tick()
    getattr(bench.session, step)(bench.now)
    assert bench.session.next_deadline() == pytest.approx(
        {'void_round': bench.now + 1, 'hold': math.inf,
         'disconnected': bench.now + 64}[step])


@pytest.mark.parametrize('written', [0, 7])
def test_a_challenge_that_was_cut_short_is_finished(written):
    bench = _calm()
    bench.now = bench.session.next_deadline()
    line = bench.session.next_challenge(bench.now)
    bench.session.unsent(line, written)
    assert bench.session.data_to_send() == line[written:]
    assert bench.session.next_challenge(bench.now + 1) is None


def test_a_long_answer_is_not_remembered():
    bench = Bench(short=True)
    long = {'audits': [{'name': 'a%d' % n, 'health': 'healthy',
                        'message': 'm' * 100} for n in range(10)]}
    for _ in range(4):
        bench.now = bench.session.next_deadline()
        bench.feed(_answered(bench.tick()[0], **long))
    assert bench.shorts == 0 and bench.session.misses == 0


def test_a_challenge_that_comes_late_takes_the_long_way():
    bench = _calm()
    bench.now = bench.session.next_deadline() + 0.4
    assert bench.session.next_challenge(bench.now) is None
    bench.session.handle_timer(bench.now)
    assert len(bench.read()) == 1


# -- misses that are no loss -------------------------------------------------

@pytest.mark.parametrize('misses, told', [(1, []), (2, [1]), (3, [1, 2]),
                                          (5, [1, 4])])
def test_misses_before_a_loss_are_told_by_the_way(misses, told):
    bench = Bench(misses=misses)
    bench.hang()
    bench.run(20)
    assert [o.misses for _, o in bench.asides] == told
    assert all(o.silent_s >= 1.9 for _, o in bench.asides)


def test_a_guest_that_answers_now_and_then_is_told_of_once_a_second():
    bench = Bench(interval_ms=100, timeout_ms=100)
    bench.hang()
    for _ in range(20):
        for answering in (True, False):
            bench.answering = answering
            bench.run(0.1)
    assert len(bench.asides) in (4, 5)


@pytest.mark.parametrize('guest', [Guest.BEATING, Guest.WAITING])
def test_a_channel_on_which_nothing_is_heard_is_told_once(guest):
    bench = Bench(guest=guest)
    bench.answering = False
    bench.run(60)
    unheard = [when for when, o in bench.asides if isinstance(o, Unheard)]
    assert unheard == [110.0]
    bench.session.disconnected(bench.now)
    bench.session.connected(bench.now)
    bench.run(60)
    assert len([o for _, o in bench.asides if isinstance(o, Unheard)]) == 2


def test_a_guest_that_says_anything_is_heard():
    bench = Bench()
    bench.answering = False
    bench.feed(b'garbage')
    bench.run(60)
    assert bench.asides == []


def test_a_closed_port_is_no_loss_until_it_is_open_again():
    bench = Bench()
    bench.hang()
    bench.session.port_closed()
    assert bench.run(100) == [] and bench.session.misses == 0
    assert bench.say(type='exit') == []     # told by whoever saw the port
    bench.answering = True
    assert bench.outcomes(1.0) == [Established(Guest.EXITED)]


# -- notices -----------------------------------------------------------------

def test_a_guest_that_did_not_ask_gets_no_notice():
    bench = Bench()
    bench.say(type='init')
    assert bench.session.notice('stop', 500, bench.now) is None
    bench.say(type='init', notices=True)
    bench.session.disconnected(bench.now)
    bench.session.connected(bench.now)
    assert bench.session.notice('stop', 500, bench.now) is None
    bench.read()
    assert [m['type'] for m in bench.sent] == []


@pytest.mark.parametrize('held', [True, False])
def test_a_notice_and_its_answer(held):
    bench = Bench()
    bench.say(type='init', notices=True)
    if held:
        bench.session.hold(bench.now)
    assert bench.session.notice('stop', 500, bench.now) == 1
    bench.read()
    assert bench.sent[0] == {
        'type': 'notice', 'version': 1, 'sequence': 1, 'operation': 'stop',
        'timeout_ms': 500}
    assert bench.say(type='notice_ack', sequence=2) == []
    assert bench.say(type='notice_ack', sequence=1) == [NoticeAcked(1)]
    assert bench.say(type='notice_ack') == []       # nothing is asked
    assert bench.session.notice('stop', 500, bench.now) == 2
    assert bench.say(type='notice_ack') == [NoticeAcked(2)]


@pytest.mark.parametrize('waits, told', [(0, True), (59, True), (61, False)])
def test_what_was_done_is_told_when_the_agent_is_back(waits, told):
    bench = Bench()
    assert bench.session.notice('resumed', 0, bench.now) is None
    bench.now += waits
    bench.say(type='init', notices=True)
    bench.say(type='init', notices=True)
    bench.read()
    notices = [m for m in bench.sent if m['type'] == 'notice']
    assert [m['operation'] for m in notices] == ['resumed'] * told
    assert [m['timeout_ms'] for m in notices] == [0] * told


# -- the host's own doings ---------------------------------------------------

def test_hold_stops_challenges_and_judgement():
    bench = Bench()
    bench.hang()
    bench.run(3.5)
    bench.session.hold(bench.now)
    count = len(bench.sent)
    assert bench.run(100) == [] and len(bench.sent) == count
    bench.session.release(bench.now)
    [(when, lost)] = bench.run(100)
    assert when == pytest.approx(212.0) and lost.misses == 3


def test_disconnected_keeps_what_was_established():
    bench = Bench()
    bench.hang()
    bench.session.disconnected(bench.now)
    assert bench.run(60) == []
    bench.session.connected(bench.now)
    assert [type(o) for o in bench.outcomes(5.0)] == [Lost]


@pytest.mark.parametrize('held', [True, False])
def test_a_beating_guest_without_a_channel_is_told_of_unless_held(held):
    bench = Bench()
    bench.run(5)
    bench.session.disconnected(bench.now)
    if held:
        bench.session.hold(bench.now)
    told = bench.run(1000)
    assert [(round(when), type(o)) for when, o in told] == (
        [] if held else [(169, Unreachable)])
    if not held:
        bench.session.connected(bench.now)
        assert bench.outcomes(1.5) == [Established(Guest.BEATING)]


def test_half_a_line_does_not_survive_its_channel():
    bench = Bench()
    bench.feed(b'{"type":"exit"')
    bench.session.disconnected(bench.now)
    bench.session.connected(bench.now)
    assert bench.outcomes(1.1) == [ESTABLISHED]


def test_a_void_round_is_not_judged_and_its_answers_count():
    bench = Bench(misses=1)
    bench.hang()
    bench.run(1.5)
    bench.session.void_round(bench.now)
    assert bench.run(0.8) == []
    bench.answer(bench.sent[-2])
    assert bench.session.last_answer_at == bench.now
    [(when, _)] = bench.run(10)
    assert when == pytest.approx(108.0)


def test_a_challenge_sent_late_gives_the_whole_timeout():
    bench = Bench(misses=1, guest=Guest.BEATING, timeout_ms=300)
    bench.now = bench.session.next_deadline() + 0.4
    bench.session.handle_timer(bench.now)
    assert bench.session.next_deadline() == pytest.approx(101.7)


# -- what a guest can make the host do ---------------------------------------

def test_a_guest_that_never_reads():
    bench = Bench(guest=Guest.BEATING)
    most = 2 * protocol.MAX_HOST_LINE
    found = []
    line = bench.session.data_to_send()
    for _ in range(4000):
        bench.now = bench.session.next_deadline()
        found += bench.session.handle_timer(bench.now)
        line = line or bench.session.data_to_send()
        assert len(bench.session.data_to_send()) <= most
        assert len(bench.session._challenges) <= 6
    assert [type(o) for o in found] == [Missed, Missed, Lost, Unheard,
                                        Complaint]
    assert 'does not read' in found[-1].reason


def test_a_line_begun_is_finished_before_another():
    bench = Bench()
    written = b''
    for size in (10, 0, 15):
        bench.now += 1.0
        bench.session.handle_timer(bench.now)
        bench.say(type='init')
        written += bench.session.data_to_send()[:size]
        bench.session.sent(size)
    bench.say(type='init')
    rest = bench.session.data_to_send()
    bench.session.sent(len(rest))
    assert bench.session.data_to_send() == b''
    lines = [json.loads(line) for line in (written + rest).splitlines()]
    assert {line['type'] for line in lines} == {'challenge', 'init_ack'}
    assert lines[-1]['sequence'] == 3       # the newest, not the oldest


@pytest.mark.parametrize('data, reason', [
    (b'garbage\n', 'not a JSON object'),
    (b'x' * 8192, 'longer than 4096 bytes'),
    (b'\xff\x00\n' * 50, 'not a JSON object'),
])
def test_bad_lines_are_told_once_and_answered_once_a_second(data, reason):
    bench = Bench()
    [complaint] = bench.feed(data)
    assert isinstance(complaint, Complaint) and reason in complaint.reason
    assert bench.feed(b'\n' + data) == []
    bench.read()
    assert bench.sent == [{'type': 'nack', 'reason': reason}]
    bench.now += 0.9
    bench.feed(b'\n' + data)
    bench.read()
    assert len(bench.sent) == 1
    bench.now += 0.2
    bench.feed(b'\n' + data)
    bench.read()
    assert len(bench.sent) == 2
    bench.feed(b'\n')
    assert bench.outcomes(1.5) == [ESTABLISHED]     # in step again


@pytest.mark.parametrize('data', [b'x\n' * 200, b'\n' * 200,
                                  b'{"type":"init"}\n' * 101])
def test_a_flood_is_stopped_for_the_rest_of_the_window(data):
    bench = Bench()
    assert bench.session.reading_resumes_at(bench.now) is None
    bench.feed(data)
    assert bench.session.reading_resumes_at(bench.now) == pytest.approx(100.1)
    bench.now += 0.1
    assert bench.session.reading_resumes_at(bench.now) is None


def test_a_long_line_is_stopped_for_the_rest_of_the_window():
    bench = Bench()
    for _ in range(inbound.BYTES // 8192):
        assert bench.session.reading_resumes_at(bench.now) is None
        bench.feed(b'x' * 8192)
    assert bench.session.reading_resumes_at(bench.now) == pytest.approx(100.1)


def test_a_guest_that_writes_byte_by_byte_is_not_read_for_ever():
    bench = Bench()
    for _ in range(inbound.READS):
        assert bench.session.reading_resumes_at(bench.now) is None
        bench.feed(b'x')
    assert bench.session.reading_resumes_at(bench.now) == pytest.approx(100.1)


def test_guests_that_flood_come_back_at_moments_of_their_own():
    back = set()
    for phase in (0.0, 0.02, 0.05, 0.51):
        bench = Bench(phase=phase)
        bench.feed(b'x\n' * 200)
        back.add(round(bench.session.reading_resumes_at(bench.now), 3))
    assert back == {100.1, 100.02, 100.05, 100.01}


def test_init_is_acknowledged_at_most_once_a_second_but_always():
    bench = Bench(phase=0.5)
    for _ in range(10):
        bench.say(type='init', agent='a/1')
    bench.read()
    ack = {'type': 'init_ack', 'version': 1, 'interval_ms': 1000,
           'timeout_ms': 1000, 'max_line': 4096}
    assert bench.sent == [ack]
    bench.run(3.0)
    assert [m['type'] for m in bench.sent].count('init_ack') == 2


# -- health ------------------------------------------------------------------

H, D, U = Health.HEALTHY, Health.DEGRADED, Health.UNHEALTHY


def _audit(name, health, message=''):
    return {'name': name, 'health': health.value, 'message': message}


REPORTS = [    # reports two seconds apart -> what each tells
    ([{'health': 'healthy'}], [[('', H)]]),
    ([{'health': 'healthy'}, {'health': 'healthy'}], [[('', H)], []]),
    ([{'health': 'unhealthy'}, {'health': 'degraded'}],
     [[('', U)], [('', D)]]),
    # an audit explains the whole; healthy as a whole ends it
    ([{'health': 'unhealthy', 'audits': [_audit('db', U)]},
      {'health': 'healthy'}],
     [[('db', U), ('', H)], [('db', H)]]),
    # one that does not explain it all
    ([{'health': 'unhealthy', 'audits': [_audit('db', D)]}],
     [[('db', D), ('', U)]]),
    # audits alone say nothing of others
    ([{'audits': [_audit('a', U)]}, {'audits': [_audit('b', D)]}],
     [[('a', U)], [('b', D)]]),
]


@pytest.mark.parametrize('reports, told', REPORTS)
def test_health(reports, told):
    bench = Bench()
    for report, expected in zip(reports, told, strict=True):
        outcomes = bench.say(type='report', **report)
        assert [(o.audit, o.health) for o in outcomes] == expected
        bench.now += 2.0


def test_health_comes_with_an_answer_too():
    bench = Bench()
    bench.answering = False
    bench.run(1.0)
    outcomes = bench.answer(bench.sent[-1],
                            audits=[_audit('db', U, 'no\nanswer')])
    assert outcomes == [ESTABLISHED, HealthChanged('db', U, 'no answer')]


def test_toggling_health_is_told_once_a_second_with_the_last_state():
    bench = Bench(connected=False)
    found = []
    for _ in range(30):
        for health in ('unhealthy', 'healthy', 'degraded'):
            bench.now += 0.03
            found += bench.session.handle_timer(bench.now)
            found += bench.say(type='report', health=health)
    assert 3 <= len(found) <= 4
    bench.run(1.0)
    assert bench.found[-1][1].health is D
    assert bench.session.next_deadline() == float('inf')


def test_audits_beyond_the_cap_are_ignored_and_that_is_said_once():
    bench = Bench()
    found = []
    for number in range(40):
        bench.now += 0.02
        found += bench.say(type='report',
                           audits=[_audit('a%d' % number, U)])
    changed = [o for o in found if isinstance(o, HealthChanged)]
    assert len(changed) == 16
    assert [o.reason for o in found if isinstance(o, Complaint)] == [
        'it has more than 16 audits']


def _audits(first, count=16, health=H):
    return [_audit('a%02d' % n, health) for n in range(first, first + count)]


RENAMED = [    # what fills the board, what comes then, which of it is told
    ({'audits': _audits(0)}, _audits(10, health=U), range(10, 26)),
    # healthy as a whole clears first what is not mentioned
    ({'audits': _audits(0, health=U)}, _audits(16), range(16, 32)),
    # one that is ill is never forgotten: somebody was told of it
    ({'audits': [*_audits(0, 15, U), *_audits(15, 1)]},
     _audits(16, 2, U), [16]),
]


@pytest.mark.parametrize('before, after, told', RENAMED)
def test_audits_with_other_names_find_a_place(before, after, told):
    bench = Bench()
    bench.run(3.0)
    bench.say(type='report', **before)
    bench.run(3.0)
    del bench.found[:]
    healthy = all(audit['health'] == 'healthy' for audit in after)
    said = {'health': 'healthy'} if healthy else {}
    for _ in range(4):
        bench.say(type='report', audits=after, **said)
        bench.run(1.0)
    names = {o.audit for _, o in bench.found if isinstance(o, HealthChanged)}
    after_names = {audit['name'] for audit in after}
    assert names & after_names == {'a%02d' % n for n in told}


def test_ever_new_names_are_told_of_no_faster_than_a_guest_that_toggles():
    bench = Bench()
    for number in range(300):
        bench.say(type='report', audits=[_audit('a%d' % number, H)])
        bench.run(0.02)
    # six seconds of sixteen places
    found = [o for _, o in bench.found if isinstance(o, HealthChanged)]
    assert 80 <= len(found) <= 7 * 16


# -- with the agent that is shipped ------------------------------------------

def test_the_reference_agent_and_the_session_understand_each_other():
    bench = Bench()
    talk = Talk('boot')
    down = Snapshot('unhealthy', [
        Result('db', 'unhealthy', 'no \N{EURO SIGN}')])
    bench.feed(talk.init(down))
    bench.now = 101.0
    bench.session.handle_timer(bench.now)
    data = bench.session.data_to_send()
    bench.session.sent(len(data))
    for line in talk.receive(data, Snapshot(None, []), bench.now):
        bench.feed(line)
    for line in [*talk.report(down, bench.now),
                 talk.exit('terminated')]:
        bench.feed(line)
    assert [outcome for _, outcome in bench.found] == [
        ESTABLISHED, HealthChanged('db', U, 'no \N{EURO SIGN}'),
        HealthChanged('', H, ''), AgentExited('terminated')]


# -- anything at all ---------------------------------------------------------

VALID = [b'{"type":"init"}\n', b'{"type":"exit"}\n',
         b'{"type":"report","health":"unhealthy"}\n',
         b'{"type":"report","health":"healthy"}\n',
         b'{"type":"report","audits":[{"name":"a","health":"degraded"}]}\n']

STEPS = st.one_of(
    st.tuples(st.just('feed'), st.binary(max_size=300)),
    st.tuples(st.just('feed'), st.sampled_from(VALID)),
    st.tuples(st.just('feed'), st.just(b'x' * 5000)),
    st.tuples(st.just('wait'), st.floats(0, 3)),
    st.tuples(st.just('answer'), st.booleans()),
    st.tuples(st.just('sent'), st.integers(0, 300)),
    st.tuples(st.just('call'), st.sampled_from(
        ['connected', 'disconnected', 'hold', 'release', 'void_round'])))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_whatever_comes_the_bounds_hold(steps):
    bench = Bench(boot_deadline_s=5)
    for action, argument in steps:
        if action == 'feed':
            bench.feed(argument)
        elif action == 'wait':
            bench.now += argument
            bench.session.handle_timer(bench.now)
        elif action == 'answer':
            for challenge in list(bench.session._challenges._waiting):
                bench.answer({'sequence': challenge.sequence,
                              'nonce': challenge.nonce if argument else 'x'})
        elif action == 'sent':
            queued = len(bench.session.data_to_send())
            bench.session.sent(min(argument, queued))
        else:
            try:
                getattr(bench.session, argument)(bench.now)
            except exception.IllegalTransition:
                pass
        assert (len(bench.session.data_to_send())
                <= 3 * protocol.MAX_HOST_LINE)
        assert len(bench.session._challenges) <= 6
        assert bench.session.next_deadline() > bench.now - 3.01
    complaints = [o for _, o in bench.found if isinstance(o, Complaint)]
    assert len(complaints) <= 1
