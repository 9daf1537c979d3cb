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

"""Planned maintenance over a real broker: commands, inspectors, Fenix.

Only Nova's API is the test's, which knows four instances of two projects on
each host.
"""

import json
import signal
import subprocess
import sys
import threading
import time

from oslo_config import cfg
import oslo_messaging
import pytest

from nova_vmhealth import configuration
from nova_vmhealth.notifications import listener
from tests.integration import clients
from tests.integration import inspector_host
from tests.integration import processes

# How fast things are told is no matter here; a machine that is busy is slow.
PATIENCE_S = 60
SESSION = '76e55df8-1c51-11e8-9928-0242ac110002'


class Consumer:
    """What a listener hands over, and when."""

    def __init__(self, url):
        self._lock = threading.Lock()
        self._events = []
        self.listener = listener.Listener(
            configuration.load([]), None, transport_url=url,
            pool='maintenance-test', maintenance_callback=self._take)
        self.listener.start()

    def _take(self, event):
        with self._lock:
            self._events.append((time.time(), event))

    def wait(self, number):
        """Wait for so many events; give all that have come since the last."""
        processes.wait_for(lambda: len(self._events) >= number, PATIENCE_S,
                           f'{number} events')
        with self._lock:
            events, self._events = self._events, []
        return events


def words(events):
    return sorted((event.tenant_id, event.stage.value) for _, event in events)


def both(*stages):
    return sorted((project, stage) for project in inspector_host.PROJECTS
                  for stage in stages)


@pytest.fixture
def consumer(broker):
    consumer = Consumer(broker.url)
    yield consumer
    consumer.listener.stop()


@pytest.fixture
def start(broker, tmp_path):
    """A function that starts an inspector."""
    running = []

    def start(name):
        path = tmp_path / (name + '.conf')
        path.write_text(f'[DEFAULT]\ntransport_url={broker.url}\n'
                        f'[vmhealth_inspector]\nname={name}\n'
                        f'state_path={tmp_path}\n'
                        'fenix_topics=notifications\nfenix_max_hours=1\n')
        running.append(processes.Process(
            [sys.executable, '-m', 'tests.integration.inspector_host',
             '--config-file', str(path)], str(tmp_path / (name + '.log')),
            cwd=clients.REPOSITORY))
        return running[-1]
    yield start
    for each in running:
        each.stop()


@pytest.fixture
def command(broker):
    """A function that runs ``nova-vmhealth maintenance``."""
    def command(*argv, status=0):
        done = subprocess.run(
            [sys.executable, '-m', 'nova_vmhealth.cmd.main', 'maintenance',
             *argv, '--transport-url', broker.url],
            capture_output=True, text=True, timeout=PATIENCE_S,
            cwd=clients.REPOSITORY)
        assert done.returncode == status, done.stderr
        return done.stderr if status else json.loads(done.stdout)
    return command


@pytest.fixture
def ready(command):
    """A function that waits until an inspector answers."""
    def answers():
        try:
            return command('list', '-f', 'json') is not None
        except AssertionError:
            return False
    return lambda: processes.wait_for(answers, PATIENCE_S, 'an inspector')


def test_windows_by_command(start, command, ready, consumer, measured):
    assert 'No inspector answers' in command('list', status=1)
    start('one')
    start('two')
    ready()
    window = command('set', 'compute-1', '--from', '+5s', '--for', '5s',
                     '--reason', 'new memory', '-f', 'json')
    announced = consumer.wait(2)
    assert words(announced) == both('announced')
    assert {event.window_id for _, event in announced} == {window['id']}
    assert {event.instance_count for _, event in announced} == {2}
    assert 'compute-1' not in repr(announced)
    started = consumer.wait(2)
    ended = consumer.wait(2)
    assert (words(started), words(ended)) == (both('started'), both('ended'))
    for text, events, due_at in (
            ('start', started, announced[0][1].starts_at),
            ('end', ended, announced[0][1].ends_at)):
        measured(f'maintenance: {text} of a window -> consumer',
                 max(at for at, _ in events) - due_at)
    assert command('list', '-f', 'json') == []
    # A window is changed and withdrawn.
    window = command('set', 'compute-1', '--reason', 'x', '-f', 'json')
    assert words(consumer.wait(4)) == both('announced', 'started')
    command('set', 'compute-1', '--id', window['id'], '--for', '2h',
            '-f', 'json')
    assert words(consumer.wait(2)) == both('changed')
    [listed] = command('list', 'compute-1', '-f', 'json')
    assert (listed['ID'], listed['State']) == (window['id'], 'active')
    command('unset', 'compute-1', '-f', 'json')
    assert words(consumer.wait(2)) == both('ended')
    assert 'there is no window' in command('unset', '--id', window['id'],
                                           status=1)
    assert consumer.listener.duplicates == 0


def test_windows_outlive_their_inspectors(start, command, ready, consumer):
    one = start('one')
    ready()
    began_at = time.monotonic()
    command('set', 'compute-1', '--from', '+5s', '--for', '5s', '--reason',
            'x', '-f', 'json')
    assert words(consumer.wait(2)) == both('announced')
    one.stop(signal.SIGKILL)
    time.sleep(max(0.0, began_at + 15 - time.monotonic()))
    start('one')
    assert words(consumer.wait(4)) == both('started', 'ended')


def test_fenix(broker, start, command, ready, consumer, measured):
    start('one')
    start('two')
    ready()
    conf = cfg.ConfigOpts()
    conf([])
    notifier = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(conf, url=broker.url),
        'maintenance.host', driver='messaging', topics=['notifications'],
    ).prepare(publisher_id='fenix')

    def say(host, state):
        notifier.info({'some': 'context'}, 'maintenance.host', {
            'project_id': 'ead0dbcaf3564cbbb04842e3e54960e3', 'host': host,
            'state': state, 'session_id': SESSION})

    # Their queue is there when the inspectors have connected.
    def listens():
        say('compute-0', 'IN_MAINTENANCE')
        return command('list', 'compute-0', '-f', 'json')
    processes.wait_for(listens, PATIENCE_S, "Fenix's listener")
    assert words(consumer.wait(4)) == both('announced', 'started')

    said_at = time.time()
    say('compute-1', 'IN_MAINTENANCE')
    begun = consumer.wait(4)
    assert words(begun) == both('announced', 'started')
    measured('maintenance: Fenix -> consumer',
             max(at for at, _ in begun) - said_at)
    [window] = command('list', 'compute-1', '-f', 'json')
    assert (window['State'], window['Source']) == ('active', 'fenix')
    say('compute-1', 'MAINTENANCE_COMPLETE')
    assert words(consumer.wait(2)) == both('ended')
    # Hosts on which there is nothing to do, taken by either inspector.
    for number in range(2, 12):
        say(f'compute-{number}', 'IN_MAINTENANCE')
        say(f'compute-{number}', 'MAINTENANCE_COMPLETE')
    processes.wait_for(
        lambda: [each['Host'] for each in command('list', '-f', 'json')]
        == ['compute-0'], PATIENCE_S, 'the end of all windows')
