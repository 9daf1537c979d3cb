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


class HostFaults(Anything):
    def handle_timer(self, now, wall):
        return ()


class Diary:
    """A publisher, a saved ledger and a reporter that keep one list.

    :ivar lines: what was done, in its order
    """

    def __init__(self):
        self.lines = []
        self.broken = False
        self.is_busy = False
        self.is_behind = False
        self.is_renewed = False

    def tell(self, event, _entry):
        self.lines.append(event.cause.value)

    def changes(self, now, wall):
        return {UUID: 'page'}

    def commit(self, pages):
        if self.broken:
            raise OSError('no disk')
        if not self.is_busy:
            self.lines.append(('commit', pages))
        return not self.is_busy

    def was_renewed(self):
        is_renewed, self.is_renewed = self.is_renewed, False
        return is_renewed

    def take_found(self):
        return {'found': 'page'}

    def go_on_after(self, records):
        self.lines.append(records)
        return []

    def rewrite_all(self):
        self.lines.append('rewrite')


class Reconciler:
    """Answers each item with a fault."""

    def __init__(self):
        self.taken = []
        self.seen = []

    def observed(self, observation, now):
        self.seen.append(observation.kind)

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
        host_faults=HostFaults(),
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
    real = made.diary.commit

    def commit(pages):
        made.diary.lines.append(asked.done.is_set())
        return real(pages)
    made.diary.commit = commit
    made.worker.turn(0)
    assert made.diary.lines[:2] == ['called', False]
    assert asked.done.is_set()
    assert asked.result == 'answer'


def test_a_call_that_fails_is_answered_too(made):
    asked = worker.Call(lambda: 1 / 0)
    made.parts.inbox.put(asked)
    made.worker.turn(0)
    assert asked.done.is_set()
    assert asked.result is None


@pytest.mark.parametrize('trouble', ['broken', 'is_busy'])
def test_a_call_whose_turn_is_not_on_disk_waits_for_the_next(made, trouble):
    asked = worker.Call(lambda: 'answer')
    made.parts.inbox.put(asked)
    setattr(made.diary, trouble, True)
    made.worker.turn(0)
    assert not asked.done.is_set()
    setattr(made.diary, trouble, False)
    made.worker.turn(0)
    assert asked.done.is_set()
    assert asked.result == 'answer'


def test_a_call_that_is_not_on_disk_in_time_has_no_result(made):
    asked = []

    def run(item):
        item.result = item.function()
        asked.append(item)
    made.parts.inbox.put = run
    assert made.worker.call(lambda: 'answer', timeout_s=0) is None
    assert asked[0].result == 'answer'


def test_a_store_that_is_new_gets_all_pages(made):
    made.diary.is_renewed = True
    made.worker.turn(0)
    assert made.diary.lines == [
        ('commit', {UUID: 'page'}), {'found': 'page'}, 'rewrite',
        ('commit', {UUID: 'page'})]
    made.worker.turn(0)
    assert made.diary.lines[4:] == [('commit', {UUID: 'page'})]


def test_what_could_not_be_written_is_soon_tried_again(made):
    made.parts.losses.next_deadline = lambda: None
    assert made.worker._patience() == worker.PATIENCE_S
    made.diary.is_behind = True
    assert made.worker._patience() == worker.BEHIND_S


def test_an_event_of_nobody_is_said_to_be_given_up(made, caplog):
    made.parts.inbox.put(FAULT)
    made.worker.turn(0)
    del made.parts.cache.entries[UUID]
    made.worker.tell(made.parts.ledger.observe(
        OTHER_FAULT, 0.0, 1.0, frozenset(Cause)))
    assert made.worker.given_up == 1
    [line] = [record.getMessage() for record in caplog.records]
    assert 'raised memory_failure, number 2' in line and UUID in line


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
    made.worker._run()
    assert made.parts.inbox.depth == 0
    assert made.diary.lines[0] == 'watchdog_expired'
