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

"""``nova-vmhealth host``: what it prints, and when it exits with 0."""

import json

import oslo_messaging
import pytest

from nova_vmhealth import broker
from nova_vmhealth.cmd import main
from nova_vmhealth import rpcapi
from tests.unit.client.bus import ANSWER
from tests.unit.client.bus import Bus
from tests.unit.client.test_view import CONDITION
from tests.unit.client.test_view import WINDOW

URL = ['--transport-url', 'fake://']


@pytest.fixture
def run(monkeypatch, capfd):
    """A function that runs the command; its status and what it printed."""
    def run(bus, *argv):
        monkeypatch.setattr(broker, 'rpc_transport', lambda *_: bus.transport)
        try:
            status = main.main(['host', *argv])
        except SystemExit as end:
            status = end.code      # argparse leaves by itself
        return status, *capfd.readouterr()
    return run


def test_show(run):
    bus = Bus({**ANSWER, 'status': 'MAINTENANCE', 'disabled': True,
               'disabled_reason': 'vmhealth: storage', 'windows': [
                   WINDOW.record()], 'conditions': [CONDITION]})
    status, out, _ = run(bus, 'show', 'compute-1', *URL)
    assert status == 0
    for words in (
            '| status          | MAINTENANCE ',
            '| conditions      | storage_fault ceph since '
            '1970-01-01T00:16:40.500000Z, action disable: 3 instances ',
            '| windows         | 1970-01-01T00:16:40.000000Z to open end: '
            'new fans (0b5e8a4c-3a4e-4f0e-9f53-000000000001)',
            '| instances       | 2 healthy, 1 unhealthy ',
            '| answered_by     | nova-compute '):
        assert words in out


def test_show_for_programs(run):
    bus = Bus({**ANSWER, 'conditions': [CONDITION],
               'windows': [WINDOW.record()]})
    status, out, err = run(bus, 'show', 'compute-1', '-f', 'json', *URL)
    assert (status, err) == (0, '')
    assert json.loads(out) == {
        'host': 'compute-1', 'status': 'UP', 'disabled': False,
        'disabled_reason': None, 'forced_down': False,
        'conditions': [
            {**CONDITION, 'since': '1970-01-01T00:16:40.500000Z'}],
        'windows': [{
            'id': WINDOW.id, 'starts_at': '1970-01-01T00:16:40.000000Z',
            'ends_at': None, 'reason': 'new fans', 'source': 'operator'}],
        'instances': {'healthy': 2, 'unhealthy': 1}, 'last_beacon_at': None,
        'answered_by': 'nova-compute'}


def test_show_a_word_for_a_shell(run):
    status, out, _ = run(Bus(ANSWER), 'show', 'compute-1', '-f', 'value',
                         '-c', 'status', *URL)
    assert (status, out) == (0, 'UP\n')


@pytest.mark.parametrize('more, force_down', [
    ([], False), (['--force-down'], True)])
def test_fault(more, force_down, run):
    bus = Bus({**ANSWER, 'status': 'DOWN'})
    status, out, _ = run(
        bus, 'fault', 'compute-1', '--reason', 'PSU 1 failed', '--reporter',
        'rack monitor', *more, '-f', 'value', '-c', 'status', *URL)
    assert (status, out) == (0, 'DOWN\n')
    assert bus.driver.calls == [(
        rpcapi.COMPUTE_TOPIC, 'compute-1', 'report_fault',
        {'reason': 'PSU 1 failed', 'force_down': force_down,
         'reporter': 'rack monitor'})]
    assert bus.driver.closed


def test_clear(run):
    bus = Bus({**ANSWER, 'cleared': ['reported_fault', 'memory_failure']})
    status, out, _ = run(bus, 'clear', 'compute-1', '--reporter', 'me',
                         '-f', 'json', *URL)
    assert status == 0
    assert json.loads(out)['cleared'] == ['reported_fault', 'memory_failure']
    assert bus.driver.calls[0] == (
        rpcapi.COMPUTE_TOPIC, 'compute-1', 'clear_fault', {'reporter': 'me'})


@pytest.mark.parametrize('argv', [
    ['fault', 'compute-1', '--reason', 'x'], ['clear', 'compute-1'],
    ['show', 'compute-1']])
@pytest.mark.parametrize('bus, said', [
    (Bus(), 'Nobody answers for host compute-1'),
    (Bus(ValueError('too bad'), ValueError('too bad')), 'too bad'),
    (Bus(oslo_messaging.MessageDeliveryFailure('gone'),
         oslo_messaging.MessageDeliveryFailure('gone')), 'gone'),
])
def test_what_was_not_taken(argv, bus, said, run):
    status, out, err = run(bus, *argv, *URL)
    assert (status, out) == (1, '')
    assert said in err
    assert 'Traceback' not in err


@pytest.mark.parametrize('argv, status, said', [
    (['fault', 'compute-1', *URL], 2, '--reason'),
    (['fault', '--reason', 'x', *URL], 2, 'HOST'),
    (['fault', 'compute-1', '--reason', ' ', *URL], 1, 'no reason'),
    (['show', 'a\nb', *URL], 1, 'no name of a host'),
    (['show', 'compute-1'], 1, '--transport-url'),
    (['show', 'compute-1', '--config-file', '/nonexistent'], 1,
     '/nonexistent'),
])
def test_wrong_usage(argv, status, said, run):
    bus = Bus(ANSWER)
    ended, out, err = run(bus, *argv)
    assert (ended, out) == (status, '')
    assert said in err
    assert bus.asked == []


def test_help_says_what_force_down_allows(run):
    status, out, _ = run(Bus(), 'fault', '--help')
    assert status == 0
    said = ' '.join(out.split())
    assert 'evacuate its instances, though they may still run' in said
