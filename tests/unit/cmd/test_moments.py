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

import argparse

import pytest

from nova_vmhealth.cmd import moments

NOW = 1_700_000_000.0            # 2023-11-14T22:13:20Z


@pytest.mark.parametrize('text, seconds', [
    ('now', NOW),
    ('+30m', NOW + 1800),
    ('+1h30m', NOW + 5400),
    ('+1.5h', NOW + 5400),
    ('+2d', NOW + 2 * 86400),
    ('+90s', NOW + 90),
    ('2023-11-14T22:13:20Z', NOW),
    ('2023-11-14 22:13:20Z', NOW),
    ('2023-11-14T22:13:20.5Z', NOW + 0.5),
    ('2023-11-14T23:13:20+01:00', NOW),
    ('2023-11-14T23:13:20+0100', NOW),
    ('2023-11-14T23:13:20+01', NOW),
    ('2023-11-14T16:43:20-05:30', NOW),
    ('2023-11-14T22:13Z', NOW - 20),
    ('2023-11-14T22Z', NOW - 800),
])
def test_reads_times(text, seconds):
    assert moments.moment(text).resolve(NOW) == seconds


@pytest.mark.parametrize('text', [
    '', 'Now', 'tomorrow', '30m', '+', '+30', '+m', '+0m', '+-1h', '-30m',
    '+1h 30m', '+1w', '+1e3s', '+99999999999s', '+\u0663m',
    # whose time?
    '2023-11-14T22:13:20', '2023-11-14', '2023-11-14Z',
    '22:13Z', '2023-13-14T22:13Z', '2023-11-14T25:13Z',
    '2023-11-14T22:13Zx', 'x2023-11-14T22:13Z', 'open',
    '\u0662023-11-14T22:13Z',
])
def test_refuses_what_is_no_time(text):
    with pytest.raises(argparse.ArgumentTypeError, match='is no '):
        moments.moment(text)


def test_an_end_may_be_open():
    assert moments.moment_or_open('open') is None
    assert moments.moment_or_open('now') == moments.Moment()


@pytest.mark.parametrize('text, seconds', [
    ('30m', 1800), ('1h30m', 5400), ('0.5d', 43200), ('1d1h1m1s', 90061)])
def test_reads_durations(text, seconds):
    assert moments.duration(text) == seconds


@pytest.mark.parametrize('text', ['', '30', '+30m', '0s', 'm', '1h30', 'now'])
def test_refuses_what_is_no_duration(text):
    with pytest.raises(argparse.ArgumentTypeError, match='is no duration'):
        moments.duration(text)


def test_quotes_no_more_than_a_line():
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        moments.moment('x' * 10000)
    assert len(str(caught.value)) < 200
