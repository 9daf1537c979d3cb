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

"""Inspectors as processes, with locks in files and a compute API that counts.

Each has a broker of its own, so nothing but the locks and Nova's record keeps
two of them from doing the same.
"""

import os
import signal
import sqlite3
import sys

import pytest

from nova_vmhealth.notifications import database
from tests import fake_nova
from tests.integration import processes

# Real processes that are started and killed, each of which takes its time.
pytestmark = pytest.mark.slow

UUID = '178b0921-8f85-4257-88b6-2e743b5a975c'
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))

CONFIG = """\
[DEFAULT]
transport_url = fake://
debug = true
use_stderr = true
[oslo_messaging_notifications]
# What is told stays in the file of what is not sent yet.
driver = messagingv2
transport_url = rabbit://127.0.0.1:9/
[vmhealth_inspector]
name = {name}
state_path = {folder}
cloud = fake
beacon_interval_ms = 100
grace_s = 1
api_timeout_s = 20
check_interval_s = 1
check_timeout_s = 0.5
"""


class Inspector:
    """A process of inspector_process.py."""

    def __init__(self, folder, name, nova, hosts=('compute-1',), more=''):
        self.name = name
        self._folder = folder
        path = folder / f'{name}.conf'
        path.write_text(CONFIG.format(name=name, folder=folder) + more)
        self._process = processes.Process(
            [sys.executable, '-m', 'tests.functional.inspector_process',
             str(path), *hosts], str(folder / f'{name}.log'), pipes=True,
            env={'PYTHONPATH': REPOSITORY,
                 **nova.write_clouds(str(folder))}, cwd=REPOSITORY)

    def wait_logged(self, text, times=1, seconds=20):
        self._process.wait_for(lambda: self.logged().count(text) >= times,
                               seconds, f'{self.name}: {text!r}')

    def logged(self):
        return self._process.logged()

    def do(self, *words):
        print(*words, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == 'ok\n', self.logged()

    def told(self):
        """(about, cause, transition, id) of the events on disk, in order."""
        return self._read('SELECT about, cause, transition, event_id '
                          'FROM events ORDER BY rowid')

    def pages(self):
        """Names of what it has written down."""
        return {name for name, in self._read('SELECT name FROM pages')}

    def _read(self, query):
        path = database.path_of(str(self._folder),
                                f'nova-vmhealth-inspector:{self.name}')
        connection = sqlite3.connect(path)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def wait_told(self, *what, seconds=20):
        return self._process.wait_for(
            lambda: [each for each in self.told()
                     if each[:len(what)] == what], seconds,
            f'{self.name} tells {what}')

    def kill(self):
        self._process.stop(signal.SIGKILL)

    def stop(self):
        self._process.stop()


@pytest.fixture
def nova():
    server = fake_nova.FakeNova({'compute-1': [UUID]})
    yield server
    server.stop()


@pytest.fixture
def inspect(tmp_path, nova):
    """Make an inspector that has heard its hosts."""
    made = []

    def start(name, **wanted):
        made.append(Inspector(tmp_path, name, nova, **wanted))
        made[-1].wait_logged('hears itself by the message broker')
        made[-1].wait_logged('The compute API answers')
        return made[-1]
    yield start
    for each in made:
        each.stop()


def test_a_dead_host_is_forced_down_and_told(inspect, nova):
    one = inspect('one')
    one.do('die', 'compute-1')
    host, = one.wait_told('compute-1', 'host_down', 'raised')
    instance, = one.wait_told(UUID, 'host_fault', 'raised')
    assert one.told() == [host, instance]
    assert nova.changes == [('compute-1', {'forced_down': True})]
    one.do('beat', 'compute-1')
    one.wait_told('compute-1', 'host_down', 'cleared')
    assert [each[:3] for each in one.told()[2:]] == [
        (UUID, 'host_fault', 'cleared'), ('compute-1', 'host_down', 'cleared')]
    # Only an operator undoes it.
    assert nova.forced('compute-1') == len(nova.changes) == 1


def test_two_that_know_nothing_of_each_other_act_once(inspect, nova):
    nova.put_s = 0.3
    both = [inspect('one'), inspect('two')]
    for each in both:
        each.do('die', 'compute-1')
    told = [each.wait_told('compute-1', 'host_down', 'raised')
            for each in both]
    assert nova.changes == [('compute-1', {'forced_down': True})]
    # What was not this one's doing is told as such.
    assert sorted('forced down already' in each.logged()
                  for each in both) == [False, True]
    assert len(told[0]) == len(told[1]) == 1


def test_one_that_is_killed_before_it_told(inspect, nova):
    """The host is forced down; the other finds it so, and tells."""
    nova.list_s = 5
    one, two = inspect('one'), inspect('two', hosts=())
    two.do('beat', 'compute-1')
    one.do('die', 'compute-1')
    processes.wait_for(lambda: nova.services['compute-1']['forced_down'], 10,
                       'forcing down')
    one.kill()
    assert one.told() == []
    two.do('die', 'compute-1')
    two.wait_told('compute-1', 'host_down', 'raised')
    assert nova.forced('compute-1') == 1
    # The instances follow when they are known.
    nova.list_s = 0
    two.wait_told(UUID, 'host_fault', 'raised')
    assert [each[:3] for each in two.told()[:2]] == [
        ('compute-1', 'host_down', 'raised'),
        ('compute-1', 'host_down', 'updated')]


def test_what_was_told_outlives_the_process(inspect, nova):
    one = inspect('one')
    one.do('die', 'compute-1')
    one.wait_told(UUID, 'host_fault', 'raised')
    before = one.told()
    one.kill()
    again = inspect('one', hosts=())
    # It is down still, which is no news.
    again.do('beat', 'compute-1')
    again.wait_told('compute-1', 'host_down', 'cleared')
    assert again.told()[:2] == before
    assert [each[:3] for each in again.told()[2:]] == [
        (UUID, 'host_fault', 'cleared'), ('compute-1', 'host_down', 'cleared')]
    assert nova.forced('compute-1') == 1


def test_a_host_that_died_while_nobody_looked(inspect, nova):
    one = inspect('one')
    processes.wait_for(lambda: 'host/compute-1' in one.pages(), 5, 'page')
    one.kill()
    again = inspect('one', hosts=())
    again.wait_told('compute-1', 'host_down', 'raised')
    assert nova.forced('compute-1') == 1


@pytest.mark.parametrize('fields, suppressed', [
    ({'status': 'disabled', 'disabled_reason': 'new disks'}, True),
    ({'status': 'disabled', 'disabled_reason': None}, True),
    ({'status': 'disabled', 'disabled_reason': 'AUTO: libvirt'}, False),
    ({'status': 'disabled', 'disabled_reason': 'vmhealth: io'}, False),
])
def test_an_operators_word_stands(inspect, nova, fields, suppressed):
    one = inspect('one')
    nova.services['compute-1'].update(fields)
    one.do('die', 'compute-1')
    if suppressed:
        one.wait_told('compute-1', 'beacons_lost', 'raised')
        assert nova.changes == []
        # Not any more: now it may be done.
        nova.services['compute-1'].update(status='enabled')
    one.wait_told('compute-1', 'host_down', 'raised')
    assert nova.changes == [('compute-1', {'forced_down': True})]


def test_too_many_hosts_are_left_alone(tmp_path, inspect):
    hosts = [f'compute-{number}' for number in range(20)]
    nova = fake_nova.FakeNova(dict.fromkeys(hosts, ()))
    one = Inspector(tmp_path, 'one', nova, hosts=hosts)
    try:
        one.wait_logged('The compute API answers')
        one.wait_logged('hears itself')
        for host in hosts[:3]:
            one.do('die', host)
        for host in hosts[:3]:
            one.wait_told(host, 'beacons_lost', 'raised')
        one.wait_logged('[vmhealth_inspector]max_down_percent')
        assert nova.changes == []
        # An operator sees to one: the others are not too many.
        one.do('beat', hosts[0])
        for host in hosts[1:3]:
            one.wait_told(host, 'host_down', 'raised')
        assert {host for host, _ in nova.changes} == set(hosts[1:3])
        one.wait_told(hosts[0], 'beacons_lost', 'cleared')
    finally:
        one.stop()
        nova.stop()


def test_nova_is_away(inspect, nova):
    one = inspect('one')
    nova.fails = True
    one.do('die', 'compute-1')
    one.wait_told('compute-1', 'beacons_lost', 'raised')
    one.wait_logged('cannot list compute services')
    nova.fails = False
    one.wait_told('compute-1', 'host_down', 'raised')
    assert nova.changes == [('compute-1', {'forced_down': True})]


@pytest.mark.parametrize('status, word', [(1, 'alive'), (7, 'unsure')])
def test_a_check_says_otherwise(tmp_path, inspect, nova, status, word):
    program, said = tmp_path / 'look', tmp_path / 'status'
    said.write_text(str(status))
    program.write_text(f'#!/bin/sh\nexit $(cat {said})\n')
    program.chmod(0o755)
    one = inspect('one', more=f'checks = quorum,exec:{program}\n')
    one.do('die', 'compute-1')
    one.wait_told('compute-1', 'beacons_lost', 'raised')
    one.wait_logged(f"'withheld': '{word}'")
    assert nova.changes == []
    said.write_text('0')
    one.wait_told('compute-1', 'host_down', 'raised')
    assert nova.forced('compute-1') == 1


def test_servers_are_set_to_error(inspect, nova):
    one = inspect('one', more='reset_state = true\n')
    one.do('die', 'compute-1')
    one.wait_told(UUID, 'host_fault', 'raised')
    processes.wait_for(lambda: nova.resets, 5, 'reset')
    assert nova.resets == [(f'/servers/{UUID}/action',
                            {'os-resetState': {'state': 'error'}})]


def test_undone_where_the_operator_wants_it(inspect, nova):
    one = inspect('one', more='unforce = true\n')
    one.do('die', 'compute-1')
    one.wait_told('compute-1', 'host_down', 'raised')
    one.do('beat', 'compute-1')
    one.wait_told('compute-1', 'host_down', 'cleared')
    assert nova.changes == [('compute-1', {'forced_down': True}),
                            ('compute-1', {'forced_down': False})]


def test_a_host_that_is_no_more_is_forgotten(inspect, nova):
    one = inspect('one')
    del nova.services['compute-1']
    one.do('die', 'compute-1')
    one.wait_logged('it is forgotten')
    assert nova.changes == one.told() == []


def test_one_name_is_for_one(inspect, tmp_path, nova):
    inspect('one')
    other = Inspector(tmp_path, 'one', nova)
    try:
        other.wait_logged('is called one too')
    finally:
        other.stop()
