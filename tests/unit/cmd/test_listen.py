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

"""What makes the command print, and end."""

import collections
import dataclasses
import io
import json
import os
import threading

import oslo_messaging
import pytest

from nova_vmhealth.cmd import event_lines
from nova_vmhealth.cmd import listen
from nova_vmhealth.cmd import main
from nova_vmhealth import configuration
from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import parsing
from nova_vmhealth.notifications import payload
from tests.unit.notifications import examples
from tests.unit.notifications import host_examples

PATIENCE_S = 30


HOST_SAMPLE = host_examples.HOST_SAMPLES['host-health-many_guests_lost-raised']


def event(**changes):
    got = parsing.parse(
        payload.payload_of(
            *examples.SAMPLES['instance-health-io_error-updated']),
        examples.PUBLISHER_ID, examples.BEGIN)
    return dataclasses.replace(got, **changes)


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
        io.TextIOWrapper(data, encoding), event_lines.plain_line, 1)
    printer(event(name=name))
    assert b' ' + shown + b' compute-1 ' in data.getvalue()
    assert printer.done.is_set()


def broadcast(stop, topic, url='fake://'):
    """Send events until told to stop: the listener may begin at any time.

    Those of hosts and of maintenance lie between those of instances.
    """
    transport = oslo_messaging.get_notification_transport(
        configuration.load([]), url=url)
    notifier = oslo_messaging.Notifier(
        transport, publisher_id=examples.PUBLISHER_ID, driver='messagingv2',
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
                host_examples.LOST, sequence=sequence,
                event_id=f'e7c1d2b3-4a5f-4e60-8b71-{sequence:012d}'),
            *HOST_SAMPLE[1:]))
        notifier.info(
            {}, 'instance.maintenance', payload.maintenance_payload_of(
                dataclasses.replace(
                    host_examples.ANNOUNCED,
                    event_id=f'e7f9c051-4263-5eaf-90b1-{sequence:012d}')))
    # or the next listener would have the rest
    transport.cleanup()


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
    ('versioned_notifications', ['--event', 'host.health']),
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


INSTANCE, HOST, MAINTENANCE = (
    'instance.health', 'host.health', 'instance.maintenance')


@pytest.mark.parametrize('options, types', [
    ([], [HOST, INSTANCE, MAINTENANCE]),
    (['--project', examples.IDENTITY.tenant_id],
     [HOST, INSTANCE, MAINTENANCE]),
    # neither is said of maintenance
    (['--host', 'compute-1'], [HOST, INSTANCE]),
    (['--cause', 'many_guests_lost', '--cause', 'heartbeat_lost'],
     [HOST, INSTANCE]),
    (['--cause', 'many_guests_lost'], [HOST]),
    (['--health', 'unhealthy'], [INSTANCE]),
    (['--event', MAINTENANCE], [MAINTENANCE]),
    (['--event', MAINTENANCE, '--event', INSTANCE], [INSTANCE, MAINTENANCE]),
    (['--event', HOST, '--event', MAINTENANCE, '--host', 'compute-1'], [HOST]),
])
def test_what_is_listened_to(options, types, bus, capsys):
    bus('versioned_notifications')
    assert main.main([
        'listen', '--transport-url', 'fake://', '--json', '--count', '6',
        '--timeout', str(PATIENCE_S), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = collections.Counter(
        json.loads(line)['event_type'] for line in lines)
    assert told == dict.fromkeys(types, 6 // len(types))


def test_a_cause_of_both_kinds_is_of_both(capsys):
    assert v.Cause.MEMORY_FAILURE in listen._CAUSES
    assert v.HostCause.MEMORY_FAILURE in listen._CAUSES
    assert main.main(['listen', '--help']) == 0
    choices = capsys.readouterr().out.partition('--cause {')[2]
    choices = choices.partition('}')[0].split(',')
    assert choices.count('memory_failure') == 1
    assert set(choices) == {word.value
                            for word in (*v.Cause, *v.HostCause)}


@pytest.mark.parametrize('options', [
    ['--event', HOST, '--health', 'unhealthy'],
    ['--event', MAINTENANCE, '--cause', 'io_error'],
    ['--event', MAINTENANCE, '--host', 'compute-1'],
])
def test_refuses_what_would_print_nothing_ever(options, capsys):
    assert main.main(
        ['listen', '--transport-url', 'fake://', *options]) == 1
    assert 'Nothing would be printed' in capsys.readouterr().err


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
