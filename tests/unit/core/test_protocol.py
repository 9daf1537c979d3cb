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


"""The wire: what is a message, what is refused, and that no split matters."""

import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_vmhealth.core import decoding
from nova_vmhealth.core import protocol
from nova_vmhealth.core.protocol import AuditReport
from nova_vmhealth.core.protocol import ChallengeResponse
from nova_vmhealth.core.protocol import Exit
from nova_vmhealth.core.protocol import Init
from nova_vmhealth.core.protocol import NoticeAck
from nova_vmhealth.core.protocol import Report
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth import exception
from tests.fuzz import harness

NO_LIMIT = 10 ** 9

# Which decoder is used must not show.
LOADERS = {'json': decoding.load_with_json,
           'orjson': decoding.load_with_orjson}
if decoding.orjson is None:
    del LOADERS['orjson']


def test_no_decoder_is_left_out(require):
    """Here, and where what the fuzzer found is run again."""
    require(decoding.orjson is not None, 'needs orjson')
    assert list(LOADERS) == ['json', 'orjson']
    assert harness.LOADERS == list(LOADERS.values())


@pytest.fixture(params=LOADERS.values(), ids=list(LOADERS))
def loader(request, monkeypatch):
    monkeypatch.setattr(decoding, 'load', request.param)


MESSAGES = [
    (b'{"type":"init"}', Init()),
    (b'{"type":"init","version":1,"agent":"a/1","boot_id":"b","audits":["d"]}',
     Init('a/1', 'b', ('d',))),
    (b'{"type":"challenge_response","sequence":7,"nonce":"ab"}',
     ChallengeResponse(7, 'ab')),
    (b' {"nonce":"ab", "sequence":0, "type":"challenge_response"} \r',
     ChallengeResponse(0, 'ab')),
    (b'{"type":"challenge_response","sequence":7,"nonce":"n","health":"healthy"'
     b',"audits":[{"name":"db","health":"unhealthy","message":"down"}]}',
     ChallengeResponse(7, 'n', Health.HEALTHY,
                       (AuditReport('db', Health.UNHEALTHY, 'down'),))),
    (b'{"type":"report","health":"degraded","more":[1.5,null,{"x":true}]}',
     Report(Health.DEGRADED)),
    (b'{"type":"report","audits":[{"name":"a","health":"healthy"}]}',
     Report(None, (AuditReport('a', Health.HEALTHY),))),
    (b'{"type":"exit"}', Exit()),
    ('{"type":"exit","reason":"Grüße"}'.encode(), Exit('Grüße')),
    (b'{"type":"exit","reason":"a","reason":"b"}', Exit('b')),
    (b'{"type":"exit","x":%d,"y":-1.5e300,"z":[-0]}' % 10 ** 300, Exit()),
    (b'{"type":"exit","x":' + b'[' * 31 + b']' * 31 + b'}', Exit()),
    (b'{"type":"exit","x":[' + b'[],' * 1000 + b'{}]}', Exit()),
    (b'{"type":"exit","reason":"' + b'[' * 200 + b'"}', Exit('[' * 200)),
    (b'{"type":"exit","reason":"' + b'\\"\\\\[' * 60 + b'"}',
     Exit('"\\[' * 60)),
    (b'{"type":"exit","reason":"a\xef\xbf\xbe\\uFFFE\\u0000\x7fb"}',
     Exit('ab')),
    (b'{"type":"notice_ack"}', NoticeAck()),
    (b'{"type":"notice_ack","sequence":3}', NoticeAck(3)),
    (b'{"type":"init","notices":true}', Init(notices=True)),
    (b'{"type":"report","audits":[' + b','.join(
        b'{"name":"a%d","health":"healthy"}' % n for n in range(100)) + b']}',
     Report(None, tuple(AuditReport('a%d' % n, Health.HEALTHY)
                        for n in range(protocol.MAX_LISTED)))),
    (b'{"type":"exit","reason":"\\ud83d\\ude00 a\\u001b[31mb\\nc\\u202e"}',
     Exit('\U0001f600 a[31mb c')),
]

ANSWER = '{"type":"challenge_response","sequence":%s,"nonce":%s}'

REFUSED = [
    (b'garbage', 'not a JSON object'),
    (b'[1]', 'not a JSON object'),
    (b'"x"', 'not a JSON object'),
    (b'{"type":"exit"', 'not JSON'),
    (b'{"type":"exit"} {}', 'not JSON'),
    (b'{"type":"exit","x":NaN}', 'NaN and Infinity are not JSON'),
    (b'{"type":"exit","x":-Infinity}', 'NaN and Infinity are not JSON'),
    (b'{"type":"exit","reason":"\xff"}', 'not UTF-8'),
    (b'{"type":"exit","reason":"\\ud800"}', 'not UTF-8'),
    (b'{"type":"exit","\\udfff":1}', 'not UTF-8'),
    (b'{"type":"exit","x":' + b'[' * 4000, 'nested too deeply'),
    (b'{"x":' * 800, 'nested too deeply'),
    (b'{"x":' * 32, 'not JSON'),
    (b'{"x":' * 33, 'nested too deeply'),
    (b'{"type":"exit","x":' + b'9' * 4000 + b'}', 'a number is too large'),
    (b'{"type":"exit","x":1e999}', 'a number is too large'),
    (b'{"type":"exit","x":-1e999}', 'a number is too large'),
    (b'{"type":"exit","x":Infinity}', 'NaN and Infinity are not JSON'),
    (b'{"type":"exit","x":"\\ude00\\ud83d"}', 'not UTF-8'),
    (b'{"type":"exit","x":"\xed\xa0\x80"}', 'not UTF-8'),
    (b'{"type":"exit","reason":"a\x00b"}', 'not JSON'),
    (b'{"type":"exit"}\x00', 'not JSON'),
    (b'{"type":"exit"}\x0b', 'not JSON'),
    (b'\x0c{"type":"exit"}', 'not JSON'),
    (b'\xef\xbb\xbf{"type":"exit"}', 'not a JSON object'),
    (b'', 'not a JSON object'),
    (b'1e999', 'not a JSON object'),
    (b'{"type":"report","type":"exit","type":"none"}', 'unknown type'),
    (b'{"type":"init","version":1.0}', 'version is not 1'),
    (b'{"type":"init","notices":1}', 'notices is not a boolean'),
    (b'{"type":"report","health":"healthy","audits":null}',
     'audits is not a list of the right type'),
    (b'{"type":"report","health":"healthy","audits":""}',
     'audits is not a list of the right type'),
    (b'{"type":"exit","reason":"' + b'x' * 4096 + b'"}',
     'longer than 4096 bytes'),
    (b'{}', 'unknown type'),
    (b'{"type":7}', 'unknown type'),
    (b'{"type":["exit"]}', 'unknown type'),
    (b'{"type":"challenge","version":1,"sequence":1,"nonce":"a"}',
     'unknown type'),
    (b'{"type":"init","version":2}', 'version is not 1'),
    (b'{"type":"init","version":true}', 'version is not 1'),
    (b'{"type":"init","audits":"disk"}',
     'audits is not a list of the right type'),
    (b'{"type":"init","audits":[1]}',
     'audits is not a list of the right type'),
    (b'{"type":"init","agent":1}', 'agent is not a string'),
    (b'{"type":"report"}', 'health is not healthy, degraded or unhealthy'),
    (b'{"type":"report","health":"unknown"}',
     'health is not healthy, degraded or unhealthy'),
    (b'{"type":"report","health":["healthy"]}',
     'health is not healthy, degraded or unhealthy'),
    (b'{"type":"report","audits":[{"health":"healthy"}]}',
     'an audit has no name'),
    (b'{"type":"report","audits":[{"name":"\\u0007","health":"healthy"}]}',
     'an audit has no name'),
    (b'{"type":"report","audits":[{"name":"a"}]}',
     'health is not healthy, degraded or unhealthy'),
    (b'{"type":"report","audits":{"a":1}}',
     'audits is not a list of the right type'),
] + [
    ((ANSWER % (sequence, '"n"')).encode(),
     'sequence is not a number of a line of the host')
    for sequence in (
        'true', '1.0', '-1', '"1"', 'null', '1e3', '-1e3', '[1]',
        '9223372036854775808', '18446744073709551615', '18446744073709551616',
        '-9223372036854775809', '9' * 21, '9' * 300)
] + [
    ((ANSWER % (1, nonce)).encode(),
     'nonce is not a string of 1 to 64 characters')
    for nonce in ('""', '1', 'null', '"%s"' % ('n' * 65))
]


@pytest.mark.usefixtures('loader')
@pytest.mark.parametrize('line, message', MESSAGES)
def test_messages(line, message):
    assert protocol.parse_line(line) == message


@pytest.mark.usefixtures('loader')
@pytest.mark.parametrize('line, reason', REFUSED)
def test_refused(line, reason):
    with pytest.raises(exception.ProtocolError) as caught:
        protocol.parse_line(line)
    assert caught.value.reason == reason


def _feed_split(pieces, limit=protocol.MAX_GUEST_LINE):
    framer = protocol.Framer(limit)
    lines = []
    for piece in pieces:
        found, dropped = framer.feed(piece, NO_LIMIT)
        assert not dropped
        lines += found
    return lines


FRAMES = [
    (b'', []),
    (b'a', []),
    (b'a\n', [b'a']),
    (b'\n\na\n\nb\n', [b'a', b'b']),
    (b'12345678\n', [b'12345678']),
    (b'123456789', [b'123456789']),           # told before it ends, cut
    (b'1234567890abc\nd\n', [b'123456789', b'd']),
    (b'123456789\n123456789\n', [b'123456789', b'123456789']),
]


@pytest.mark.parametrize('stream, lines', FRAMES)
def test_framing(stream, lines):
    single_bytes = [stream[i:i + 1] for i in range(len(stream))]
    assert _feed_split([stream], 8) == lines
    assert _feed_split(single_bytes, 8) == lines


@given(st.lists(st.binary(max_size=40) | st.just(b'x' * 30)
                | st.just(b'\n'), max_size=30), st.data())
def test_any_split_gives_the_same_lines(pieces, data):
    stream = b''.join(pieces)
    cuts = sorted(data.draw(st.lists(
        st.integers(0, len(stream)), max_size=8)))
    parts = [stream[a:b] for a, b in
             zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    expected = [line[:13] for line in stream.split(b'\n') if line]
    if stream and not stream.endswith(b'\n') and expected:
        last = stream.rsplit(b'\n', 1)[-1]
        if len(last) <= 12:
            expected.pop()
    assert _feed_split(parts, 12) == expected


@given(st.binary(max_size=200) | st.text(max_size=60).map(
    lambda text: json.dumps({'type': 'exit', 'reason': text}).encode()))
def test_any_line_is_a_message_or_a_protocol_error(line):
    try:
        message = protocol.parse_line(line)
    except exception.ProtocolError as error:
        assert len(protocol.nack(error.reason)) <= protocol.MAX_HOST_LINE
    else:
        message.reason.encode('utf-8')
        assert message.reason.isprintable()


def test_lines_beyond_the_allowance_are_dropped_and_framing_goes_on():
    framer = protocol.Framer()
    assert framer.feed(b'a\n\nb\nc\nd', 3) == ([b'a', b'b'], True)
    assert framer.feed(b'd\ne', 3) == ([b'dd'], False)
    assert framer.feed(b'e\n', 0) == ([], True)
    assert framer.feed(b'f\n', 3) == ([b'f'], False)


def test_framer_keeps_one_line_at_most():
    framer = protocol.Framer()
    for _ in range(100):
        framer.feed(b'x' * 65536, 100)
        assert len(framer._partial) <= protocol.MAX_GUEST_LINE


CLEANED = [
    ('plain', 99, 'plain'),
    ('  a\tb\r\nc  ', 99, 'a b  c'),
    ('\x1b[31mred\x1b[0m', 99, '[31mred[0m'),
    ('a\u202eb\u200bc\ue000d\x00e', 99, 'abcde'),
    ('a\u2028b', 99, 'a b'),
    ('abc def', 4, 'abc'),
    ('\x07' * 12 + 'abcde', 4, 'abcd'),
    ('\x07' * 16 + 'abcde', 4, ''),      # not looked at: cleaning has a price
    ('\x07', 99, ''),
]


@pytest.mark.parametrize('text, limit, cleaned', CLEANED)
def test_clean_text(text, limit, cleaned):
    assert protocol.clean_text(text, limit) == cleaned


def test_host_lines():
    lines = {
        protocol.challenge(8, 'ab01'): {
            'type': 'challenge', 'version': 1, 'sequence': 8,
            'nonce': 'ab01'},
        protocol.init_ack(200, 300): {
            'type': 'init_ack', 'version': 1, 'interval_ms': 200,
            'timeout_ms': 300, 'max_line': 4096},
        protocol.notice(3, 'reboot', 2000): {
            'type': 'notice', 'version': 1, 'sequence': 3,
            'operation': 'reboot', 'timeout_ms': 2000},
        protocol.nack('not JSON'): {'type': 'nack', 'reason': 'not JSON'},
    }
    for line, fields in lines.items():
        assert line.endswith(b'\n') and line.count(b'\n') == 1
        assert json.loads(line) == fields
