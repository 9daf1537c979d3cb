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


"""What bad input gets: at most one complaint, few replies, no false state.

The judge checks every rule of :mod:`tests.fuzz.judge` at every step, and at
the end that the guest is heard when it behaves and missed when it hangs. Here
stands what each kind of input leads to besides.
"""

import pytest

from nova_vmhealth.core import audits
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core import protocol
from nova_vmhealth.core.vocabulary import Health
from tests.fuzz.footprint import footprint
from tests.fuzz.judge import answer_to
from tests.fuzz.judge import Judge

POLICY = Policy(heartbeat=True, interval_ms=1000, timeout_ms=1000, misses=3,
                boot_deadline_s=0, panic_device=False, events=frozenset())
# What a line begun may add to a session, with what Python adds to it.
LINE_BEGUN = protocol.MAX_GUEST_LINE + 1024


class Bench(Judge):
    """A judge that remembers what it was told, and what the guest read."""

    def __init__(self, **changes):
        self.found = []
        self.replies = []
        super().__init__(POLICY, **changes)
        self.connect()
        assert self.behave(3.0)
        self.found.clear()

    def _take(self, found):
        self.found += found
        super()._take(found)

    def names(self):
        return [type(outcome).__name__ for outcome in self.found]

    def nacks(self):
        """Return why the guest was refused, by all that it can read now."""
        before = self.counts['nack']
        self.advance(0.01)
        lines = (self.pipe + self.session.data_to_send()).split(b'\n')
        self.read()
        assert self.counts['nack'] - before == sum(
            b'"nack"' in line for line in lines)
        return [line.decode().split('"')[7] for line in lines
                if b'"nack"' in line]


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.finish()


LONG = 'longer than 4096 bytes'
DEEP = 'nested too deeply'
NO_UTF8 = 'not UTF-8'
NO_JSON = 'not JSON'
NO_OBJECT = 'not a JSON object'
NO_NUMBER = 'a number is too large'
NO_SEQUENCE = 'sequence is not a number of a line of the host'
NO_CONSTANT = 'NaN and Infinity are not JSON'
NO_HEALTH = 'health is not healthy, degraded or unhealthy'
NO_NONCE = 'nonce is not a string of 1 to 64 characters'
NO_LIST = 'audits is not a list of the right type'

EXIT = b'{"type":"exit","reason":%s}'
EXTRA = b'{"type":"report","health":"unhealthy","x":%s}'
RESPONSE = b'{"type":"challenge_response","sequence":%s,"nonce":"n"}'

REFUSED = {
    'an oversize line': (b'x' * 5000, LONG),
    'an oversize message': (EXIT % (b'"%s"' % (b'x' * 5000)), LONG),
    'an oversize line of 1 MiB': (b'{' * (1 << 20), LONG),
    'garbage': (b'hello', NO_OBJECT),
    'binary garbage': (bytes(range(11, 256)), NO_OBJECT),
    'an array': (b'[{"type":"exit"}]', NO_OBJECT),
    'a string': (b'"exit"', NO_OBJECT),
    'a number': (b'7', NO_OBJECT),
    'null': (b'null', NO_OBJECT),
    'NaN': (b'NaN', NO_OBJECT),
    'half an object': (b'{"type":"exit"', NO_JSON),
    'two objects': (b'{"type":"exit"}{"type":"exit"}', NO_JSON),
    'a BOM': (b'\xef\xbb\xbf{"type":"exit"}', NO_OBJECT),
    'UTF-16': ('{"type":"exit"}'.encode('utf-16'), NO_OBJECT),
    'invalid UTF-8': (EXIT % b'"\xff\xfe"', NO_UTF8),
    'overlong UTF-8': (EXIT % b'"\xc0\xaf"', NO_UTF8),
    'a UTF-8 sequence cut short': (EXIT % b'"\xf0\x9f"', NO_UTF8),
    'a raw surrogate': (EXIT % b'"\xed\xa0\x80"', NO_UTF8),
    'an escaped surrogate': (EXIT % b'"\\uD800"', NO_UTF8),
    'surrogates in the wrong order': (EXIT % b'"\\udc00\\ud800"', NO_UTF8),
    'a surrogate in a key': (b'{"type":"exit","\\udfff":1}', NO_UTF8),
    'NUL': (EXIT % b'"a\0b"', NO_JSON),
    'NUL behind': (b'{"type":"exit"}\0', NO_JSON),
    'an ANSI sequence': (EXIT % b'"\x1b[31m"', NO_JSON),
    'a carriage return within': (EXIT % b'"a\rb"', NO_JSON),
    'an integer of 4,000 digits': (EXTRA % (b'9' * 4000), NO_NUMBER),
    'an integer of 5,000 digits': (EXTRA % (b'9' * 5000), LONG),
    '1e999': (EXTRA % b'1e999', NO_NUMBER),
    '-1e999': (EXTRA % b'-1e999', NO_NUMBER),
    'NaN within': (EXTRA % b'NaN', NO_CONSTANT),
    'Infinity within': (EXTRA % b'Infinity', NO_CONSTANT),
    '-Infinity within': (EXTRA % b'-Infinity', NO_CONSTANT),
    'deep arrays': (EXTRA % (b'[' * 2000 + b']' * 2000), DEEP),
    'deep arrays without an end': (EXTRA % (b'[' * 4000), DEEP),
    'deep objects': (b'{"x":' * 600 + b'1' + b'}' * 600, DEEP),
    'deep strings': (EXTRA % (b'["\\' * 1000), DEEP),
    'a boolean for a sequence': (RESPONSE % b'true', NO_SEQUENCE),
    'a negative sequence': (RESPONSE % b'-1', NO_SEQUENCE),
    'a float for a sequence': (RESPONSE % b'1.0', NO_SEQUENCE),
    'a sequence of 2 ** 63': (RESPONSE % b'9223372036854775808', NO_SEQUENCE),
    'a sequence of 2 ** 64': (RESPONSE % b'18446744073709551616',
                              NO_SEQUENCE),
    'a text for a sequence': (RESPONSE % b'"1"', NO_SEQUENCE),
    'no sequence': (b'{"type":"challenge_response","nonce":"n"}',
                    NO_SEQUENCE),
    'no nonce': (b'{"type":"challenge_response","sequence":1}', NO_NONCE),
    'a number for a nonce': (
        b'{"type":"challenge_response","sequence":1,"nonce":1}', NO_NONCE),
    'a long nonce': (b'{"type":"challenge_response","sequence":1,"nonce":"%s"}'
                     % (b'n' * 65), NO_NONCE),
    'no type': (b'{}', 'unknown type'),
    'an unknown type': (b'{"type":"reboot"}', 'unknown type'),
    "a type of the host's": (b'{"type":"challenge","sequence":1,"nonce":"n"}',
                             'unknown type'),
    'a list for a type': (b'{"type":["exit"]}', 'unknown type'),
    'an object for a type': (b'{"type":{"exit":1}}', 'unknown type'),
    'a type twice, the last unknown': (b'{"type":"exit","type":"x"}',
                                       'unknown type'),
    'a number for a reason': (EXIT % b'1', 'reason is not a string'),
    'no health': (b'{"type":"report"}', NO_HEALTH),
    'a boolean for a health': (b'{"type":"report","health":true}', NO_HEALTH),
    'an unknown health': (b'{"type":"report","health":"great"}', NO_HEALTH),
    'an object for audits': (
        b'{"type":"report","health":"unhealthy","audits":{}}', NO_LIST),
    'a number for an audit': (
        b'{"type":"report","health":"unhealthy","audits":[1]}', NO_LIST),
    'an audit without a name': (
        b'{"type":"report","audits":[{"health":"unhealthy"}]}',
        'an audit has no name'),
    'an audit of control characters': (
        b'{"type":"report","audits":[{"name":"\\u0000","health":"unhealthy"}]}',
        'an audit has no name'),
    'an unknown version': (b'{"type":"init","version":2}', 'version is not 1'),
    'a boolean for a version': (b'{"type":"init","version":true}',
                                'version is not 1'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_is_no_message(bench, case):
    data, reason = REFUSED[case]
    bench.feed(data + b'\n')
    assert [o.reason for o in bench.found] == [
        'it sends what is no message: ' + reason]
    assert bench.nacks() == [reason]
    assert bench.beat()             # the very next line is heard
    for _ in range(20):
        bench.feed(data[:60000] + b'\n')
        bench.advance(0.5)
        bench.beat()
    assert bench.names() == ['Complaint']


@pytest.mark.parametrize('case', REFUSED)
def test_in_single_bytes_it_is_the_same(bench, case):
    data, reason = REFUSED[case]
    for start in range(min(len(data), 6000)):
        bench.session.receive(data[start:start + 1], bench.now)
    bench.feed(b'\n')
    assert bench.nacks() == [reason]
    bench.read()
    line = answer_to(bench.challenges[-1])
    bench.advance(1.0)
    heard = [bench.feed(line[start:start + 1]) for start in range(len(line))]
    assert heard == [False] * (len(line) - 1) + [True]


def test_an_endless_line(bench):
    before = footprint(bench.session)
    for _ in range(200):
        bench.feed(b'x' * 65536)
        bench.advance(0.1)
        assert footprint(bench.session) - before < LINE_BEGUN
    assert bench.names().count('Complaint') == 1
    assert bench.counts['nack'] <= 1
    assert bench.session.misses > 0     # it did not answer meanwhile


def test_many_lines_in_one_read(bench):
    bench.read()
    bench.advance(1.0)
    bench.read()
    lines = [b'{"type":"init"}', b'garbage', b'',
             b'{"type":"report","health":"degraded"}']
    assert bench.feed(b'\n'.join(lines) + b'\n'
                      + answer_to(bench.challenges[-1]))
    assert bench.names() == ['Complaint', 'HealthChanged']


def test_more_lines_than_are_read(bench):
    before = footprint(bench.session)
    bench.feed(b'{"type":"init"}\n' * 4000)
    assert footprint(bench.session) - before < LINE_BEGUN
    assert bench.session.reading_resumes_at(bench.now) > bench.now
    assert 'it sends more than' in bench.found[0].reason
    bench.advance(1.1)
    assert bench.session.reading_resumes_at(bench.now) is None
    assert bench.beat()


CLEANED = {
    'NUL': ('a\\u0000b', 'ab'),
    'ANSI': ('\\u001b[31mred', '[31mred'),
    'C1': ('a\\u009bb', 'ab'),
    'DEL': ('a\x7fb', 'ab'),
    'U+FFFE raw': ('a\ufffeb', 'ab'),
    'U+FFFE escaped': ('a\\ufffeb', 'ab'),
    'U+FFFF in plane 16': ('a\U0010ffffb', 'ab'),
    'right-to-left override': ('a\\u202eb', 'ab'),
    'line separator': ('a\\u2028b', 'a b'),
    'a newline': ('a\\nb', 'a b'),
    'a pair of surrogates': ('\\ud83d\\ude00', '\U0001f600'),
    'a format of Python': ('%s{0}%(x)d', '%s{0}%(x)d'),
    'a shell': ('$(reboot)`id`', '$(reboot)`id`'),
    'very long': ('x' * 3000, 'x' * 256),
    'long junk': ('\u200b' * 1100 + 'x', ''),
}


@pytest.mark.parametrize('case', CLEANED)
def test_text_is_cleaned(bench, case):
    text, cleaned = CLEANED[case]
    bench.feed(b'{"type":"report","audits":[{"name":"a","health":"unhealthy",'
               b'"message":"%s"}]}\n' % text.encode())
    [changed] = bench.found
    assert changed.message == cleaned
    bench.found.clear()
    bench.advance(0.1)
    bench.feed(EXIT % (b'"%s"' % text.encode()) + b'\n')
    assert [o.reason for o in bench.found] == [cleaned]


def test_of_keys_that_stand_twice_the_last_counts(bench):
    bench.feed(b'{"type":"report","type":"exit","reason":"a","reason":"b"}\n')
    assert [o.reason for o in bench.found] == ['b']


# -- answers -----------------------------------------------------------------

def _wrong(challenge, **changes):
    return {'sequence': challenge['sequence'], 'nonce': challenge['nonce'],
            **changes}


WORTHLESS = {
    'predicted': lambda c: _wrong(c, nonce='0' * 32),
    'in capitals': lambda c: _wrong(c, nonce=c['nonce'].upper()),
    'cut short': lambda c: _wrong(c, nonce=c['nonce'][:-1]),
    'with a blank': lambda c: _wrong(c, nonce=c['nonce'] + ' '),
    'with NUL': lambda c: _wrong(c, nonce=c['nonce'] + '\0'),
    'of the next': lambda c: _wrong(c, sequence=c['sequence'] + 1),
    'of the one before': lambda c: _wrong(c, sequence=c['sequence'] - 1),
    'of the first': lambda c: _wrong(c, sequence=1),
    'of the future': lambda c: _wrong(c, sequence=2 ** 62),
}


@pytest.mark.parametrize('case', WORTHLESS)
def test_a_nonce_that_is_worth_nothing(bench, case):
    bench.advance(1.0)
    bench.read()
    challenge = bench.challenges[-1]
    assert not bench.answer(WORTHLESS[case](challenge), health='unhealthy')
    assert bench.found == []        # nor does it say anything else
    assert bench.answer(challenge)


def test_a_replay_and_a_stale_answer(bench):
    bench.advance(1.5)
    bench.read()
    earlier, challenge = bench.challenges[-2:]
    assert bench.answer(challenge)
    for _ in range(3):
        assert not bench.answer(challenge, health='unhealthy')
        assert not bench.answer(earlier, health='unhealthy')
    assert bench.names() == ['Missed']


def test_an_answer_of_a_channel_that_is_gone(bench):
    bench.advance(1.0)
    bench.read()
    bench.disconnect()
    bench.connect()
    assert not bench.answer(bench.challenges[-1])


def test_an_answer_just_after_the_timeout_is_a_sign_of_life(bench):
    bench.advance(1.0)
    bench.read()
    challenge = bench.challenges[-1]
    while not bench.session.misses:
        bench.advance(0.001)
    assert bench.answer(challenge)
    assert bench.session.misses == 0


def test_always_just_after_the_timeout_is_never_lost(bench):
    bench.advance(1.0)
    for _ in range(300):
        answered = len(bench.nonces)
        bench.advance(0.1)
        bench.read()
        if len(bench.nonces) > answered:
            assert bench.answer(bench.challenges[-2])
    assert 'Lost' not in bench.names()


# -- too much of what is allowed ---------------------------------------------

def test_an_init_flood(bench):
    for _ in range(200):
        bench.feed(b'{"type":"init","agent":"a","audits":["x"]}\n' * 5)
        bench.advance(0.05)
        bench.beat()
    assert set(bench.names()) <= {'Complaint'}
    assert 5 <= bench.counts['init_ack'] <= 12


def test_exit_and_init_in_turns(bench):
    """Each exit is told only when a challenge was answered before it."""
    for _ in range(100):
        for _ in range(3):
            bench.feed(b'{"type":"exit","reason":"x"}\n{"type":"init"}\n')
            bench.advance(0.1)
        bench.beat()
    assert bench.names().count('AgentExited') <= 32
    assert bench.names().count('Established') <= 32
    assert 'Lost' not in bench.names()


def test_exit_does_not_switch_the_heartbeat_off(bench):
    bench.feed(b'{"type":"exit"}\n')
    assert bench.names() == ['AgentExited']
    asked = len(bench.nonces)
    bench.advance(10.0)
    assert len(bench.nonces) == asked + 10
    bench.beat()
    assert bench.names() == ['AgentExited', 'Established']


@pytest.mark.parametrize('seconds', [0.0, 0.01, 0.3])
def test_the_port_is_opened_and_closed_all_the_time(bench, seconds):
    for _ in range(300):
        bench.disconnect()
        bench.advance(seconds)
        bench.connect()
        bench.feed(b'{"type":"challenge_resp')
        bench.advance(seconds)
    # thousands of reads a second are too many, however little they bring
    assert set(bench.names()) <= ({'Complaint'} if seconds == 0 else set())
    assert bench.session.misses == 0


def test_health_is_toggled_as_fast_as_possible(bench):
    for turn in range(600):
        health = b'healthy' if turn % 2 else b'unhealthy'
        bench.feed(b'{"type":"report","health":"%s"}\n' % health)
        bench.advance(0.02)
        bench.beat()
    assert 6 <= bench.names().count('HealthChanged') <= 14
    bench.feed(b'{"type":"report","health":"unhealthy"}\n')
    bench.behave(2.0)
    assert bench.told[audits.OVERALL][1] is Health.UNHEALTHY


def test_10000_audits(bench):
    before = footprint(bench.session)
    for start in range(0, 10000, 50):
        bench.feed(b'{"type":"report","audits":[%s]}\n' % b','.join(
            b'{"name":"audit %d","health":"unhealthy","message":"%d"}'
            % (number, number) for number in range(start, start + 50)))
        bench.advance(0.1)
    assert footprint(bench.session) - before < 16384
    assert bench.names().count('HealthChanged') == audits.MAX_AUDITS
    assert [o.reason for o in bench.found if hasattr(o, 'reason')] == [
        'it has more than 16 audits']


def test_10000_audits_in_one_line(bench):
    bench.feed(b'{"type":"report","audits":[%s]}\n' % b','.join(
        b'{"name":"%d","health":"unhealthy"}' % n for n in range(10000)))
    assert [o.reason for o in bench.found] == [
        'it sends what is no message: ' + LONG]


def test_a_guest_that_never_reads():
    bench = Bench(room=2048)
    before = footprint(bench.session)
    for _ in range(200):
        bench.feed(b'{"type":"init"}\ngarbage\n')
        bench.advance(1.0)
    # Unanswered challenges, and what could not be written.
    assert footprint(bench.session) - before < 8192
    assert sorted(set(bench.names())) == ['Complaint', 'Lost', 'Missed']
    assert bench.names().count('Lost') == 1
    bench.read()
    assert len(bench.challenges) < 40
    bench.finish()


def test_a_guest_that_reads_a_byte_a_second():
    bench = Bench(room=2048)
    for _ in range(400):
        bench.feed(b'garbage\n')
        bench.advance(1.0)
        bench.read(1)
    assert bench.names().count('Lost') == 1
    assert bench.names().count('Complaint') == 1
    bench.finish()


def test_a_guest_that_writes_a_byte_a_second(bench):
    for byte in b'{"type":"report","health":"unhealthy"}\n':
        bench.feed(bytes([byte]))
        for _ in range(4):
            bench.advance(0.25)
    assert bench.names().count('HealthChanged') == 1
    assert bench.names().count('Lost') == 1
