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

"""Two inspectors and their maintenance windows, with files, threads and locks.

Only the bus, Nova's API and the clock on the wall are the test's.
"""

import concurrent.futures
import json
import threading

import pytest

from nova_vmhealth.core import replica
from nova_vmhealth.inspector import enquiries
from nova_vmhealth.inspector import locks
from nova_vmhealth.inspector import maintenance
from nova_vmhealth.notifications import database
from nova_vmhealth.notifications import identity
from nova_vmhealth.notifications import publisher

NOW = 1_700_000_000.0
HOUR = 3600.0
PATIENCE_S = 30
HOST = 'compute-1'


class Bus:
    """A delivery that keeps what it is given, as long as it is up."""

    def __init__(self):
        self.up = True
        self.rows = []

    def send(self, row):
        if not self.up:
            raise ConnectionRefusedError('nobody there')
        self.rows.append(row)

    def close(self):
        pass


class Cloud:
    """Nova's API, the bus and the folders."""

    def __init__(self, folder):
        self.folder = folder
        self.bus = Bus()
        self.projects = ['red', 'blue']
        # While it is closed Nova's API does not answer.
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()

    def servers_of(self, host):
        self.asked.set()
        assert self.gate.wait(PATIENCE_S)
        return [identity.InstanceIdentity(
                    uuid=f'0b5e8a4c-3a4e-4f0e-9f53-{number:012d}',
                    name=f'vm-{number}', tenant_id=project)
                for number, project in enumerate(self.projects)]

    def told(self):
        """What has come over the bus, each event once, as words."""
        events = {}
        for row in self.bus.rows:
            data = json.loads(row.payload)['nova_object.data']
            assert row.project_id == data['tenant_id']
            assert HOST not in row.payload
            events[row.event_id] = (
                data['tenant_id'], data['stage'], data['instance_count'])
        return list(events.values())


class Inspector:
    """One of them; its loop is :meth:`turn`."""

    def __init__(self, cloud, name):
        self.cloud = cloud
        self.name = name
        self._locks = locks.Locks(f'file://{cloud.folder}/locks', name)
        self._pool = concurrent.futures.ThreadPoolExecutor(4)
        self.jobs = []
        self.publisher = publisher.Publisher(
            cloud.bus, database.path_of(str(cloud.folder), name))
        self.publisher.start()
        self.replica = replica.Replica(name)
        self.replica.merge(
            {key: json.loads(text) for key, text
             in self.publisher.saved_pages().items()}, NOW)
        self.replica.take_changes()
        self.keeper = maintenance.MaintenanceKeeper(
            self.replica, self.publisher.submit_maintenance,
            cloud.servers_of, self._submit, self._locks.hold, hold_s=0.0)

    def _submit(self, job):
        self.jobs.append(self._pool.submit(job))

    def wait(self):
        """Wait until all that was asked is answered."""
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job.result(PATIENCE_S)
        return bool(jobs)

    def commit(self):
        keys = self.replica.take_changes()
        records = self.replica.records(keys)
        assert self.publisher.commit({
            key: json.dumps(records[key]) if key in records else None
            for key in keys})

    def turn(self, wall):
        self.keeper.handle_timer(wall)
        while self.wait():
            self.keeper.handle_timer(wall)
        self.commit()

    def sync(self, other, wall):
        other.replica.merge(
            json.loads(json.dumps(self.replica.records())), wall)
        other.commit()

    def stop(self):
        self.publisher.stop(PATIENCE_S)
        self._pool.shutdown()
        self._locks.close()


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)


@pytest.fixture
def start(cloud):
    running = []

    def start(name):
        running.append(Inspector(cloud, name))
        return running[-1]
    yield start
    cloud.gate.set()
    for each in running:
        each.stop()


def announce(inspector, wall=NOW):
    inspector.keeper.set(
        {'host': HOST, 'starts_at': NOW + HOUR, 'ends_at': NOW + 2 * HOUR,
         'reason': 'new memory'}, wall)
    inspector.commit()


def stages(cloud):
    return [(project, stage) for project, stage, _ in cloud.told()]


ANNOUNCED = [('blue', 'announced'), ('red', 'announced')]
STARTED = [('blue', 'started'), ('red', 'started')]
ENDED = [('blue', 'ended'), ('red', 'ended')]


def finish(*inspectors):
    for each in inspectors:
        each.stop()


def test_one_announces_the_other_goes_on(start, cloud):
    one, two = start('one'), start('two')
    announce(one)
    one.sync(two, NOW)
    one.turn(NOW)
    one.sync(two, NOW)
    two.turn(NOW + 1)
    one.stop()
    cloud.projects = ['red', 'red', 'green']
    two.turn(NOW + HOUR)
    two.turn(NOW + 2 * HOUR)
    finish(two)
    assert cloud.told() == [
        ('blue', 'announced', 1), ('red', 'announced', 1),
        ('blue', 'started', 0), ('red', 'started', 2), ('green', 'started', 1),
        ('blue', 'ended', 0), ('red', 'ended', 2), ('green', 'ended', 1)]
    assert len(cloud.bus.rows) == len(cloud.told())


def test_both_at_once_make_one(start, cloud):
    """One waits for Nova with the lock, and so the other leaves it to it."""
    one, two = start('one'), start('two')
    announce(one)
    one.sync(two, NOW)
    cloud.gate.clear()
    one.keeper.handle_timer(NOW)
    assert cloud.asked.wait(PATIENCE_S)
    two.turn(NOW)
    assert two.keeper.next_deadline(NOW) == NOW + enquiries.HELD_S
    cloud.gate.set()
    one.turn(NOW)
    one.sync(two, NOW)
    two.turn(NOW + enquiries.HELD_S)
    finish(one, two)
    assert stages(cloud) == ANNOUNCED
    assert len(cloud.bus.rows) == 2


def test_nothing_is_lost_by_an_end_between_telling_and_writing(start, cloud):
    one = start('one')
    announce(one)
    one.keeper.handle_timer(NOW)
    one.wait()
    one.keeper.handle_timer(NOW)
    one.stop()                  # and no commit
    assert cloud.told() == []
    one = start('one')
    one.turn(NOW)
    finish(one)
    assert stages(cloud) == ANNOUNCED


def test_nothing_is_told_twice_by_an_end_between_writing_and_sending(
        start, cloud):
    one = start('one')
    announce(one)
    cloud.bus.up = False
    one.turn(NOW)
    one.stop()
    assert cloud.told() == []
    cloud.bus.up = True
    one = start('one')
    one.turn(NOW)
    one.turn(NOW + HOUR)
    finish(one)
    assert stages(cloud) == ANNOUNCED + STARTED
    assert len(cloud.bus.rows) == 4


def test_what_ended_while_none_ran(start, cloud):
    one = start('one')
    announce(one)
    one.turn(NOW)
    one.turn(NOW + HOUR)
    one.stop()
    one = start('one')
    one.turn(NOW + 9 * HOUR)
    one.turn(NOW + 9 * HOUR + 1)
    finish(one)
    assert stages(cloud) == ANNOUNCED + STARTED + ENDED
    # Nothing of it is left, but that it was.
    again = start('one')
    assert again.replica.items('') == {}
    assert again.keeper.next_deadline(NOW + 9 * HOUR) is None


def test_withdrawn_at_one_it_is_over_at_both(start, cloud):
    one, two = start('one'), start('two')
    announce(one)
    one.turn(NOW)
    one.sync(two, NOW)
    two.keeper.unset(HOST, None, NOW + 60)
    two.commit()
    two.sync(one, NOW + 60)
    assert one.keeper.windows_of(HOST, NOW + 60) == ()
    one.turn(NOW + 60)
    finish(one, two)
    assert stages(cloud) == ANNOUNCED + [
        ('blue', 'cancelled'), ('red', 'cancelled')]
