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

"""Beacons as others send them: none of their fields is trusted."""

import pytest

from nova_vmhealth.core import beacons
from nova_vmhealth import exception

BEACON = beacons.Beacon('compute-1', 'a' * 32, 7, 500, 1.5, True, 'digest')
INSPECTOR = beacons.InspectorBeacon(
    'one', 'b' * 32, 3, 500, ('compute-1', 'compute-2'), 'digest', False)


@pytest.mark.parametrize('beacon', [BEACON, INSPECTOR])
def test_there_and_back(beacon):
    assert type(beacon).restored(beacon.record()) == beacon


@pytest.mark.parametrize('beacon', [BEACON, INSPECTOR])
def test_a_field_more_is_left_alone(beacon):
    record = {**beacon.record(), 'later': {'release': 1}}
    assert type(beacon).restored(record) == beacon


@pytest.mark.parametrize('beacon, name, default', [
    (BEACON, 'leaving', False), (INSPECTOR, 'judging', True)])
def test_a_field_that_an_older_release_does_not_send(beacon, name, default):
    record = beacon.record()
    del record[name]
    assert getattr(type(beacon).restored(record), name) is default


@pytest.mark.parametrize('beacon, fields', [
    (BEACON, {'host': ''}),
    (BEACON, {'host': 'x' * 256}),
    (BEACON, {'host': 7}),
    (BEACON, {'host': None}),
    (BEACON, {'incarnation': ''}),
    (BEACON, {'incarnation': 'x' * 256}),
    (BEACON, {'sequence': -1}),
    (BEACON, {'sequence': True}),
    (BEACON, {'sequence': 2 ** 63}),
    (BEACON, {'interval_ms': 0.5}),
    (BEACON, {'interval_ms': -500}),
    (BEACON, {'sent_at': float('nan')}),
    (BEACON, {'leaving': 'yes'}),
    (BEACON, {'windows': 'x' * 256}),
    (BEACON, {'windows': None}),
    (INSPECTOR, {'name': ''}),
    (INSPECTOR, {'name': 'x' * 256}),
    (INSPECTOR, {'incarnation': 3}),
    (INSPECTOR, {'suspects': 'compute-1'}),
    (INSPECTOR, {'suspects': [1]}),
    (INSPECTOR, {'suspects': ['x' * 256]}),
    (INSPECTOR, {'suspects': ['x'] * 1001}),
    (INSPECTOR, {'digest': 'x' * 256}),
    (INSPECTOR, {'judging': 1}),
])
def test_refused(beacon, fields):
    with pytest.raises(exception.InvalidRecord):
        type(beacon).restored({**beacon.record(), **fields})


@pytest.mark.parametrize('record', [None, [], 'text', 7])
def test_no_record_at_all(record):
    for kind in (beacons.Beacon, beacons.InspectorBeacon):
        with pytest.raises(exception.InvalidRecord):
            kind.restored(record)


def test_more_suspects_than_one_beacon_takes():
    many = beacons.InspectorBeacon(
        'one', 'b', 1, 500, tuple(f'host-{n}' for n in range(1500)))
    assert beacons.InspectorBeacon.restored(
        many.record()).suspects == many.suspects[:1000]
