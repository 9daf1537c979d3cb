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


import dataclasses
import itertools
import types

from nova import exception as nova_exception
from nova.virt.libvirt import host as nova_host
import pytest

from nova_vmhealth.core import ledger
from nova_vmhealth.core import page
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt.host import LinkChanged
from nova_vmhealth.virt import reconcile
from nova_vmhealth.virt import steering
from tests.unit.virt import fakes
from tests.unit.virt.fakes import OTHER
from tests.unit.virt.fakes import see
from tests.unit.virt.fakes import UUID

RUNNING, PAUSED, IO_ERROR = (1, 1), (3, 1), (3, 5)
GOING, STOPPED, FAILED = (4, 0), (5, 0), (5, 3)
GRACE_S = 10.0


def active(uuid=UUID, state='active', task_state=None, **extra_specs):
    entry = fakes.entry(uuid, **extra_specs)
    return dataclasses.replace(entry, identity=dataclasses.replace(
        entry.identity, state=state, task_state=task_state))


class LibvirtError(Exception):
    pass


class Domain:
    def __init__(self, uuid):
        self.uuid = uuid

    def UUIDString(self):
        return self.uuid

    def diskErrors(self, _flags):
        return {'vda': 2}

    def XMLDesc(self, _flags):
        return ("<domain><devices><disk><source file='/disk'/><target "
                "dev='vda'/><alias name='virtio-disk0'/></disk></devices>"
                "</domain>")


class Link:
    """A libvirt whose domains are a dict."""

    def __init__(self):
        self.lost = self.fails = False
        self.states = {}
        self.asked = 0
        self.changes = []

    def begin(self, wall):
        self.changes.append('begin')

    def changed(self, change, wall):
        self.lost = not change.up
        self.changes.append(change.up)

    def get_connection(self):
        if self.lost or self.fails:
            raise nova_exception.HypervisorUnavailable()
        return self

    def getAllDomainStats(self, _groups, _flags):
        self.asked += 1
        return [(Domain(uuid), {'state.state': state, 'state.reason': reason})
                for uuid, (state, reason) in self.states.items()]

    def lookupByUUIDString(self, uuid):
        return Domain(uuid)


class Saved(fakes.Saved):
    def __init__(self):
        super().__init__()
        self.restored = frozenset()

    def instances(self):
        return self.restored


class World:
    """Nova, libvirt and the worker, one step after the other.

    :ivar told: (transition, cause) of each event
    """

    def __init__(self):
        self.now = 100.0
        self.inbox, self.told, self.seen = [], [], []
        self.link, self.cache, self.saved = Link(), fakes.Cache(), Saved()
        self.heartbeat = fakes.Heartbeat()
        self.steering = steering.Steering(self.heartbeat, self.saved)
        self.conductor, self.libvirt = fakes.Background(), fakes.Background()
        numbers = itertools.count()
        self.ledger = ledger.Ledger(page.Settings(planned_grace_s=GRACE_S),
                                    lambda: str(next(numbers)))
        self.reconciler = reconcile.Reconciler(
            self.link, 'compute1', self.cache, self.ledger, self.steering,
            self.saved, self.conductor.submit, self.libvirt.submit,
            self.inbox.append, 60.0, lambda: self.now, lambda low, high: 1.0)

    def has(self, *uuids, state=RUNNING, entry=active):
        """Nova and libvirt have these."""
        for uuid in uuids:
            self.cache.loadable[uuid] = self.cache.entries[uuid] = entry(uuid)
            if state is not None:
                self.link.states[uuid] = state

    def observe(self, observation):
        self.seen.append(observation)
        entry = self.cache.get(observation.instance_uuid)
        if entry is None or observation.kind is Kind.FORGOTTEN:
            return
        self.steering.follow(observation, entry)
        self.tell(self.ledger.observe(
            observation, self.now, self.now, entry.policy.events))

    def tell(self, events):
        self.told += [(event.transition, event.cause) for event in events]

    def work(self):
        """What waits for the worker, and what is due."""
        while self.inbox:
            item = self.inbox.pop(0)
            if hasattr(item, 'kind'):
                self.observe(item)
            else:
                for seen in self.reconciler.take(item, self.now, self.now):
                    self.observe(seen)
        self.tell(self.ledger.handle_timer(self.now, self.now))
        self.reconciler.handle_timer(self.now)

    def settle(self):
        """Everybody does what there is to be done now."""
        for _ in range(4):
            self.work()
            self.conductor.run()
            self.libvirt.run()
        self.work()

    def start(self):
        self.reconciler.start()
        self.settle()

    def look(self):
        """The next comparison."""
        self.now = self.reconciler.next_deadline()
        self.settle()

    def first_look(self):
        """Only that, so that the answer of nova-conductor is next."""
        self.now = self.reconciler.next_deadline()
        self.work()
        self.libvirt.run()
        self.work()

    def plan(self, kind, operation='power_off'):
        """Nova begins or ends an operation; the worker is to hear of it."""
        self.inbox.append(see(kind, operation=operation))
        if kind is Kind.PLANNED_BEGUN:
            self.steering.hold(UUID, operation)
        else:
            self.steering.release(UUID, operation)


@pytest.fixture
def world(monkeypatch):
    # Nova imports it with the first Host, of which there is none here.
    monkeypatch.setattr(nova_host, 'libvirt', types.SimpleNamespace(
        libvirtError=LibvirtError))
    world = World()
    world.has(UUID)
    return world


RAISED, CLEARED = Transition.RAISED, Transition.CLEARED


# -- at the start ------------------------------------------------------------

def test_running_domains_are_taken_up(world):
    world.has(OTHER, state=STOPPED, entry=lambda uuid: active(
        uuid, state='stopped'))
    world.link.states['foreign'] = RUNNING
    world.start()
    assert world.heartbeat.watched == {UUID}
    assert world.told == []
    assert world.link.changes == ['begin']


def test_what_failed_while_nova_compute_was_down_is_told(world):
    world.has(UUID, state=FAILED)
    world.start()
    assert world.told == [(RAISED, Cause.QEMU_FAILED)]
    world.look()
    assert len(world.told) == 1


def test_nothing_happens_before_nova_conductor_has_answered(world):
    world.inbox.append(LinkChanged(True, 1.0))      # init_host's connection
    world.work()
    assert world.reconciler.next_deadline() is None
    assert not world.libvirt.jobs


def test_a_first_look_that_fails_is_made_again_soon(world):
    world.link.fails = True
    world.start()
    assert not world.heartbeat.watched
    world.link.fails = False
    world.look()
    assert world.now == 101.0
    assert world.heartbeat.watched == {UUID}


def test_who_left_while_nova_compute_was_down_is_forgotten(world):
    world.saved.restored = frozenset({UUID, OTHER})
    world.start()
    assert [(seen.kind, seen.instance_uuid) for seen in world.seen] == [
        (Kind.FORGOTTEN, OTHER)]


def test_who_is_on_the_way_is_asked_for_again(world):
    world.saved.restored = frozenset({OTHER})
    world.cache.busy = True
    world.reconciler.start()
    world.conductor.run()
    assert list(world.conductor.jobs) == [f'looking for instance {OTHER}']
    world.cache.busy = False
    world.settle()
    assert [seen.instance_uuid for seen in world.seen] == [OTHER]


def test_what_ended_while_nova_compute_was_down_is_cleared(world):
    for fault in (see(Kind.STOPPED, reason='failed'),
                  see(Kind.PAUSED, reason='ioerror')):
        world.observe(fault)
        world.told.clear()
    world.start()
    assert world.told == [(CLEARED, Cause.QEMU_FAILED),
                          (CLEARED, Cause.PAUSED_UNEXPECTEDLY)]


# -- on a period -------------------------------------------------------------

def test_one_call_to_libvirt_and_none_to_nova_conductor(world):
    world.has(*map(str, range(500)))
    world.start()
    world.link.asked = 0
    world.now = world.reconciler.next_deadline()
    world.work()
    world.libvirt.run()
    world.work()
    assert world.link.asked == 1
    assert not world.conductor.jobs
    assert world.reconciler.next_deadline() == world.now + 60.0


def test_the_period_varies(world):
    spans = []
    world.reconciler._vary = lambda low, high: spans.append((low, high)) or 1
    world.start()
    assert spans == [(0.9, 1.1)]


def test_a_domain_that_vanishes_is_told(world):
    world.start()
    del world.link.states[UUID]
    world.look()
    assert world.told == [(RAISED, Cause.NOT_RUNNING)]
    assert not world.heartbeat.watched
    world.look()
    assert len(world.told) == 1
    world.link.states[UUID] = RUNNING
    world.look()
    assert world.told[1:] == [(CLEARED, Cause.NOT_RUNNING)]
    assert world.heartbeat.watched == {UUID}


def test_a_full_disk_is_named(world):
    world.start()
    world.link.states[UUID] = IO_ERROR
    world.look()
    assert world.told == [(RAISED, Cause.IO_ERROR),
                          (RAISED, Cause.PAUSED_UNEXPECTEDLY)]
    assert [seen.subject for seen in world.seen] == ['virtio-disk0', '']
    assert world.steering.is_paused(UUID)
    world.link.states[UUID] = RUNNING
    world.look()
    assert world.told[2:] == [(CLEARED, Cause.IO_ERROR),
                              (CLEARED, Cause.PAUSED_UNEXPECTEDLY)]
    assert not world.steering.is_paused(UUID)


def test_a_pause_that_somebody_wanted_only_holds_the_heartbeat(world):
    world.start()
    world.link.states[UUID] = PAUSED
    world.look()
    assert world.steering.is_paused(UUID)
    world.look()
    world.link.states[UUID] = RUNNING
    world.look()
    assert not world.steering.is_paused(UUID)
    assert [seen.kind for seen in world.seen] == [Kind.PAUSED, Kind.RESUMED]
    assert world.told == []


def test_what_its_owner_does_not_want_is_not_asked_for(world):
    world.has(UUID, entry=lambda uuid: active(uuid, events='io_error'))
    world.start()
    world.link.states[UUID] = FAILED
    world.first_look()
    assert not world.conductor.jobs


@pytest.mark.parametrize('state, again', [(GOING, True), (RUNNING, False)])
def test_what_is_on_its_way_is_looked_at_soon(world, state, again):
    world.start()
    world.link.states[UUID] = state
    world.look()
    waits = []
    for _ in range(8):
        waits.append(world.reconciler.next_deadline() - world.now)
        world.look()
    assert waits == ([1, 2, 4, 8, 16, 32, 60, 60] if again else [60] * 8)
    world.link.states[UUID] = FAILED
    world.look()
    assert world.told == [(RAISED, Cause.QEMU_FAILED)]


# -- races -------------------------------------------------------------------

@pytest.mark.parametrize('changed', [
    {'task_state': 'powering-off'}, {'state': 'stopped'},
    {'state': 'deleted'}])
def test_nova_conductor_knows_better(world, changed):
    """An operation that came by another way, or had just ended."""
    world.start()
    world.link.states[UUID] = STOPPED
    world.cache.loadable[UUID] = active(**changed)
    world.look()
    assert world.told == []
    assert world.seen == []


def test_an_instance_that_left_is_forgotten(world):
    world.start()
    del world.link.states[UUID], world.cache.loadable[UUID]
    world.look()
    assert [seen.kind for seen in world.seen] == [Kind.FORGOTTEN]


def test_a_planned_operation_begins_between_the_look_and_the_verdict(world):
    world.start()
    world.link.states[UUID] = STOPPED
    world.first_look()
    world.conductor.run()
    world.libvirt.run()                     # the second look is in the inbox
    world.plan(Kind.PLANNED_BEGUN)          # behind it
    world.settle()
    assert world.told == []


def test_or_has_ended_again_by_then(world):
    world.start()
    world.link.states[UUID] = STOPPED
    world.first_look()
    world.conductor.run()
    world.plan(Kind.PLANNED_BEGUN)
    world.libvirt.run()
    world.plan(Kind.PLANNED_ENDED)
    world.settle()
    assert [seen.kind for seen in world.seen] == [
        Kind.PLANNED_BEGUN, Kind.PLANNED_ENDED]


def test_a_word_that_is_old_is_no_good(world):
    """A call to libvirt hung while Nova stopped the guest."""
    world.start()
    world.link.states[UUID] = STOPPED
    world.first_look()
    world.conductor.run()
    world.now += reconcile.FRESH_S + 0.1
    world.libvirt.run()
    world.cache.loadable[UUID] = active(state='stopped')
    world.work()
    assert world.told == []
    world.look()                            # and soon
    assert world.told == []
    assert world.now < 170.0


def test_half_of_the_domains_vanish_for_a_moment(world):
    uuids = [str(number) for number in range(20)]
    world.has(*uuids)
    world.start()
    there = dict(world.link.states)
    for uuid in uuids[:10]:
        del world.link.states[uuid]
    world.first_look()
    world.link.states = there
    world.settle()
    assert world.told == []
    assert world.reconciler.next_deadline() == world.now + 1.0


def test_half_of_the_domains_vanish_for_good(world):
    """One call to nova-conductor for all of them."""
    uuids = [str(number) for number in range(20)]
    world.has(*uuids)
    world.start()
    for uuid in uuids[:10]:
        del world.link.states[uuid]
    calls = []
    load_all, load = world.cache.load_all, world.cache.load
    world.cache.load_all = lambda host: calls.append('all') or load_all(host)
    world.look()
    assert calls == ['all']
    assert world.told == [(RAISED, Cause.NOT_RUNNING)] * 10
    world.cache.load = load
    world.look()
    assert len(world.told) == 10


def test_no_verdict_while_nova_conductor_is_away(world):
    world.start()
    world.link.states[UUID] = FAILED
    load, world.cache.load = world.cache.load, None
    world.first_look()
    (job,) = world.conductor.jobs.values()
    with pytest.raises(TypeError):
        job()                               # Background tries it again
    assert world.told == []
    world.cache.load = load
    job()
    world.conductor.jobs.clear()
    world.settle()
    assert world.told == [(RAISED, Cause.QEMU_FAILED)]


def test_a_live_event_comes_first(world):
    world.start()
    world.link.states[UUID] = FAILED
    world.first_look()
    world.observe(see(Kind.STOPPED, reason='failed'))
    world.settle()
    assert world.told == [(RAISED, Cause.QEMU_FAILED)]


def test_a_fault_that_is_newer_than_the_look_is_not_ended_by_it(world):
    world.start()
    world.observe(see(Kind.PAUSED, reason='ioerror'))
    world.first_look()                      # it runs, says libvirt
    world.conductor.run()
    world.libvirt.run()
    world.observe(see(Kind.RESUMED))
    world.now += 2.0
    world.observe(dataclasses.replace(
        see(Kind.PAUSED, reason='ioerror'), occurred_at=2.0))
    world.told.clear()
    world.settle()
    assert world.told == []


# -- libvirt away ------------------------------------------------------------

def test_no_look_while_libvirt_is_away_and_one_at_its_return(world):
    world.start()
    world.inbox.append(LinkChanged(False, 1.0, 'eof'))
    world.work()
    assert world.reconciler.next_deadline() is None
    world.now += 600.0
    world.work()
    assert not world.libvirt.jobs
    world.link.states[UUID] = FAILED
    world.has(OTHER)
    world.inbox.append(LinkChanged(True, 1.0))
    world.settle()
    assert world.told == [(RAISED, Cause.QEMU_FAILED)]
    assert world.heartbeat.watched == {OTHER}


def test_libvirt_goes_in_the_middle_of_a_comparison(world):
    world.start()
    world.link.states[UUID] = FAILED
    world.first_look()
    world.conductor.run()
    world.link.lost = True
    world.libvirt.run()
    world.work()
    assert world.told == []
    world.inbox.append(LinkChanged(True, 1.0))
    world.settle()
    assert world.told == [(RAISED, Cause.QEMU_FAILED)]


def test_disks_that_libvirt_cannot_name(world, monkeypatch):
    class LibvirtError(Exception):
        pass
    monkeypatch.setattr(reconcile.nova_host, 'libvirt',
                        types.SimpleNamespace(libvirtError=LibvirtError))

    def fail(uuid):
        raise LibvirtError('no domain with matching uuid')
    world.link.lookupByUUIDString = fail
    world.start()
    world.link.states[UUID] = IO_ERROR
    world.look()
    assert [seen.subject for seen in world.seen] == ['', '']
