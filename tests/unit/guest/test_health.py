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


"""Text of others made fit to be told, and what is worst."""

import pytest

from nova_vmhealth.guest import health


@pytest.mark.parametrize('data, limit, expected', [
    (b'plain', 9, 'plain'),
    (b'  two \t words\r', 99, 'two words'),
    (b'\x1b[31mred\x00', 99, '[31mred'),
    (b'bad \xff utf-8', 99, 'bad \ufffd utf-8'),
    ('right \u202e to left', 99, 'right to left'),
    ('half \ud800 pair', 99, 'half pair'),
    (b'long message', 4, 'long'),
    (b'', 5, ''),
])
def test_text_is_one_printable_line(data, limit, expected):
    assert health.clean_text(data, limit) == expected


@pytest.mark.parametrize('healths, expected', [
    ([], 'healthy'),
    (['healthy', 'degraded'], 'degraded'),
    (['unhealthy', 'degraded', 'healthy'], 'unhealthy'),
])
def test_worst(healths, expected):
    assert health.worst(healths) == expected


@pytest.mark.parametrize('texts, expected', [
    (['', ''], []),
    (['a', 'a', 'a'], ['a']),
    (['a', 'b', 'a'], ['a', 'b', 'a']),
    (['a', '', 'a'], ['a', 'a']),
    (['50% full'], ['50% full']),
])
def test_a_complaint_is_said_when_its_text_changes(texts, expected, caplog):
    complain = health.Complaint()
    for text in texts:
        complain(text)

    assert caplog.messages == expected
