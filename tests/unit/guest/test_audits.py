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


"""Audits: found in a directory, run, judged by their exit status."""

import pytest

from nova_vmhealth.core import audits as host_audits
from nova_vmhealth.guest import audits
from nova_vmhealth.guest import health


def make_audit(name='db', path='', interval=10.0, timeout=5.0):
    return audits.Audit(name, str(path), interval, timeout)


@pytest.mark.parametrize('status, output, expected', [
    (0, b'', ('healthy', '')),
    (0, b'all well\nsecond line\n', ('healthy', 'all well')),
    (1, b'slow', ('degraded', 'slow')),
    (2, b'gone\r\n', ('unhealthy', 'gone')),
    (3, b'odd\n', ('unhealthy', 'exit status 3: odd')),
    (127, b'', ('unhealthy', 'exit status 127')),
    (-9, b'said before\n', ('unhealthy', 'ended by signal 9')),
    (0, b'x' * 1000, ('healthy', 'x' * 256)),
    (2, b'\x1b[1mbold\x07\n', ('unhealthy', '[1mbold')),
])
def test_exit_status_is_the_health(status, output, expected):
    assert audits.judge(status, output) == expected


@pytest.mark.parametrize('script, health, message', [
    ('echo fine', 'healthy', 'fine'),
    ('echo slow; exit 1', 'degraded', 'slow'),
    ('exit 2', 'unhealthy', ''),
    ('kill -9 $$', 'unhealthy', 'ended by signal 9'),
    ('sleep 20', 'unhealthy', 'timed out after 0.5 s'),
])
def test_run_audit(program, script, health, message):
    path = program('db', '#!/bin/sh\n%s\n' % script)

    assert audits.run_audit(make_audit(path=path, timeout=0.5)) == (
        'db', health, message)


def test_an_audit_that_cannot_be_started_is_unhealthy(program):
    path = program('db', '#!/no/such/interpreter\n')

    assert audits.run_audit(make_audit(path=path)) == (
        'db', 'unhealthy', 'cannot be run: No such file or directory')


@pytest.mark.parametrize('header, expected', [
    ('', (10.0, 5.0)),
    ('# vmhealth-interval: 2\n', (2.0, 5.0)),
    ('#vmhealth-timeout:0.5\n', (10.0, 0.5)),
    ('# vmhealth-interval: 3\r\n# vmhealth-timeout: 1 \n', (3.0, 1.0)),
    ('# vmhealth-interval: 0\n', (0.1, 5.0)),
    ('# vmhealth-interval: 999999\n', (86400.0, 5.0)),
    ('# vmhealth-interval: soon\n', (10.0, 5.0)),
    ('# vmhealth-interval: -1\n', (10.0, 5.0)),
    ('echo vmhealth-interval: 7\n', (10.0, 5.0)),
    ('\0' * 3000 + '\n# vmhealth-interval: 7\n', (10.0, 5.0)),
])
def test_an_audit_has_settings_in_its_head(program, header, expected):
    path = program('db', '#!/bin/sh\n' + header)

    assert audits.read_settings(str(path), 10.0, 5.0) == expected


def test_executables_of_the_directory_are_found(program, tmp_path):
    for name in ('db', 'a.sh', '.hidden', 'back~', 'sp ace', 'x' * 65):
        program(name)

    found = audits.discover(str(tmp_path), 10.0, 5.0, print)

    assert [a.name for a in found] == ['a.sh', 'db']
    assert found[1] == make_audit(path=tmp_path / 'db')


def test_only_so_many_audits_are_taken(program, tmp_path):
    for number in range(20):
        program('%02d' % number)

    said = []
    found = audits.discover(str(tmp_path), 10.0, 5.0, said.append)

    assert [a.name for a in found] == ['%02d' % n for n in range(15)]
    assert said == ['of 20 audits the first 15 by name are run']


def test_the_host_has_a_place_for_each_audit_and_the_agents_own():
    assert health.MAX_AUDITS + 1 == host_audits.MAX_AUDITS


def test_no_directory_means_no_audits(tmp_path):
    assert audits.discover(str(tmp_path / 'none'), 10.0, 5.0, print) == []


def test_an_audit_whose_settings_cannot_be_read_takes_the_options(
        program, tmp_path, monkeypatch):
    def read_settings(path, interval, timeout):
        if path.endswith('db'):
            raise OSError(5, 'disk error', path)
        return 1.0, 2.0

    monkeypatch.setattr(audits, 'read_settings', read_settings)
    path = program('db')
    program('web')
    said = []

    found = audits.discover(str(tmp_path), 10.0, 5.0, said.append)

    assert [(a.name, a.interval, a.timeout) for a in found] == [
        ('db', 10.0, 5.0), ('web', 1.0, 2.0)]
    [text] = said
    assert 'disk error' in text and str(path) in text
