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

"""``nova-vmhealth maintenance``: what it asks for, and what it prints."""

import json
import time

import oslo_messaging
import pytest

from nova_vmhealth import broker
from nova_vmhealth.cmd import main
from nova_vmhealth.core import maintenance
from tests.unit.client.bus import Bus

URL = ['--transport-url', 'fake://']
NOW = 1_700_000_000.0            # 2023-11-14T22:13:20Z
ID = '0b5e8a4c-3a4e-4f0e-9f53-000000000001'
WINDOW = {
    'id': ID, 'host': 'compute-1', 'starts_at': NOW + 3600,
    'ends_at': NOW + 7200, 'reason': 'new fans', 'source': 'operator',
    'created_at': NOW, 'stage': 'announced', 'projects': ['red', 'blue']}
OPEN = {**WINDOW, 'id': ID.replace('1', '2'), 'starts_at': NOW,
        'ends_at': None, 'source': 'fenix', 'stage': None, 'projects': []}


@pytest.fixture
def run(monkeypatch, capfd):
    """A function that runs the command; its status and what it printed."""
    monkeypatch.setattr(time, 'time', lambda: NOW)

    def run(answer, *argv):
        bus = Bus(inspector=answer)
        monkeypatch.setattr(broker, 'rpc_transport', lambda *_: bus.transport)
        try:
            status = main.main(['maintenance', *argv, *URL])
        except SystemExit as end:
            status = end.code      # argparse leaves by itself
        run.asked = [(method, arguments)
                     for _, _, method, arguments in bus.driver.calls]
        run.closed = bus.driver.closed
        return status, *capfd.readouterr()
    return run


# -- set ----------------------------------------------------------------------

@pytest.mark.parametrize('argv, record', [
    (['--reason', 'x'], {'starts_at': NOW, 'reason': 'x'}),
    (['--reason', 'x', '--from', 'now', '--until', 'open'],
     {'starts_at': NOW, 'ends_at': None, 'reason': 'x'}),
    (['--reason', 'x', '--from', '+1h', '--until', '+2h'],
     {'starts_at': NOW + 3600, 'ends_at': NOW + 7200, 'reason': 'x'}),
    # So long after the start, and not after now.
    (['--reason', 'x', '--from', '+1h', '--for', '30m'],
     {'starts_at': NOW + 3600, 'ends_at': NOW + 5400, 'reason': 'x'}),
    (['--reason', 'x', '--for', '30m'],
     {'starts_at': NOW, 'ends_at': NOW + 1800, 'reason': 'x'}),
    (['--reason', 'x', '--from', '2023-11-14T22:13:20Z'],
     {'starts_at': NOW, 'reason': 'x'}),
    # A change names no more than what it is about.
    (['--id', ID], {'id': ID}),
    (['--id', ID, '--until', 'open'], {'id': ID, 'ends_at': None}),
    (['--id', ID, '--from', 'now'], {'id': ID, 'starts_at': NOW}),
    (['--id', ID, '--until', '+1h'], {'id': ID, 'ends_at': NOW + 3600}),
    (['--id', ID, '--from', '+1h', '--for', '1h'],
     {'id': ID, 'starts_at': NOW + 3600, 'ends_at': NOW + 7200}),
    (['--id', ID, '--reason', 'y'], {'id': ID, 'reason': 'y'}),
])
def test_set_asks_for(run, argv, record):
    status, _, err = run(WINDOW, 'set', 'compute-1', *argv)
    assert (status, err) == (0, '')
    assert run.asked == [
        ('set_window', {'window': {'host': 'compute-1', **record}})]
    assert run.closed


def test_set_a_duration_for_a_window_that_starts_when_it_did(run):
    """Nobody can answer both questions here: the first is what counts."""
    status, _, err = run([WINDOW], 'set', 'compute-1', '--id', ID,
                         '--for', '3h')
    assert run.asked == [
        ('list_windows', {'host': None}),
        ('set_window', {'window': {
            'host': 'compute-1', 'id': ID,
            'ends_at': WINDOW['starts_at'] + 3 * 3600}})]
    assert (status, err) == (
        1, 'The inspector that answered failed: unreadable record: it is no '
           'object\n')


def test_set_prints_what_is_kept(run):
    status, out, _ = run(WINDOW, 'set', 'compute-1', '--reason', 'new fans')
    assert status == 0
    for words in (f'| id         | {ID} ',
                  '| starts_at  | 2023-11-14T23:13:20.000000Z ',
                  '| state      | planned ', '| told       | announced ',
                  '| projects   | red ', '|            | blue '):
        assert words in out


@pytest.mark.parametrize('argv, status, words', [
    ([], 1, '--reason: a new window needs one, for the tenants'),
    (['--reason', ' '], 1, '--reason: a new window needs one'),
    (['--reason', 'x', '--from', '22:00'], 2,
     "argument --from: '22:00' is no time: write it with its zone"),
    (['--reason', 'x', '--until', '2023-11-14T22:13:20'], 2,
     "argument --until: '2023-11-14T22:13:20' is no time"),
    (['--reason', 'x', '--for', '30'], 2,
     "argument --for: '30' is no duration"),
    (['--reason', 'x', '--for', '1h', '--until', 'now'], 2,
     'not allowed with argument'),
    (['--reason', 'x', '--from', '+2h', '--until', '+1h'], 1,
     '--until: the end is not after the start (--from)'),
])
def test_set_says_which_option_is_wrong(run, argv, status, words):
    found, _, err = run(WINDOW, 'set', 'compute-1', *argv)
    assert (found, run.asked) == (status, [])
    assert words in err


def test_set_says_who_reads_the_reason(capfd):
    assert main.main(['maintenance', 'set', '--help']) == 0
    out, _ = capfd.readouterr()
    assert 'tenants' in out
    assert '2026-01-31T22:00Z' in out


# -- the others ---------------------------------------------------------------

@pytest.mark.parametrize('argv, arguments', [
    (['compute-1'], {'host': 'compute-1', 'window_id': None}),
    (['--id', ID], {'host': None, 'window_id': ID}),
    (['compute-1', '--id', ID], {'host': 'compute-1', 'window_id': ID})])
def test_unset(run, argv, arguments):
    status, out, err = run([WINDOW], 'unset', *argv)
    assert (status, err) == (0, '')
    assert run.asked == [('unset_windows', arguments)]
    assert ID in out


def test_unset_wants_to_know_what(run):
    status, _, err = run([], 'unset')
    assert (status, err) == (1, 'Say which windows: give HOST, or --id\n')
    assert run.asked == []


def test_list(run):
    status, out, err = run([WINDOW, OPEN], 'list', '-f', 'json')
    assert (status, err) == (0, '')
    assert run.asked == [('list_windows', {'host': None})]
    assert json.loads(out) == [
        {'ID': ID, 'Host': 'compute-1', 'State': 'planned',
         'From': '2023-11-14T23:13:20.000000Z',
         'Until': '2023-11-15T00:13:20.000000Z', 'Source': 'operator',
         'Reason': 'new fans'},
        {'ID': OPEN['id'], 'Host': 'compute-1', 'State': 'active',
         'From': '2023-11-14T22:13:20.000000Z', 'Until': None,
         'Source': 'fenix', 'Reason': 'new fans'}]


def test_list_of_a_host(run):
    status, out, _ = run([], 'list', 'compute-1')
    assert (status, run.asked) == (0, [('list_windows',
                                        {'host': 'compute-1'})])


def test_show(run):
    status, out, _ = run([OPEN, WINDOW], 'show', ID, '-f', 'json')
    assert status == 0
    assert json.loads(out) == {
        'id': ID, 'host': 'compute-1',
        'starts_at': '2023-11-14T23:13:20.000000Z',
        'ends_at': '2023-11-15T00:13:20.000000Z', 'state': 'planned',
        'source': 'operator', 'reason': 'new fans',
        'created_at': '2023-11-14T22:13:20.000000Z', 'told': 'announced',
        'projects': ['red', 'blue']}


def test_show_what_is_not_there(run):
    status, _, err = run([OPEN], 'show', ID)
    assert (status, err) == (
        1, f"invalid maintenance window: there is no window '{ID}'\n")


# -- when it does not work ----------------------------------------------------

COMMANDS = [['set', 'compute-1', '--reason', 'x'], ['unset', 'compute-1'],
            ['list'], ['show', ID]]


@pytest.mark.parametrize('argv', COMMANDS)
def test_no_inspector_answers(run, argv):
    status, _, err = run(None, *argv)
    assert (status, err) == (
        1, 'No inspector answers. Look whether a nova-vmhealth-inspector '
           'runs, and start one if not; and whether '
           'rabbit://broker:5672/cell1 is the broker that it uses\n')
    assert run.closed


@pytest.mark.parametrize('argv', COMMANDS)
@pytest.mark.parametrize('error, text', [
    (oslo_messaging.RemoteError(
        'InvalidWindow', 'invalid maintenance window: it is over already\n'
        'Traceback ...', []),
     'invalid maintenance window: it is over already\n'),
    (oslo_messaging.RemoteError(
        'InvalidRecord', 'unreadable record: bad field host', []),
     'unreadable record: bad field host\n'),
    (oslo_messaging.RemoteError('KeyError', "'x'\nTraceback ...", []),
     "The inspector that answered failed: KeyError: 'x'\n"),
    (KeyError('x'), "The inspector that answered failed: KeyError: 'x'\n"),
    (oslo_messaging.MessageDeliveryFailure('gone'),
     'The message broker rabbit://broker:5672/cell1 cannot be reached: '
     'gone\n'),
])
def test_it_cannot_be_done(run, argv, error, text):
    status, _, err = run(error, *argv)
    assert (status, err) == (1, text)


@pytest.mark.parametrize('argv, answer', [
    (['list'], {}), (['list'], [7]), (['list'], [{**WINDOW, 'stage': 7}]),
    (['set', 'compute-1', '--reason', 'x'], {**WINDOW, 'host': 'a\nb'}),
    (['unset', 'compute-1'], [{**WINDOW, 'projects': None}])])
def test_an_answer_that_is_none(run, argv, answer):
    status, _, err = run(answer, *argv)
    assert status == 1
    assert err.startswith('The inspector that answered failed: ')


def test_nothing_steers_the_terminal(run):
    status, out, _ = run(
        {**WINDOW, 'reason': 'a\x1b[31m', 'stage': '\x1b[31m',
         'projects': ['\x1b[31m']}, 'set', 'compute-1', '--reason', 'x')
    assert status == 0
    assert '\x1b' not in out


def test_the_record_is_one_that_inspectors_read(run):
    run(WINDOW, 'set', 'compute-1', '--reason', 'x', '--for', '1h')
    (_, arguments), = run.asked
    maintenance.Window.restored({
        'id': ID, 'source': 'operator', 'created_at': NOW,
        **arguments['window']})
