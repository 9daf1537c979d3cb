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
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import received
from tests.unit.notifications import examples

DATA = 'nova_object.data'


def parse(primitive):
    return received.parse(
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
    assert got.planned is bool(event.operation)
    assert got.publisher_id == examples.PUBLISHER_ID
    assert got.received_at == 1772439335.5
    assert got.timestamp == 'then'


def parse_host(primitive):
    return received.parse_host(
        primitive, examples.PUBLISHER_ID, 1772439335.5, 'then')


def host_primitive():
    return payload.host_payload_of(
        *examples.HOST_SAMPLES['host-health-many_guests_lost-raised'])


@pytest.mark.parametrize('name', examples.HOST_SAMPLES)
def test_reads_back_what_was_sent_of_a_host(name):
    event, host, projects = examples.HOST_SAMPLES[name]
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


def test_neither_takes_the_others():
    with pytest.raises(exception.InvalidPayload, match='InstanceHealth'):
        parse_host(primitive())
    with pytest.raises(exception.InvalidPayload, match='HostHealth'):
        parse(host_primitive())


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
])
def test_unreadable_host(change, reason):
    broken = copy.deepcopy(host_primitive())
    change(broken)
    with pytest.raises(exception.InvalidPayload, match=reason):
        parse_host(broken)


@pytest.mark.parametrize('message', [None, 'text', 7, [], {}])
def test_no_payload_at_all(message):
    for read in (parse, parse_host):
        with pytest.raises(exception.InvalidPayload):
            read(message)


HEALTHS = frozenset([v.Health.UNHEALTHY])
CAUSES = frozenset([v.Cause.IO_ERROR, v.Cause.HEARTBEAT_LOST])
PROJECTS = frozenset([examples.IDENTITY.tenant_id])


@pytest.mark.parametrize('wanted, matches', [
    ({}, True),
    ({'health': HEALTHS}, True),
    ({'health': frozenset([v.Health.HEALTHY])}, False),
    ({'cause': CAUSES}, True),
    ({'cause': frozenset([v.Cause.GUEST_CRASHED])}, False),
    ({'project': PROJECTS}, True),
    ({'project': frozenset(['other'])}, False),
    ({'host': frozenset(['compute-1'])}, True),
    ({'host': frozenset(['compute-2'])}, False),
    ({'health': HEALTHS, 'cause': CAUSES, 'project': PROJECTS}, True),
    # all of them, not any
    ({'health': HEALTHS, 'host': frozenset(['compute-2'])}, False),
])
def test_filter(wanted, matches):
    event = parse(primitive())
    assert received.EventFilter(**wanted).matches(event) is matches


LOST_TOGETHER = frozenset([v.HostCause.MANY_GUESTS_LOST])


@pytest.mark.parametrize('wanted, matches', [
    ({}, True),
    ({'cause': LOST_TOGETHER}, True),
    ({'cause': frozenset([v.Cause.IO_ERROR])}, False),
    ({'host': frozenset(['compute-1'])}, True),
    ({'host': frozenset(['compute-2'])}, False),
    # one of its instances is enough
    ({'project': PROJECTS | {'other'}}, True),
    ({'project': frozenset(['other'])}, False),
    ({'cause': LOST_TOGETHER, 'host': frozenset(['compute-2'])}, False),
])
def test_filter_of_hosts(wanted, matches):
    event = parse_host(host_primitive())
    assert received.HostEventFilter(**wanted).matches(event) is matches
