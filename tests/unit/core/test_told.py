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

"""The last event of an instance: kept by its page, also over a restart."""

import json

import pytest

from nova_vmhealth.core import ledger
from nova_vmhealth.core import saving
from nova_vmhealth.core.told import Told
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth import exception

UUID = 'a'
WANTED = frozenset(Cause)
RAISED, CLEARED = Transition.RAISED, Transition.CLEARED
TOLD = Told(7, RAISED, Cause.IO_ERROR, 'virtio-disk0', 5.5)


@pytest.fixture
def book():
    return ledger.Ledger(ledger.Settings(), lambda: 'id')


def fault(book, now, subject='', cause=Cause.IO_ERROR):
    return book.observe(Observation(Kind.FAULT, UUID, now, cause, subject),
                        now, now, WANTED)


def again(book, change=lambda page: None):
    """Another run's ledger, with what this one has written down."""
    (record,) = book.changed(UUID, 1.0, 1.0).values()
    record = json.loads(json.dumps(record))
    change(record)
    other = ledger.Ledger(ledger.Settings(), lambda: 'id')
    other.restore(UUID, record, 1.0, 1.0)
    return other


def test_written_down_and_read_again():
    record = json.loads(json.dumps(TOLD.save()))
    assert Told.restored(saving.Record(record)) == TOLD


@pytest.mark.parametrize('change', [
    {'sequence': -1}, {'sequence': '7'}, {'transition': 'gone'},
    {'cause': 'bad mood'}, {'subject': None}, {'occurred_at': None},
])
def test_a_bad_record_is_refused(change):
    with pytest.raises(exception.InvalidRecord):
        Told.restored(saving.Record({**TOLD.save(), **change}))


def test_nothing_was_told_of_whom_nothing_was_told(book):
    assert book.last_told(UUID) is None
    book.observe(Observation(Kind.RESUMED, UUID, 1.0), 1.0, 1.0, WANTED)
    assert book.last_told(UUID) is None


def test_the_last_of_all_events(book):
    fault(book, 1.0, 'virtio-disk0')
    assert book.last_told(UUID) == Told(
        1, RAISED, Cause.IO_ERROR, 'virtio-disk0', 1.0)
    fault(book, 2.0, cause=Cause.MEMORY_FAILURE)
    assert book.last_told(UUID) == Told(
        2, RAISED, Cause.MEMORY_FAILURE, '', 2.0)
    book.observe(
        Observation(Kind.RECOVERED, UUID, 3.0, Cause.IO_ERROR,
                    'virtio-disk0'), 3.0, 3.0, WANTED)
    assert book.last_told(UUID) == Told(
        3, CLEARED, Cause.IO_ERROR, 'virtio-disk0', 3.0)


def test_kept_over_a_restart(book):
    fault(book, 1.0, 'virtio-disk0')
    assert again(book).last_told(UUID) == book.last_told(UUID) is not None


def test_none_is_kept_over_a_restart_too(book):
    book.observe(Observation(Kind.STARTED, UUID, 1.0), 1.0, 1.0, WANTED)
    assert again(book).last_told(UUID) is None


@pytest.mark.parametrize('change', [
    lambda record: record.pop('last'),          # an older release's
    lambda record: record['last'].update(cause='bad mood'),     # a later's
])
def test_the_record_of_another_release_costs_nothing_else(book, change):
    fault(book, 1.0)
    other = again(book, change)
    assert other.last_told(UUID) is None
    assert [each.cause for each in other.conditions(UUID)] == [Cause.IO_ERROR]
    (event,) = fault(other, 2.0, 'vdb')
    assert event.sequence == 2


def test_has_the_number_that_the_event_was_told_with(book):
    book.defer(UUID)
    assert fault(book, 1.0) == []       # kept back for another host's number
    (event,) = book.adopt(UUID, 41)
    assert event.sequence == book.last_told(UUID).sequence == 42


def test_nothing_was_told_here_yet_of_whom_another_host_told(book):
    book.adopt(UUID, 41)
    assert book.last_told(UUID) is None
    book.leave(UUID, 2.0, 2.0)
    assert book.last_told(UUID) is None


def test_the_number_of_an_event_told_here_is_not_another_hosts(book):
    fault(book, 1.0)
    book.adopt(UUID, 41)
    assert book.last_told(UUID).sequence == 1
