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
from unittest import mock

from nova import exception as nova_exception
from nova.virt.libvirt import host as nova_host
import oslo_messaging
import pytest

from nova_vmhealth.core import ledger
from nova_vmhealth.core import settings
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt.host import LinkChanged
from nova_vmhealth.virt import reconcile
from nova_vmhealth.virt import reconcile_jobs
from nova_vmhealth.virt import steering
from tests.unit.virt import fakes
from tests.unit.virt.fakes import OTHER
from tests.unit.virt.fakes import see
from tests.unit.virt.fakes import UUID

RUNNING, PAUSED, IO_ERROR = (1, 1), (3, 1), (3, 5)
GOING, STOPPED, FAILED = (4, 0), (5, 0), (5, 3)
ANY_SOCKET = mock.ANY
CRASHED, SHUT_DOWN, DESTROYED = (3, 10), (5, 1), (5, 2)
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

    def begin(self):
        self.changes.append('begin')

    def changed(self, change, wall):
        self.lost = not change.up
        self.changes.append(change.up)
        return True

    def next_deadline(self):
        return None

    def handle_timer(self, now):
        pass

    def ask(self, question):
        return question(self.get_connection())

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


class Background(fakes.Background):
    """One whose jobs come again when they fail, as the real one's do."""

    def run(self):
        jobs, self.jobs = self.jobs, {}
        for key, job in jobs.items():
            try:
                job()
            except Exception:
                self.jobs.setdefault(key, job)


class World:
    """Nova, libvirt and the worker, one step after the other.

    Guests answer as soon as they are watched, and until they crash.

    :ivar told: (transition, cause) of each event
    """

    def __init__(self, grace_s):
        self.now = 100.0
        self.inbox, self.told, self.seen = [], [], []
        self.link, self.cache, self.saved = Link(), fakes.Cache(), Saved()
        self.heartbeat = fakes.Heartbeat()
        self.steering = steering.Steering(self.heartbeat, self.saved)
        self.conductor, self.libvirt = Background(), Background()
        self.qemu = Background()
        self.crashed_at = {}
        numbers = itertools.count()
        self.ledger = ledger.Ledger(
            settings.Settings(planned_grace_s=grace_s),
            lambda: str(next(numbers)))
        self.jobs = reconcile_jobs.Jobs(
            self.link, 'compute1', self.cache, self.saved,
            self.conductor.submit, self.libvirt.submit, self.qemu.submit,
            self.inbox.append, lambda: self.now)
        self.reconciler = reconcile.Reconciler(
            self.link, 'compute1', self.cache, self.ledger, self.steering,
            self.last_seen_at, self.jobs, 60.0, lambda low, high: 1.0)

    def last_seen_at(self, uuid):
        if self.heartbeat.status(uuid) is None:
            return None
        return self.crashed_at.get(uuid, self.now)

    def has(self, *uuids, state=RUNNING, entry=active):
        """Nova and libvirt have these."""
        for uuid in uuids:
            self.cache.loadable[uuid] = self.cache.entries[uuid] = entry(uuid)
            if state is not None:
                self.link.states[uuid] = state

    def observe(self, observation):
        observation = dataclasses.replace(observation, occurred_at=self.now)
        self.seen.append(observation)
        uuid = observation.instance_uuid
        entry = self.cache.get(uuid)
        if entry is None or observation.kind is Kind.FORGOTTEN:
            return
        if (observation.cause is Cause.GUEST_CRASHED
                and uuid in self.heartbeat.watched):
            self.crashed_at[uuid] = self.now
        self.reconciler.observed(observation, self.now)
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
            self.qemu.run()
        self.work()

    def start(self):
        self.reconciler.start()
        self.settle()

    def look(self):
        """The next comparison, or what one that is out leads to."""
        self.now = self.reconciler.next_deadline() or self.now
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
def grace_s():
    return GRACE_S


@pytest.fixture
def world(monkeypatch, grace_s):
    # Nova imports it with the first Host, of which there is none here.
    monkeypatch.setattr(nova_host, 'libvirt', types.SimpleNamespace(
        libvirtError=LibvirtError))
    world = World(grace_s)
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
    assert world.told == [(RAISED, Cause.PAUSED_UNEXPECTEDLY),
                          (RAISED, Cause.IO_ERROR)]
    assert [seen.subject for seen in world.seen] == ['', 'virtio-disk0']
    assert world.steering.is_paused(UUID)
    world.link.states[UUID] = RUNNING
    world.look()
    assert world.told[2:] == [(CLEARED, Cause.PAUSED_UNEXPECTEDLY),
                              (CLEARED, Cause.IO_ERROR)]
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


@pytest.mark.parametrize('state', [FAILED, IO_ERROR, CRASHED])
def test_what_its_owner_does_not_want_only_ends_the_heartbeat(world, state):
    world.has(UUID, entry=lambda uuid: active(uuid, events='heartbeat_lost'))
    world.start()
    world.link.states[UUID] = state
    world.look()
    assert not world.steering.is_running(UUID)
    world.observe(see(Kind.FAULT, cause=Cause.MEMORY_FAILURE))
    assert world.told == []
    world.first_look()                      # and is not asked for again
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

@pytest.mark.parametrize('changed, running', [
    ({'task_state': 'powering-off'}, True), ({'state': 'stopped'}, False),
    ({'state': 'deleted'}, False)])
def test_nova_conductor_knows_better(world, changed, running):
    """An operation that came by another way, or had just ended."""
    world.start()
    world.link.states[UUID] = STOPPED
    world.cache.loadable[UUID] = active(**changed)
    world.look()
    assert world.told == []
    assert world.ledger.is_running(UUID) is running
    assert world.steering.is_running(UUID) is running
    # one that Nova is at work on is looked at again soon
    assert (world.reconciler.next_deadline() == world.now + 1.0) is running


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


def no_answer(_uuid, _host):
    raise oslo_messaging.MessagingTimeout()


def test_no_verdict_while_nova_conductor_is_away(world):
    world.start()
    world.link.states[UUID] = FAILED
    load, world.cache.load = world.cache.load, no_answer
    world.first_look()
    (job,) = world.conductor.jobs.values()
    with pytest.raises(oslo_messaging.MessagingTimeout):
        job()                               # Background tries it again
    assert world.told == []
    world.cache.load = load
    job()
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


def test_disks_that_libvirt_cannot_name(world):
    def fail(uuid):
        raise LibvirtError('no domain with matching uuid')
    world.link.lookupByUUIDString = fail
    world.start()
    world.link.states[UUID] = IO_ERROR
    world.look()
    assert [seen.subject for seen in world.seen] == ['', '']


# -- a QEMU that hangs -------------------------------------------------------

def test_a_qemu_that_does_not_name_its_disks_holds_nobody_up(world):
    world.has(OTHER)
    world.start()
    world.link.states.update({UUID: IO_ERROR, OTHER: FAILED})
    world.now = world.reconciler.next_deadline()
    world.qemu.run = lambda: None
    world.settle()
    assert world.told == [(RAISED, Cause.PAUSED_UNEXPECTEDLY),
                          (RAISED, Cause.QEMU_FAILED)]
    world.now = world.reconciler.next_deadline()
    world.settle()
    assert world.now == 165.0
    assert world.told[2:] == [(RAISED, Cause.IO_ERROR)]
    del world.qemu.run                      # it comes to itself
    world.settle()
    assert len(world.told) == 3
    world.look()
    assert len(world.told) == 3


@pytest.mark.parametrize('since', [
    see(Kind.RESUMED), see(Kind.STOPPED, reason='destroyed')])
def test_disks_of_a_guest_that_is_not_paused_any_more(world, since):
    world.start()
    world.link.states[UUID] = IO_ERROR
    world.now = world.reconciler.next_deadline()
    world.qemu.run = lambda: None
    world.settle()
    world.observe(since)
    del world.qemu.run
    world.settle()
    assert (RAISED, Cause.IO_ERROR) not in world.told


# -- one bad instance among others -------------------------------------------

def refusing(world, refused):
    load = world.cache.load

    def fail(uuid, host):
        if uuid == refused:
            raise RuntimeError('remote error')
        return load(uuid, host)
    world.cache.load = fail


def test_one_that_cannot_be_read_holds_no_heartbeat_up(world):
    world.saved.restored = frozenset({OTHER})
    refusing(world, OTHER)
    world.start()
    assert world.heartbeat.watched == {UUID}


def test_one_that_cannot_be_read_hides_no_other(world):
    world.has(OTHER)
    world.start()
    world.link.states.update({UUID: FAILED, OTHER: FAILED})
    refusing(world, UUID)
    world.look()
    assert world.told == [(RAISED, Cause.QEMU_FAILED)]
    assert list(world.jobs._unconfirmed) == [UUID]


def test_heartbeats_do_not_wait_for_who_has_left(world):
    """A host that 200 instances were evacuated from."""
    world.saved.restored = frozenset(map(str, range(200)))
    world.reconciler.start()
    world.conductor.run()
    assert reconcile_jobs.Stocktaken() in world.inbox
    assert len(world.inbox) == 1
    assert len(world.conductor.jobs) == 200


# -- what may have ended unseen ----------------------------------------------

def reconnected(world):
    for up in (False, True):
        world.inbox.append(LinkChanged(up, 1.0))
    world.work()


def lost_in_an_operation(world):
    world.plan(Kind.PLANNED_BEGUN, 'reboot')
    world.start()
    world.plan(Kind.PLANNED_ENDED, 'reboot')


def lost_with_a_late_answer(world):
    world.has(OTHER, state=FAILED)
    world.reconciler.start()
    for step in (world.conductor, world.libvirt, world.conductor):
        world.work()
        step.run()
    world.now += reconcile.FRESH_S + 0.1


def lost_with_libvirt(world):
    world.reconciler.start()
    for step in (world.conductor, world.libvirt, world.conductor):
        world.work()
        step.run()
    world.link.fails = True
    world.libvirt.run()
    world.work()
    world.link.fails = False


def lost_in_a_later_question(world):
    world.has(OTHER)
    world.reconciler.start()
    for step in (world.conductor, world.libvirt):
        world.work()
        step.run()
    world.work()
    world.link.states[OTHER] = FAILED
    world.now += 60.0
    world.work()
    world.libvirt.run()
    world.work()


@pytest.mark.parametrize('lost', [
    lost_in_an_operation, lost_with_a_late_answer, lost_with_libvirt,
    lost_in_a_later_question])
@pytest.mark.parametrize('fault', [
    see(Kind.FAULT, cause=Cause.GUEST_CRASHED),
    see(Kind.FAULT, cause=Cause.IO_ERROR, action='pause'),
    see(Kind.FAULT, cause=Cause.WATCHDOG_EXPIRED, action='pause')])
def test_what_ended_unseen_is_cleared_in_the_end(world, lost, fault):
    world.observe(fault)
    lost(world)
    for _ in range(6):
        world.look()
    assert (CLEARED, fault.cause) in world.told
    assert world.heartbeat.watched >= {UUID}


@pytest.mark.parametrize('kind', [Kind.PLANNED_BEGUN, Kind.PLANNED_ENDED])
def test_a_heartbeat_is_taken_up_in_a_snapshot_or_its_grace(world, kind):
    world.observe(see(Kind.PLANNED_BEGUN, operation='snapshot'))
    world.observe(see(kind, operation='snapshot'))
    world.start()
    while not world.heartbeat.watched:
        world.look()
    assert world.now < 100.0 + GRACE_S


def test_a_heartbeat_is_taken_up_after_a_reboot_that_nova_was_at(world):
    world.observe(see(Kind.PLANNED_BEGUN, operation='reboot'))
    world.start()
    assert not world.heartbeat.watched
    world.observe(see(Kind.PLANNED_ENDED, operation='reboot'))
    while world.now < 120.0:
        world.look()
    assert world.heartbeat.watched == {UUID}


def test_a_domain_on_its_way_at_the_start_is_taken_up(world):
    world.has(UUID, state=GOING)
    world.start()
    world.link.states[UUID] = RUNNING
    world.look()
    assert world.heartbeat.watched == {UUID}


def test_a_domain_that_ended_since_the_look_is_not_taken_up(world):
    world.reconciler.start()
    for step in (world.conductor, world.libvirt):
        world.work()
        step.run()
    world.now += 0.1
    world.observe(see(Kind.STOPPED, reason='shutdown'))
    world.work()
    assert not world.heartbeat.watched


def test_a_guest_that_was_started_unseen_begins_anew(world):
    """Nova had stopped it, and nobody told of it was to be cleared."""
    world.observe(see(Kind.PLANNED_BEGUN, operation='power_off'))
    world.observe(see(Kind.STOPPED, reason='destroyed'))
    world.observe(see(Kind.PLANNED_ENDED, operation='power_off'))
    world.now += GRACE_S
    world.start()
    assert world.seen[-1].kind is Kind.STARTED
    assert world.heartbeat.calls.count(('watch', ANY_SOCKET)) == 1
    assert world.told == []


def test_a_crash_kernel_is_no_recovery(world):
    world.start()
    world.observe(see(Kind.FAULT, cause=Cause.GUEST_CRASHED))
    reconnected(world)
    for _ in range(8):
        world.look()
    assert world.told == [(RAISED, Cause.GUEST_CRASHED)]
    assert world.heartbeat.calls.count(('watch', ANY_SOCKET)) == 1
    del world.crashed_at[UUID]              # it boots, and answers
    world.look()
    assert world.told[1:] == [(CLEARED, Cause.GUEST_CRASHED)]
    # with the session that it has
    assert world.heartbeat.calls.count(('watch', ANY_SOCKET)) == 1


def test_a_crash_of_a_guest_without_a_heartbeat(world):
    world.has(UUID, entry=lambda uuid: active(uuid, heartbeat='false'))
    world.start()
    world.observe(see(Kind.FAULT, cause=Cause.GUEST_CRASHED))
    world.look()
    assert len(world.told) == 1             # it runs, as it did before
    reconnected(world)
    world.settle()
    assert world.told[1:] == [(CLEARED, Cause.GUEST_CRASHED)]


# -- operations --------------------------------------------------------------

@pytest.mark.parametrize('operation, state, at_once', [
    ('quiesce', FAILED, True), ('trigger_crash_dump', FAILED, True),
    ('snapshot', FAILED, True), ('attach_volume', FAILED, True),
    ('attach_volume', None, True), ('live_migration', None, False),
    ('quiesce', None, False), ('trigger_crash_dump', CRASHED, False),
    ('reboot', FAILED, False), ('action_reset', FAILED, False),
])
def test_an_operation_explains_what_it_explains(
        world, operation, state, at_once):
    world.start()
    world.plan(Kind.PLANNED_BEGUN, operation)
    world.now += 1.0
    world.work()
    world.link.states[UUID] = state
    if state is None:
        del world.link.states[UUID]
    reconnected(world)
    world.settle()
    assert bool(world.told) is at_once


def test_the_end_of_an_operation_is_a_reason_to_look(world):
    world.start()
    world.plan(Kind.PLANNED_BEGUN, 'reboot')
    world.link.states[UUID] = FAILED
    for _ in range(8):
        world.look()
    world.plan(Kind.PLANNED_ENDED, 'reboot')
    world.work()
    ended = world.now
    while not world.told:
        world.look()
    assert world.now - ended <= 2 * GRACE_S


@pytest.mark.parametrize('grace_s', [0.0])
def test_no_grace_at_all_is_no_false_alarm(world):
    """What nova-conductor said may be from before the operation."""
    world.start()
    world.plan(Kind.PLANNED_BEGUN)
    world.plan(Kind.PLANNED_ENDED)
    world.work()
    world.now += 1.0
    world.link.states[UUID] = STOPPED
    reconnected(world)
    world.settle()
    while not world.told:
        world.look()
    assert world.now >= 100.0 + reconcile.FRESH_S


# -- what Nova does not want to run ------------------------------------------

def test_a_state_that_was_set_behind_our_back(world):
    """nova reset-state --active, which no driver's method is called for."""
    world.has(UUID, entry=lambda uuid: active(uuid, state='error'))
    world.start()
    world.cache.loadable[UUID] = active()
    world.link.states[UUID] = FAILED
    world.look()
    assert world.told == [(RAISED, Cause.QEMU_FAILED)]


def test_a_stop_of_novas_that_nobody_saw_ends_what_it_would_have(world):
    world.observe(see(Kind.FAULT, cause=Cause.HEARTBEAT_LOST))
    world.has(UUID, state=DESTROYED,
              entry=lambda uuid: active(uuid, state='stopped'))
    world.start()
    assert world.told == [(RAISED, Cause.HEARTBEAT_LOST),
                          (CLEARED, Cause.HEARTBEAT_LOST)]
    world.first_look()
    assert not world.conductor.jobs


def test_a_stop_that_nobody_wants_told_ends_the_heartbeat(world):
    world.has(UUID, entry=lambda uuid: active(uuid, events='heartbeat_lost'))
    world.start()
    world.link.states[UUID] = SHUT_DOWN
    reconnected(world)
    world.settle()
    assert not world.heartbeat.watched
    world.observe(see(Kind.FAULT, cause=Cause.HEARTBEAT_LOST))
    assert world.told == []


def test_what_was_seen_and_not_wanted_is_not_found_again(world):
    world.has(UUID, entry=lambda uuid: active(uuid, events='qemu_failed'))
    world.start()
    world.observe(see(Kind.FAULT, cause=Cause.GUEST_CRASHED))
    world.observe(see(Kind.STOPPED, reason='crashed'))
    world.link.states[UUID] = FAILED
    world.look()
    assert world.told == []


def test_the_end_of_a_guest_that_crashed_is_part_of_it(world):
    world.start()
    world.observe(see(Kind.FAULT, cause=Cause.GUEST_CRASHED))
    world.link.states[UUID] = FAILED
    world.look()
    assert world.told == [(RAISED, Cause.GUEST_CRASHED)]
    assert not world.heartbeat.watched


def test_an_instance_of_another_host_is_not_judged(world):
    world.has(UUID, entry=lambda uuid: dataclasses.replace(
        active(uuid), identity=dataclasses.replace(
            active(uuid).identity, host='other')))
    world.link.states[UUID] = FAILED
    world.start()
    assert not world.heartbeat.watched
    assert world.seen == []


def test_a_libvirtd_that_has_just_started_is_asked_twice(world):
    """It says of a guest what it knew before, until QEMU has told it."""
    world.start()
    reconnected(world)
    world.settle()
    world.link.states[UUID] = CRASHED
    world.look()
    assert world.now == 101.0
    assert world.told == [(RAISED, Cause.GUEST_CRASHED)]


# -- one look at a time ------------------------------------------------------

def test_a_look_that_does_not_come_back_is_the_only_one(world):
    world.start()
    world.now = world.reconciler.next_deadline()
    world.work()
    (look,) = world.libvirt.jobs.values()
    world.libvirt.jobs.clear()
    assert world.reconciler.next_deadline() is None
    world.now += 600.0
    world.work()
    assert not world.libvirt.jobs
    reconnected(world)                      # the next may be another's
    assert world.libvirt.jobs
    look()                                  # and what it says is old
    world.link.states[UUID] = FAILED
    world.work()
    assert world.reconciler.next_deadline() is None
    world.settle()
    assert world.told == [(RAISED, Cause.QEMU_FAILED)]
