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

"""What is known of instances goes to disk and comes back, as text."""

import json
import logging

import pytest

from nova_vmhealth.core import ledger
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.virt import identity
from nova_vmhealth.virt import saved_ledger
from tests.unit.virt import fakes

UUID, OTHER = fakes.UUID, fakes.OTHER
WALL = 1_000_000.0
ALL = frozenset(Cause)


class Run:
    """One run of nova-compute, and what it finds on disk."""

    def __init__(self, disk, boot='1st boot'):
        self.disk = disk
        self.cache = identity.InstanceCache(fakes.LIMITS)
        self.ledger = ledger.Ledger(
            ledger.Settings(), iter(map(str, range(1000))).__next__)
        self.saved = saved_ledger.SavedLedger(self.ledger, self.cache, boot)
        self.saved.restore(dict(disk), 0.0, WALL)

    def see(self, kind, cause=None, subject='', uuid=UUID):
        if self.cache.get(uuid) is None:
            self.cache.restore(uuid, fakes.entry(
                uuid, heartbeat='true', interval_ms='250', action='reset'))
        return self.ledger.observe(
            Observation(kind, uuid, WALL, cause, subject), 0.0, WALL, ALL)

    def commit(self):
        """Write what has changed to disk; the names of it."""
        changes = self.saved.changes(0.0, WALL)
        for name, text in changes.items():
            if text is None:
                self.disk.pop(name, None)
            else:
                self.disk[name] = text
        return set(changes)


@pytest.fixture
def run():
    made = Run({})
    made.commit()
    return made


def test_a_page_comes_back_with_its_instance(run):
    run.see(Kind.HEARTBEAT_ESTABLISHED)
    run.see(Kind.FAULT, Cause.GUEST_UNHEALTHY, 'db')
    assert run.commit() == {UUID}
    assert run.commit() == set()

    again = Run(run.disk)
    assert again.saved.instances() == {UUID}
    assert again.saved.session_of(UUID) is Guest.BEATING
    assert again.saved.said_of(UUID) == {'db': Health.UNHEALTHY}
    assert again.saved.session_of(OTHER) is Guest.WAITING
    assert again.cache.get(UUID) == run.cache.get(UUID)
    assert again.commit() == set()


def test_what_nova_has_said_meanwhile_holds(run):
    run.see(Kind.HEARTBEAT_ESTABLISHED)
    run.commit()
    again = Run({})
    known = fakes.entry(UUID, host='elsewhere')
    again.cache.restore(UUID, known)
    again.saved.restore(run.disk, 0.0, WALL)
    assert again.cache.get(UUID) is known


def test_an_instance_that_has_left_is_dropped(run):
    run.see(Kind.FAULT, Cause.HEARTBEAT_LOST)
    run.commit()
    again = Run(run.disk)
    [event] = again.see(Kind.FORGOTTEN)
    assert event.cause is Cause.HEARTBEAT_LOST
    again.cache.forget(UUID)
    assert again.commit() == {UUID}
    assert UUID not in run.disk
    assert again.saved.instances() == set()


def test_a_page_of_nobody_is_not_kept(run):
    run.see(Kind.FAULT, Cause.HEARTBEAT_LOST)
    run.commit()
    run.see(Kind.HEARTBEAT_ESTABLISHED)
    run.cache.forget(UUID)
    run.commit()
    assert UUID not in run.disk


def test_half_a_character_keeps_nothing_from_the_disk(run):
    run.see(Kind.FAULT, Cause.IO_ERROR, 'vda\ud83d')
    run.commit()
    run.disk[UUID].encode()
    [condition] = Run(run.disk).ledger.conditions(UUID)
    assert condition.subject == 'vda?'


def test_after_a_boot_of_the_host_nobody_has_answered(run):
    run.see(Kind.HEARTBEAT_ESTABLISHED)
    run.see(Kind.FAULT, Cause.IO_ERROR, 'vda')
    run.commit()
    again = Run(run.disk, boot='2nd boot')
    assert again.saved.session_of(UUID) is Guest.WAITING
    assert again.ledger.conditions(UUID)
    assert again.commit() == {UUID, 'boot'}
    assert Run(run.disk, boot='2nd boot').saved.session_of(UUID) \
        is Guest.WAITING
    again.see(Kind.HEARTBEAT_ESTABLISHED)
    again.commit()
    assert Run(run.disk, boot='2nd boot').saved.session_of(UUID) \
        is Guest.BEATING


def test_a_guest_that_beat_when_it_was_saved_is_known(run):
    """The host may be booted meanwhile: its memory is on disk."""
    run.see(Kind.HEARTBEAT_ESTABLISHED)
    run.ledger.observe(
        Observation(Kind.STOPPED, UUID, WALL, details={'reason': 'saved'}),
        0.0, WALL, ALL)
    run.commit()
    again = Run(run.disk, boot='2nd boot')
    assert again.saved.beat_when_saved(UUID)
    assert not again.saved.beat_when_saved(OTHER)


@pytest.mark.parametrize('before, after', [('', ''), ('1st boot', '')])
def test_a_boot_that_is_not_told_from_another_may_be_one(before, after):
    run = Run({}, boot=before)
    run.see(Kind.HEARTBEAT_ESTABLISHED)
    run.commit()
    assert Run(run.disk, boot=after).saved.session_of(UUID) is Guest.WAITING


def test_a_kernel_that_does_not_tell_its_boots_stops_nobody(
        monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(saved_ledger, '_BOOT_ID', str(tmp_path / 'none'))
    assert saved_ledger.SavedLedger(None, None)._boot == ''
    assert 'No such file' in caplog.text


def test_the_boot_is_the_kernels():
    made = saved_ledger.SavedLedger(None, None)
    assert len(made._boot) == 36


@pytest.mark.parametrize('text', [
    '', 'no JSON', '[' * 100000, '[]', '{}', 'null', '{"page": {}}',
    '{"instance": {}}', None, 7, b'\xff'])
def test_what_cannot_be_read_is_said_and_dropped(run, text, caplog):
    run.see(Kind.HEARTBEAT_ESTABLISHED)
    run.commit()
    run.disk[OTHER] = text
    with caplog.at_level(logging.WARNING):
        again = Run(run.disk)
    assert [OTHER in record.getMessage()
            for record in caplog.records] == [True]
    assert again.saved.instances() == {UUID}
    assert again.commit() == {OTHER}
    assert again.commit() == set()


def _ways(value, way=()):
    yield way
    for key in value if isinstance(value, dict) else ():
        yield from _ways(value[key], (*way, key))


def test_a_bad_instance_is_refused(run):
    """Wherever it is bad; its page is of no use without it."""
    run.see(Kind.HEARTBEAT_ESTABLISHED)
    run.commit()
    whole = json.loads(run.disk[UUID])
    for way in _ways(whole['instance']):
        record = json.loads(run.disk[UUID])
        found = record
        *before, last = ('instance', *way)
        for key in before:
            found = found[key]
        found[last] = [7]
        again = Run({UUID: json.dumps(record)})
        assert again.saved.instances() == set(), way
        assert again.cache.get(UUID) is None
        assert again.saved.session_of(UUID) is Guest.WAITING


# -- records of other parts ---------------------------------------------------

def test_another_part_is_kept_beside_them(run):
    state = {'sequence': 7}
    run.saved.keep('host', lambda: state)
    assert run.commit() == {'host'}
    assert run.commit() == set()
    state = {'sequence': 8}
    assert run.commit() == {'host'}

    again = Run(run.disk)
    assert again.saved.kept('host') == {'sequence': 8}
    assert again.saved.kept('another') is None
    assert again.saved.instances() == set()
    again.saved.keep('host', lambda: {'sequence': 8})
    assert again.commit() == set()
    again.saved.keep('host', lambda: None)
    assert again.commit() == {'host'}
    assert 'host' not in run.disk
    assert again.saved.kept('host') is None


# -- what goes wrong ----------------------------------------------------------

def _fail(*_args):
    raise RuntimeError('a defect')


def test_a_part_without_a_record_keeps_nobody_from_the_disk(run, caplog):
    state = ['first']
    run.saved.keep('x', _fail)
    run.saved.keep('y', lambda: state)
    run.see(Kind.FAULT, Cause.HEARTBEAT_LOST)
    run.see(Kind.FAULT, Cause.HEARTBEAT_LOST, uuid=OTHER)
    assert run.commit() == {UUID, OTHER, 'y'}
    assert run.commit() == set()
    assert [record.getMessage() for record in caplog.records] == [
        'The record of x cannot be made']
    run.saved.keep('x', lambda: state)
    assert run.commit() == {'x'}


@pytest.mark.parametrize('owner, broken', [
    (saved_ledger.identity_record, 'record_of'),
    (ledger.Page, 'save'), (saved_ledger, '_text')])
def test_a_page_without_a_record_is_tried_again(
        run, owner, broken, monkeypatch, caplog):
    run.see(Kind.FAULT, Cause.HEARTBEAT_LOST)
    with monkeypatch.context() as patched:
        patched.setattr(owner, broken, _fail)
        assert run.commit() == set()
        assert run.commit() == set()
    assert len([record for record in caplog.records
                if UUID in record.getMessage()]) == 1
    assert run.commit() == {UUID}
    assert Run(run.disk).ledger.conditions(UUID)


def test_what_cannot_be_read_is_dropped_though_a_part_fails(run):
    run.disk[OTHER] = 'no JSON'
    again = Run(run.disk)
    again.saved.keep('x', _fail)
    assert again.commit() == {OTHER}


def test_all_is_written_to_a_store_that_is_new(run):
    run.saved.keep('x', lambda: 'something')
    run.saved.keep('y', lambda: None)
    run.see(Kind.HEARTBEAT_ESTABLISHED)
    run.see(Kind.FAULT, Cause.HEARTBEAT_LOST, uuid=OTHER)
    run.commit()
    whole = dict(run.disk)
    run.disk.clear()
    run.saved.rewrite_all()
    assert run.commit() == {UUID, OTHER, 'x', 'boot'}
    assert run.disk == whole
    assert run.commit() == set()


# -- of another release -------------------------------------------------------

def _changed(run, *way, value):
    record = found = json.loads(run.disk[UUID])
    for key in way[:-1]:
        found = found[key]
    found[way[-1]] = value
    run.disk[UUID] = json.dumps(record)


def test_of_another_form_the_sequence_is_used_and_that_is_said(run, caplog):
    run.see(Kind.FAULT, Cause.HEARTBEAT_LOST)
    run.commit()
    _changed(run, 'page', 'version', value=99)
    again = Run(run.disk)
    assert 'in part only' in caplog.text and UUID in caplog.text
    assert again.saved.instances() == {UUID}
    assert again.saved.session_of(UUID) is Guest.WAITING
    [event] = again.see(Kind.FAULT, Cause.HEARTBEAT_LOST)
    assert event.sequence == 2


def test_an_action_that_is_not_known_is_not_taken(run):
    run.see(Kind.HEARTBEAT_ESTABLISHED)
    run.commit()
    _changed(run, 'instance', 'policy', 'action', value='of another release')
    again = Run(run.disk)
    assert again.cache.get(UUID).policy.action is Action.NONE
    assert again.saved.session_of(UUID) is Guest.BEATING
