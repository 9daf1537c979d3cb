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



"""The worker's turns: what waits is handled, then written down at once."""

import types

import pytest

from nova_vmhealth.core import ledger
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import inbox
from nova_vmhealth.virt import worker
from tests.unit.virt import fakes
from tests.unit.virt.fakes import entry
from tests.unit.virt.fakes import see
from tests.unit.virt.fakes import UUID


class Anything:
    """Takes every call and returns nothing."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


class Losses(Anything):
    def observed(self, observation, policy, now, wall):
        return observation

    def told(self, event, policy, now, wall):
        return event


class Diary:
    """A publisher, a saved ledger and a reporter that keep one list.

    :ivar lines: what was done, in its order
    """

    def __init__(self):
        self.lines = []
        self.broken = False

    def tell(self, event, _entry):
        self.lines.append(event.cause.value)

    def changes(self, now, wall):
        return {UUID: 'page'}

    def commit(self, pages):
        if self.broken:
            raise OSError('no disk')
        self.lines.append(('commit', pages))


class Reconciler:
    """Answers each item with a fault."""

    def __init__(self):
        self.taken = []

    def take(self, item, now, wall):
        self.taken.append(item)
        return [see(Kind.FAULT, cause=Cause.NOT_RUNNING)]

    def next_deadline(self):
        return None

    def handle_timer(self, now):
        pass


@pytest.fixture
def made():
    diary, cache = Diary(), fakes.Cache()
    cache.entries[UUID] = entry(UUID)
    parts = worker.Parts(
        inbox=inbox.Inbox(1000), cache=cache,
        ledger=ledger.Ledger(ledger.Settings(), lambda: 'id'), saved=diary,
        publisher=diary, reporter=diary, steering=Anything(),
        enquiries=Anything(), reconciler=Reconciler(),
        arrivals=types.SimpleNamespace(claim=lambda uuid: ()),
        losses=Losses(), notices=Anything(), trouble=Anything(),
        backgrounds=())
    return types.SimpleNamespace(
        parts=parts, diary=diary,
        worker=worker.Worker(parts, 'compute1', 10.0))


FAULT = see(Kind.FAULT, cause=Cause.WATCHDOG_EXPIRED)
OTHER_FAULT = see(Kind.FAULT, cause=Cause.MEMORY_FAILURE)


def test_what_waits_is_written_down_together(made):
    made.parts.inbox.put(FAULT)
    made.parts.inbox.put(OTHER_FAULT)
    made.worker.turn(0)
    assert made.diary.lines == ['watchdog_expired', 'memory_failure',
                                ('commit', {UUID: 'page'})]


def test_a_burst_is_written_down_in_parts(made, monkeypatch):
    monkeypatch.setattr(worker, 'MAX_TURN_S', 0)
    made.parts.inbox.put(FAULT)
    made.parts.inbox.put(OTHER_FAULT)
    made.worker.turn(0)
    made.worker.turn(0)
    assert [line[0] == 'commit' for line in made.diary.lines] == [
        False, True, False, True]


def test_a_turn_without_an_item_is_for_the_deadlines(made):
    made.worker.turn(0)
    assert made.diary.lines == [('commit', {UUID: 'page'})]


def test_a_defect_in_one_item_does_not_lose_the_others(made):
    made.parts.inbox.put(see(Kind.FAULT, cause='no cause'))
    made.parts.inbox.put(FAULT)
    made.worker.turn(0)
    assert made.diary.lines[0] == 'watchdog_expired'


def test_nor_does_a_disk_that_fails(made):
    made.diary.broken = True
    made.parts.inbox.put(FAULT)
    made.worker.turn(0)
    made.diary.broken = False
    made.parts.inbox.put(OTHER_FAULT)
    made.worker.turn(0)
    assert made.diary.lines[1:] == ['memory_failure',
                                    ('commit', {UUID: 'page'})]


def test_what_is_no_item_of_others_is_the_reconcilers(made):
    made.parts.inbox.put('found')
    made.worker.turn(0)
    assert made.parts.reconciler.taken == ['found']
    assert made.diary.lines[0] == 'not_running'


def test_a_call_is_answered_once_it_is_on_disk(made):
    def work():
        assert not asked.done.is_set()
        made.diary.lines.append('called')
        return 'answer'
    asked = worker.Call(work)
    made.parts.inbox.put(asked)
    made.diary.commit = lambda pages: made.diary.lines.append(
        asked.done.is_set())
    made.worker.turn(0)
    assert made.diary.lines == ['called', False]
    assert asked.done.is_set()
    assert asked.result == 'answer'


def test_a_call_that_fails_is_answered_too(made):
    asked = worker.Call(lambda: 1 / 0)
    made.parts.inbox.put(asked)
    made.worker.turn(0)
    assert asked.done.is_set()
    assert asked.result is None


def test_who_calls_a_worker_that_does_not_run_is_not_held_up(made):
    assert made.worker.call(lambda: 'answer', timeout_s=0) is None


def test_a_call_comes_back_from_the_thread(made):
    made.worker.start()
    try:
        assert made.worker.call(lambda: 'answer', timeout_s=30) == 'answer'
    finally:
        made.worker.stop(timeout_s=30)


def test_what_waits_at_the_stop_is_written_down(made, monkeypatch):
    monkeypatch.setattr(worker, 'MAX_TURN_S', 0)
    for _ in range(3):
        made.parts.inbox.put(FAULT)
    made.worker._stopping = True
    made.worker.start()
    made.worker.stop(timeout_s=30)
    assert made.parts.inbox.depth == 0
    assert made.diary.lines[0] == 'watchdog_expired'
