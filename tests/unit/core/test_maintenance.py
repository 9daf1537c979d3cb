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

import dataclasses
import hashlib
import itertools
import json
import math

import pytest

from nova_vmhealth.core import maintenance
from nova_vmhealth import exception

ID = '11111111-1111-4111-8111-111111111111'
OTHER = '22222222-2222-4222-8222-222222222222'


def window(**given):
    return maintenance.Window(**{
        'id': ID, 'host': 'compute-1', 'starts_at': 100.0, 'ends_at': 200.0,
        'reason': 'new memory', 'source': 'operator', 'created_at': 50.0,
        **given})


def test_comes_back_from_its_record():
    for each in (window(), window(ends_at=None, source='fenix', reason='')):
        record = json.loads(json.dumps(each.record()))
        assert maintenance.Window.restored({**record, 'later': 1}) == each


@pytest.mark.parametrize('given, reason', [
    ({'id': ''}, 'id is no uuid'),
    ({'id': 'x'}, 'id is no uuid'),
    ({'id': ID.replace('-', '')}, 'id is no uuid'),
    ({'id': OTHER.upper().replace('2', 'A')}, 'id is no uuid'),
    ({'id': '{%s}' % ID}, 'id is no uuid'),
    ({'host': ''}, 'host is no name of a host'),
    ({'host': 'a\nb'}, 'host is no name of a host'),
    ({'host': 'x' * 256}, 'host is no name of a host'),
    ({'ends_at': 100.0}, 'its end is not after its start'),
    ({'ends_at': 99.0}, 'its end is not after its start'),
    ({'starts_at': -1.0}, 'starts_at is not between the years 1970 and 9999'),
    ({'starts_at': math.nan},
     'starts_at is not between the years 1970 and 9999'),
    ({'ends_at': 253402300800.0},
     'ends_at is not between the years 1970 and 9999'),
    ({'created_at': math.inf},
     'created_at is not between the years 1970 and 9999'),
    ({'source': ''}, 'source is no word'),
    ({'source': 'x' * 65}, 'source is no word'),
    ({'source': 'a\n'}, 'source is no word'),
])
def test_refuses_what_makes_no_sense(given, reason):
    with pytest.raises(exception.InvalidWindow) as caught:
        window(**given)
    assert str(caught.value) == 'invalid maintenance window: ' + reason


@pytest.mark.parametrize('record', [
    None, [], {}, 'x',
    {**window().record(), 'host': 7},
    {**window().record(), 'starts_at': '100'},
    {**window().record(), 'starts_at': None},
    {**window().record(), 'ends_at': True},
    {**window().record(), 'reason': None},
    {**window().record(), 'ends_at': 10},
])
def test_refuses_records_that_are_none(record):
    with pytest.raises(exception.InvalidRecord):
        maintenance.Window.restored(record)


def test_cleans_and_cuts_the_reason():
    assert window(reason=' a\n\x1b[31mb\u202e c ').reason == 'a [31mb c'
    assert window(reason='x' * 300).reason == 'x' * 255


def test_is_active_from_its_start_to_before_its_end():
    assert [maintenance.is_active(window(), wall)
            for wall in (99.9, 100.0, 199.9, 200.0)] == [
                False, True, True, False]
    assert maintenance.is_active(window(ends_at=None), 1e9)


def test_the_active_one_of_several_is_that_which_ends_last():
    short = window()
    long = window(id=OTHER, starts_at=150.0, ends_at=300.0)
    endless = dataclasses.replace(long, starts_at=180.0, ends_at=None)
    for windows in itertools.permutations((short, long)):
        assert maintenance.active(windows, 99.0) is None
        assert maintenance.active(windows, 149.0) is short
        assert maintenance.active(windows, 150.0) is long
        assert maintenance.active(windows, 300.0) is None
    early = dataclasses.replace(long, starts_at=90.0)
    for windows in itertools.permutations((short, early)):
        assert maintenance.active(windows, 150.0) is early
    assert maintenance.active((short, endless), 190.0) is endless
    assert maintenance.active((), 1.0) is None


@pytest.mark.parametrize('wall, change_at', [
    (0.0, 100.0), (100.0, 150.0), (150.0, 200.0), (200.0, None)])
def test_says_what_changes_next(wall, change_at):
    windows = (window(id=OTHER, starts_at=150.0, ends_at=None), window())
    assert maintenance.next_change(windows, wall) == change_at


def test_gives_those_that_are_not_over():
    late = window(id=OTHER, starts_at=150.0, ends_at=None)
    assert maintenance.unexpired((late, window()), 199.0) == [window(), late]
    assert maintenance.unexpired((late, window()), 200.0) == [late]


def test_the_digest_is_that_of_the_windows_in_any_order():
    windows = [window(), window(id=OTHER), window(
        id='33333333-3333-4333-8333-333333333333', ends_at=None)]
    assert len({maintenance.digest(order)
                for order in itertools.permutations(windows)}) == 1
    assert maintenance.digest(iter(windows)) == maintenance.digest(windows)
    assert maintenance.digest(()) == ''


@pytest.mark.parametrize('given', [
    {'id': OTHER}, {'host': 'x'}, {'starts_at': 101.0}, {'ends_at': None},
    {'ends_at': 201.0}, {'reason': 'x'}, {'source': 'fenix'},
    {'created_at': 51.0}])
def test_the_digest_changes_with_each_field(given):
    assert maintenance.digest([window(**given)]) \
        != maintenance.digest([window()])


def test_the_digest_outlives_the_wire():
    there = maintenance.Window.restored(
        json.loads(json.dumps(window(starts_at=100).record())))
    assert maintenance.digest([there]) == maintenance.digest([window()])


def test_the_host_id_is_that_of_nova():
    assert maintenance.host_id('p', 'h') == hashlib.sha224(b'ph').hexdigest()
