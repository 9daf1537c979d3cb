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


"""The agent's talk with the host: bytes and time in, lines out."""

import json
import logging

import pytest

from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core import protocol
from nova_vmhealth.core.session import Session
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.guest import health
from nova_vmhealth.guest.health import Result
from nova_vmhealth.guest.health import Snapshot
from nova_vmhealth.guest import port
from nova_vmhealth.guest import talk
from tests.unit.guest.helpers import challenge
from tests.unit.guest.helpers import decoded
from tests.unit.guest.helpers import FINE
from tests.unit.guest.helpers import kinds
from tests.unit.guest.helpers import snapshot
from tests.unit.guest.helpers import UNKNOWN

ACK = protocol.init_ack(1000, 1000)
ANSWER = 'ChallengeResponse'


@pytest.mark.parametrize('message', [
    '', 'short', 'x' * 5000, '\u20ac' * 256, '"' * 256, '\x00' * 256])
def test_a_line_never_gets_too_long(message):
    # The audits there may be and the agent's own.
    results = tuple(Result('a' * 62 + '%02d' % n, 'unhealthy', message)
                    for n in range(health.MAX_AUDITS + 1))
    line = talk.encode(
        {'type': 'challenge_response', 'sequence': 2 ** 62, 'nonce': 'n' * 64},
        Snapshot('unhealthy', results))

    assert len(line) <= protocol.MAX_GUEST_LINE
    [response] = decoded([line])
    assert [a.name for a in response.audits] == [r.name for r in results]


def test_messages_are_kept_where_there_is_room():
    audits = Snapshot('degraded', (Result('db', 'degraded', 'x' * 300),))

    [report] = decoded([talk.encode({'type': 'report'}, audits)])

    assert report.audits[0].message == 'x' * 256


LINES = [
    (b'one\n', [b'one']),
    (b'one\ntwo\n', [b'one', b'two']),
    (b'one\n\ntw', [b'one', b'']),
    (b'x' * 1024 + b'\n', [b'x' * 1024]),
    (b'x' * 1025 + b'\nafter\n', [b'after']),
    (b'x' * 9999 + b'\nafter\n', [b'after']),
]


@pytest.mark.parametrize('data, expected', LINES)
@pytest.mark.parametrize('size', [1, 700, 100000])
def test_lines_are_cut_however_they_arrive(data, expected, size):
    reader = talk.LineReader()
    lines = []
    for start in range(0, len(data), size):
        lines += reader.feed(data[start:start + size])
    assert lines == expected


def test_a_line_without_end_takes_no_memory():
    reader = talk.LineReader()
    for _ in range(100):
        assert reader.feed(b'x' * 4096) == []
        assert len(reader._buffer) <= talk.MAX_HOST_LINE


@pytest.mark.parametrize('notices', [False, True])
def test_init_introduces_the_agent(notices):
    line = talk.Talk('boot-1', notices).init(snapshot(('db', 'healthy')))

    assert decoded([line]) == [
        protocol.Init(health.NAME, 'boot-1', ('db',), notices)]


@pytest.mark.parametrize('status, expected, audits', [
    (UNKNOWN, None, ()),
    (FINE, 'healthy', ()),
    (snapshot(('db', 'unhealthy')), 'unhealthy', ('db',)),
])
def test_an_answer_echoes_and_tells_the_health(status, expected, audits):
    [answer] = decoded(talk.Talk().receive(challenge(7, 'abc'), status, 0.0))

    assert (answer.sequence, answer.nonce) == (7, 'abc')
    assert answer.health == expected
    assert tuple(a.name for a in answer.audits) == audits


def test_challenges_in_one_read_are_all_answered():
    answers = decoded(talk.Talk().receive(
        challenge(1, 'a') + challenge(2, 'b') + challenge(3, 'c')[:9], FINE,
        0.0))

    assert [a.nonce for a in answers] == ['a', 'b']


@pytest.mark.parametrize('line', [
    b'', b'garbage', b'\xff\xfe', b'[]', b'7', b'null',
    b'{"type":"challenge"}',
    b'{"type":"challenge","sequence":true,"nonce":"n"}',
    b'{"type":"challenge","sequence":"1","nonce":"n"}',
    b'{"type":"challenge","sequence":1,"nonce":2}',
    b'{"type":["challenge"],"sequence":1,"nonce":"n"}',
    b'{"type":"init_ack","version":1}',
    b'{"type":"init_ack","interval_ms":0,"timeout_ms":true}',
    b'{"type":"init_ack","interval_ms":1e999,"timeout_ms":-1}',
    b'{"type":"notice"}',
    b'{"type":"nack","reason":{"a":1}}', b'[' * 1000,
])
def test_anything_else_is_not_answered(line):
    talking = talk.Talk()

    assert talking.receive(line + b'\n', FINE, 0.0) == []
    assert len(talking.receive(challenge(), FINE, 0.0)) == 1
    assert talking.take_notices() == []


@pytest.mark.parametrize('sequences, inits', [
    ([1, 2, 3], 0), ([5, 1, 2], 1), ([1, 1], 1)])
def test_a_host_that_counts_anew_is_told_who_we_are(sequences, inits):
    talking = talk.Talk()
    lines = []
    for sequence in sequences:
        lines += talking.receive(challenge(sequence), FINE, 0.0)

    assert kinds(lines).count('Init') == inits


@pytest.mark.parametrize('ack, gap, told', [
    (ACK, 1.0, False),
    (ACK, 5.0, False),
    (ACK, 5.1, True),
    # At short intervals a hiccup of the host is no silence.
    (protocol.init_ack(100, 100), 2.0, False),
    (protocol.init_ack(100, 100), 2.1, True),
    (protocol.init_ack(3600000, 1000), 7200.0, False),
    # The interval is not known.
    (b'', 7200.0, False),
])
def test_challenges_that_come_back_after_a_silence(ack, gap, told):
    talking = talk.Talk()
    talking.receive(ack + challenge(1), FINE, 100.0)

    lines = talking.receive(challenge(2), FINE, 100.0 + gap)
    lines += talking.receive(challenge(3), FINE, 101.0 + gap)

    assert kinds(lines) == [ANSWER, *(['Init'] if told else []), ANSWER]


WAITED = b''.join(challenge(n, str(n)) for n in range(1, 41))


@pytest.mark.parametrize('ack, count, answered, told', [
    (ACK, 2, 2, False),
    (ACK, 3, 2, True),
    (ACK, 40, 2, True),
    (protocol.init_ack(1000, 100), 3, 2, True),
    (protocol.init_ack(1000, 3000), 4, 4, False),
    (protocol.init_ack(100, 1000), 11, talk.MAX_ANSWERS, False),
    (protocol.init_ack(100, 1000), 12, talk.MAX_ANSWERS, True),
    # What they are worth is not known, but not all fit in what is kept.
    (b'', 40, talk.MAX_ANSWERS, False),
])
def test_stale_challenges_are_passed_over(ack, count, answered, told, caplog):
    talking = talk.Talk()
    talking.receive(ack, FINE, 0.0)
    size = len(b''.join(challenge(n, str(n)) for n in range(1, count + 1)))

    found = decoded(talking.receive(WAITED[:size], FINE, 0.0))

    assert [m.sequence for m in found if type(m).__name__ == ANSWER] == list(
        range(count - answered + 1, count + 1))
    assert (type(found[-1]).__name__ == 'Init') is told
    assert bool(caplog.messages) is told


def test_all_that_one_read_causes_fits_in_what_the_port_keeps():
    # The introduction at first, answers, another one and a report.
    assert talk.MAX_ANSWERS + 3 <= port.MAX_UNSENT


def test_a_stall_is_said_once(caplog):
    talking = talk.Talk()
    talking.receive(ACK, FINE, 0.0)
    talking.reintroduce()    # the loop has seen and said it already

    assert kinds(talking.receive(WAITED, FINE, 0.0)) == [
        ANSWER, ANSWER, 'Init']
    assert kinds(talking.receive(b'', FINE, 0.0)) == []
    assert caplog.messages == []


def test_notices_wanted_from_now_on_are_told():
    talking = talk.Talk()
    found = []
    for wanted in (False, True, True, False):
        talking.want_notices(wanted)
        found += decoded(talking.receive(b'', FINE, 0.0))

    assert [init.notices for init in found] == [True, False]


@pytest.mark.parametrize('sequence, operation, timeout_ms, taken', [
    (3, 'reboot', 2000, True),
    (3, 'resumed', 0, True),
    (3, 'x' * 32, 86400000, True),
    (3, 'x' * 33, 0, False),
    (3, 'two words', 0, False),
    (3, '--help', 0, False),
    (3, 'line\n', 0, False),
    (3, '', 0, False),
    (3, None, 0, False),
    (3, 'stop', -1, False),
    (3, 'stop', 86400001, False),
    (3, 'stop', 1.5, False),
    (3, 'stop', None, False),
    (True, 'stop', 0, False),
])
def test_notices_are_taken(sequence, operation, timeout_ms, taken):
    talking = talk.Talk()
    line = json.dumps({'type': 'notice', 'version': 1, 'sequence': sequence,
                       'operation': operation, 'timeout_ms': timeout_ms})

    assert talking.receive(line.encode() + b'\n', FINE, 0.0) == []
    assert talking.take_notices() == (
        [talk.Notice(sequence, operation, timeout_ms)] if taken else [])
    assert talking.take_notices() == []


def test_the_hosts_own_notice_and_its_answer():
    talking = talk.Talk()
    talking.receive(protocol.notice(3, 'migrate', 500), FINE, 0.0)

    [notice] = talking.take_notices()

    assert notice == talk.Notice(3, 'migrate', 500)
    assert decoded([talking.notice_ack(notice.sequence)]) == [
        protocol.NoticeAck(3)]


def test_notices_do_not_pile_up():
    talking = talk.Talk()
    talking.receive(protocol.notice(1, 'stop', 1) * 1000, FINE, 0.0)

    assert len(talking.take_notices()) == talk.MAX_NOTICES


UP = snapshot(('db', 'healthy'))
DOWN = snapshot(('db', 'unhealthy'))


@pytest.mark.parametrize('told, then, expected', [
    (UP, UP, []),
    (UP, DOWN, ['unhealthy']),
    (DOWN, UP, ['healthy']),
    (DOWN, snapshot(('db', 'unhealthy'), ('x', 'degraded')), ['unhealthy']),
    (UP, Snapshot(None, UP.results), []),
])
def test_a_change_of_health_is_reported_once(told, then, expected):
    talking = talk.Talk()
    talking.receive(challenge(), told, 0.0)

    reports = decoded(talking.report(then, 0.0)
                      + talking.report(then, 9.0))

    assert [r.health for r in reports] == expected


def test_nothing_is_reported_before_the_first_challenge():
    assert talk.Talk().report(DOWN, 0.0) == []


def test_reports_are_so_far_apart():
    talking = talk.Talk()
    talking.receive(challenge(), UP, 100.0)
    first = talking.report(DOWN, 100.0)
    due = [talking.report_due]
    soon = talking.report(UP, 100.1)
    due.append(talking.report_due)
    later = talking.report(UP, talking.report_due)
    due.append(talking.report_due)

    assert [r.health for r in decoded(first + later)] == [
        'unhealthy', 'healthy']
    assert soon == []
    assert due == [None, 100.0 + talk.REPORT_SECONDS, None]


def test_an_answer_makes_a_report_that_was_put_off_needless():
    talking = talk.Talk()
    talking.receive(challenge(), UP, 100.0)
    talking.report(DOWN, 100.0)
    talking.report(UP, 100.1)
    talking.receive(challenge(2), UP, 100.2)

    assert talking.report(UP, 100.2) == []
    assert talking.report_due is None


def test_audits_that_fail_one_after_the_other_hold_up_no_answer():
    """At the shortest interval, against the host's own session."""
    session = Session(Policy(True, 100, 100, 3, 0, False, frozenset()),
                      lambda: '5d41402abc4b2a76' * 2, 100.0)
    session.connected(100.0)
    talking = talk.Talk()
    message = 'the database of this shop does not answer in time at all'
    outcomes = []
    for tick in range(2000):    # of a millisecond each
        now = 100.0 + tick / 1000
        # Each fails 8 ms after the one before, right after a challenge.
        failed = max(0, min((tick - 1495) // 8, health.MAX_AUDITS + 1))
        results = tuple(
            Result('shop-%02d' % n,
                   'unhealthy' if n < failed else 'healthy', message)
            for n in range(health.MAX_AUDITS + 1))
        status = Snapshot(health.worst(r.health for r in results), results)
        if session.next_deadline() <= now:
            outcomes += session.handle_timer(now)
        data = session.data_to_send()
        session.sent(len(data))
        lines = talking.receive(data, status, now)
        lines += talking.report(status, now)
        assert session.reading_resumes_at(now) is None
        outcomes += session.receive(b''.join(lines), now)

    assert {type(outcome).__name__ for outcome in outcomes} == {
        'Established', 'HealthChanged'}
    assert len([o for o in outcomes if type(o).__name__ == 'HealthChanged'
                and o.health is Health.UNHEALTHY]) == len(results)


def test_a_refusal_is_said_when_its_text_changes(caplog):
    talking = talk.Talk()
    for reason in ('a', 'a', 'b'):
        talking.receive(protocol.nack(reason), FINE, 0.0)

    assert [message[-1] for message in caplog.messages] == ['a', 'b']


def test_a_silence_is_no_warning(caplog):
    caplog.set_level(logging.INFO, 'vmhealth-guest')
    talking = talk.Talk()
    talking.receive(ACK + challenge(1), FINE, 0.0)
    talking.receive(challenge(2), FINE, 60.0)

    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_limits_are_those_of_the_protocol():
    assert talk.VERSION == protocol.VERSION
    assert talk.MAX_LINE == protocol.MAX_GUEST_LINE
    assert talk.MAX_HOST_LINE == protocol.MAX_HOST_LINE
    assert port.CHANNEL == protocol.CHANNEL_NAME
    assert json.loads(talk.Talk.exit('x'))['type'] == 'exit'
