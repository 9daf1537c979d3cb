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


import threading
import types

from nova import exception as nova_exception
import pytest

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
        self.now = 100.0
        self.answers, self.events = [], []
        self.faults = fakes.HostFaults(self.events)
        self.background = fakes.Background()
        self.link = libvirt_link.LibvirtLink(
            self, self.faults, self.background.submit,
            self.answers.append, lambda: self.now,
            lambda: self.now + 1000.0)

    def back(self):
        """An attempt succeeds, and the worker hears of it."""
        self.background.run()
        return self.link.changed(self.answers.pop(), 5.0)

    def wait(self, seconds):
        self.now += seconds
        self.link.handle_timer(self.now)

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
    assert not world.link.changed(UP, 5.0)
    assert world.link.changed(DOWN, 5.0)
    world.link.changed(DOWN, 5.0)
    assert world.back()
    assert not world.link.changed(UP, 5.0)      # Nova's of the same connection
    assert world.events == [(RAISED, HostCause.LIBVIRT_LOST),
                            (CLEARED, HostCause.LIBVIRT_LOST)]


def test_says_when_and_why(world):
    world.link.changed(DOWN, 5.0)
    assert world.faults.last == (2.0, 5.0, 'no connection to libvirt: eof',
                                 {'reason': 'eof'})


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
    assert world.back()
    assert not world.link.lost
    assert [transition for transition, _ in world.events] == [RAISED, CLEARED]


def test_nobody_bothers_nova_while_it_is_known_to_be_away(world):
    assert world.link.get_connection() == 'connection'
    world.link.changed(DOWN, 5.0)
    with pytest.raises(nova_exception.HypervisorUnavailable):
        world.link.get_connection()
    assert world.connections == 1
    world.back()
    assert world.link.get_connection() == 'connection'


def test_the_first_connection_clears_what_an_earlier_run_raised(world):
    world.faults.wrong(HostCause.LIBVIRT_LOST, 1.0, 1.0, '', {})
    world.link.changed(UP, 5.0)
    assert world.events == [(RAISED, HostCause.LIBVIRT_LOST),
                            (CLEARED, HostCause.LIBVIRT_LOST)]


def test_the_hosts_faults_are_told_that_its_instances_are_known(world):
    world.link.begin()
    assert world.faults.stocks == 1


def test_an_attempt_ends_no_loss_but_its_own(world):
    """libvirt was back for a moment, and is away again."""
    world.link.changed(DOWN, 5.0)
    world.background.run()
    (answer,) = world.answers
    world.away = True
    world.link.changed(DOWN, 6.0)
    assert not world.link.changed(answer, 6.1)
    assert world.link.lost
    assert world.events == [(RAISED, HostCause.LIBVIRT_LOST)]
    world.background.run()
    world.away = False
    assert world.back()
    assert not world.link.lost


def test_an_attempt_that_fails_does_not_replace_that_for_the_loss_since(world):
    def lost_again():
        world.link.changed(DOWN, 6.0)
        raise LibvirtError('connection refused')
    connect, world.try_to_connect = world.try_to_connect, lost_again
    world.link.changed(DOWN, 5.0)
    world.background.run()
    world.try_to_connect = connect
    assert world.back()


def test_word_of_a_connection_that_comes_after_that_of_its_end(world):
    """libvirt's and Nova's threads do not wait for each other."""
    world.link.changed(DOWN, 5.0)
    assert not world.link.changed(UP, 5.0)
    assert world.link.lost


# -- libvirt hangs -----------------------------------------------------------

def during(world, *steps, fails=False):
    """Ask a question; each step happens while it is out."""
    def question(_connection):
        for step in steps:
            step()
        if fails:
            raise LibvirtError('end of file')
        return 'answer'
    return world.link.ask(question)


def late(world):
    return lambda: world.wait(libvirt_link.PATIENCE_S)


def test_what_is_answered_in_time_is_no_news(world):
    assert world.link.next_deadline() is None
    deadlines = []
    assert during(
        world, lambda: world.wait(libvirt_link.PATIENCE_S - 0.1),
        lambda: deadlines.append(world.link.next_deadline())) == 'answer'
    # the worker, which knew of no deadline, was awoken
    assert (deadlines, world.answers) == ([130.0], [None])
    world.wait(1.0)
    assert world.link.next_deadline() is None
    assert world.events == []


def test_a_libvirt_that_hangs_is_told_once_and_cleared_by_its_answer(world):
    events = []

    def look():
        events.append(world.faults.last)
        assert world.link.lost
        assert world.link.next_deadline() is None

    during(world, late(world), look, late(world))
    assert events == [(1100.0, 1130.0, 'no connection to libvirt: no answer',
                       {'reason': 'no answer'})]
    assert not world.background.jobs        # the connection is there
    world.wait(0.0)
    world.wait(9.0)
    assert world.events == [(RAISED, HostCause.LIBVIRT_LOST),
                            (CLEARED, HostCause.LIBVIRT_LOST)]
    assert not world.link.lost


def test_nobody_else_asks_a_libvirt_that_may_hang(world):
    def refused(ask):
        def step():
            with pytest.raises(nova_exception.HypervisorUnavailable):
                ask()
        return step
    during(
        world, refused(lambda: world.link.ask(pytest.fail)),
        late(world),
        refused(lambda: world.link.ask(pytest.fail)),
        refused(world.link.get_connection))
    assert world.connections == 1
    world.wait(0.0)
    assert during(world) == 'answer'


def test_an_error_that_comes_late_is_no_answer_but_the_next_one_is(world):
    with pytest.raises(LibvirtError):
        during(world, late(world), fails=True)
    world.wait(0.0)
    assert not world.link.lost              # it may be asked again
    assert world.events == [(RAISED, HostCause.LIBVIRT_LOST)]
    during(world)
    world.wait(0.0)
    assert world.events[1:] == [(CLEARED, HostCause.LIBVIRT_LOST)]


@pytest.mark.parametrize('first', [[DOWN], [UP, DOWN]])
def test_one_that_hangs_and_is_killed_is_lost_once(world, first):
    """The question fails with the connection; Nova may reconnect first."""
    with pytest.raises(LibvirtError):
        during(
            world, late(world),
            *[lambda change=change: world.link.changed(change, 5.0)
              for change in first], fails=True)
    world.wait(0.0)
    assert world.link.lost
    world.answers.clear()
    world.back()
    assert world.events == [(RAISED, HostCause.LIBVIRT_LOST),
                            (CLEARED, HostCause.LIBVIRT_LOST)]


def test_a_question_that_never_returns_ends_with_its_connection(world):
    def anew():
        world.link.changed(DOWN, 5.0)
        world.back()
        world.wait(libvirt_link.PATIENCE_S)
        assert not world.link.lost
        assert world.link.ask(lambda connection: 'new') == 'new'
    during(world, anew)
    assert world.link.next_deadline() is None


def test_a_question_of_the_old_connection_that_returns_late(world):
    """The one that is out since is still waited for."""
    asked, over = threading.Event(), threading.Event()
    old = threading.Thread(target=during, args=(
        world, asked.set, lambda: over.wait(30)))
    old.start()
    asked.wait(30)
    world.link.changed(DOWN, 5.0)
    world.answers.clear()
    world.back()
    deadlines = []
    during(world, over.set, old.join,
           lambda: deadlines.append(world.link.next_deadline()))
    assert deadlines == [130.0]


def test_an_answer_of_the_old_connection_ends_no_loss(world):
    during(world, lambda: None)
    world.link.changed(DOWN, 5.0)
    world.wait(1.0)
    assert world.link.lost
    assert world.events == [(RAISED, HostCause.LIBVIRT_LOST)]
