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

import pytest

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


def test_a_failing_job_does_not_put_off_what_was_asked_anew():
    _, jobs = make()

    def fail():
        jobs.submit('key', lambda: 'new')
        raise RuntimeError('libvirt is away')
    jobs._do('key', fail)
    (_, function), _ = jobs.next_job(0.0)
    assert function() == 'new'


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


class Hung:
    """A Background whose jobs wait until the test lets go of them."""

    def __init__(self, monkeypatch, stuck_s=30.0):
        self.now = 0.0
        self.lines = []
        for level in ('warning', 'error'):
            monkeypatch.setattr(
                background.LOG, level,
                lambda text, values: self.lines.append(text % values))
        self.jobs = background.Background(
            'vmhealth-test', monotonic=lambda: self.now, stuck_s=stuck_s)
        self.gate = threading.Event()
        self.threads = []
        self.jobs.start()

    def hang(self, key):
        begun = threading.Event()

        def job():
            self.threads.append(threading.current_thread())
            begun.set()
            assert self.gate.wait(30)
        self.jobs.submit(key, job)
        assert begun.wait(30)

    def submit(self, key):
        done = threading.Event()
        self.jobs.submit(key, done.set)
        return done

    def close(self):
        self.gate.set()
        self.jobs.stop(30)
        for thread in self.threads:
            thread.join(30)


@pytest.fixture
def hung(monkeypatch):
    made = Hung(monkeypatch)
    yield made
    made.close()


def test_a_job_that_does_not_come_back_gives_way(hung):
    hung.hang('first')
    other = hung.submit('other')
    hung.now = 29.9
    hung.jobs.tend()
    assert not other.is_set() and not hung.lines
    hung.now = 30.0
    assert hung.submit('third').wait(30)        # submit() looks by itself
    assert other.wait(30)
    assert hung.lines == ['first has not come back for 30 s, the rest goes '
                          'on without it']
    hung.gate.set()
    (old,) = hung.threads
    old.join(30)
    assert not old.is_alive() and hung.jobs._thread.is_alive()
    assert hung.jobs._stuck == 0
    assert hung.submit('fourth').wait(30)


def test_only_so_many_are_replaced(hung, monkeypatch):
    monkeypatch.setattr(background, 'MAX_STUCK', 2)
    for number in range(3):
        hung.hang(f'job {number}')
        hung.now += 30.0
        hung.jobs.tend()
    rest = hung.submit('rest')
    hung.jobs.tend()
    assert not rest.is_set()
    assert len(hung.lines) == 3                 # the limit is told once
    assert hung.lines[-1].startswith('vmhealth-test: 3 jobs do not come back')
    hung.gate.set()
    assert rest.wait(30)


def test_a_thread_whose_jobs_end_by_themselves_is_not_replaced(monkeypatch):
    hung = Hung(monkeypatch, stuck_s=None)
    hung.hang('first')
    hung.now = 1000.0
    rest = hung.submit('rest')
    assert not rest.is_set() and not hung.lines
    hung.close()
