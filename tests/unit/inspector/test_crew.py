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

"""Threads for what takes time, and what waits for the loop."""

import threading

import pytest

from nova_vmhealth import exception
from nova_vmhealth.inspector import crew
from nova_vmhealth.inspector import inbox

PATIENCE_S = 10


def test_a_job_and_its_result():
    one = crew.Crew('test', 2)
    job = one.submit(lambda: 7)
    assert job.wait(PATIENCE_S)
    assert (job.result, job.error) == (7, None)
    assert threading.current_thread().name != 'test-1'


def test_a_job_that_fails_ends_no_thread():
    one = crew.Crew('test', 1)
    failed = one.submit(lambda: 1 / 0)
    assert failed.wait(PATIENCE_S)
    assert isinstance(failed.error, ZeroDivisionError)
    assert one.submit(lambda: 7).wait(PATIENCE_S)


def test_as_many_threads_as_are_needed_up_to_its_size():
    one, go = crew.Crew('test', 3), threading.Event()
    jobs = [one.submit(lambda: (threading.current_thread().name,
                                go.wait(PATIENCE_S))) for _ in range(9)]
    assert not jobs[0].wait(0.05)
    assert one._threads == 3
    go.set()
    assert all(job.wait(PATIENCE_S) for job in jobs)
    assert {job.result[0] for job in jobs} == {'test-1', 'test-2', 'test-3'}
    for _ in range(5):
        assert one.submit(lambda: None).wait(PATIENCE_S)
    assert one._threads == 3


def test_more_jobs_than_may_wait():
    one, go = crew.Crew('test', 1, most=2), threading.Event()
    begun = threading.Event()
    one.submit(lambda: (begun.set(), go.wait(PATIENCE_S)))
    assert begun.wait(PATIENCE_S)
    jobs = [one.submit(lambda: None) for _ in range(3)]
    assert [job is None for job in jobs] == [False, False, True]
    go.set()
    assert jobs[1].wait(PATIENCE_S)


def test_a_call_and_its_result():
    call = inbox.Call(lambda: 7)
    call.run()
    # Not before it is written down.
    with pytest.raises(exception.LoopStuck):
        call.result(0.01)
    call.finish()
    assert call.result(0) == 7


def test_a_call_that_fails():
    call = inbox.Call(lambda: 1 / 0)
    call.run()
    call.finish()
    with pytest.raises(ZeroDivisionError):
        call.result(0)


def test_what_arrives_is_taken_in_order():
    box = inbox.Inbox()
    box.arrive(1)
    box.put(2)
    box.arrive(3)
    assert [box.take() for _ in range(len(box))] == [1, 2, 3]
    with pytest.raises(IndexError):
        box.take()


def test_beacons_do_not_wake_the_loop_and_calls_do():
    box = inbox.Inbox()
    for wake, put in ((False, box.arrive), (True, box.put)):
        put(1)
        assert box._wake.is_set() is wake
    box.wait(0)
    assert not box._wake.is_set()
    box.wake()
    assert box._wake.is_set()


def test_more_beacons_than_can_wait_and_still_calls(monkeypatch):
    monkeypatch.setattr(inbox, 'MAX_ARRIVALS', 2)
    box = inbox.Inbox()
    for number in range(5):
        box.arrive(number)
    box.put('call')
    assert [box.take() for _ in range(len(box))] == [0, 1, 'call']
    assert box.dropped == 3
