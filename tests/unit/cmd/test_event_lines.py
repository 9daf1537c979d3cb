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

"""What is printed of an event: words, a row of a table, JSON."""

import dataclasses
import json

import pytest

from nova_vmhealth.cmd import event_lines
from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import parsing
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import received
from tests.unit.notifications import examples
from tests.unit.notifications import host_examples


def event(sample='instance-health-io_error-updated', **changes):
    got = parsing.parse(
        payload.payload_of(*examples.SAMPLES[sample]), examples.PUBLISHER_ID,
        examples.BEGIN + 70.000002, '2026-03-02 08:16:40.000001')
    return dataclasses.replace(got, **changes)


LINE = (
    '2026-03-02T08:16:40.000002Z updated io_error critical unhealthy '
    '178b0921-8f85-4257-88b6-2e743b5a975c db-1 compute-1 '
    'subject=virtio-disk0 count=42 action=report '
    'path=/var/lib/nova/instances/178b0921/disk reason=enospc')


def test_plain_line():
    assert event_lines.plain_line(event()) == LINE


def test_table_row_says_the_same():
    row = event_lines.table_row(event())
    assert row.split() == LINE.split()
    other = event_lines.table_row(event(cause=v.Cause.GUEST_CRASHED))
    assert row.index('compute-1') == other.index('compute-1')


@pytest.mark.parametrize('changes, words', [
    ({'name': None}, ' - compute-1 '),
    ({'host': None}, ' db-1 - '),
    ({'details': {}, 'subject': '', 'count': 1}, ' compute-1 -'),
    ({'operation': 'reboot'}, ' operation=reboot '),
    ({'suppressed': True}, ' count=42 suppressed=true action=report '),
    ({'details': {'message': 'a\x1b[2Jb\nc\x9bd'}},
     ' message=a\ufffd[2Jb\ufffdc\ufffdd'),
    ({'subject': 'a\r\n'}, ' subject=a\ufffd\ufffd '),
])
def test_what_may_be_missing_or_hostile(changes, words):
    assert words in event_lines.plain_line(event(**changes))


@pytest.mark.parametrize('name', examples.SAMPLES)
def test_json_line_has_all_fields(name):
    got = event(name)
    line = event_lines.json_line(got)
    assert '\n' not in line
    fields = json.loads(line)
    assert set(fields) == {'event_type'} | {
        each.name for each in dataclasses.fields(received.ReceivedEvent)}
    assert fields['event_type'] == 'instance.health'
    assert fields['received_at'] == '2026-03-02T08:16:40.000002Z'
    sent = payload.payload_of(*examples.SAMPLES[name])['nova_object.data']
    for field in set(sent) - {'conditions', 'flavor', 'heartbeat'}:
        assert fields[field] == sent[field]
    assert fields['conditions'] == [
        each['nova_object.data'] for each in sent['conditions']]
    assert fields['heartbeat'] == (
        sent['heartbeat'] and sent['heartbeat']['nova_object.data'])
    assert fields['extra_specs'] == examples.IDENTITY.extra_specs


def host_event(sample='host-health-storage_fault-raised', **changes):
    got = parsing.parse_host(
        payload.host_payload_of(*host_examples.HOST_SAMPLES[sample]),
        examples.PUBLISHER_ID, examples.BEGIN + 6.000002,
        '2026-03-02 08:15:36.000001')
    return dataclasses.replace(got, **changes)


def assert_as_row(got, line):
    """The table has the same words, below the same headings."""
    row = event_lines.table_row(got)
    assert row.split() == line.split()
    heading = event_lines.table_heading()
    assert heading.split()[0] == 'RECEIVED'
    for before in (heading.index('DETAILS'), heading.index('HOST')):
        assert row[before - 2:before] == '  '
        assert row[before] != ' '


def test_a_hosts_line():
    line = (
        '2026-03-02T08:15:36.000002Z raised storage_fault critical - - - '
        'compute-1 subject=nfs4:store-1:/instances status=MAINTENANCE '
        'action=disable instances=5 failing=3 '
        'host_event=a3b58c1d-0e2f-4a6b-9c7d-8e9f0a1b2c01 io_error=enospc '
        'path=/var/lib/nova/instances/178b0921/disk '
        'reason=I/O errors of 3 instances')
    assert event_lines.plain_line(host_event()) == line
    assert_as_row(host_event(), line)


@pytest.mark.parametrize('changes, words', [
    ({'suppressed': True}, ' action=disable suppressed=true instances=5 '),
    ({'subject': ''}, ' compute-1 status=MAINTENANCE '),
    ({'instance_count': 0}, ' instances=0 '),
    ({'reason': 'a\x1b[2Jb\nc'}, ' reason=a\ufffd[2Jb\ufffdc'),
])
def test_what_a_hosts_line_says(changes, words):
    assert words in event_lines.plain_line(host_event(**changes))


@pytest.mark.parametrize('name', host_examples.HOST_SAMPLES)
def test_a_hosts_json_line(name):
    line = event_lines.json_line(host_event(name))
    assert '\n' not in line
    fields = json.loads(line)
    assert set(fields) == {'event_type'} | {
        each.name for each in dataclasses.fields(received.ReceivedHostEvent)}
    assert fields['event_type'] == 'host.health'
    assert fields['received_at'] == '2026-03-02T08:15:36.000002Z'
    sent = payload.host_payload_of(*host_examples.HOST_SAMPLES[name])
    for field, value in sent['nova_object.data'].items():
        assert fields[field] == value


def maintenance(**changes):
    event = dataclasses.replace(host_examples.ANNOUNCED, **changes)
    return parsing.parse_maintenance(
        payload.maintenance_payload_of(event), host_examples.MAINTENANCE_ID,
        examples.BEGIN + 6.000002, '2026-03-02 08:15:36.000001')


@pytest.mark.parametrize('ends_at, words', [
    (host_examples.ANNOUNCED.ends_at,
     'ends_at=2026-03-02T11:00:00.000000Z '),
    (None, ''),
])
def test_a_line_of_maintenance(ends_at, words):
    got = maintenance(ends_at=ends_at)
    line = (
        '2026-03-02T08:15:36.000002Z announced maintenance - - - - - '
        f'starts_at=2026-03-02T10:00:00.000000Z {words}instances=2 '
        f'project={got.tenant_id} host_id={got.host_id} '
        f'window_id={got.window_id} reason=new memory modules')
    assert event_lines.plain_line(got) == line
    assert_as_row(got, line)


@pytest.mark.parametrize('ends_at, shown', [
    (host_examples.ANNOUNCED.ends_at, '2026-03-02T11:00:00.000000Z'),
    (None, None),
])
def test_a_json_line_of_maintenance(ends_at, shown):
    line = event_lines.json_line(maintenance(ends_at=ends_at))
    assert '\n' not in line
    fields = json.loads(line)
    assert set(fields) == {'event_type'} | {
        each.name for each in dataclasses.fields(received.ReceivedMaintenance)}
    assert fields['event_type'] == 'instance.maintenance'
    sent = payload.maintenance_payload_of(
        dataclasses.replace(host_examples.ANNOUNCED, ends_at=ends_at))
    for field, value in sent['nova_object.data'].items():
        assert fields[field] == value
    assert (fields['ends_at'], fields['received_at']) == (
        shown, '2026-03-02T08:15:36.000002Z')


def test_json_line_before_the_first_beat():
    silent = dataclasses.replace(examples.HEARTBEAT, last_seen_at=None)
    fields = json.loads(event_lines.json_line(event(heartbeat=silent)))
    assert fields['heartbeat']['last_seen_at'] is None
