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

"""Lines, and what makes the command end."""

import dataclasses
import io
import json
import os
import threading

import oslo_messaging
import pytest

from nova_vmhealth.cmd import configuration
from nova_vmhealth.cmd import listen
from nova_vmhealth.cmd import main
from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import received
from tests.unit.notifications import examples

PATIENCE_S = 30


HOST_SAMPLE = examples.HOST_SAMPLES['host-health-many_guests_lost-raised']


def event(sample='instance-health-io_error-updated', **changes):
    got = received.parse(
        payload.payload_of(*examples.SAMPLES[sample]), examples.PUBLISHER_ID,
        examples.BEGIN + 70.000002, '2026-03-02 08:16:40.000001')
    return dataclasses.replace(got, **changes)


LINE = (
    '2026-03-02T08:16:40.000002Z updated io_error critical unhealthy '
    '178b0921-8f85-4257-88b6-2e743b5a975c db-1 compute-1 '
    'subject=virtio-disk0 count=42 action=report '
    'path=/var/lib/nova/instances/178b0921/disk reason=enospc')


def test_plain_line():
    assert listen.plain_line(event()) == LINE


def test_table_row_says_the_same():
    row = listen.table_row(event())
    assert row.split() == LINE.split()
    other = listen.table_row(event(cause=v.Cause.GUEST_CRASHED))
    assert row.index('compute-1') == other.index('compute-1')


@pytest.mark.parametrize('changes, words', [
    ({'name': None}, ' - compute-1 '),
    ({'host': None}, ' db-1 - '),
    ({'details': {}, 'subject': '', 'count': 1}, ' compute-1 -'),
    ({'operation': 'reboot'}, ' operation=reboot '),
    ({'details': {'message': 'a\x1b[2Jb\nc\x9bd'}},
     ' message=a\ufffd[2Jb\ufffdc\ufffdd'),
    ({'subject': 'a\r\n'}, ' subject=a\ufffd\ufffd '),
])
def test_what_may_be_missing_or_hostile(changes, words):
    assert words in listen.plain_line(event(**changes))


@pytest.mark.parametrize('name', examples.SAMPLES)
def test_json_line_has_all_fields(name):
    got = event(name)
    line = listen.json_line(got)
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


def host_event(**changes):
    got = received.parse_host(
        payload.host_payload_of(*HOST_SAMPLE), examples.PUBLISHER_ID,
        examples.BEGIN + 6.000002, '2026-03-02 08:15:36.000001')
    return dataclasses.replace(got, **changes)


def test_a_hosts_line():
    line = (
        '2026-03-02T08:15:36.000002Z raised many_guests_lost critical - - - '
        'compute-1 instances=5 '
        'host_event=e7c1d2b3-4a5f-4e60-8b71-9c0d1e2f3a01 lost_in_all=5 '
        'watched=12 window_s=10')
    assert listen.plain_line(host_event()) == line
    row = listen.table_row(host_event())
    assert row.split() == line.split()
    assert row.index('compute-1') == listen.table_row(event()).index(
        'compute-1')


def test_a_hosts_json_line():
    line = listen.json_line(host_event())
    assert '\n' not in line
    fields = json.loads(line)
    assert set(fields) == {'event_type'} | {
        each.name for each in dataclasses.fields(received.ReceivedHostEvent)}
    assert fields['event_type'] == 'host.health'
    assert fields['received_at'] == '2026-03-02T08:15:36.000002Z'
    sent = payload.host_payload_of(*HOST_SAMPLE)['nova_object.data']
    for field in sent:
        assert fields[field] == sent[field]


def test_json_line_before_the_first_beat():
    silent = dataclasses.replace(examples.HEARTBEAT, last_seen_at=None)
    fields = json.loads(listen.json_line(event(heartbeat=silent)))
    assert fields['heartbeat']['last_seen_at'] is None


class Closing:
    closed = False

    def close(self):
        self.closed = True


@pytest.mark.parametrize('count, events, done', [
    (None, 3, False), (1, 1, True), (3, 2, False), (3, 3, True)])
def test_printer_counts(count, events, done):
    stream = io.StringIO()
    printer = listen.Printer(stream, lambda received: received, count)
    printer.listener = Closing()
    for number in range(events):
        printer(str(number))
    assert stream.getvalue().splitlines() == list(map(str, range(events)))
    assert printer.done.is_set() is done
    assert printer.listener.closed is done


def test_printer_ends_when_nobody_reads():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, 'w') as stream:
        printer = listen.Printer(stream, str, None)
        printer.listener = Closing()
        printer('x')
        assert printer.done.is_set()
        assert printer.listener.closed
    # and closing the stream, as Python does on exit, raises nothing


@pytest.mark.parametrize('encoding, name, shown', [
    ('latin-1', 'caf\xe9', b'caf\xe9'),
    ('latin-1', 'db \N{SNOWMAN}', rb'db \u2603'),
    ('ascii', 'a\nb', rb'a\ufffdb'),
    ('utf-8', 'db \N{SNOWMAN}', b'db \xe2\x98\x83'),
])
def test_printer_prints_what_the_encoding_lacks(encoding, name, shown):
    data = io.BytesIO()
    printer = listen.Printer(
        io.TextIOWrapper(data, encoding), listen.plain_line, 1)
    printer(event(name=name))
    assert b' ' + shown + b' compute-1 ' in data.getvalue()
    assert printer.done.is_set()


def broadcast(stop, topic, url='fake://'):
    """Send events until told to stop: the listener may begin at any time.

    Those of hosts lie between those of instances.
    """
    notifier = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(
            configuration.load([]), url=url),
        publisher_id=examples.PUBLISHER_ID, driver='messagingv2',
        topics=[topic])
    sequence = 0
    while not stop.wait(0.01):
        sequence += 1
        health_event = dataclasses.replace(
            examples.LOST, sequence=sequence,
            event_id=f'0b5e8a4c-3a4e-4f0e-9f53-{sequence:012d}')
        notifier.info({}, 'instance.health', payload.payload_of(
            health_event, examples.IDENTITY, None))
        notifier.info({}, 'host.health', payload.host_payload_of(
            dataclasses.replace(
                examples.HOST_LOST, sequence=sequence,
                event_id=f'e7c1d2b3-4a5f-4e60-8b71-{sequence:012d}'),
            *HOST_SAMPLE[1:]))


@pytest.fixture
def bus():
    threads = []
    stop = threading.Event()

    def begin(topic):
        threads.append(threading.Thread(
            target=broadcast, args=(stop, topic), daemon=True))
        threads[-1].start()

    yield begin
    stop.set()
    for each in threads:
        each.join(PATIENCE_S)


@pytest.mark.parametrize('topic, options', [
    ('versioned_notifications', ['--cause', 'heartbeat_lost']),
    ('health', ['--topic', 'health', '--health', 'unhealthy']),
    ('versioned_notifications', ['--cause', 'many_guests_lost']),
    ('versioned_notifications', [
        '--health', 'unhealthy', '--cause', 'io_error',
        '--cause', 'heartbeat_lost', '--host', 'compute-1',
        '--project', examples.IDENTITY.tenant_id, '--pool', 'mine']),
])
def test_listen(topic, options, bus, capsys):
    bus(topic)
    assert main.main([
        'listen', '--transport-url', 'fake://', '--json', '--count', '3',
        '--timeout', str(PATIENCE_S), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    numbers = [json.loads(line)['sequence'] for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + 3))


@pytest.mark.parametrize('options', [
    [], ['--project', examples.IDENTITY.tenant_id, '--host', 'compute-1'],
    ['--cause', 'many_guests_lost', '--cause', 'heartbeat_lost'],
])
def test_listens_to_instances_and_hosts(options, bus, capsys):
    bus('versioned_notifications')
    assert main.main([
        'listen', '--transport-url', 'fake://', '--json', '--count', '4',
        '--timeout', str(PATIENCE_S), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    types = [json.loads(line)['event_type'] for line in lines]
    assert sorted(types) == ['host.health'] * 2 + ['instance.health'] * 2


@pytest.mark.parametrize('options, status', [([], 0), (['--count', '1'], 1)])
def test_timeout(options, status, bus, capsys):
    bus('versioned_notifications')
    assert main.main([
        'listen', '--transport-url', 'fake://', '--host', 'elsewhere',
        '--timeout', '0.2', *options]) == status
    assert capsys.readouterr().out == ''


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize('options, headed', [([], True), (['--json'], False)])
def test_a_terminal_gets_a_table(options, headed, bus):
    bus('versioned_notifications')
    screen = Terminal()
    app = main.HealthApp(stdout=screen)
    assert app.run([
        'listen', '--transport-url', 'fake://', '--count', '1',
        '--timeout', str(PATIENCE_S), *options]) == 0
    first = screen.getvalue().splitlines()[0]
    assert first.startswith('RECEIVED') is headed
