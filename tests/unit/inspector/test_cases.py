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

"""When a host is looked at again."""

import math

import pytest

from nova_vmhealth.core.checks import Finding
from nova_vmhealth.core.checks import Opinion
from tests.unit.inspector.stage import Stage

FORCED = [('a', {'forced_down': True})]


@pytest.fixture
def held_up():
    """A host that is refused, and whose job takes its time."""
    hosts = ['a', *(f'host-{number}' for number in range(9))]
    stage = Stage(hosts).settle()
    one = stage.inspectors[0]
    jobs = []

    def act(job, done):
        jobs.append((job, done))
        return True
    one.cases._act = act
    stage.die('a', 'host-1')
    stage.run(3)
    return stage, one, jobs


def finish(stage, one, jobs):
    one.cases._act = one._submit_case
    for job, done in jobs:
        result = job()
        one.loop.post(lambda done=done, result=result: done(result))


def test_one_job_at_a_time_for_each_host(held_up):
    stage, one, jobs = held_up
    stage.run(30)
    assert len(jobs) == 2
    assert one.cases.next_deadline() == math.inf


def test_what_happens_during_a_job_is_looked_at_after_it(held_up):
    stage, one, jobs = held_up
    job, done = jobs[0]
    # It is refused, and not to be looked at for a minute.
    assert job() >= 60
    stage.beating.add('host-1')
    stage.run(3)
    assert stage.forced() == []
    one.cases._act = one._submit_case
    one.loop.post(lambda: done(60.0))
    stage.run(1)
    assert stage.forced() == FORCED


def test_no_thread_for_it_now(held_up):
    stage, one, jobs = held_up
    finish(stage, one, jobs)
    stage.beating.add('host-1')
    one.cases._act = lambda job, done: False
    stage.run(3)
    assert stage.forced() == []
    one.cases._act = one._submit_case
    stage.run(11)
    assert stage.forced() == FORCED


def test_what_a_job_has_written_is_no_reason_to_do_it_again():
    stage = Stage(checks=[Finding('tcp:22', Opinion.ALIVE, '')]).settle()
    one = stage.inspectors[0]
    asked = []
    plain, one.ask = one.ask, lambda host: asked.append(
        stage.now) or plain(host)
    jobs = []
    one.cases._act = lambda job, done: jobs.append(done) or (
        jobs.append(job()) or True)
    stage.die('a')
    stage.run(3)
    done, again_s = jobs
    one.loop.post(lambda: done(again_s))
    stage.run(3)
    assert len(asked) == 1
    assert stage.told == [('a', 'beacons_lost', 'raised')]


def test_a_job_with_a_defect_is_tried_again(caplog):
    stage = Stage().settle()
    one = stage.inspectors[0]
    plain, one.cases._actor.attend = one.cases._actor.attend, (
        lambda host: 1 / 0)
    stage.die('a')
    stage.run(5)
    assert 'Failed at host a, again in 10 s' in caplog.text
    one.cases._actor.attend = plain
    stage.run(10)
    assert stage.forced() == FORCED


def test_cases_that_are_over_are_kept_no_longer():
    stage = Stage().settle()
    stage.die('a')
    stage.run(5)
    stage.beating.add('a')
    stage.run(10)
    assert stage.inspectors[0].cases._cases == {}
    assert stage.inspectors[0].cases._unsettled == set()
