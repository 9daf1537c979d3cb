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

"""The background thread's queue: due order, one job a key, retry."""

import threading

from nova_vmhealth.virt import background


def make(now=0.0):
    clock = [now]
    return clock, background.Background(
        'vmhealth-test', monotonic=lambda: clock[0])


def test_jobs_come_when_due_longest_due_first():
    clock, jobs = make()
    jobs.submit('late', lambda: None, delay_s=5)
    jobs.submit('now', lambda: None)
    job, _ = jobs.next_job(0.0)
    assert job[0] == 'now'
    assert jobs.next_job(0.0) == (None, 5.0)
    job, _ = jobs.next_job(5.0)
    assert job[0] == 'late'
    assert jobs.next_job(5.0) == (None, None)


def test_same_key_is_replaced():
    _, jobs = make()
    jobs.submit('key', lambda: 'old')
    jobs.submit('key', lambda: 'new', delay_s=1)
    assert jobs.next_job(0.0) == (None, 1.0)
    (_, function), _ = jobs.next_job(1.0)
    assert function() == 'new'


def test_bounded(monkeypatch):
    monkeypatch.setattr(background, 'MAX_JOBS', 2)
    _, jobs = make()
    assert [jobs.submit(key, lambda: None) for key in 'abc'] == [
        True, True, False]
    assert jobs.submit('b', lambda: None, delay_s=1)    # replacing still works
    assert jobs.next_job(0.0)[0][0] == 'a'
    assert jobs.next_job(0.0) == (None, 1.0)


def test_a_failing_job_comes_again():
    _, jobs = make()

    def fail():
        raise RuntimeError('nova-conductor is away')
    jobs._do('key', fail)
    assert jobs.next_job(0.0) == (None, background.RETRY_S)


def test_thread_runs_jobs_and_stops():
    jobs = background.Background('vmhealth-test')
    done = []
    jobs.start()
    try:
        event = threading.Event()
        jobs.submit('key', lambda: (done.append(1), event.set()))
        assert event.wait(30)
    finally:
        jobs.stop(30)
    assert jobs._thread.name == 'vmhealth-test'
    assert not jobs._thread.is_alive()
    assert done == [1]
