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

"""Times keep their microseconds."""

import datetime

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_vmhealth.notifications import times


@pytest.mark.parametrize('seconds, text', [
    (0, '1970-01-01T00:00:00.000000Z'),
    (1, '1970-01-01T00:00:01.000000Z'),
    (1772439330.000001, '2026-03-02T08:15:30.000001Z'),
    (1772439330.999999, '2026-03-02T08:15:30.999999Z'),
    # half a microsecond more must not become 60 seconds
    (1772439359.9999999, '2026-03-02T08:16:00.000000Z'),
])
def test_iso_time(seconds, text):
    assert times.iso_time(seconds) == text


@pytest.mark.parametrize('value', [
    float('nan'), float('inf'), 1e20, None, '1772439330'])
def test_iso_time_refuses(value):
    with pytest.raises(ValueError, match='no time'):
        times.iso_time(value)


@given(st.datetimes(datetime.datetime(1970, 1, 1),
                    datetime.datetime(2100, 1, 1)))
def test_every_microsecond_survives(when):
    text = when.isoformat(timespec='microseconds') + 'Z'
    assert times.iso_time(times.seconds_of(text)) == text


@pytest.mark.parametrize('text', [
    '2026-03-02T08:15:30Z',
    '2026-03-02T08:15:30.000001',
    '2026-03-02T08:15:30.000001+00:00',
    '2026-03-02 08:15:30.000001Z',
    '2026-13-02T08:15:30.000001Z',
    '2026-03-02T08:15:30.000001Z\n',
    '',
    None,
    1772439330.0,
])
def test_seconds_of_refuses(text):
    with pytest.raises(ValueError):
        times.seconds_of(text)
