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

"""Events are built at once, kept until they are sent, and counted."""

import dataclasses
import json
import os
import threading

import pytest

from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import database
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import publisher
from tests.unit.notifications import examples
from tests.unit.notifications import host_examples
from tests.unit.notifications.test_outbox import held
from tests.unit.notifications.test_sender import Bus
from tests.unit.notifications.test_sender import StuckBus

PATIENCE_S = 30


class Rows(Bus):
    """Keeps the rows whole."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def send(self, row):
        super().send(row)
        self.rows.append(row)


@pytest.fixture
def path(tmp_path):
    return database.path_of(str(tmp_path), 'compute-1')


@pytest.fixture
def new(path):
    made = []

    def start(bus, **options):
        made.append(publisher.Publisher(bus, path, **options))
        made[-1].start()
        return made[-1]
    yield start
    for each in made:
        each.stop(PATIENCE_S)


def event(sequence=1, **changes):
    return dataclasses.replace(
        examples.LOST, sequence=sequence,
        event_id=f'0b5e8a4c-3a4e-4f0e-9f53-{sequence:012d}', **changes)


def submit(subject, *events):
    for each in events:
        subject.submit(each, examples.IDENTITY, None)


def sequences(bus):
    return [json.loads(row.payload)['nova_object.data']['sequence']
            for row in bus.rows]


def away():
    bus = Rows()
    bus.up = False
    return bus


def test_a_row_has_all_that_its_sending_takes(new):
    bus = Rows()
    subject = new(bus)
    subject.submit(examples.LOST, examples.IDENTITY, examples.HEARTBEAT)
    subject.commit({})
    subject.stop(PATIENCE_S)
    [row] = bus.rows
    assert json.loads(row.payload) == payload.payload_of(
        examples.LOST, examples.IDENTITY, examples.HEARTBEAT)
    assert (row.event_id, row.event_type, row.about, row.priority) == (
        examples.LOST.event_id, 'instance.health', examples.IDENTITY.uuid,
        'info')
    assert (row.project_id, row.user_id) == (
        examples.IDENTITY.tenant_id, examples.IDENTITY.user_id)
    assert (row.cause, row.transition) == ('heartbeat_lost', 'raised')


def test_a_hosts_row_is_of_no_project(new):
    bus = Rows()
    subject = new(bus, priority='severity')
    sample = host_examples.HOST_SAMPLES['host-health-storage_fault-raised']
    subject.submit_host(*sample)
    subject.commit({})
    subject.stop(PATIENCE_S)
    [row] = bus.rows
    assert json.loads(row.payload) == payload.host_payload_of(*sample)
    assert (row.event_type, row.about, row.subject, row.priority) == (
        'host.health', 'compute-1', 'nfs4:store-1:/instances', 'error')
    assert (row.project_id, row.user_id) == (None, None)


def maintenance(stage, number=1, **changes):
    return dataclasses.replace(
        host_examples.ANNOUNCED, stage=stage,
        event_id=f'e7f9c051-4263-5eaf-90b1-{number:012d}', **changes)


@pytest.mark.parametrize('stage, transition', [
    (v.MaintenanceStage.ANNOUNCED, 'raised'),
    (v.MaintenanceStage.CHANGED, 'updated'),
    (v.MaintenanceStage.STARTED, 'raised'),
    (v.MaintenanceStage.ENDED, 'cleared'),
    (v.MaintenanceStage.CANCELLED, 'cleared'),
])
@pytest.mark.parametrize('priority', ['info', 'severity'])
def test_a_row_of_maintenance_is_of_its_project(
        new, stage, transition, priority):
    bus = Rows()
    subject = new(bus, priority=priority)
    event = maintenance(stage)
    subject.submit_maintenance(event)
    subject.commit({})
    subject.stop(PATIENCE_S)
    [row] = bus.rows
    assert json.loads(row.payload) == payload.maintenance_payload_of(event)
    assert (row.event_id, row.event_type) == (
        event.event_id, 'instance.maintenance')
    assert (row.cause, row.subject, row.transition, row.priority) == (
        'maintenance', '', transition, 'info')
    assert (row.project_id, row.user_id) == (event.project_id, None)


def host_event(number, host, subject=''):
    return dataclasses.replace(
        host_examples.LOST, transition=v.Transition.UPDATED, subject=subject,
        event_id=f'e7c1d2b3-4a5f-4e60-8b71-{number:012d}'), host, {}


def test_what_is_told_of_others_makes_nothing_superfluous(new):
    """A full outbox drops only what a later event of the same says better."""
    subject = new(away(), max_events=1)
    changed = v.MaintenanceStage.CHANGED
    for number, host, backend in (
            (1, 'a', ''), (2, 'b', ''), (3, 'a', 'nfs'), (4, 'a', '')):
        subject.submit_host(*host_event(number, host, backend))
    for number, changes in enumerate((
            {}, {'project_id': 'other'},
            {'window_id': 'f80ad162-5374-4fb0-a1c2-3d4e5f607101'}, {})):
        subject.submit_maintenance(maintenance(changed, number, **changes))
    subject.commit({})
    found = subject.statistics()
    # the first of host a, and the first of the window
    assert found['notifications_coalesced'] == 2
    assert found['notifications_dropped_updated'] == 5


def test_the_start_of_maintenance_says_what_its_change_said(new):
    subject = new(away(), max_events=2)
    for number, stage in enumerate(v.MaintenanceStage):
        subject.submit_maintenance(maintenance(stage, number))
    subject.commit({})
    found = subject.statistics()
    assert found['notifications_coalesced'] == 1
    assert found['notifications_dropped_cleared'] == 2
    assert found['notifications_dropped_raised'] == 0


@pytest.mark.parametrize('submit_bad, about', [
    (lambda subject: subject.submit_host(
        *host_event(1, 'half\ud800')), 'half'),
    (lambda subject: subject.submit_host(
        host_examples.LOST, None, {}), 'None'),
    (lambda subject: subject.submit_maintenance(maintenance(
        v.MaintenanceStage.STARTED, starts_at=None)),
     host_examples.ANNOUNCED.window_id),
    (lambda subject: subject.submit_maintenance(maintenance(
        v.MaintenanceStage.STARTED, project_id='\ud800')),
     host_examples.ANNOUNCED.window_id),
])
def test_what_cannot_be_told_of_hosts_fails_alone(
        new, caplog, submit_bad, about):
    bus = Rows()
    subject = new(bus)
    submit(subject, event(1))
    submit_bad(subject)
    submit(subject, event(2))
    subject.commit({})
    subject.stop(PATIENCE_S)
    assert sequences(bus) == [1, 2]
    assert subject.statistics()['notifications_failed'] == 1
    [record] = [each for each in caplog.records if each.levelname == 'ERROR']
    assert about in record.getMessage()


@pytest.mark.parametrize('priority, severity, transition, expected', [
    ('info', v.Severity.CRITICAL, v.Transition.RAISED, 'info'),
    ('info', v.Severity.WARNING, v.Transition.RAISED, 'info'),
    ('severity', v.Severity.CRITICAL, v.Transition.RAISED, 'error'),
    ('severity', v.Severity.CRITICAL, v.Transition.CLEARED, 'error'),
    ('severity', v.Severity.WARNING, v.Transition.RAISED, 'warn'),
    ('severity', v.Severity.INFO, v.Transition.RAISED, 'info'),
])
def test_priority(new, priority, severity, transition, expected):
    bus = Rows()
    subject = new(bus, priority=priority)
    submit(subject, event(severity=severity, transition=transition))
    subject.commit({})
    subject.stop(PATIENCE_S)
    assert [row.priority for row in bus.rows] == [expected]


@pytest.mark.parametrize('priority', ['error', 'INFO', '', None])
def test_refuses_another_priority(priority):
    with pytest.raises(ValueError, match='priority'):
        publisher.Publisher(Bus(), priority=priority)


def test_nothing_is_sent_before_it_is_committed(new):
    bus = Rows()
    subject = new(bus)
    submit(subject, event(1), event(2))
    assert subject.statistics()['notifications_waiting'] == 0
    assert bus.tries == {}
    subject.commit({'page': 'text'})
    assert subject.saved_pages() == {'page': 'text'}
    subject.stop(PATIENCE_S)
    assert sequences(bus) == [1, 2]
    found = subject.statistics()
    assert found['notifications_sent'] == 2
    assert found['notifications_waiting'] == 0


def test_what_the_bus_did_not_take_is_sent_by_the_next_run(new, caplog):
    caplog.set_level('INFO')
    first = new(away())
    submit(first, event(1), event(2))
    first.commit({'a': '1', 'b': '2'})
    submit(first, event(3))                 # not committed when it stops
    first.stop(PATIENCE_S)
    # the third's page is not known: the next run may use its number
    assert '2 health events stay on disk' in caplog.text
    bus = Rows()
    second = new(bus)
    assert second.saved_pages() == {'a': '1', 'b': '2'}
    submit(second, event(4))
    second.commit({'a': None})
    second.stop(PATIENCE_S)
    assert sequences(bus) == [1, 2, 4]
    assert '2 health events of an earlier run' in caplog.text
    third = new(Rows())
    assert third.saved_pages() == {'b': '2'}
    assert third.statistics()['notifications_waiting'] == 0


def test_a_process_that_is_killed_loses_nothing_committed(new):
    """The second opens what the first never closed."""
    first = new(away())
    submit(first, event(1), event(2))
    first.commit({'page': 'text'})
    submit(first, event(3))                 # its turn is not over
    bus = Rows()
    second = new(bus)
    assert second.saved_pages() == {'page': 'text'}
    second.stop(PATIENCE_S)
    assert sequences(bus) == [1, 2]


@pytest.mark.parametrize('bad', [
    {'occurred_at': float('nan')}, {'subject': '\ud800'},
    {'details': {'a': object()}},
])
def test_an_event_that_cannot_be_told_fails_alone(new, caplog, bad):
    bus = Rows()
    subject = new(bus)
    submit(subject, event(1), event(2, **bad), event(3))
    subject.commit({'page': 'text'})
    subject.stop(PATIENCE_S)
    assert sequences(bus) == [1, 3]
    assert subject.statistics()['notifications_failed'] == 1
    [record] = [each for each in caplog.records if each.levelname == 'ERROR']
    assert record.exc_info
    assert event(2).event_id in record.getMessage()
    assert examples.LOST.instance_uuid in record.getMessage()


def told(sequence, transition, uuid):
    return event(sequence, transition=transition, instance_uuid=uuid)


def test_drops_are_counted_by_kind_and_a_fault_is_never_silent(new, caplog):
    raised, updated, cleared = (
        v.Transition.RAISED, v.Transition.UPDATED, v.Transition.CLEARED)
    subject = new(away(), max_events=2)
    submit(subject,
           told(1, updated, 'a'), told(2, updated, 'a'),
           told(3, cleared, 'b'), told(4, updated, 'c'),
           told(5, raised, 'd'), told(6, raised, 'e'), told(7, raised, 'f'))
    subject.commit({})
    found = subject.statistics()
    assert found['notifications_coalesced'] == 1
    assert found['notifications_dropped_cleared'] == 1
    assert found['notifications_dropped_updated'] == 2
    assert found['notifications_dropped_raised'] == 1
    assert found['notifications_waiting'] == 2
    lines = [each.getMessage() for each in caplog.records
             if each.name == publisher.__name__]
    [one] = [line for line in lines if 'is dropped' in line]
    assert event(5).event_id in one and 'heartbeat_lost of d' in one
    [many] = [line for line in lines if 'Too many' in line]
    assert '1 were dropped that a later one replaces, and 4 others' in many

    submit(subject, told(8, raised, 'g'))
    subject.commit({})
    lines = [each.getMessage() for each in caplog.records
             if each.name == publisher.__name__]
    assert len([line for line in lines if 'is dropped' in line]) == 2
    assert len([line for line in lines if 'Too many' in line]) == 1


def test_a_stuck_broker_holds_up_nobody_else(new, caplog):
    caplog.set_level('INFO')
    bus = StuckBus()
    subject = new(bus)
    submit(subject, event(1))
    subject.commit({})
    assert bus.entered.wait(PATIENCE_S)
    submit(subject, event(2), event(3))
    subject.commit({'page': 'text'})
    assert subject.statistics()['notifications_waiting'] == 3
    [sender] = [each for each in threading.enumerate()
                if each.name == 'vmhealth-sender']
    subject.stop(0)
    assert '3 health events stay on disk' in caplog.text
    bus.release.set()
    sender.join(PATIENCE_S)
    assert not sender.is_alive()


def test_in_memory_what_is_left_is_said_to_be_lost(caplog):
    subject = publisher.Publisher(away())
    subject.start()
    submit(subject, event(1))
    subject.commit({})
    assert subject.statistics()['notifications_on_disk'] == 0
    subject.stop(PATIENCE_S)
    assert '1 health events were not sent' in caplog.text


def test_events_survive_a_disk_that_takes_no_more(new, path):
    bus = away()
    subject = new(bus)
    submit(subject, event(1))
    subject.commit({'page': 'text'})
    connection = subject._outbox._database._connection
    used = connection.execute('PRAGMA page_count').fetchone()[0]
    connection.execute('PRAGMA max_page_count = %d' % used)
    submit(subject, *map(event, range(2, 31)))
    subject.commit({'page': 'new'})
    found = subject.statistics()
    assert found['notifications_on_disk'] == 0
    assert found['notifications_waiting'] == 30
    assert subject.saved_pages() == {'page': 'new'}
    bus.up = True
    subject.stop(PATIENCE_S)
    assert sequences(bus) == list(range(1, 31))


def test_a_commit_that_fails_loses_nothing(new):
    """Whatever it was: it goes with the next."""
    subject = new(away())
    real = subject._outbox.write

    def write(rows, pages):
        subject._outbox.write = real
        raise MemoryError
    subject._outbox.write = write
    submit(subject, event(1))
    with pytest.raises(MemoryError):
        subject.commit({'a': '1', 'b': '1'})
    assert subject.is_behind
    assert subject.statistics()['notifications_waiting'] == 0
    submit(subject, event(2))
    assert subject.commit({'b': '2'})
    assert not subject.is_behind
    assert subject.statistics()['notifications_waiting'] == 2
    assert subject.saved_pages() == {'a': '1', 'b': '2'}


def test_a_file_that_somebody_holds_is_waited_for(new, path, caplog):
    bus = Rows()
    subject = new(bus)
    with held(path):
        for sequence in (1, 2):
            submit(subject, event(sequence))
            assert not subject.commit({'page': str(sequence)})
        assert subject.is_behind
    [record] = caplog.records
    assert record.levelname == 'WARNING' and 'locked' in record.getMessage()
    assert subject.commit({})
    assert subject.saved_pages() == {'page': '2'}
    assert subject.statistics()['notifications_on_disk'] == 1
    assert not subject.was_renewed()
    subject.stop(PATIENCE_S)
    assert sequences(bus) == [1, 2]


def test_another_store_is_told_once(new):
    subject = new(away())
    assert not subject.was_renewed()
    connection = subject._outbox._database._connection
    used = connection.execute('PRAGMA page_count').fetchone()[0]
    connection.execute('PRAGMA max_page_count = %d' % used)
    submit(subject, *map(event, range(1, 31)))
    assert subject.commit({})
    assert subject.was_renewed()
    assert not subject.was_renewed()


def test_before_the_start_and_after_the_stop_nothing_breaks(path):
    bus = Rows()
    subject = publisher.Publisher(bus, path)
    submit(subject, event(1))
    subject.commit({'page': 'text'})
    subject.stop(PATIENCE_S)
    assert not os.path.exists(path)
    subject.start()
    subject.commit({})
    subject.stop(PATIENCE_S)
    assert sequences(bus) == [1]
    submit(subject, event(2))
    subject.commit({'page': 'text'})
    subject.stop(PATIENCE_S)
    assert sequences(bus) == [1]
    assert subject.statistics()['notifications_waiting'] == 0
