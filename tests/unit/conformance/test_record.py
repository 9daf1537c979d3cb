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

"""What is held against an agent, and that little of it is kept."""

import pytest

from nova_vmhealth.conformance import record as records
from nova_vmhealth.core import protocol

ANSWER = b'{"type":"challenge_response","sequence":7,"nonce":"abc"}\n'


@pytest.fixture
def record():
    return records.Record()


@pytest.fixture
def challenge(record):
    challenge = records.Challenge(7, 'abc', sent_at=1.0)
    record.sent(challenge)
    return challenge


@pytest.mark.parametrize('line, name', [
    (b'garbage', 'messages'),
    (b'[1]', 'messages'),
    (b'{}', 'messages'),
    (b'{"type":7}', 'messages'),
    (b'{"type":"hello"}', 'messages'),
    (b'{"type":"exit","reason":1}', 'messages'),
    (b'[' * 4000, 'messages'),
    (b'{"sequence":' + b'9' * 4000 + b'}', 'messages'),
    (b'{"type":"challenge_response","sequence":"7","nonce":"abc"}',
     'messages'),
    (b'x' * 4097, 'line_limit'),
    (b'\xff' * 5000, 'line_limit'),
    (b'caf\xe9', 'utf8'),
    (b'{"type":"init","version":9}', 'init'),
    (b'{"type":"init","notices":1}', 'init'),
    (b'{"type":"report"}', 'report'),
    (b'{"type":"report","health":"unknown"}', 'report'),
    (protocol.challenge(1, 'abc').strip(), 'no_echo'),
    (protocol.init_ack(1000, 1000).strip(), 'no_echo'),
    (protocol.nack('not JSON').strip(), 'no_echo'),
    (protocol.notice(1, 'stop', 0).strip(), 'no_echo'),
    (b'{"type":"challenge_response","sequence":8,"nonce":"abc"}', 'exact'),
    (b'{"type":"challenge_response","sequence":7,"nonce":"abd"}', 'exact'),
])
def test_fault_goes_to_one_check(record, challenge, line, name):
    record.take(line + b'\n', 1.0)
    assert list(record.faults) == [name]


@pytest.mark.parametrize('line', [
    ANSWER.strip(),
    b'',
    b'{"type":"init"}',
    b'{"type":"init","version":1,"agent":"a/1","notices":true}',
    b'{"type":"report","health":"degraded"}',
    b'{"type":"exit"}',
    b'{"type":"notice_ack","sequence":3}',
    b' ' * 4000 + b'{"type":"exit"}',
    '{"type":"exit","reason":"\N{SNOWMAN}"}'.encode(),
])
def test_messages_are_no_fault(record, challenge, line):
    record.take(line + b'\n', 1.0)
    assert record.faults == {}


def test_answer_counts_once_and_byte_by_byte(record, challenge):
    for position in range(len(ANSWER)):
        assert challenge.answered_at is None
        record.take(ANSWER[position:position + 1], 2.0)
    record.take(ANSWER, 3.0)
    assert challenge.answered_at == 2.0
    assert record.answers == 1
    assert record.faults == {}


def test_messages_are_counted(record):
    record.take(b'{"type":"init","agent":"a"}\n{"type":"exit"}\n'
                b'{"type":"report","health":"healthy"}\n'
                b'{"type":"notice_ack","sequence":3}\n'
                b'{"type":"notice_ack"}\n', 1.0)
    assert (record.inits, record.exits, record.reports) == (1, 1, 1)
    assert record.last_init.agent == 'a'
    assert list(record.acks) == [3, None]


def test_first_fault_of_a_kind_is_shown_and_clean(record):
    record.take(b'\x1b[31mfirst\n' + b'second\n', 1.0)
    assert record.faults == {
        'messages': 'not a JSON object: [31mfirst'}


@pytest.mark.parametrize('times, faulty', [
    ([1.0] * 20, False),
    ([1.0] * 21, True),
    ([1.0 + index * 0.06 for index in range(100)], False),
    ([1.0 + index * 0.04 for index in range(100)], True),
])
def test_flood(record, times, faulty):
    for now in times:
        record.take(b'{"type":"init"}\n', now)
    assert ('flood' in record.faults) == faulty


def test_flood_in_one_read(record):
    record.take(b'\n' * 257, 1.0)
    assert list(record.faults) == ['flood']


def test_repeated_answers_are_unasked(record, challenge):
    record.take(ANSWER * 21, 1.0)
    assert record.faults == {}
    record.take(ANSWER, 1.0)
    assert list(record.faults) == ['flood']


def test_answers_are_no_flood(record):
    for sequence in range(100):
        record.sent(records.Challenge(sequence, 'abc'))
    for sequence in range(100):
        record.take(ANSWER.replace(b'7', b'%d' % sequence), 1.0)
    assert record.faults == {}


def test_new_connection_forgets_half_a_line(record, challenge):
    record.take(b'{"type":"ex', 1.0)
    record.reconnected()
    record.take(ANSWER, 1.0)
    assert record.faults == {}
    assert challenge.answered_at == 1.0


def test_endless_line_is_one_fault(record):
    for _ in range(100):
        record.take(b'x' * 65536, 1.0)
    assert list(record.faults) == ['line_limit']
    assert len(record.faults['line_limit']) < 200
