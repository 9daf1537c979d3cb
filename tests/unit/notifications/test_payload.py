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

from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import payload
from tests.unit.notifications import examples
from tests.unit.notifications import host_examples

SAMPLE_DIR = pathlib.Path(__file__).parents[3] / 'doc/notification_samples'


def sample(name):
    return json.loads((SAMPLE_DIR / f'{name}.json').read_text())


def assert_emitted(name, payload_of, event_type, publisher_id):
    """Compare what is emitted with the whole of a sample."""
    # as oslo.messaging puts it on the wire
    assert jsonutils.loads(jsonutils.dumps(payload_of)) == payload_of
    assert sample(name) == {
        'event_type': event_type, 'payload': payload_of, 'priority': 'INFO',
        'publisher_id': publisher_id}


@pytest.mark.parametrize('name', examples.SAMPLES)
def test_emits_what_the_sample_says(name):
    event, identity, heartbeat = examples.SAMPLES[name]
    assert_emitted(
        name, payload.payload_of(event, identity, heartbeat),
        'instance.health', examples.publisher_id(event))


@pytest.mark.parametrize('name', host_examples.HOST_SAMPLES)
def test_emits_what_the_sample_of_a_host_says(name):
    event, host, projects = host_examples.HOST_SAMPLES[name]
    assert_emitted(
        name, payload.host_payload_of(event, host, projects), 'host.health',
        examples.publisher_id(event))


@pytest.mark.parametrize('name', host_examples.MAINTENANCE_SAMPLES)
def test_emits_what_the_sample_of_maintenance_says(name):
    event = host_examples.MAINTENANCE_SAMPLES[name]
    assert_emitted(
        name, payload.maintenance_payload_of(event), 'instance.maintenance',
        host_examples.MAINTENANCE_ID)


def test_each_sample_has_its_test():
    files = {path.stem for path in SAMPLE_DIR.iterdir()}
    assert files == {*examples.SAMPLES, *host_examples.HOST_SAMPLES,
                     *host_examples.MAINTENANCE_SAMPLES}


def test_each_cause_of_a_host_has_a_sample():
    told = {event.cause for event, _, _ in host_examples.HOST_SAMPLES.values()}
    assert told == set(v.HostCause)


def test_tenants_never_read_the_name_of_a_host():
    host = examples.IDENTITY.host
    for name, event in host_examples.MAINTENANCE_SAMPLES.items():
        assert host not in str(payload.maintenance_payload_of(event))
        assert host not in (SAMPLE_DIR / f'{name}.json').read_text()


def test_maintenance_without_an_end():
    event = dataclasses.replace(
        host_examples.ANNOUNCED, ends_at=None, instances={'a': None})
    data = payload.maintenance_payload_of(event)['nova_object.data']
    assert (data['ends_at'], data['instances']) == (None, {'a': None})


def test_an_instance_whose_project_is_not_known():
    emitted = payload.host_payload_of(host_examples.LOST, 'c1', {})
    assert emitted['nova_object.data']['instances'] == dict.fromkeys(
        host_examples.LOST.instance_uuids)


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


@pytest.mark.parametrize('operation, suppressed, planned, told', [
    ('', False, False, None), ('reboot', False, True, 'reboot'),
    ('', True, True, None), ('reboot', True, True, 'reboot')])
def test_planned(operation, suppressed, planned, told):
    event = dataclasses.replace(
        examples.LOST, operation=operation, suppressed=suppressed)
    data = payload.payload_of(
        event, examples.IDENTITY, None)['nova_object.data']
    assert (data['planned'], data['operation'], data['suppressed']) == (
        planned, told, suppressed)


@pytest.mark.parametrize('suppressed', [False, True])
def test_planned_of_a_host(suppressed):
    event = dataclasses.replace(host_examples.LOST, suppressed=suppressed)
    data = payload.host_payload_of(event, 'c1', {})['nova_object.data']
    assert (data['planned'], data['suppressed']) == (suppressed, suppressed)


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


@pytest.mark.parametrize('change', [
    {'starts_at': None}, {'ends_at': float('inf')}, {'reason': None},
    {'project_id': None},
])
def test_refuses_maintenance_that_is_not_the_contract(change):
    with pytest.raises(ValueError):
        payload.maintenance_payload_of(
            dataclasses.replace(host_examples.ANNOUNCED, **change))
