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

import threading
import time

import pytest

from nova_vmhealth.core import maintenance
from nova_vmhealth.inspector import enquiries
from tests.unit.inspector import world

PATIENCE_S = 30
NOW = world.EPOCH
ID = '11111111-1111-4111-8111-111111111111'
WINDOW = maintenance.Window(ID, 'compute-1', NOW, None, '', 'operator', NOW)


@pytest.fixture
def cloud():
    return world.Cloud()


@pytest.fixture
def jobs():
    return []


@pytest.fixture
def subject(cloud, jobs):
    return enquiries.Enquiries(
        cloud.servers_of, jobs.append, cloud.lock, 0.0)


def run(jobs):
    for job in jobs:
        job()
    jobs.clear()


def test_gives_the_instances_by_project(subject, cloud, jobs):
    cloud.servers['compute-1'] = [
        world.server('r1', 'red', 'web'), world.server('b1', 'blue'),
        world.server('r2', 'red'), world.server('x', None)]
    subject.ask(WINDOW, NOW)
    assert not subject.has_answers
    assert subject.take(NOW) is None
    run(jobs)
    assert subject.has_answers
    assert subject.take(NOW) == (
        ID, {'red': {'r1': 'web', 'r2': None}, 'blue': {'b1': None}})
    assert subject.take(NOW) is None
    assert subject.not_before(ID) == float('-inf')
    assert cloud.locks == set()


def test_asks_with_the_lock(subject, cloud, jobs):
    held = []
    cloud.servers_of = None
    subject._servers_of = lambda host: held.append(set(cloud.locks)) or []
    subject.ask(WINDOW, NOW)
    run(jobs)
    assert held == [{'window-' + ID}]


def test_holds_the_lock_until_it_was_told(cloud, jobs):
    subject = enquiries.Enquiries(
        cloud.servers_of, jobs.append, cloud.lock, PATIENCE_S)
    subject.ask(WINDOW, NOW)
    thread = threading.Thread(target=run, args=(jobs,), daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while not subject.has_answers:
        assert time.monotonic() < deadline
    assert cloud.locks == {'window-' + ID}
    # Before it is taken nothing can have been told.
    subject.let_go()
    assert subject.take(NOW) == (ID, {})
    assert cloud.locks == {'window-' + ID}
    subject.let_go()
    thread.join(PATIENCE_S)
    assert cloud.locks == set()


@pytest.mark.parametrize('locked, failure, again_s', [
    (True, None, enquiries.HELD_S),
    (False, RuntimeError('no'), enquiries.RETRY_S)])
def test_says_when_to_ask_again(subject, cloud, jobs, locked, failure,
                                again_s):
    cloud.locks = {'window-' + ID} if locked else set()
    cloud.failure = failure
    subject.ask(WINDOW, NOW)
    assert subject.not_before(ID) == NOW + enquiries.LOST_S
    run(jobs)
    assert subject.take(NOW + 1) == (ID, None)
    assert subject.not_before(ID) == NOW + 1 + again_s


def test_asks_without_a_lock_where_none_can_be_had(subject, cloud, jobs,
                                                  caplog):
    def fail(name):
        raise RuntimeError('no backend')
    subject._lock = fail
    for _ in range(20):
        subject.ask(WINDOW, NOW)
        run(jobs)
        assert subject.take(NOW) == (ID, {})
    assert len(caplog.records) == 1


def test_only_the_latest_job_of_a_window_counts(subject, jobs):
    subject.ask(WINDOW, NOW)
    subject.ask(WINDOW, NOW + enquiries.LOST_S)
    run(jobs)
    assert subject.take(NOW) == (ID, {})
    assert subject.take(NOW) is None


def test_nothing_comes_of_a_window_that_is_forgotten(subject, jobs):
    subject.ask(WINDOW, NOW)
    subject.forget(ID)
    run(jobs)
    assert subject.take(NOW) is None
    assert subject.not_before(ID) == float('-inf')


def test_failures_are_logged_once_in_a_while(subject, cloud, jobs, caplog):
    cloud.failure = RuntimeError('no')
    for _ in range(50):
        subject.ask(WINDOW, NOW)
    run(jobs)
    assert len(caplog.records) == 1
