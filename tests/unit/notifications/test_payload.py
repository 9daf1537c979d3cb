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

"""The sample files are the contract: this is what is emitted."""

import dataclasses
import json
import pathlib

from oslo_serialization import jsonutils
import pytest

from nova_vmhealth.notifications import payload
from tests.unit.notifications import examples

SAMPLE_DIR = pathlib.Path(__file__).parents[3] / 'doc/notification_samples'


def sample(name):
    return json.loads((SAMPLE_DIR / f'{name}.json').read_text())


@pytest.mark.parametrize('name', examples.SAMPLES)
def test_emits_what_the_sample_says(name):
    expected = sample(name)
    emitted = payload.payload_of(*examples.SAMPLES[name])
    assert emitted == expected['payload']
    assert expected['event_type'] == payload.EVENT_TYPE
    assert expected['publisher_id'] == examples.PUBLISHER_ID
    assert expected['priority'] == 'INFO'


def test_each_sample_has_its_test():
    files = {path.stem for path in SAMPLE_DIR.iterdir()}
    assert files == set(examples.SAMPLES) | set(examples.HOST_SAMPLES)


@pytest.mark.parametrize('name', examples.HOST_SAMPLES)
def test_emits_what_the_sample_of_a_host_says(name):
    expected = sample(name)
    emitted = payload.host_payload_of(*examples.HOST_SAMPLES[name])
    assert emitted == expected['payload']
    assert jsonutils.loads(jsonutils.dumps(emitted)) == emitted
    assert expected['event_type'] == payload.HOST_EVENT_TYPE
    assert expected['publisher_id'] == examples.PUBLISHER_ID
    assert expected['priority'] == 'INFO'


def test_an_instance_whose_project_is_not_known():
    emitted = payload.host_payload_of(examples.HOST_CLEARED, 'c1', {})
    assert emitted['nova_object.data']['instances'] == {
        examples.HOST_CLEARED.instance_uuids[0]: None}


@pytest.mark.parametrize('name', examples.SAMPLES)
def test_is_json_as_it_stands(name):
    emitted = payload.payload_of(*examples.SAMPLES[name])
    # as oslo.messaging puts it on the wire
    assert jsonutils.loads(jsonutils.dumps(emitted)) == emitted


@pytest.mark.parametrize('change, field, value', [
    ({}, 'image_uuid', examples.IDENTITY.image_uuid),
    ({'image_uuid': ''}, 'image_uuid', None),
    ({'image_uuid': None}, 'image_uuid', None),
    ({'name': None}, 'name', None),
    ({'metadata': {'a': None}}, 'metadata', {'a': None}),
])
def test_what_nova_may_not_know(change, field, value):
    identity = dataclasses.replace(examples.IDENTITY, **change)
    emitted = payload.payload_of(examples.LOST, identity, None)
    assert emitted['nova_object.data'][field] == value


@pytest.mark.parametrize('operation, planned, told', [
    ('', False, None), ('reboot', True, 'reboot')])
def test_planned(operation, planned, told):
    event = dataclasses.replace(examples.LOST, operation=operation)
    data = payload.payload_of(
        event, examples.IDENTITY, None)['nova_object.data']
    assert (data['planned'], data['operation']) == (planned, told)


@pytest.mark.parametrize('change', [
    {'occurred_at': float('nan')},
    {'details': {'path': None}},
    {'sequence': 'first'},
])
def test_refuses_what_is_not_the_contract(change):
    with pytest.raises(ValueError):
        payload.payload_of(
            dataclasses.replace(examples.LOST, **change),
            examples.IDENTITY, None)
