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


"""What the ledger knows is in every store that takes the place of another."""

import os
import types

from oslo_utils import uuidutils
import pytest

from nova_vmhealth.core import host_standing
from nova_vmhealth.core import ledger
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.notifications import database
from nova_vmhealth.notifications import publisher
from nova_vmhealth.notifications import tables
from nova_vmhealth.virt import inbox
from nova_vmhealth.virt import reporting
from nova_vmhealth.virt import saved_ledger
from nova_vmhealth.virt import worker
from tests.unit.notifications.test_sender import Bus
from tests.unit.virt import fakes
from tests.unit.virt.fakes import entry
from tests.unit.virt.fakes import see
from tests.unit.virt.test_worker import Anything
from tests.unit.virt.test_worker import HostFaults
from tests.unit.virt.test_worker import Losses
from tests.unit.virt.test_worker import Reconciler

MANY = [f'6f70656e-7374-6163-6b20-{n:012x}' for n in range(50)]


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Run:
    """One run of nova-compute, as far as it keeps and sends.

    :ivar store: its Database
    """

    def __init__(self, path):
        bus = Bus()
        bus.up = False
        self.clock = Clock()
        self.publisher = publisher.Publisher(bus, path)
        self.store = self.publisher._outbox._database
        self.store._clock = self.clock
        self.publisher.start()
        cache = fakes.Cache()
        for uuid in MANY:
            cache.entries[uuid] = entry(uuid)
        book = ledger.Ledger(ledger.Settings(), uuidutils.generate_uuid)
        self.saved = saved_ledger.SavedLedger(book, cache, 'boot')
        self.saved.restore(self.publisher.saved_pages(), 0.0, 0.0)
        self.inbox = inbox.Inbox(1000)
        self.worker = worker.Worker(worker.Parts(
            inbox=self.inbox, cache=cache, ledger=book, saved=self.saved,
            publisher=self.publisher, steering=Anything(),
            reporter=reporting.Reporter(
                self.publisher, 'compute1', cache.get, lambda uuid: None,
                host_standing.HostStanding()),
            enquiries=Anything(), reconciler=Reconciler(),
            arrivals=types.SimpleNamespace(claim=lambda uuid: ()),
            losses=Losses(), notices=Anything(), trouble=Anything(),
            host_faults=HostFaults(),
            backgrounds=()), 'compute1', 10.0)

    def fault(self, *uuids, cause=Cause.WATCHDOG_EXPIRED):
        for uuid in uuids:
            self.inbox.put(see(Kind.FAULT, cause=cause, uuid=uuid))
        while self.inbox.depth:
            self.worker.turn(0)

    def sequences(self):
        """What the store says of each instance."""
        self.worker.turn(0)
        return {uuid: page.partition('"sequence":')[2].partition(',')[0]
                for uuid, page in self.publisher.saved_pages().items()
                if uuid in MANY}


@pytest.fixture
def path(tmp_path):
    return database.path_of(str(tmp_path / 'state'), 'compute1')


@pytest.fixture
def start(path):
    made = []

    def new():
        made.append(Run(path))
        return made[-1]
    yield new
    for each in made:
        each.publisher.stop(30)


def test_a_file_that_loses_its_pages_gets_them_again(start, path):
    run = start()
    run.fault(*MANY)
    assert len(run.sequences()) == 50
    failed = []

    def spoiled(connection):
        if not failed:
            connection.execute('DELETE FROM pages')
            connection.execute('COMMIT')    # it is of the damage, and stays
            connection.execute('BEGIN')
            failed.append(1)
            raise tables.Damaged('spoiled')
    run.store.run(spoiled)
    assert run.publisher.saved_pages() == {}
    run.fault(MANY[0], cause=Cause.MEMORY_FAILURE)
    expected = {**dict.fromkeys(MANY, '1'), MANY[0]: '2'}
    assert run.sequences() == expected
    assert run.publisher.saved_pages()['boot'] == '{"kept":"boot"}'
    assert start().sequences() == expected


def test_a_file_that_comes_after_the_start_has_the_last_word_on_numbers(
        start, path):
    first = start()
    first.fault(*MANY)
    first.fault(*MANY, cause=Cause.MEMORY_FAILURE)
    first.publisher.stop(30)
    folder = os.path.dirname(path)
    os.rename(folder, folder + '.away')
    open(folder, 'w').close()
    run = start()
    run.fault(MANY[0])
    assert run.sequences() == {MANY[0]: '1'}
    os.unlink(folder)
    os.rename(folder + '.away', folder)
    run.clock.now += database.RETRY_S
    run.worker.turn(0)
    run.worker.turn(0)
    assert run.store.on_disk
    assert run.sequences() == dict.fromkeys(MANY, '2')
    run.fault(MANY[0], cause=Cause.NOT_RUNNING)
    assert run.sequences()[MANY[0]] == '3'
    # what the first run knew was not taken up, and comes back by no restart
    assert run.saved.instances() == frozenset()
    again = start()
    assert again.worker._parts.ledger.conditions(MANY[1]) == ()
