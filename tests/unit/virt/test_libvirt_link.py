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


import types

from nova import exception as nova_exception
import pytest

from nova_vmhealth.core import host_page
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt.host import LinkChanged
from nova_vmhealth.virt import libvirt_link
from tests.unit.virt import fakes

UP, DOWN = LinkChanged(True, 3.0), LinkChanged(False, 2.0, 'eof')
RAISED, CLEARED = Transition.RAISED, Transition.CLEARED


class LibvirtError(Exception):
    pass


class World:
    """A link, and a libvirt that is there or not."""

    def __init__(self):
        self.away = self.nova_fails = False
        self.attempts = self.connections = 0
        self.answers, self.events = [], []
        self.page = host_page.HostPage(lambda: 'id')
        self.background = fakes.Background()
        self.link = libvirt_link.LibvirtLink(
            self, self.page, lambda: ['a', 'b'], self.background.submit,
            self.answers.append, self.tell)

    def tell(self, event):
        event = self.page.number(event)
        self.events.append((event.transition, event.cause))
        self.event = event

    def try_to_connect(self):
        self.attempts += 1
        if self.away:
            raise LibvirtError('connection refused')

    def get_connection(self):
        self.connections += 1
        if self.nova_fails:
            raise nova_exception.HypervisorUnavailable()
        return 'connection'


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(libvirt_link.nova_host, 'libvirt',
                        types.SimpleNamespace(libvirtError=LibvirtError))
    return World()


def test_told_once_when_lost_and_once_when_back(world):
    for change in (UP, DOWN, DOWN, UP, UP):
        world.link.changed(change, 5.0)
    assert world.events == [(RAISED, HostCause.LIBVIRT_LOST),
                            (CLEARED, HostCause.LIBVIRT_LOST)]


def test_says_when_and_why_and_for_whom(world):
    world.link.changed(DOWN, 5.0)
    assert (world.event.occurred_at, world.event.detected_at) == (2.0, 5.0)
    assert world.event.details == {'reason': 'eof', 'host_event': 'id'}
    assert world.event.instance_uuids == ('a', 'b')


def test_tries_until_libvirt_answers_and_then_lets_nova_reconnect(world):
    world.away = True
    world.link.changed(DOWN, 5.0)
    for _ in range(200):
        world.background.run()
    # Nova, which writes a trace for each failure, is left alone meanwhile
    assert (world.attempts, world.connections) == (200, 0)
    world.away = False
    world.background.run()
    assert world.connections == 1
    assert [answer.up for answer in world.answers] == [True]
    assert not world.background.jobs


def test_tries_on_where_nova_cannot_connect(world):
    world.nova_fails = True
    world.link.changed(DOWN, 5.0)
    world.background.run()
    assert world.answers == []
    assert world.background.jobs


def test_the_end_of_a_connection_that_has_a_successor(world):
    """Nova was first to see it, and has reconnected."""
    world.link.changed(UP, 4.0)
    world.link.changed(DOWN, 5.0)
    world.background.run()
    (answer,) = world.answers
    world.link.changed(answer, 5.0)
    assert not world.link.lost
    assert [transition for transition, _ in world.events] == [RAISED, CLEARED]


def test_nobody_bothers_nova_while_it_is_known_to_be_away(world):
    assert world.link.get_connection() == 'connection'
    world.link.changed(DOWN, 5.0)
    with pytest.raises(nova_exception.HypervisorUnavailable):
        world.link.get_connection()
    assert world.connections == 1
    world.link.changed(UP, 5.0)
    assert world.link.get_connection() == 'connection'


def test_the_first_connection_clears_what_an_earlier_run_raised(world):
    world.page.restore({'sequence': 8, 'active': {'libvirt_lost': 'old',
                                                  'many_guests_lost': 'x'}})
    world.link.changed(UP, 5.0)
    assert world.event.sequence == 9
    assert world.event.details == {'host_event': 'old'}
    world.link.begin(5.0)
    world.link.begin(5.0)
    assert world.events == [(CLEARED, HostCause.LIBVIRT_LOST),
                            (CLEARED, HostCause.MANY_GUESTS_LOST)]
