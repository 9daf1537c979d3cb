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

"""The scripts in etc/monitors: what each makes of what its monitor tells it.

They run with another nova-vmhealth in their PATH, which writes down its
arguments. What it was told is then told to the command itself.
"""

import os
import pathlib
import subprocess

import pytest

from nova_vmhealth import broker
from nova_vmhealth.cmd import main
from nova_vmhealth import rpcapi
from tests.unit.client.bus import ANSWER
from tests.unit.client.bus import Bus

FOLDER = pathlib.Path(__file__).parents[3] / 'etc' / 'monitors'
CONFIG = '/etc/nova-vmhealth/monitor.conf'
STAND_IN = """#!/bin/sh
printf '%s\\0' "$@" >"$RECORD"
exit "${STATUS:-0}"
"""


@pytest.fixture
def run(tmp_path):
    """A function that runs a script; its process, and what was called."""
    program = tmp_path / 'bin' / 'nova-vmhealth'
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    record = tmp_path / 'record'

    def run(name, *arguments, env=None, given=''):
        done = subprocess.run(
            [FOLDER / name, *arguments], input=given, text=True,
            capture_output=True, timeout=30, env={
                'PATH': f'{program.parent}:{os.environ["PATH"]}',
                'RECORD': str(record), **(env or {})})
        if not record.exists():
            return done, None
        return done, record.read_text().split('\0')[:-1]
    return run


@pytest.fixture
def taken(monkeypatch, capfd):
    """A function that has the command itself take a call: what was sent."""
    def taken(argv):
        bus = Bus()
        bus.driver.answer(
            rpcapi.COMPUTE_TOPIC, argv[-1], dict(ANSWER, cleared=[]))
        monkeypatch.setattr(broker, 'rpc_transport', lambda *_: bus.transport)
        # its own file is not there
        argv = ['--transport-url=fake://' if each == CONFIG
                else each for each in argv if each != '--config-file']
        assert main.main(argv) == 0
        _, host, method, arguments = bus.driver.calls[0]
        by, _, machine = arguments.pop('reporter').partition('@')
        assert machine == os.uname().nodename
        return by, host, method, arguments
    return taken


def fault(reason, force_down=False):
    return 'report_fault', {'reason': reason, 'force_down': force_down}


CLEAR = 'clear_fault', {}


def pacemaker(kind, **values):
    values = {'version': '2.1.5', 'recipient': CONFIG, 'node': 'compute-1',
              'kind': kind, **values}
    return {'CRM_alert_' + name: value for name, value in values.items()
            if value is not None}


@pytest.mark.parametrize('env, expected', [
    (pacemaker('node', desc='lost'), fault('Pacemaker has lost the node')),
    (pacemaker('node', desc='member'), CLEAR),
    (pacemaker('node', desc='odd'), None),
    (pacemaker('fencing', task='off', rc='0', desc='Operation off of ...'),
     fault('fenced by Pacemaker (off)', True)),
    (pacemaker('fencing', task='reboot', rc='0', desc='Operation ...'),
     fault('fenced by Pacemaker (reboot)', True)),
    (pacemaker('fencing', task='reboot', rc='-62', desc='Timer expired'),
     None),
    (pacemaker('fencing', task='on', rc='0', desc='Operation on of ...'),
     None),
    (pacemaker('resource', task='monitor', rc='7', rsc='vip', desc='ok',
               status='0', target_rc='0', interval='10'), None),
    (pacemaker('attribute', attribute_name='a', attribute_value='1'), None),
    ({}, None),
])
def test_pacemaker(env, expected, run, taken):
    done, argv = run('pacemaker-alert', env=env)
    assert done.returncode == 0, done.stderr
    if expected is None:
        assert argv is None
    else:
        assert taken(argv) == ('pacemaker', 'compute-1', *expected)


def test_pacemaker_without_a_recipient(run):
    done, argv = run('pacemaker-alert', env=pacemaker(
        'node', desc='lost', recipient=None))
    assert (done.returncode, argv) == (0, None)
    assert 'recipient' in done.stderr


@pytest.mark.parametrize('arguments, expected', [
    (['DOWN', 'HARD', 'compute-1', 'PING CRITICAL - 100% loss'],
     fault('DOWN: PING CRITICAL - 100% loss')),
    (['CRITICAL', 'HARD', 'compute-1', '--force-down $(id) `id`'],
     fault('CRITICAL: --force-down $(id) `id`')),
    (['DOWN', 'HARD', 'compute-1'], fault('DOWN:')),
    (['UP', 'HARD', 'compute-1', 'PING OK'], CLEAR),
    (['OK', 'HARD', 'compute-1', 'RAID OK'], CLEAR),
    (['DOWN', 'SOFT', 'compute-1', 'PING CRITICAL'], None),
    (['UP', 'SOFT', 'compute-1', 'PING OK'], None),
    (['UNREACHABLE', 'HARD', 'compute-1', 'no route'], None),
    (['WARNING', 'HARD', 'compute-1', 'warm'], None),
    (['UNKNOWN', 'HARD', 'compute-1', 'no answer'], None),
])
def test_nagios(arguments, expected, run, taken):
    done, argv = run('nagios-event-handler', *arguments)
    assert done.returncode == 0, done.stderr
    if expected is None:
        assert argv is None
    else:
        assert taken(argv) == ('nagios', 'compute-1', *expected)


@pytest.mark.parametrize('name, arguments', [
    ('nagios-event-handler', ['UP', 'HARD', '--help']),
    ('zabbix-alert', [CONFIG, 'clear --help', 'text'])])
def test_a_name_is_no_option(name, arguments, run, taken):
    _, argv = run(name, *arguments)
    assert taken(argv)[1] == '--help'


def test_nagios_with_another_file(run):
    _, argv = run('nagios-event-handler', 'UP', 'HARD', 'compute-1',
                  env={'NOVA_VMHEALTH_CONF': '/etc/cell1.conf'})
    assert argv[:4] == ['host', 'clear', '--config-file', '/etc/cell1.conf']


@pytest.mark.parametrize('arguments, expected', [
    ([CONFIG, 'fault compute-1', 'Both PSU failed'],
     fault('Zabbix: Both PSU failed')),
    ([CONFIG, 'fault compute-1', '--force-down "$(id)"'],
     fault('Zabbix: --force-down "$(id)"')),
    ([CONFIG, 'clear compute-1', 'Both PSU failed'], CLEAR),
])
def test_zabbix(arguments, expected, run, taken):
    done, argv = run('zabbix-alert', *arguments)
    assert done.returncode == 0, done.stderr
    assert taken(argv) == ('zabbix', 'compute-1', *expected)


def collectd(severity, plugin='mcelog', text='the message\nand more\n',
             host='compute-1'):
    return (f'Severity: {severity}\nTime: 1700000000.515\nHost: {host}\n'
            f'Plugin: {plugin}\nType: errors\nCurrentValue: 2.5e+01\n\n'
            f'{text}')


@pytest.mark.parametrize('given, expected', [
    (collectd('FAILURE'), fault('mcelog: the message')),
    (collectd('FAILURE', 'smart', 'no newline'), fault('smart: no newline')),
    (collectd('FAILURE', text='--force-down\nHost: x'),
     fault('mcelog: --force-down')),
    (collectd('FAILURE', text=''), fault('mcelog: no message')),
    (collectd('OKAY'), CLEAR),
    (collectd('WARNING'), None),
    (collectd('FAILURE', 'cpu'), None),
    ('', None),
])
def test_collectd(given, expected, run, taken):
    done, argv = run('collectd-notification', CONFIG, 'smart', 'mcelog',
                     given=given)
    assert done.returncode == 0, done.stderr
    if expected is None:
        assert argv is None
    else:
        assert taken(argv) == ('collectd', 'compute-1', *expected)


@pytest.mark.parametrize('name, arguments', [
    ('nagios-event-handler', ['DOWN', 'HARD']),
    ('zabbix-alert', []), ('zabbix-alert', [CONFIG, 'fault compute-1']),
    ('zabbix-alert', [CONFIG, 'hello compute-1', 'text']),
    ('zabbix-alert', [CONFIG, 'compute-1', 'text']),
    ('collectd-notification', [CONFIG]),
])
def test_wrong_usage(name, arguments, run):
    done, argv = run(name, *arguments)
    assert (done.returncode, argv) == (2, None)
    assert name in done.stderr


@pytest.mark.parametrize('name, arguments, env, given', [
    ('pacemaker-alert', [], pacemaker('node', desc='lost'), ''),
    ('nagios-event-handler', ['UP', 'HARD', 'compute-1'], {}, ''),
    ('zabbix-alert', [CONFIG, 'clear compute-1', 'text'], {}, ''),
    ('collectd-notification', [CONFIG, 'mcelog'], {}, collectd('OKAY')),
])
def test_a_report_that_was_not_taken_is_a_failure(
        name, arguments, env, given, run):
    done, argv = run(name, *arguments, env={**env, 'STATUS': '1'},
                     given=given)
    assert done.returncode == 1
    assert argv[0] == 'host'


def test_each_script_has_a_test():
    assert {path.name for path in FOLDER.iterdir()} == {
        'pacemaker-alert', 'nagios-event-handler', 'zabbix-alert',
        'collectd-notification'}
