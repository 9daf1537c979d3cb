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

"""What was sent is read back; what is broken is refused."""

import copy
import dataclasses

import pytest

from nova_vmhealth.core import vocabulary as v
from nova_vmhealth import exception
from nova_vmhealth.notifications import parsing
from nova_vmhealth.notifications import payload
from tests.unit.notifications import examples
from tests.unit.notifications import host_examples

DATA = 'nova_object.data'


def parse(primitive):
    return parsing.parse(
        primitive, examples.PUBLISHER_ID, 1772439335.5, 'then')


def primitive():
    return payload.payload_of(
        examples.IO_ERROR, examples.IDENTITY, examples.HEARTBEAT)


@pytest.mark.parametrize('name', examples.SAMPLES)
def test_reads_back_what_was_sent(name):
    event, identity, heartbeat = examples.SAMPLES[name]
    got = parse(payload.payload_of(event, identity, heartbeat))
    assert got.heartbeat == heartbeat
    for sent in (event, identity):
        for field in dataclasses.fields(sent):
            if field.name in ('instance_uuid', 'operation'):
                continue
            assert getattr(got, field.name) == getattr(sent, field.name)
    assert got.uuid == event.instance_uuid
    assert (got.operation or '') == event.operation
    assert got.planned is (bool(event.operation) or event.suppressed)
    assert got.publisher_id == examples.PUBLISHER_ID
    assert got.received_at == 1772439335.5
    assert got.timestamp == 'then'


def parse_host(primitive):
    return parsing.parse_host(
        primitive, examples.PUBLISHER_ID, 1772439335.5, 'then')


def host_primitive():
    return payload.host_payload_of(
        *host_examples.HOST_SAMPLES['host-health-storage_fault-raised'])


@pytest.mark.parametrize('name', host_examples.HOST_SAMPLES)
def test_reads_back_what_was_sent_of_a_host(name):
    event, host, projects = host_examples.HOST_SAMPLES[name]
    got = parse_host(payload.host_payload_of(event, host, projects))
    for field in dataclasses.fields(event):
        if field.name != 'instance_uuids':
            assert getattr(got, field.name) == getattr(event, field.name)
    assert got.host == host
    assert got.instances == {
        uuid: projects[uuid] for uuid in event.instance_uuids}
    assert tuple(got.instances) == event.instance_uuids
    assert got.publisher_id == examples.PUBLISHER_ID
    assert got.received_at == 1772439335.5
    assert got.timestamp == 'then'


def as_of(minor):
    """Give what an earlier release tells of a host."""
    earlier = host_primitive()
    earlier['nova_object.version'] = f'1.{minor}'
    earlier[DATA]['cause'] = 'many_guests_lost'
    for field in ('subject', 'reason', 'status', 'action', 'planned',
                  'suppressed'):
        del earlier[DATA][field]
    return earlier


@pytest.mark.parametrize('minor', [0, 1])
def test_a_host_with_an_earlier_release(minor):
    got = parse_host(as_of(minor))
    assert (got.subject, got.reason, got.planned, got.suppressed) == (
        '', '', False, False)
    assert got.status is v.HostStatus.UNKNOWN
    assert got.action is v.HostAction.NONE
    assert got.cause is v.HostCause.MANY_GUESTS_LOST
    assert got.details == host_primitive()[DATA]['details']


@pytest.mark.parametrize('minor', [2, 3, 10])
def test_a_host_with_this_release_says_all(minor):
    with pytest.raises(exception.InvalidPayload, match='is missing'):
        parse_host(as_of(minor))


def parse_maintenance(primitive):
    return parsing.parse_maintenance(
        primitive, host_examples.MAINTENANCE_ID, 1772439335.5, 'then')


def maintenance_primitive(**changes):
    return payload.maintenance_payload_of(
        dataclasses.replace(host_examples.ANNOUNCED, **changes))


@pytest.mark.parametrize('sent', [
    *host_examples.MAINTENANCE_SAMPLES.values(),
    dataclasses.replace(
        host_examples.ANNOUNCED, ends_at=None, instances={'a': None}),
])
def test_reads_back_what_was_sent_of_maintenance(sent):
    got = parse_maintenance(payload.maintenance_payload_of(sent))
    for field in dataclasses.fields(sent):
        if field.name != 'project_id':
            assert getattr(got, field.name) == getattr(sent, field.name)
    assert got.tenant_id == sent.project_id
    assert got.stage is sent.stage
    assert got.publisher_id == host_examples.MAINTENANCE_ID
    assert got.received_at == 1772439335.5
    assert got.timestamp == 'then'


READERS = {
    'InstanceHealth': (parse, primitive),
    'HostHealth': (parse_host, host_primitive),
    'InstanceMaintenance': (parse_maintenance, maintenance_primitive),
}


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('given', READERS)
def test_none_takes_what_is_anothers(reader, given):
    if reader == given:
        return
    with pytest.raises(exception.InvalidPayload, match=given):
        READERS[reader][0](READERS[given][1]())


def test_a_later_minor_version_may_say_more():
    later = primitive()
    later['nova_object.version'] = '1.7'
    later[DATA]['mood'] = 'gloomy'
    later[DATA]['conditions'][0][DATA]['mood'] = 'gloomy'
    assert parse(later) == parse(primitive())


def without(*path):
    def change(data):
        *way, last = path
        for step in way:
            data = data[step]
        del data[last]
    return change


def with_value(value, *path):
    def change(data):
        *way, last = path
        for step in way:
            data = data[step]
        data[last] = value
    return change


@pytest.mark.parametrize('change, reason', [
    (without('nova_object.name'), 'nova_object.name is missing'),
    (without(DATA), 'nova_object.data is missing'),
    (without(DATA, 'event_id'), 'event_id is missing'),
    (without(DATA, 'flavor', DATA, 'name'), 'name is missing'),
    (without(DATA, 'conditions', 0, DATA, 'since'), 'since is missing'),
    (with_value('nova', 'nova_object.namespace'), 'nova.Instance'),
    (with_value('InstancePayload', 'nova_object.name'), 'InstancePayload'),
    (with_value('2.0', 'nova_object.version'), 'version 2.0'),
    (with_value('10.0', 'nova_object.version'), 'version 10.0'),
    (with_value('1', 'nova_object.version'), 'invalid literal'),
    (with_value(1.0, 'nova_object.version'), '1.0 for str'),
    (with_value([], DATA), 'for dict'),
    (with_value(None, DATA, 'flavor'), 'subscriptable'),
    (with_value('moved_away', DATA, 'cause'), 'moved_away'),
    (with_value(['heartbeat_lost'], DATA, 'cause'), 'heartbeat_lost'),
    (with_value('ill', DATA, 'health'), 'ill'),
    (with_value('1', DATA, 'sequence'), 'for int'),
    (with_value(True, DATA, 'count'), 'for int'),
    (with_value(1, DATA, 'planned'), 'for bool'),
    (with_value(None, DATA, 'uuid'), 'for str'),
    (with_value(7, DATA, 'name'), 'for str'),
    (with_value({'a': 1}, DATA, 'details'), 'for str'),
    (with_value('now', DATA, 'occurred_at'), 'no time'),
    (with_value('x', DATA, 'conditions'), 'for list'),
    (with_value(1, DATA, 'heartbeat', DATA, 'established'), 'for bool'),
])
def test_unreadable(change, reason):
    broken = copy.deepcopy(primitive())
    change(broken)
    with pytest.raises(exception.InvalidPayload, match=reason):
        parse(broken)


@pytest.mark.parametrize('change, reason', [
    (without(DATA, 'instances'), 'instances is missing'),
    (with_value('2.0', 'nova_object.version'), 'version 2.0'),
    (with_value('haunted', DATA, 'cause'), 'haunted'),
    (with_value(None, DATA, 'host'), 'for str'),
    (with_value(['uuid'], DATA, 'instances'), 'for dict'),
    (with_value({'uuid': 7}, DATA, 'instances'), 'for str'),
    (with_value('5', DATA, 'instance_count'), 'for int'),
    (with_value('up', DATA, 'status'), 'up'),
    (with_value('evacuate', DATA, 'action'), 'evacuate'),
    (with_value(1, DATA, 'suppressed'), 'for bool'),
    (with_value(None, DATA, 'reason'), 'for str'),
])
def test_unreadable_host(change, reason):
    broken = copy.deepcopy(host_primitive())
    change(broken)
    with pytest.raises(exception.InvalidPayload, match=reason):
        parse_host(broken)


@pytest.mark.parametrize('change, reason', [
    (without(DATA, 'window_id'), 'window_id is missing'),
    (with_value('2.0', 'nova_object.version'), 'version 2.0'),
    (with_value('postponed', DATA, 'stage'), 'postponed'),
    (with_value(None, DATA, 'starts_at'), 'no time'),
    (with_value('soon', DATA, 'ends_at'), 'no time'),
    (with_value(None, DATA, 'tenant_id'), 'for str'),
    (with_value({'uuid': 7}, DATA, 'instances'), 'for str'),
])
def test_unreadable_maintenance(change, reason):
    broken = copy.deepcopy(maintenance_primitive())
    change(broken)
    with pytest.raises(exception.InvalidPayload, match=reason):
        parse_maintenance(broken)


@pytest.mark.parametrize('message', [None, 'text', 7, [], {}])
def test_no_payload_at_all(message):
    for read, _ in READERS.values():
        with pytest.raises(exception.InvalidPayload):
            read(message)
