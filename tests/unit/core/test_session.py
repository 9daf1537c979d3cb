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
import pathlib
import runpy

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_vmhealth.core.audits import HealthChanged
from nova_vmhealth.core import flow
from nova_vmhealth.core.outcomes import AgentExited
from nova_vmhealth.core.outcomes import Complaint
from nova_vmhealth.core.outcomes import Established
from nova_vmhealth.core.outcomes import Lost
from nova_vmhealth.core.outcomes import NotEstablished
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core import protocol
from nova_vmhealth.core.session import Session
from nova_vmhealth.core import session_table
from nova_vmhealth.core.session_table import Event
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.session_table import Link
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth import exception
from nova_vmhealth.guest import agent

POLICY = Policy(heartbeat=True, interval_ms=1000, timeout_ms=1000, misses=3,
                boot_deadline_s=0, panic_device=False, events=frozenset())

ESTABLISHED = Established(Guest.WAITING)


class Bench:
    """A session, its clock, and a guest that answers when told to."""

    def __init__(self, connected=True, **changes):
        options = {name: changes.pop(name) for name in
                   ('established', 'recover_beats', 'phase')
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
        if connected:
            self.session.connected(self.now)

    def say(self, **message):
        return self.feed(json.dumps(message).encode() + b'\n')

    def feed(self, data):
        outcomes = self.session.receive(data, self.now)
        self.found += [(round(self.now, 3), o) for o in outcomes]
        return outcomes

    def answer(self, challenge, **more):
        return self.say(type='challenge_response',
                        sequence=challenge['sequence'],
                        nonce=challenge['nonce'], **more)

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
            self.found += [(round(self.now, 3), outcome) for outcome
                           in self.session.handle_timer(self.now)]
            for challenge in self.read():
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
    bench = Bench(established=True)
    bench.answering = False
    [(when, lost)] = bench.run(1000)
    assert (when, lost.misses) == (104.0, 3)
    assert bench.session.last_answer_at is None


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
    bench = Bench(established=lost)
    bench.answering = False
    bench.run(10)
    assert bench.say(type='exit') == []
    assert bench.session.guest is (Guest.LOST if lost else Guest.WAITING)


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
    assert bench.run(1000) == []
    bench.session.connected(bench.now)
    assert [type(o) for o in bench.outcomes(5.0)] == [Lost]


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
    bench = Bench(misses=1, established=True, timeout_ms=300)
    bench.now = bench.session.next_deadline() + 0.4
    bench.session.handle_timer(bench.now)
    assert bench.session.next_deadline() == pytest.approx(101.7)


# -- what a guest can make the host do ---------------------------------------

def test_a_guest_that_never_reads():
    bench = Bench(established=True)
    most = 2 * protocol.MAX_HOST_LINE
    found = []
    line = bench.session.data_to_send()
    for _ in range(4000):
        bench.now = bench.session.next_deadline()
        found += bench.session.handle_timer(bench.now)
        line = line or bench.session.data_to_send()
        assert len(bench.session.data_to_send()) <= most
        assert len(bench.session._unanswered) <= 6
    assert [type(o) for o in found] == [Lost, Complaint]
    assert 'does not read' in found[1].reason


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
def test_a_flood_is_stopped_for_the_rest_of_the_second(data):
    bench = Bench()
    assert bench.session.reading_resumes_at(bench.now) is None
    bench.feed(data)
    assert bench.session.reading_resumes_at(bench.now) == 101.0
    bench.now += 1.0
    assert bench.session.reading_resumes_at(bench.now) is None


def test_a_long_line_is_stopped_for_the_rest_of_the_second():
    bench = Bench()
    for _ in range(flow.BYTES_PER_S // 8192):
        assert bench.session.reading_resumes_at(bench.now) is None
        bench.feed(b'x' * 8192)
    assert bench.session.reading_resumes_at(bench.now) == 101.0


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
        found += bench.say(type='report',
                           audits=[_audit('a%d' % number, U)])
    changed = [o for o in found if isinstance(o, HealthChanged)]
    assert len(changed) == 16
    assert [o.reason for o in found if isinstance(o, Complaint)] == [
        'it has more than 16 audits']


# -- with the agent that is shipped ------------------------------------------

def test_the_reference_agent_and_the_session_understand_each_other():
    bench = Bench()
    talk = agent.Conversation(['db'], 'boot')
    down = agent.Snapshot('unhealthy', [
        agent.Result('db', 'unhealthy', 'no \N{EURO SIGN}')])
    bench.feed(talk.init())
    bench.now = 101.0
    bench.session.handle_timer(bench.now)
    data = bench.session.data_to_send()
    bench.session.sent(len(data))
    for line in talk.receive(data, agent.Snapshot(None, [])):
        bench.feed(line)
    for line in [*talk.report(down), talk.exit('terminated')]:
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
            for challenge in list(bench.session._unanswered.values()):
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
        assert len(bench.session._unanswered) <= 6
        assert bench.session.next_deadline() > bench.now - 3.01
    complaints = [o for _, o in bench.found if isinstance(o, Complaint)]
    assert len(complaints) <= 1
