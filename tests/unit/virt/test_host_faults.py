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

"""What is wrong with the host: seen, acted upon, told, undone.

The worker's turns and nova-conductor's answers are the test's; the record
changes as the rules say, on a clock that the test turns.
"""

import dataclasses
import itertools
import json
import math
import types
import uuid

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
import pytest

from nova_vmhealth import conf
from nova_vmhealth.core import host_page
from nova_vmhealth.core import host_record
from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth.core import host_standing
from nova_vmhealth.core import ledger
from nova_vmhealth.core import storage
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostEvent
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.core.vocabulary import Severity
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth import exception
from nova_vmhealth.virt import host_faults
from nova_vmhealth.virt import host_status
from tests.unit.virt import fakes

EPOCH = 1_000_000.0
QUIET_S, MEMORY_QUIET_S, IO_QUIET_S = 10.0, 3600.0, 20.0
NFS = 'nfs4:nas:/export'
MOUNTS = [('/dev/sda1', '/', 'ext4'), ('nas:/export', '/mnt', 'nfs4')]
NONE, DISABLE, FORCE_DOWN = HostAction
RAISED, UPDATED, CLEARED = Transition
LOST, STORAGE = HostCause.LIBVIRT_LOST, HostCause.STORAGE_FAULT
MEMORY, MANY = HostCause.MEMORY_FAILURE, HostCause.MANY_GUESTS_LOST
REPORTED = HostCause.REPORTED_FAULT
UP = ServiceRecord(False, None, False)
BY_OPERATOR = ServiceRecord(True, 'new fans', False)
# The worker comes round this often at most, unless it spins.
MAX_TURNS = 20


class Keeper:
    """The record's: does what the rules say once nova-conductor answers.

    :ivar wishes: (action, text, anew)
    :ivar away: whether nova-conductor is
    """

    def __init__(self, world):
        self._world = world
        self.wishes = []
        self.away = False
        self.forced = False
        self.pending = False

    def begin(self, forced, action, text, anew):
        self.forced = forced
        return self.wish(action, text, anew)

    def wish(self, action, text, anew):
        self.wishes.append((action, text, anew))
        self.pending = True
        return len(self.wishes)

    def answer(self):
        """Follow the last wish; every one that was anew is taken along."""
        if not self.pending or self.away:
            return False
        self.pending = False
        action, text, anew = self.wishes[-1]
        made = host_record.change(self._world.record, action, text,
                                  self.forced, anew=anew)
        names = {'disabled_reason': 'reason'}
        self._world.record = dataclasses.replace(self._world.record, **{
            names.get(name, name): value for name, value in made.items()})
        self.forced = made.get('forced_down', self.forced)
        self._world.faults.settle(host_status.Settled(
            len(self.wishes), self._world.record, self.forced))
        return True


class Saved:
    """A disk."""

    def __init__(self, records=()):
        self.records = dict(records)
        self.snapshots = {}

    def kept(self, name):
        return self.records.get(name)

    def keep(self, name, snapshot):
        self.snapshots[name] = snapshot

    def write(self):
        records = {name: snapshot()
                   for name, snapshot in self.snapshots.items()}
        return json.loads(json.dumps(
            {name: record for name, record in records.items()
             if record is not None}))


class World:
    """A host with three guests, and what is told of it."""

    def __init__(self, quiet_s=QUIET_S, **actions):
        self.now = 100.0
        self.record = UP
        self.uuids = ['a', 'b', 'c']
        self.quiet_s = quiet_s
        self.actions = dict.fromkeys(conf.HOST_CAUSES, DISABLE)
        self.actions.update({HostCause(name): action
                             for name, action in actions.items()})
        self.ledger = ledger.Ledger(ledger.Settings(), lambda: 'id')
        self.fewest = 3
        self.events, self.health = [], []
        self.saved = Saved()
        self.build()

    @property
    def wall(self):
        return self.now + EPOCH

    def build(self):
        self.keeper = Keeper(self)
        self.standing = host_standing.HostStanding()
        self.watch = storage.StorageWatch(self.fewest, 60.0, IO_QUIET_S)
        numbers = itertools.count(round(self.now) * 100)
        self.page = host_page.HostPage(lambda: f'id-{next(numbers)}',
                                       lambda: self.uuids)
        self.faults = host_faults.HostFaults(
            host_faults.Settings(self.actions, self.quiet_s, MEMORY_QUIET_S),
            self.page, self.standing, self.watch, self.keeper,
            lambda: self.uuids, self.ledger.conditions, self.events.append,
            lambda: MOUNTS, lambda: self.now, lambda: self.wall)
        self.faults.restore(self.saved, self.now)
        self.faults.begin(self.now)

    def restart(self, after_s=100.0, change=lambda records: None):
        """Another run, which knows what this one has written down."""
        records = self.saved.write()
        change(records)
        self.now += after_s
        self.saved = Saved(records)
        self.build()

    # time and nova-conductor

    def turn(self):
        """One of the worker's turns."""
        for observation in self.faults.handle_timer(self.now, self.wall):
            self.take(observation)

    def run(self):
        """All turns that are due now, and nova-conductor's answers."""
        for _ in range(MAX_TURNS):
            self.turn()
            is_answered = self.keeper.answer()
            at = self.faults.next_deadline()
            if not is_answered and (at is None or at > self.now):
                return self.told()
        raise AssertionError('the worker spins')

    def wait(self, seconds):
        """Let so much time pass; what is told meanwhile."""
        until = self.now + seconds
        told = self.run()
        while True:
            at = self.faults.next_deadline()
            if at is None or at > until:
                break
            self.now = at
            told += self.run()
        self.now = until
        return told + self.run()

    def told(self):
        """(transition, cause, subject) of what was told since."""
        told = [(each.transition, each.cause, each.subject)
                for each in self.events[self.seen:]]
        self.seen = len(self.events)
        return told

    seen = 0

    # what is observed

    def take(self, observation):
        self.faults.observed(observation, self.now, self.wall)
        self.health += [
            (event.instance_uuid, event.transition, event.subject)
            for event in self.ledger.observe(
                observation, self.now, self.wall, frozenset(Cause))
            if event.cause is Cause.HOST_FAULT]

    def see(self, kind, uuid, cause=None, **details):
        self.take(Observation(kind, uuid, self.wall, cause, '', details))

    def io_errors(self, uuids='abc', action='pause', path='/mnt/volume',
                  **details):
        for uuid_ in uuids:
            self.see(Kind.FAULT, uuid_, Cause.IO_ERROR, path=path,
                     action=action, reason='enospc', **details)

    def resume(self, uuids='abc'):
        for uuid_ in uuids:
            self.see(Kind.RESUMED, uuid_)

    def memory_failure(self, recipient='hypervisor'):
        self.see(Kind.FAULT, 'b', Cause.MEMORY_FAILURE, recipient=recipient,
                 action='inject', flags='action_required')

    def wrong(self, cause=LOST, **given):
        return self.faults.wrong(cause, self.wall - 1.0, self.wall, 'eof',
                                 **given)

    def window(self, starts_s, ends_s):
        """Have maintenance announced, in seconds from now."""
        self.faults.set_windows([{
            'id': str(uuid.uuid4()), 'host': 'compute1',
            'starts_at': self.wall + starts_s,
            'ends_at': None if ends_s is None else self.wall + ends_s,
            'reason': 'new fans', 'source': 'operator', 'created_at': 1.0}])

    @property
    def status(self):
        return self.record.status


@pytest.fixture
def world():
    world = World()
    world.run()
    return world


# -- what is seen, done, told and undone -------------------------------------

def test_a_fault_disables_the_host_is_told_and_is_undone(world):
    assert world.wrong(details={'reason': 'eof'})
    world.turn()
    assert world.told() == []           # The record is yet to follow.
    assert world.run() == [(RAISED, LOST, '')]
    assert world.record == ServiceRecord(
        True, 'vmhealth: libvirt_lost: eof', False)
    (event,) = world.events
    assert (event.status, event.action, event.reason) == (
        HostStatus.MAINTENANCE, DISABLE, 'eof')
    assert event.instance_uuids == ('a', 'b', 'c')
    assert not event.suppressed
    assert world.health == [(each, RAISED, 'libvirt_lost') for each in 'abc']
    world.faults.over(LOST)
    assert world.wait(QUIET_S - 0.1) == []
    assert world.status is HostStatus.MAINTENANCE
    assert world.wait(0.1) == [(CLEARED, LOST, '')]
    assert world.record == UP
    assert world.events[-1].status is HostStatus.UP
    assert world.health[3:] == [
        (each, CLEARED, 'libvirt_lost') for each in 'abc']
    assert world.faults.next_deadline() is None


def test_is_news_once(world):
    assert world.wrong()
    assert not world.wrong()
    world.run()
    assert not world.wrong()
    assert len(world.keeper.wishes) == 2        # the first was the start's


@pytest.mark.parametrize('cause', conf.HOST_CAUSES)
@pytest.mark.parametrize('action, status', [
    (NONE, HostStatus.UP), (DISABLE, HostStatus.MAINTENANCE),
    (FORCE_DOWN, HostStatus.DOWN),
])
def test_the_operators_option_says_what_is_done(cause, action, status):
    world = World(**{cause.value: action})
    world.run()
    world.wrong(cause)
    assert world.run() == [(RAISED, cause, '')]
    assert world.status is world.events[-1].status is status
    assert world.events[-1].action is action
    assert len(world.health) == 3
    world.faults.over(cause, quiet=False)
    assert world.run() == [(CLEARED, cause, '')]
    assert world.record == UP


def test_one_that_does_nothing_waits_for_nobody():
    world = World(libvirt_lost=NONE)
    world.run()
    world.keeper.away = True
    world.wrong()
    assert world.faults.next_deadline() == -math.inf
    assert world.run() == [(RAISED, LOST, '')]
    assert len(world.keeper.wishes) == 1
    assert world.faults.next_deadline() is None


def test_without_nova_conductor_it_is_told_all_the_same(world):
    world.keeper.away = True
    world.wrong()
    assert world.run() == []
    assert world.faults.waits
    assert world.wait(host_page.SETTLE_S) == [(RAISED, LOST, '')]
    assert world.wait(600.0) == []
    world.keeper.away = False
    assert world.run() == [(UPDATED, LOST, '')]
    assert [each.status for each in world.events] == [
        HostStatus.UP, HostStatus.MAINTENANCE]
    assert not world.faults.waits


def test_the_strongest_of_several_is_done_and_the_rest_when_it_is_over():
    world = World(libvirt_lost=FORCE_DOWN)
    world.wrong(REPORTED)
    world.run()
    world.wrong(LOST)
    world.run()
    assert world.record == ServiceRecord(
        True, 'vmhealth: libvirt_lost: eof', True)
    world.faults.over(LOST, quiet=False)
    world.run()
    assert world.record == ServiceRecord(
        True, 'vmhealth: reported_fault: eof', False)
    world.faults.over(REPORTED, quiet=False)
    world.run()
    assert world.record == UP


def test_comes_and_goes_within_the_quiet_time(world):
    world.wrong()
    world.run()
    for _ in range(5):
        world.faults.over(LOST)
        assert world.wait(QUIET_S / 2) == []
        world.wrong()
        assert world.wait(QUIET_S / 2) == []
    assert len(world.keeper.wishes) == 2


def test_wrong_again_while_nova_conductor_is_to_enable_the_host(world):
    world.wrong()
    world.run()
    world.keeper.away = True
    world.faults.over(LOST, quiet=False)
    assert world.run() == []
    world.wrong()
    world.keeper.away = False
    assert world.run() == []
    assert world.status is HostStatus.MAINTENANCE


# -- an operator's word ------------------------------------------------------

def test_an_operators_disable_is_left_alone_and_makes_it_planned(world):
    world.record = BY_OPERATOR
    world.keeper.wish(NONE, '', False)
    world.wrong()
    world.faults.report('smoke', True, 'me')
    world.run()
    assert {each.suppressed for each in world.events} == {True}
    assert {each.status for each in world.events} == {HostStatus.MAINTENANCE}
    world.faults.clear('me')
    world.faults.over(LOST)
    world.wait(QUIET_S)
    assert world.record == BY_OPERATOR


def test_an_operators_enable_holds_until_there_is_more(world):
    world.wrong()
    world.run()
    world.record = UP
    world.wrong(MANY, action=NONE)      # That is told, and does nothing.
    world.faults.over(MANY, quiet=False)
    world.wait(10 * QUIET_S)
    assert world.record == UP
    world.wrong(REPORTED)
    world.run()
    assert world.status is HostStatus.MAINTENANCE


# -- storage -----------------------------------------------------------------

def test_storage_is_at_fault_when_enough_instances_suffer(world):
    world.io_errors('ab')
    assert world.run() == []
    world.io_errors('c')
    assert world.run() == [(RAISED, STORAGE, NFS)]
    (event,) = world.events
    assert event.details == {
        'failing': '3', 'io_error': 'enospc', 'path': '/mnt/volume',
        'host_event': event.event_id}
    assert event.reason == 'I/O errors of 3 instances'
    assert world.record.reason == (
        f'vmhealth: storage_fault ({NFS}): I/O errors of 3 instances')
    world.io_errors('abc')
    assert world.wait(600.0) == []
    world.resume('a')
    assert world.wait(QUIET_S - 0.1) == []
    assert world.wait(0.1) == [(CLEARED, STORAGE, NFS)]
    assert world.record == UP


def test_each_storage_is_a_fault_of_its_own(world):
    world.io_errors()
    world.io_errors(path='/dev/vg/volume')
    assert world.run() == [(RAISED, STORAGE, NFS),
                           (RAISED, STORAGE, 'lvm:vg')]
    assert len(world.health) == 3       # but one condition of each instance
    world.resume()
    assert world.wait(QUIET_S) == [(CLEARED, STORAGE, NFS),
                                   (CLEARED, STORAGE, 'lvm:vg')]
    assert len(world.health) == 6


@pytest.mark.parametrize('details', [
    {'path': ''}, {'path': '/dev/sda'}, {'path': 'volume'},
])
def test_disks_of_which_nothing_is_known_count_together(world, details):
    world.io_errors(**details)
    assert world.run() == [(RAISED, STORAGE, '')]


def test_an_error_without_details_is_one(world):
    for uuid_ in 'abc':
        world.see(Kind.FAULT, uuid_, Cause.IO_ERROR)
    assert world.run() == [(RAISED, STORAGE, '')]


@pytest.mark.parametrize('action, ends', [
    ('pause', False), ('report', True), ('none', True),
])
def test_what_was_only_reported_is_over_by_itself(world, action, ends):
    world.io_errors(action=action)
    world.run()
    told = world.wait(IO_QUIET_S + QUIET_S)
    assert told == [(CLEARED, STORAGE, NFS)] * ends


@pytest.mark.parametrize('what, wait_s', [
    ('started', 0.0), ('stopped', IO_QUIET_S), ('left', IO_QUIET_S),
])
def test_what_becomes_of_an_instance(world, what, wait_s):
    world.io_errors()
    world.run()
    if what == 'left':
        world.faults.left('b', world.now)
    else:
        world.see(Kind(what), 'b')
    assert world.wait(wait_s + QUIET_S - 0.1) == []
    assert world.wait(0.1) == [(CLEARED, STORAGE, NFS)]


def test_other_faults_and_other_word_are_none_of_storage(world):
    for uuid_ in 'abc':
        world.see(Kind.FAULT, uuid_, Cause.WATCHDOG_EXPIRED, action='pause')
        world.see(Kind.RECOVERED, uuid_, Cause.IO_ERROR)
        world.see(Kind.DETAILS, uuid_, Cause.IO_ERROR)
        world.see(Kind.PAUSED, uuid_, reason='ioerror')
        world.see(Kind.FAULT, uuid_, Cause.CONTROL_ERROR,
                  recipient='hypervisor')
        world.see(Kind.RECOVERED, uuid_, Cause.MEMORY_FAILURE,
                  recipient='hypervisor')
    assert world.run() == []


# -- memory ------------------------------------------------------------------

@pytest.mark.parametrize('recipient, told', [
    ('hypervisor', [(RAISED, MEMORY, '')]), ('guest', []), ('unknown', []),
])
def test_bad_memory_is_the_hosts_where_qemu_itself_has_it(
        world, recipient, told):
    world.memory_failure(recipient)
    assert world.run() == told
    for event in world.events:
        assert event.details == {
            'action': 'inject', 'flags': 'action_required', 'instance': 'b',
            'host_event': event.event_id}


def test_bad_memory_is_over_when_no_more_was_found_for_long(world):
    world.memory_failure()
    assert world.run() == [(RAISED, MEMORY, '')]
    assert world.wait(MEMORY_QUIET_S - 1.0) == []
    world.memory_failure()
    assert world.wait(MEMORY_QUIET_S + QUIET_S - 0.1) == []
    assert world.wait(0.1) == [(CLEARED, MEMORY, '')]
    assert world.faults.next_deadline() is None
    assert world.record == UP


def test_or_when_somebody_says_so(world):
    world.memory_failure()
    world.run()
    assert world.faults.clear('me') == [MEMORY]
    assert world.run() == [(CLEARED, MEMORY, '')]
    assert world.events[-1].details['cleared_by'] == 'me'
    assert world.wait(2 * MEMORY_QUIET_S) == []


# -- many guests lost --------------------------------------------------------

def storm(transition, event_id, count, wall):
    return HostEvent(
        event_id, 99, transition, MANY, Severity.CRITICAL, wall - 2.0, wall,
        ('a', 'b')[:count], {'host_event': 'storm-1', 'watched': '3'}, count)


def test_a_storm_is_told_as_it_goes(world):
    world.faults.storm(storm(RAISED, 'storm-1', 1, world.wall))
    # Before the host's own event an update would be the first word of it.
    world.faults.storm(storm(UPDATED, 'storm-x', 2, world.wall))
    assert world.run() == [(RAISED, MANY, '')]
    world.faults.storm(storm(UPDATED, 'storm-2', 2, world.wall))
    assert world.run() == [(UPDATED, MANY, '')]
    world.now += 5.0
    world.faults.storm(storm(CLEARED, 'storm-3', 0, world.wall))
    assert world.run() == [(CLEARED, MANY, '')]     # It was quiet already.
    raised, updated, cleared = world.events
    assert [each.sequence for each in world.events] == [1, 2, 3]
    assert (raised.event_id, raised.occurred_at, raised.detected_at) == (
        'storm-1', EPOCH + 98.0, EPOCH + 100.0)
    assert (raised.instance_uuids, raised.instance_count) == (('a',), 1)
    assert raised.reason == updated.reason == '1 guests lost at once'
    assert (updated.event_id, updated.instance_count) == ('storm-2', 2)
    assert updated.action is DISABLE
    assert {each.details['host_event'] for each in world.events} == {
        'storm-1'}
    assert cleared.details['watched'] == '3'
    assert world.record == UP


def test_an_update_says_how_the_host_is(world):
    world.window(0.0, None)
    world.faults.storm(storm(RAISED, 'storm-1', 1, world.wall))
    world.run()
    world.faults.storm(storm(UPDATED, 'storm-2', 2, world.wall))
    assert world.events[-1].suppressed
    assert world.events[-1].status is HostStatus.UP


# -- what somebody outside says ----------------------------------------------

@pytest.mark.parametrize('force_down, status', [
    (False, HostStatus.MAINTENANCE), (True, HostStatus.DOWN),
])
def test_a_report_is_a_fault_until_it_is_cleared(world, force_down, status):
    world.faults.report('smoke', force_down, 'me')
    assert world.run() == [(RAISED, REPORTED, '')]
    (event,) = world.events
    assert (event.reason, event.status) == ('smoke', status)
    assert event.details['reporter'] == 'me'
    assert world.status is status
    assert world.wait(1e6) == []
    assert world.faults.clear('you') == [REPORTED]
    assert world.run() == [(CLEARED, REPORTED, '')]
    assert world.events[-1].details['cleared_by'] == 'you'
    assert world.record == UP


def test_a_report_forces_down_whatever_the_option_says():
    world = World(reported_fault=NONE)
    world.faults.report('smoke', False, 'me')
    world.run()
    assert world.record == UP
    world.faults.report('fire', True, 'me')
    assert world.run() == [(UPDATED, REPORTED, '')]
    assert world.status is HostStatus.DOWN
    assert world.events[-1].status is HostStatus.DOWN
    assert world.events[-1].action is FORCE_DOWN
    # Less does not take it back, and the same is no news.
    world.faults.report('fire', False, 'me')
    world.faults.report('fire', True, 'me')
    assert world.run() == []
    assert world.status is HostStatus.DOWN
    world.faults.report('water', False, 'you')
    assert world.run() == [(UPDATED, REPORTED, '')]
    assert world.events[-1].details['reporter'] == 'you'
    assert world.record == ServiceRecord(
        True, 'vmhealth: reported_fault: water', True)


def test_another_reason_overrules_no_operator(world):
    world.faults.report('smoke', False, 'me')
    world.run()
    world.record = UP
    world.faults.report('more smoke', False, 'me')
    assert world.run() == [(UPDATED, REPORTED, '')]
    assert world.record == UP
    # Who wants more to be done says so.
    world.faults.report('fire', True, 'me')
    world.run()
    assert world.record.forced_down


def test_only_what_a_person_knows_ends_by_a_persons_word(world):
    world.wrong(LOST)
    world.io_errors()
    world.faults.report('smoke', False, 'me')
    world.memory_failure()
    world.run()
    assert world.faults.clear('me') == [REPORTED, MEMORY]
    world.run()
    assert world.faults.clear('me') == []
    assert [each['cause'] for each in world.faults.view()] == [
        'libvirt_lost', 'storage_fault']


def test_view_for_people(world):
    assert world.faults.view() == []
    world.io_errors()
    assert world.faults.view() == [{
        'cause': 'storage_fault', 'subject': NFS, 'since': world.wall,
        'reason': 'I/O errors of 3 instances', 'action': 'disable'}]


def test_waits_until_each_instance_is_told(world):
    world.uuids = [str(number) for number in range(40)]
    assert not world.faults.waits
    world.wrong()
    assert world.faults.waits
    world.turn()
    world.keeper.answer()
    world.turn()
    assert world.faults.waits           # eight are left
    assert world.faults.next_deadline() == -math.inf
    world.turn()
    assert not world.faults.waits
    assert world.faults.next_deadline() is None


def test_an_instance_that_comes_is_told(world):
    world.wrong()
    world.run()
    world.health.clear()
    world.uuids.append('d')
    world.see(Kind.STARTED, 'd')
    world.run()
    assert world.health == [('d', RAISED, 'libvirt_lost')]


# -- windows of maintenance --------------------------------------------------

def test_in_a_window_nothing_new_is_done(world):
    world.window(0.0, 60.0)
    world.wrong()
    assert world.run() == [(RAISED, LOST, '')]
    assert world.events[-1].suppressed
    assert world.wait(59.9) == []
    assert world.record == UP
    assert len(world.keeper.wishes) == 1
    # At its end it is; that it waited is not told.
    world.wait(0.1)
    assert world.record.reason == 'vmhealth: libvirt_lost: eof'
    assert world.standing.windows == []
    world.faults.over(LOST, quiet=False)
    world.run()
    assert world.record == UP
    assert not world.events[-1].suppressed


def test_what_ended_within_the_window_was_never_done(world):
    world.window(0.0, 60.0)
    world.wrong()
    world.run()
    world.faults.over(LOST, quiet=False)
    assert world.run() == [(CLEARED, LOST, '')]
    world.wait(120.0)
    assert world.record == UP
    assert len(world.keeper.wishes) == 1


def test_a_window_undoes_nothing_that_was_done(world):
    world.wrong()
    world.run()
    world.window(5.0, 60.0)
    world.wait(30.0)
    assert world.status is HostStatus.MAINTENANCE
    # More is not done meanwhile, nor is less.
    world.faults.report('smoke', True, 'me')
    world.run()
    assert world.status is HostStatus.MAINTENANCE
    world.wait(30.0)
    assert world.status is HostStatus.DOWN


def test_what_is_over_in_a_window_is_undone_in_it(world):
    world.wrong()
    world.run()
    world.window(0.0, None)
    world.faults.over(LOST, quiet=False)
    world.run()
    assert world.record == UP


def test_a_fault_that_ends_with_the_window_takes_nothing_along(world):
    world.window(0.0, 60.0)
    world.wrong(LOST)
    world.wrong(REPORTED)
    world.run()
    world.now += 50.0
    world.faults.over(LOST)             # to be quiet until the window ends
    assert world.wait(QUIET_S) == [(CLEARED, LOST, '')]
    assert world.record.reason == 'vmhealth: reported_fault: eof'


def test_a_window_that_is_withdrawn_is_at_its_end(world):
    world.window(0.0, None)
    world.wrong()
    world.wait(1000.0)
    assert world.record == UP
    world.faults.set_windows([])
    world.run()
    assert world.status is HostStatus.MAINTENANCE


@pytest.mark.parametrize('starts_s, ends_s, deadline_s', [
    (10.0, 20.0, 10.0), (-10.0, 20.0, 20.0), (10.0, None, 10.0),
    (-10.0, None, None),
])
def test_the_worker_wakes_when_a_window_begins_or_ends(
        world, starts_s, ends_s, deadline_s):
    world.window(starts_s, ends_s)
    at = world.faults.next_deadline()
    assert at == (None if deadline_s is None else world.now + deadline_s)


@pytest.mark.parametrize('records', [None, {}, 'x', [{}], ['x']])
def test_bad_windows_are_refused_and_the_old_ones_hold(world, records):
    world.window(0.0, None)
    with pytest.raises(exception.InvalidRecord):
        world.faults.set_windows(records)
    assert world.standing.is_planned(world.wall)


def test_so_many_windows_are_kept(world, monkeypatch):
    monkeypatch.setattr(host_faults.maintenance, 'MAX_WINDOWS', 1)
    world.window(0.0, 60.0)
    record = world.standing.windows[0].record()
    world.faults.set_windows([record, {**record, 'id': str(uuid.uuid4())}])
    assert [each.record() for each in world.standing.windows] == [record]


# -- over a restart ----------------------------------------------------------

def test_what_was_being_raised_goes_on(world):
    world.wrong()
    world.restart()
    assert world.run() == [(RAISED, LOST, '')]
    assert world.status is HostStatus.MAINTENANCE
    assert len(world.health) == 3


def test_what_is_told_is_not_told_again_and_ends(world):
    world.wrong()
    world.run()
    world.restart()
    world.faults.stocktaken()
    assert world.run() == []
    assert len(world.health) == 3
    world.faults.over(LOST, quiet=False)
    assert world.run() == [(CLEARED, LOST, '')]
    assert world.record == UP
    assert [each.sequence for each in world.events] == [1, 2]


def test_an_operators_enable_holds_over_a_restart_too(world):
    world.wrong()
    world.run()
    world.record = UP
    world.restart()
    world.wait(600.0)
    assert world.record == UP


def test_what_the_record_had_not_followed_it_follows_now(world):
    world.keeper.away = True
    world.wrong()
    world.wait(host_page.SETTLE_S)
    world.restart()
    assert world.run() == [(UPDATED, LOST, '')]
    assert world.status is HostStatus.MAINTENANCE


def test_what_was_ending_is_undone(world):
    world.wrong()
    world.run()
    world.keeper.away = True
    world.faults.over(LOST, quiet=False)
    world.run()
    world.restart()
    assert world.run() == [(CLEARED, LOST, '')]
    assert world.record == UP


def test_what_was_forced_down_is_remembered(world):
    world.faults.report('smoke', True, 'me')
    world.run()
    world.restart()
    world.faults.clear('me')
    world.run()
    assert world.record == UP
    assert 'forced_down' not in world.saved.write()


def test_what_somebody_else_forced_down_stays_so(world):
    world.wrong()
    world.record = ServiceRecord(False, None, True)
    world.run()
    world.restart()
    world.faults.over(LOST, quiet=False)
    world.run()
    assert world.record == ServiceRecord(False, None, True)


def test_bad_memory_has_all_of_its_time_again(world):
    world.memory_failure()
    world.run()
    world.restart(after_s=MEMORY_QUIET_S)
    assert world.wait(MEMORY_QUIET_S + QUIET_S - 0.1) == []
    assert world.wait(0.1) == [(CLEARED, MEMORY, '')]


def test_guests_that_were_lost_in_an_earlier_run_are_not_counted(world):
    world.faults.storm(storm(RAISED, 'storm-1', 1, world.wall))
    world.run()
    world.restart()
    assert world.run() == [(CLEARED, MANY, '')]
    assert world.events[-1].details['reason'] == (
        'nova-compute was started anew')
    assert world.record == UP


def test_those_of_this_run_are(world):
    world.restart()
    world.faults.storm(storm(RAISED, 'storm-1', 1, world.wall))
    assert world.run() == [(RAISED, MANY, '')]
    # nova-conductor has been slow, and now the instances are known.
    world.faults.stocktaken()
    assert world.run() == []


def test_storage_that_is_at_fault_stays_so(world):
    world.io_errors()
    world.run()
    world.restart()
    assert world.wait(600.0) == []
    world.io_errors()
    assert world.wait(600.0) == []
    world.resume('c')
    assert world.wait(QUIET_S) == [(CLEARED, STORAGE, NFS)]


def test_storage_of_which_nobody_suffers_any_more_is_well(world):
    world.io_errors()
    world.run()
    world.restart(change=lambda records: records.pop('storage'))
    assert world.wait(QUIET_S - 0.1) == []
    assert world.wait(0.1) == [(CLEARED, STORAGE, NFS)]


def test_storage_that_is_not_watched_any_more_is_well(world):
    world.io_errors()
    world.run()
    world.fewest = 0
    world.restart()
    assert world.wait(QUIET_S) == [(CLEARED, STORAGE, NFS)]


def test_a_guest_of_which_nobody_will_hear_does_not_suffer_for_ever(world):
    world.io_errors()
    world.run()
    # Its owner does not want to be told of I/O errors: whether it was resumed
    # meanwhile is not found out.
    world.ledger = ledger.Ledger(ledger.Settings(), lambda: 'id')
    for uuid_ in 'abc':
        world.see(Kind.FAULT, uuid_, Cause.WATCHDOG_EXPIRED)
    world.restart()
    assert world.wait(IO_QUIET_S + QUIET_S) == [(CLEARED, STORAGE, NFS)]


def test_windows_survive(world):
    world.window(0.0, 1000.0)
    world.restart()
    assert world.standing.is_planned(world.wall)
    world.wait(1000.0)
    assert 'windows' not in world.saved.write()


@pytest.mark.parametrize('down_s, status', [
    (10.0, HostStatus.UP), (70.0, HostStatus.MAINTENANCE),
])
def test_what_a_window_withheld_is_so_after_a_restart(
        world, down_s, status):
    world.window(0.0, 60.0)
    world.wrong()
    world.run()
    world.restart(down_s)
    world.run()
    assert len(world.keeper.wishes) == 1
    assert world.status is status
    world.wait(60.0)
    assert world.status is HostStatus.MAINTENANCE


def test_and_what_was_done_before_the_window_stays_done(world):
    world.wrong()
    world.run()
    world.window(0.0, None)
    world.restart()
    world.wait(60.0)
    assert world.status is HostStatus.MAINTENANCE


@pytest.mark.parametrize('name, record', [
    ('host', []), ('host', {'sequence': -1}), ('storage', 7),
    ('windows', {}), ('windows', [{}]), ('host_action', 'explode'),
    ('host_action', []), ('host_action', 7),
])
def test_a_bad_record_costs_nothing_else(world, name, record, caplog):
    world.window(0.0, 1000.0)
    world.run()
    world.restart(change=lambda records: records.update({name: record}))
    world.run()
    assert world.standing.is_planned(world.wall) is (name != 'windows')
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.startswith(f'What was saved of the host ({name}) is not used')


@pytest.mark.parametrize('record', [1, 'yes', None, [], {'a': True}])
def test_only_true_says_that_we_forced_it_down(world, record):
    world.record = ServiceRecord(True, 'vmhealth: x', True)
    world.restart(change=lambda records: records.update(forced_down=record))
    world.run()
    assert world.record == ServiceRecord(False, None, True)


def test_the_host_is_made_up_again_where_all_was_forgotten(world):
    world.wrong()
    world.run()
    world.restart(change=dict.clear)
    world.faults.stocktaken()
    world.run()
    assert world.record == UP
    assert world.health[3:] == [
        (each, CLEARED, 'libvirt_lost') for each in 'abc']


# -- whatever happens --------------------------------------------------------

operations = st.one_of(
    st.tuples(st.just('wrong'), st.sampled_from((LOST, REPORTED, MANY)),
              st.sampled_from(HostAction)),
    st.tuples(st.just('over'), st.sampled_from((LOST, REPORTED, MANY)),
              st.booleans()),
    st.tuples(st.just('io_errors'), st.sampled_from(('a', 'b', 'abc')),
              st.sampled_from(('pause', 'report'))),
    st.tuples(st.just('resume'), st.sampled_from(('a', 'abc'))),
    st.tuples(st.just('memory_failure')),
    st.tuples(st.just('away'), st.booleans()),
    st.tuples(st.just('window'), st.sampled_from((0.0, 3.0)),
              st.sampled_from((None, 8.0))),
    st.tuples(st.just('operator'), st.sampled_from((UP, BY_OPERATOR))),
    st.tuples(st.just('restart')),
)
steps = st.lists(st.tuples(
    st.integers(0, 40).map(lambda quarters: quarters / 4), operations),
    max_size=30)


@given(steps)
@hypothesis_settings(deadline=None)
def test_the_worker_never_spins_and_an_operators_word_holds(story):
    world = World()
    for pause, (name, *arguments) in story:
        world.wait(pause)
        before = world.record
        if name == 'wrong':
            cause, action = arguments
            world.wrong(cause, action=action)
        elif name == 'over':
            cause, quiet = arguments
            world.faults.over(cause, quiet=quiet)
        elif name == 'away':
            (world.keeper.away,) = arguments
        elif name == 'operator':
            (world.record,) = arguments
            before = world.record
            world.keeper.wish(*world.keeper.wishes[-1][:2], False)
        elif name == 'restart':
            away = world.keeper.away
            world.restart(1.0)
            world.keeper.away = away
        else:
            getattr(world, name)(*arguments)
        world.run()
        if before == BY_OPERATOR:
            assert world.record == BY_OPERATOR
    # All is over, and nova-conductor is there.
    world.keeper.away = False
    world.faults.set_windows([])
    world.resume('abc')
    for cause in (LOST, REPORTED, MANY):
        world.faults.over(cause)
    world.wait(10 * MEMORY_QUIET_S)
    assert world.faults.view() == []
    assert not world.faults.waits
    assert world.faults.next_deadline() is None
    assert world.record in (UP, BY_OPERATOR)
    assert Cause.HOST_FAULT not in {
        condition.cause for each in 'abc'
        for condition in world.ledger.conditions(each)}


# -- the options -------------------------------------------------------------

def test_the_options_reach_the_parts(monkeypatch):
    options = types.SimpleNamespace(
        on_libvirt_lost='force_down', on_storage_fault='none',
        on_memory_failure='disable', on_many_guests_lost='none',
        on_reported_fault='disable', host_fault_quiet_s=7.0,
        memory_failure_quiet_s=70.0, storage_fault_instances=2,
        storage_fault_window_s=5.0, io_error_quiet_s=9.0)
    standing, cache = host_standing.HostStanding(), fakes.Cache()
    faults = host_faults.build(
        options, standing, 'keeper', cache,
        ledger.Ledger(ledger.Settings(), lambda: 'id'), print)
    assert faults._settings == host_faults.Settings(
        {LOST: FORCE_DOWN, STORAGE: NONE, MEMORY: DISABLE, MANY: NONE,
         REPORTED: DISABLE}, 7.0, 70.0)
    assert not faults._watch.failed('a', 'x', True, 0.0)
    assert faults._watch.failed('b', 'x', False, 4.9)
    faults._watch.resumed('a')
    faults._watch.handle_timer(4.9 + 8.9)
    assert faults._watch.failing('x') == ['b']
    faults._watch.handle_timer(4.9 + 9.0)
    assert faults._watch.failing('x') == []
