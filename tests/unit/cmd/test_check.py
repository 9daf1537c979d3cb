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

"""What lets events out, and what does not."""

import json

import pytest

from nova_vmhealth.cmd import main
from nova_vmhealth import conf as health_conf
from nova_vmhealth import configuration

FORMAT = '[notifications]notification_format'
TOPICS = '[notifications]versioned_notifications_topics'
DRIVER = '[oslo_messaging_notifications]driver'
URL = '[DEFAULT]transport_url'

GOOD = {
    'DEFAULT': {'transport_url': 'rabbit://guest:secret@broker:5672/'},
    'notifications': {'notification_format': 'both'},
    'oslo_messaging_notifications': {'driver': 'messagingv2'},
}


def write(path, groups):
    path.write_text('\n'.join(
        f'[{group}]\n' + '\n'.join(
            f'{name}={value}' for name, value in options.items())
        for group, options in groups.items()))
    return str(path)


def check(tmp_path, capsys, changes):
    groups = {group: dict(options) for group, options in GOOD.items()}
    for group, options in changes.items():
        groups[group] = options
    path = write(tmp_path / 'nova.conf', groups)
    status = main.main(['check', '--config-file', path, '-f', 'json'])
    out, _ = capsys.readouterr()
    assert 'secret' not in out
    return status, {
        row['Option']: row for row in json.loads(out)}


@pytest.mark.parametrize('changes, failed', [
    ({}, set()),
    ({'notifications': {'notification_format': 'versioned'}}, set()),
    ({'oslo_messaging_notifications': {'driver': 'messaging'}}, set()),
    ({'oslo_messaging_notifications': {
        'driver': 'log\ndriver=messagingv2'}}, set()),
    ({'notifications': {}}, {FORMAT}),
    ({'notifications': {'notification_format': 'unversioned'}}, {FORMAT}),
    ({'notifications': {'notification_format': 'both',
                        'versioned_notifications_topics': ''}}, {TOPICS}),
    ({'oslo_messaging_notifications': {}}, {DRIVER}),
    ({'oslo_messaging_notifications': {'driver': 'noop'}}, {DRIVER}),
    ({'oslo_messaging_notifications': {'driver': 'log'}}, {DRIVER}),
    ({'DEFAULT': {}}, {URL}),
    ({'DEFAULT': {'transport_url': 'fake://'}}, {URL}),
    ({'DEFAULT': {'transport_url': 'rabbit://guest:secret@broker:x/'}},
     {URL}),
    ({'DEFAULT': {}, 'notifications': {},
      'oslo_messaging_notifications': {}}, {FORMAT, DRIVER, URL}),
])
def test_check(changes, failed, tmp_path, capsys):
    status, rows = check(tmp_path, capsys, changes)
    assert {name for name, row in rows.items()
            if row['Result'] != 'ok'} == failed
    assert status == (1 if failed else 0)
    for name, row in rows.items():
        assert bool(row['What is wrong']) is (name in failed)


def test_says_what_nova_compute_says_at_its_start(tmp_path, capsys):
    changes = {'notifications': {'versioned_notifications_topics': ''},
               'oslo_messaging_notifications': {}}
    _, rows = check(tmp_path, capsys, changes)
    said = health_conf.check_notifications(
        configuration.load([tmp_path / 'nova.conf']))
    assert len(said) == 3
    assert said == [f'{name} {row["What is wrong"]}'
                    for name, row in rows.items() if name != URL]


def test_names_the_broker(tmp_path, capsys):
    _, rows = check(tmp_path, capsys, {})
    assert rows[URL]['Value'] == 'rabbit://broker:5672/'


def test_says_it_in_a_table(tmp_path, capsys):
    path = write(tmp_path / 'nova.conf', GOOD)
    assert main.main(['check', '--config-file', path]) == 0
    assert '+---' in capsys.readouterr().out


def test_a_file_that_is_not_there(capfd):
    assert main.main(['check', '--config-file', '/nonexistent']) == 1
    assert '/nonexistent' in capfd.readouterr().err
