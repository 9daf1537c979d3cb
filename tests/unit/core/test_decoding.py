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

"""What is installed decides how fast a line is decoded, and nothing else."""

import itertools
import json
import os
import subprocess
import sys

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_vmhealth.core import decoding
from nova_vmhealth.core import protocol
from nova_vmhealth import exception
from tests.unit.core.test_protocol import LOADERS
from tests.unit.core.test_protocol import MESSAGES

NASTY = [
    b'NaN', b'-NaN', b'Infinity', b'-Infinity', b'1e999', b'-1e999', b'1e-999',
    b'-0', b'-0.0', b'00', b'01', b'1.', b'.5', b'+1', b'1_0', b'0x1', b'1e5',
    b'1E+05', b'1e', b'True', b'nul', b'', b' ', b'\t', b'\r', b'\v', b'\f',
    b'\0', b'\x1f', b'\x7f', b'\xa0', b'\xff', b'\xc0\x80', b'\xef\xbb\xbf',
    b'\xef\xbf\xbe', b'\xed\xa0\x80', b'\xf4\x90\x80\x80', b'\xe2\x80\xa8',
    b'\xef\xbc\x91', b'"', b'\\', b'\\"', b'\\\\', b'\\u', b'\\u12',
    b'\\u12g4', b'\\u+123', b'\\u 123', b'\\u0000', b'\\uFFFE', b'\\ud83d',
    b'\\uDE00', b'\\ud83d\\ude00', b'\\x41', b'\\/', b'//', b'/**/', b"'",
    b',', b':',
    b'{', b'}', b'[', b']', b'[]', b'{}', b'"a":1,"a":2', b'"x":"\\ud800",',
    *(b'[' * n + b']' * n for n in (30, 31, 32, 33, 900, 1023, 1025, 2000)),
    *(b'{"a":' * n for n in (31, 32, 33)),
    *(b'%d' % n for n in (2 ** 63 - 1, 2 ** 63, 2 ** 64 - 1, 2 ** 64,
                          -2 ** 63, -2 ** 63 - 1, 10 ** 20, 10 ** 308)),
    *(b'9' * n for n in (19, 20, 21, 308, 309, 310, 4000)),
    b'17976931348623157' + b'0' * 292, b'17976931348623159' + b'0' * 292,
    b'1.7976931348623157e308', b'1.7976931348623158e308',
    b'1.7976931348623159e308', b'0.' + b'1' * 3000, b'4.9e-324', b'2e-324',
]

numbers = (st.integers().map(str) | st.floats().map(repr) | st.from_regex(
    '-?[0-9]{1,25}([.][0-9]{1,5})?([eE][-+]?[0-9]{1,4})?', fullmatch=True)
).map(str.encode)
strings = st.text(st.characters(), max_size=20).map(
    lambda text: json.dumps(text).encode())
values = st.recursive(
    st.sampled_from(NASTY) | numbers | strings
    | st.binary(max_size=6).map(lambda data: b'"%s"' % data)
    | st.sampled_from(NASTY).map(lambda data: b'"%s"' % data),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda v: b'[%s]' % b','.join(v))
        | st.lists(st.tuples(strings, inner), max_size=4).map(
            lambda v: b'{%s}' % b','.join(b'%s:%s' % pair for pair in v))),
    max_leaves=8)
templates = st.sampled_from([
    b'{"type":"exit","x":%s}', b'{"type":"exit","reason":%s}', b'%s',
    b'{"type":"challenge_response","sequence":%s,"nonce":"n"}',
    b'{"type":"challenge_response","sequence":1,"nonce":%s}',
    b'{"type":"init","version":%s,"audits":["a"]}', b'{%s:1}', b'{"type":%s}',
    b'{"type":"report","health":"healthy","audits":%s}',
    b'{"type":"notice_ack","sequence":%s}',
])
edits = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3),
                           st.sampled_from(NASTY)), max_size=4)


def _edited(line, changes):
    for place, removed, inserted in changes:
        place %= len(line) + 1
        line = line[:place] + inserted + line[place + removed:]
    return line


lines = (st.builds(lambda template, value: template.replace(b'%s', value),
                   templates, values)
         | st.builds(_edited, st.sampled_from([line for line, _ in MESSAGES]),
                     edits))


def _result(line, load):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, 'load', load)
        try:
            return protocol.parse_line(line)
        except exception.ProtocolError as error:
            return error.reason


@settings(max_examples=500)
@given(lines)
def test_both_decoders_make_the_same_of_any_line(require, line):
    require(decoding.orjson is not None, 'needs orjson')
    found, expected = (_result(line, load) for load in LOADERS.values())
    assert found == expected and type(found) is type(expected)


@given(st.lists(st.sampled_from([b'[', b']', b'{', b'}', b'"', b'\\', b'a'])))
def test_depth_does_not_count_what_stands_in_strings(pieces):
    line = b''.join(pieces)
    depth = deepest = 0
    inside = False
    escaped = False
    for character, following in itertools.zip_longest(line, line[1:]):
        if escaped:
            escaped = False
        elif character in b'\\' and following in (*b'\\"',):
            escaped = True
        elif character in b'"':
            inside = not inside
        elif not inside and character in b'[]{}':
            depth += 1 if character in b'[{' else -1
            deepest = max(deepest, depth)
    # What begins below zero is no JSON; its depth is whatever it is.
    assert max(0, decoding._depth(line)) == deepest


def test_without_orjson_the_module_does_its_work():
    """It is optional: nothing may need it."""
    code = ('import sys; sys.modules["orjson"] = None\n'
            'from nova_vmhealth.core import protocol\n'
            'print(protocol.parse_line(b\'{"type":"exit","reason":"x"}\'))')
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], capture_output=True,
        text=True, timeout=60, check=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
    assert result.stdout == "Exit(reason='x')\n"
