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

"""Each instance is told of the host's faults: once, and of each cause."""

import itertools

import pytest

from nova_vmhealth.core import host_page
from nova_vmhealth.core import ledger
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt import host_word

LOST, STORAGE = HostCause.LIBVIRT_LOST, HostCause.STORAGE_FAULT
RAISED, UPDATED, CLEARED = Transition


class World:
    """A page and a ledger, and between them the word."""

    def __init__(self):
        self.uuids = ['a', 'b']
        self.wanted = frozenset(Cause)
        numbers = itertools.count(1)
        self.page = host_page.HostPage(
            lambda: f'host-{next(numbers)}', lambda: self.uuids)
        self.ledger = ledger.Ledger(ledger.Settings(), lambda: 'id')
        self.word = self.new_word()
        # (uuid, transition, subject) of each event
        self.told = []

    def new_word(self):
        return host_word.HostWord(self.page, lambda: self.uuids,
                                  self.ledger.conditions)

    def wrong(self, cause=LOST, subject=''):
        self.page.wrong(host_page.HostFault(cause, 5.0, 'eof',
                                            subject=subject), 0.0, 1.0)
        self.settle()

    def over(self, cause=LOST, subject=''):
        self.page.over(cause, subject, 0.0)
        self.page.handle_timer(0.0)
        self.settle()

    def settle(self):
        for event in self.page.settled(0.0, 1.0, HostStatus.UP, False, True):
            self.word.spread(event.cause)

    def turn(self):
        """One of the worker's turns; the observations."""
        seen = self.word.observations(9.0)
        for observation in seen:
            self.told += [
                (event.instance_uuid, event.transition, event.subject)
                for event in self.ledger.observe(observation, 0.0, 9.0,
                                                 self.wanted)]
        return seen

    def drain(self):
        """All turns that it takes; what was told."""
        while self.word.waits:
            self.turn()
        told, self.told = self.told, []
        return told


@pytest.fixture
def world():
    return World()


def test_each_instance_is_told_of_the_fault_and_of_its_end(world):
    world.wrong()
    assert world.word.waits
    first, second = world.turn()
    assert (first.kind, first.instance_uuid, first.occurred_at) == (
        Kind.FAULT, 'a', 5.0)
    assert (first.cause, first.subject) == (Cause.HOST_FAULT, 'libvirt_lost')
    assert first.details == {'reason': 'eof', 'host_cause': 'libvirt_lost',
                             'host_event': 'host-1'}
    assert second.instance_uuid == 'b'
    assert not world.word.waits
    assert world.drain() == [('a', RAISED, 'libvirt_lost'),
                             ('b', RAISED, 'libvirt_lost')]
    world.over()
    first, second = world.turn()
    assert (first.kind, first.instance_uuid, first.occurred_at) == (
        Kind.RECOVERED, 'a', 9.0)
    assert (first.cause, first.subject) == (Cause.HOST_FAULT, 'libvirt_lost')
    assert world.drain() == [('a', CLEARED, 'libvirt_lost'),
                             ('b', CLEARED, 'libvirt_lost')]


def test_in_parts(world):
    world.uuids = [str(number) for number in range(70)]
    world.wrong()
    assert [len(world.turn()) for _ in range(3)] == [32, 32, 6]
    assert not world.word.waits
    assert world.turn() == []


def test_what_is_over_while_it_is_told_is_told_to_nobody_else(world):
    world.uuids = [str(number) for number in range(70)]
    world.wrong()
    world.turn()
    world.over()
    told = world.drain()
    assert len(told) == 64
    assert {uuid for uuid, transition, _ in told if transition is CLEARED} == {
        uuid for uuid, transition, _ in told if transition is RAISED}


def test_nobody_is_told_twice(world):
    world.wrong()
    world.word.spread(LOST)
    world.word.arrived('a')
    world.word.arrived('b')
    assert sorted(world.drain()) == [('a', RAISED, 'libvirt_lost'),
                                     ('b', RAISED, 'libvirt_lost')]
    world.word.spread(LOST)
    world.word.arrived('a')
    assert world.drain() == []
    world.over()
    world.word.spread(LOST)
    assert len(world.drain()) == 2
    world.word.spread(LOST)
    world.word.arrived('a')
    assert not world.word.waits


def test_nor_after_a_restart(world):
    world.wrong()
    world.drain()
    world.word = world.new_word()
    world.uuids.append('c')             # came while nobody listened
    for cause in HostCause:
        world.word.spread(cause)
    assert world.drain() == [('c', RAISED, 'libvirt_lost')]


def test_what_ended_while_nobody_listened_is_cleared(world):
    world.wrong()
    world.drain()
    world.page = host_page.HostPage(lambda: 'id')
    world.word = world.new_word()
    for cause in HostCause:
        world.word.spread(cause)
    assert world.drain() == [('a', CLEARED, 'libvirt_lost'),
                             ('b', CLEARED, 'libvirt_lost')]


def test_one_that_arrives_is_told_of_all_that_is_wrong(world):
    world.wrong()
    world.wrong(STORAGE, 'nfs:a')
    world.drain()
    world.uuids.append('c')
    world.word.arrived('c')
    assert world.drain() == [('c', RAISED, 'libvirt_lost'),
                             ('c', RAISED, 'storage_fault')]
    world.over()
    assert ('c', CLEARED, 'libvirt_lost') in world.drain()


def test_one_that_arrives_on_a_host_that_is_well_is_told_nothing(world):
    world.word.arrived('c')
    assert not world.word.waits


def test_one_that_arrives_while_it_ends_is_told_if_it_goes_on(world):
    world.wrong()
    world.drain()
    world.page.over(LOST, '', 0.0)
    world.page.handle_timer(0.0)        # the record is yet to follow
    world.uuids.append('c')
    world.word.arrived('c')
    world.word.arrived('a')
    assert world.drain() == [('c', RAISED, 'libvirt_lost')]
    world.wrong()                       # it was not over after all
    assert world.drain() == []
    world.over()
    assert len(world.drain()) == 3


def test_several_faults_of_one_cause_are_one_condition(world):
    world.wrong(STORAGE, 'nfs:a')
    world.wrong(STORAGE, 'nfs:b')
    assert world.drain() == [('a', RAISED, 'storage_fault'),
                             ('b', RAISED, 'storage_fault')]
    world.over(STORAGE, 'nfs:a')
    assert world.drain() == []
    assert [each.subject for each in world.ledger.conditions('a')] == [
        'storage_fault']
    world.over(STORAGE, 'nfs:b')
    assert world.drain() == [('a', CLEARED, 'storage_fault'),
                             ('b', CLEARED, 'storage_fault')]


def test_the_end_of_one_cause_is_not_that_of_another(world):
    world.wrong()
    world.drain()
    world.wrong(STORAGE, 'nfs:a')
    assert world.drain() == [('a', RAISED, 'storage_fault'),
                             ('b', RAISED, 'storage_fault')]
    world.over()
    assert world.drain() == [('a', CLEARED, 'libvirt_lost'),
                             ('b', CLEARED, 'libvirt_lost')]


def test_an_owner_who_wants_no_word_costs_nothing(world):
    world.wanted = frozenset()
    world.wrong()
    assert world.drain() == []
    assert not world.word.waits
    world.over()
    assert not world.word.waits
