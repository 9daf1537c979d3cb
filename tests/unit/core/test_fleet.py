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

"""Hosts fall silent, many at once, and come back; the broker goes away."""

import math

import pytest

from nova_vmhealth.core.beacons import Beacon
from nova_vmhealth.core.beacons import InspectorBeacon
from nova_vmhealth.core import fleet
from nova_vmhealth.core.fleet_table import Standing
from nova_vmhealth.core.fleet_words import Blinded
from nova_vmhealth.core.fleet_words import Heard
from nova_vmhealth.core.fleet_words import Left
from nova_vmhealth.core.fleet_words import Namesake
from nova_vmhealth.core.fleet_words import Obstacle
from nova_vmhealth.core.fleet_words import Probe
from nova_vmhealth.core.fleet_words import Recovered
from nova_vmhealth.core.fleet_words import Refused
from nova_vmhealth.core.fleet_words import Sighted
from nova_vmhealth.core.fleet_words import Stalled
from nova_vmhealth.core.fleet_words import Suspected
from tests.unit.core.fleet_story import Fleet
from tests.unit.core.fleet_story import ME
from tests.unit.core.fleet_story import TICK_S

# What a turn of the loop, and the way of an own beacon, may add.
LATE_S = 4 * TICK_S


def settled(hosts=('a',), **wanted):
    """A fleet whose start is over, with nothing told of it."""
    story = Fleet(hosts, **wanted)
    story.run(story.settings.grace_s + 3)
    assert story.of(Suspected) == []
    story.told.clear()
    return story


def hosts_named(number):
    return [f'host-{each}' for each in range(number)]


# one host falls silent

@pytest.mark.parametrize('misses, interval_s', [
    (3, 0.5), (2, 0.3), (1, 0.5), (3, 0.05), (5, 2.0)])
def test_silent_after_the_misses(misses, interval_s):
    story = settled(interval_s=interval_s, misses=misses)
    story.die('a')
    last = story.watch.view('a').heard_at
    story.run(misses * interval_s + 1)
    assert story.of(Suspected) == [Suspected('a')]
    silent_s = story.when(Suspected) - last
    assert misses * interval_s <= silent_s <= misses * interval_s + LATE_S
    assert story.watch.obstacle('a', story.now) is None
    assert story.watch.suspects() == ('a',)


def test_nobody_is_suspected_who_beats():
    story = settled(hosts_named(20))
    story.run(60)
    assert story.told == []


def test_a_probe_must_come_back_first():
    """What is under way may be the beacon that is missed."""
    story = settled()
    story.hear(story.beacon('a'))
    story.die('a')
    story.run(1.4)
    story.broker = False
    story.run(0.2)
    assert story.of(Probe) and not story.of(Suspected)
    story.broker = True
    story.hear(story.beacon('a'))
    story.run(0.2)
    assert not story.of(Suspected)


@pytest.mark.parametrize('interval_ms, limited_s', [
    (1, 0.05), (10 ** 9, 60.0), (0, 0.05)])
def test_an_interval_has_limits(interval_ms, limited_s):
    story = settled(())
    story.hear(Beacon('a', 'x', 1, interval_ms, story.now))
    assert story.watch.view('a').interval_s == limited_s


def test_a_shorter_interval_holds_at_once():
    story = settled((), recover_beacons=1)
    story.beat('a', 60.0)
    story.run(3)
    story.beat('a', 0.5)
    story.run(1)
    story.die('a')
    story.run(2)
    assert story.of(Suspected) == [Suspected('a')]


def test_an_interval_that_changes_all_the_time_leaves_nothing_behind():
    story = settled((), recover_beacons=1)
    for _ in range(50):
        story.beat('a', 2.0)
        story.run(0.1)
        story.beat('a', 0.1)
        story.run(0.1)
    story.run(10)
    assert len(story.watch._deadlines) == 1


def test_only_as_many_hosts_as_there_can_be(monkeypatch):
    monkeypatch.setattr(fleet, 'MAX_HOSTS', 2)
    story = settled(('a', 'b'))
    story.hear(story.beacon('c'))
    assert story.watch.hosts() == ['a', 'b']
    assert story.watch.ignored == 1
    story.watch.mark('c', 'x', 1, 0, story.now)
    assert story.watch.view('c') is None


# beacons that are no news

@pytest.mark.parametrize('incarnation, sequence, news', [
    ('first', 5, False), ('first', 4, False), ('first', 6, True),
    ('second', 1, True)])
def test_a_beacon_that_was_overtaken_is_ignored(incarnation, sequence, news):
    story = settled(())
    story.hear(Beacon('a', 'first', 5, 500, story.now))
    heard_at = story.now
    story.run(0.2)
    story.hear(Beacon('a', incarnation, sequence, 500, story.now))
    assert (story.watch.view('a').heard_at != heard_at) is news
    assert story.watch.ignored == (0 if news else 1)


def test_old_beacons_bring_no_dead_host_back():
    story = settled()
    old = [story.beacon('a') for _ in range(9)]
    story.hear(story.beacon('a'))
    story.die('a')
    for beacon in old:
        story.run(0.3)
        story.hear(beacon)
    assert story.of(Suspected) == [Suspected('a')]
    assert story.of(Heard) == []


# goodbye

def test_who_says_goodbye_is_not_missed_until_it_is_back():
    story = settled()
    story.hear(story.beacon('a', leaving=True))
    story.die('a')
    story.run(30)
    assert story.told == [(story.told[0][0], Left('a'))]
    assert story.watch.view('a').standing is Standing.LEFT
    story.restart('a')
    story.run(3)
    assert story.watch.view('a').standing is Standing.WATCHED
    story.die('a')
    story.run(3)
    assert story.of(Suspected) == [Suspected('a')]


def test_goodbye_of_a_silent_host_ends_the_suspicion():
    story = settled()
    story.die('a')
    story.run(3)
    story.hear(story.beacon('a', leaving=True))
    assert story.watch.obstacle('a', story.now) is Obstacle.NOT_SILENT
    assert story.watch.suspects() == ()


def test_goodbye_of_a_marked_host_does_not_unmark_it():
    story = settled()
    story.watch.mark('a', 'first', 9, 0, story.now)
    story.hear(Beacon('a', 'second', 1, 500, story.now, leaving=True))
    assert story.watch.view('a').standing is Standing.MARKED


# coming back

def test_a_single_beacon_ends_the_suspicion_some_more_the_silence():
    story = settled(recover_beacons=3)
    story.die('a')
    story.run(3)
    story.hear(story.beacon('a'))
    assert story.of(Heard) == [Heard('a')]
    assert story.watch.obstacle('a', story.now) is Obstacle.NOT_SILENT
    assert story.watch.view('a').standing is Standing.RETURNING
    for _ in range(2):
        assert not story.of(Recovered)
        story.run(0.5)
        story.hear(story.beacon('a'))
    assert story.of(Recovered) == [Recovered('a')]
    assert story.watch.view('a').standing is Standing.WATCHED


def test_beacons_that_come_all_at_once_are_no_return():
    story = settled(recover_beacons=3)
    story.die('a')
    story.run(3)
    for _ in range(9):
        story.hear(story.beacon('a'))
    assert story.of(Recovered) == []


def test_silent_again_before_it_was_back():
    story = settled(recover_beacons=3)
    story.die('a')
    story.run(3)
    story.hear(story.beacon('a'))
    story.run(3)
    assert story.of(Suspected) == [Suspected('a')] * 2


def test_a_marked_host_recovers_and_is_unmarked():
    story = settled()
    story.die('a')
    story.run(3)
    view = story.watch.view('a')
    story.watch.mark('a', view.incarnation, view.sequence, 0, story.now)
    assert story.watch.obstacle('a', story.now) is Obstacle.NOT_SILENT
    story.run(30)
    assert story.of(Suspected) == [Suspected('a')]
    # what it had sent before is no return
    story.sequences['a'] = view.sequence - 1
    story.hear(story.beacon('a'))
    assert story.watch.view('a').standing is Standing.MARKED
    story.restart('a')
    story.run(3)
    assert story.of(Recovered) == [Recovered('a')]
    story.watch.unmark('a', story.now)
    assert story.watch.view('a').standing is Standing.WATCHED


def test_a_mark_of_another_inspector_names_the_last_beacon():
    """What is buffered here was sent before the host was marked there."""
    story = settled(())
    story.watch.mark('a', 'first', 40, 0, story.now)
    for sequence in (38, 39, 40):
        story.hear(Beacon('a', 'first', sequence, 500, story.now))
        story.run(0.5)
    assert story.watch.view('a').standing is Standing.MARKED


def test_unmarked_while_silent_is_left_alone():
    """An operator says that it is well, though nothing is heard of it."""
    story = settled()
    story.die('a')
    story.run(3)
    story.watch.mark('a', 'first', 0, 0, story.now)
    story.watch.unmark('a', story.now)
    story.run(30)
    assert story.of(Suspected) == [Suspected('a')]
    assert story.watch.view('a').standing is Standing.LEFT


# restored

def test_a_restored_host_is_missed_after_a_grace():
    story = Fleet(grace_s=10)
    for name, left in (('a', False), ('b', True)):
        story.watch.restore(name, left)
    story.run(11)
    assert story.of(Suspected) == []
    story.run(2)
    assert story.of(Suspected) == [Suspected('a')]
    assert story.watch.view('a').heard_at is None


def test_a_restored_host_that_beats_gets_no_grace():
    story = Fleet(grace_s=10)
    story.watch.restore('a', False)
    story.beat('a')
    story.run(2)
    story.die('a')
    story.run(2.2)
    assert story.of(Suspected) == [Suspected('a')]


def test_restoring_does_not_touch_who_is_there():
    story = settled()
    story.watch.restore('a', True)
    assert story.watch.view('a').standing is Standing.WATCHED


def test_what_a_peer_suspects_is_watched_too():
    story = settled(grace_s=10)
    story.hear_peer('other', ['b'])
    story.run(10)
    assert story.of(Suspected) == []
    story.run(2)
    assert story.of(Suspected) == [Suspected('b')]


# nothing is heard

def outage(story, seconds):
    """A broker that is away, and takes its time to be back for hosts."""
    hosts = list(story.beating)
    story.broker = False
    story.run(seconds)
    story.broker = True
    for host in hosts:
        story.beating.pop(host)
    return hosts


@pytest.mark.parametrize('seconds', [1.0, 1.6, 5.0, 60.0])
def test_a_restart_of_the_broker_marks_nothing(seconds):
    story = settled(hosts_named(3), grace_s=10)
    hosts = outage(story, seconds)
    story.run(9)
    for host in hosts:
        story.beat(host)
    story.run(30)
    assert story.of(Suspected) == []
    assert [type(each) for each in story.of((Blinded, Sighted))] == [
        Blinded, Sighted]


def test_a_host_that_is_not_back_after_the_grace_is_silent():
    story = settled(('a', 'b'), grace_s=10, percent=100)
    outage(story, 5)
    story.run(2)
    story.beat('b')
    story.run(9)
    assert story.of(Suspected) == []
    story.run(1.5)
    assert story.of(Suspected) == [Suspected('a')]


def test_nothing_is_done_while_blind():
    story = settled()
    story.die('a')
    story.run(2)
    story.broker = False
    story.run(1.2)
    assert story.watch.obstacle('a', story.now) is Obstacle.BLIND
    assert not story.watch.is_judging(story.now)


def test_buffered_beacons_of_an_outage_bring_nobody_back():
    story = settled(recover_beacons=2)
    story.die('a')
    story.run(3)
    story.watch.mark('a', 'first', 0, 0, story.now)
    story.broker = False
    story.run(3)
    for _ in range(5):
        story.hear(story.beacon('a'))
        story.run(0.5)
    assert story.of(Recovered) == []


def test_it_hears_only_once_what_is_sent_now_comes_back():
    """Own beacons that waited in a broker that hung say nothing of now."""
    story = settled(())
    under_way = []
    for sequence in range(100, 150):
        story.now += 0.1
        story.watch.wake(story.now)
        story.watch.sent(sequence, story.now)
        under_way.append(sequence)
    decisions = []
    for sequence in under_way:
        decisions += story.watch.hear_inspector(
            InspectorBeacon(ME, 'own', sequence, 500), story.now)
    assert [type(each) for each in decisions] == [Sighted]
    assert decisions[0].seconds == pytest.approx(4.9, abs=0.1)


def test_before_the_first_own_beacon_nobody_is_judged():
    story = Fleet(('a',))
    story.broker = False
    story.run(30)
    assert story.told == []
    assert story.watch.obstacle('a', story.now) is Obstacle.BLIND
    story.broker = True
    story.run(1)
    assert story.of(Sighted) == [Sighted(math.inf)]


# the loop itself stalls

@pytest.mark.parametrize('seconds, told', [(0.3, False), (0.5, True),
                                           (10.0, True), (600.0, True)])
def test_a_stall_of_the_loop_counts_for_nobody(seconds, told):
    story = settled(hosts_named(5))
    story.stall(seconds)
    # those that wait are read before anybody is judged; these do not even
    for host in list(story.beating):
        story.beat(host, phase=0.9)
    story.run(5)
    assert story.of(Suspected) == []
    assert bool(story.of(Stalled)) is told
    if told:
        assert story.of(Stalled)[0].seconds == pytest.approx(seconds, abs=.2)


def test_silence_goes_on_after_a_stall():
    story = settled()
    story.hear(story.beacon('a'))
    story.die('a')
    story.run(1)
    story.stall(5)
    story.run(0.3)
    assert story.of(Suspected) == []
    story.run(0.7)
    assert story.of(Suspected) == [Suspected('a')]


# too many at once

@pytest.mark.parametrize('number, percent, dead, refused', [
    (1, 10, 1, False),
    (2, 10, 1, False),
    (2, 10, 2, True),
    (2, 100, 2, False),
    (20, 10, 2, False),
    (20, 10, 3, True),
    (29, 10, 2, False),
    (29, 10, 3, True),
    (20, 0, 1, False),
    (20, 0, 2, True),
])
def test_the_share_that_may_be_down(number, percent, dead, refused):
    hosts = hosts_named(number)
    story = settled(hosts, percent=percent)
    story.die(*hosts[:dead])
    story.run(5)
    obstacles = {story.watch.obstacle(host, story.now)
                 for host in hosts[:dead]}
    assert obstacles == {Obstacle.TOO_MANY_HOSTS if refused else None}
    assert len(story.of(Refused)) == refused


@pytest.mark.parametrize('misses', [2, 3])
def test_a_broken_network_lets_nobody_go_early(misses):
    """The first to be silent waits for those that will be."""
    hosts = hosts_named(30)
    story = settled(hosts, misses=misses)
    story.die(*hosts)
    for _ in range(200):
        story.run(TICK_S)
        for host in hosts:
            assert story.watch.obstacle(host, story.now) is not None
    assert set(story.of(Refused)[-1].hosts) == set(hosts)
    assert story.of(Refused)[-1].limit == 3
    assert story.of(Refused)[-1].watched == 30


def test_who_is_doubtful_for_ever_does_not_hold_others_up_silently():
    hosts = hosts_named(10)
    story = settled(hosts)
    for number, host in enumerate(hosts[1:]):
        # They say 500 ms all the same.
        story.beat(host, 1.2, number / 9)
        story.said_ms[host] = 500
    story.die(hosts[0])
    story.run(2)
    assert story.watch.obstacle(hosts[0], story.now) is Obstacle.UNSETTLED
    story.run(4)
    assert [each.hosts for each in story.of(Refused)] == [(hosts[0],)]


def test_who_may_be_acted_upon_may_not_when_others_follow():
    hosts = hosts_named(10)
    story = settled(hosts)
    story.die(hosts[0])
    story.run(2.2)
    assert story.watch.obstacle(hosts[0], story.now) is None
    story.die(*hosts[1:])
    story.run(0.9)
    assert story.watch.obstacle(hosts[0], story.now) is Obstacle.UNSETTLED


def test_hosts_that_are_down_for_long_are_not_watched():
    hosts = hosts_named(29)
    story = settled(hosts, window_s=60)
    for host in hosts[:10]:
        story.watch.mark(host, 'first', 10 ** 6, 0, story.now)
    story.run(61)
    story.die(*hosts[10:12])
    story.run(5)
    assert [(each.silent, each.limit, each.watched)
            for each in story.of(Refused)] == [(2, 1, 19)]


def test_a_host_that_is_marked_no_more_does_not_count():
    hosts = hosts_named(10)
    story = settled(hosts)
    story.watch.mark(hosts[1], 'first', 10 ** 6, 0, story.now)
    story.die(hosts[0])
    story.run(3)
    assert story.watch.obstacle(
        hosts[0], story.now) is Obstacle.TOO_MANY_HOSTS
    story.watch.unmark(hosts[1], story.now)
    story.run(1)
    assert story.watch.obstacle(hosts[0], story.now) is None


def test_refused_hosts_are_let_go_when_others_are_back():
    hosts = hosts_named(10)
    story = settled(hosts)
    story.die('host-1', 'host-2')
    story.run(5)
    assert story.watch.obstacle(
        'host-1', story.now) is Obstacle.TOO_MANY_HOSTS
    story.told.clear()
    story.beat('host-2')
    story.run(3)
    assert Suspected('host-1') in story.of(Suspected)
    assert story.watch.obstacle('host-1', story.now) is None


def test_marks_count_for_the_window():
    hosts = hosts_named(10)
    story = settled(hosts, window_s=60)
    story.die('host-1')
    story.run(3)
    story.watch.mark('host-1', 'first', 0, 0, story.now)
    story.die('host-2')
    story.run(50)
    assert story.watch.obstacle(
        'host-2', story.now) is Obstacle.TOO_MANY_HOSTS
    story.run(12)
    assert story.watch.obstacle('host-2', story.now) is None


@pytest.mark.parametrize('age_s, counts', [
    (0, True), (50, True), (70, False), (math.inf, False), (-5, True)])
def test_marks_of_others_count_from_when_they_were_made(age_s, counts):
    hosts = hosts_named(10)
    story = settled(hosts, window_s=60)
    story.watch.mark('host-1', 'first', 10 ** 6, age_s, story.now)
    story.die('host-2')
    story.run(4)
    assert (story.watch.obstacle('host-2', story.now)
            is Obstacle.TOO_MANY_HOSTS) is counts


def test_what_is_refused_is_said_again_each_minute():
    hosts = hosts_named(10)
    story = settled(hosts)
    story.die(*hosts[:5])
    story.run(5)
    assert len(story.of(Refused)) == 1
    story.run(120)
    assert len(story.of(Refused)) == 3


def test_hosts_in_maintenance_do_not_count():
    hosts = hosts_named(10)
    story = settled(hosts)
    story.die(*hosts[:4])
    story.run(5)
    for host in hosts[:3]:
        story.watch.excuse(host, True, story.now)
    story.run(1)
    assert story.watch.obstacle(hosts[3], story.now) is None
    assert story.watch.view(hosts[0]).excused
    story.watch.excuse(hosts[0], False, story.now)
    story.run(1)
    assert story.watch.obstacle(
        hosts[3], story.now) is Obstacle.TOO_MANY_HOSTS


def test_a_host_that_is_no_more_does_not_count():
    hosts = hosts_named(10)
    story = settled(hosts)
    story.die(*hosts[:2])
    story.run(5)
    story.watch.forget(hosts[0], story.now)
    story.run(1)
    assert story.watch.obstacle(hosts[1], story.now) is None
    assert hosts[0] not in story.watch.hosts()


# agreeing

@pytest.mark.parametrize('peers, agreed', [
    # each: whether it suspects the host, and whether it judges
    ([], True),
    ([(True, True)], True),
    ([(False, True)], False),
    ([(False, False)], True),
    ([(True, True), (False, True)], True),
    ([(False, True), (False, True)], False),
    ([(True, True), (True, True)], True),
    ([(True, True), (False, True), (False, True)], False),
    ([(True, True), (True, True), (False, True)], True),
    ([(True, False), (False, True)], False),
])
def test_quorum(peers, agreed):
    story = settled()
    story.die('a')
    story.run(2.5)
    for number, (suspects, judges) in enumerate(peers):
        story.hear_peer(f'peer-{number}', ['a'] if suspects else [],
                        judging=judges)
    assert story.watch.agreed('a', story.now) is agreed


def test_who_is_not_heard_has_no_vote():
    story = settled()
    story.die('a')
    story.run(0.5)
    story.hear_peer('other')
    story.run(1.4)
    assert not story.watch.agreed('a', story.now)
    assert story.watch.peers(story.now) == ['other']
    story.run(0.2)
    assert story.watch.agreed('a', story.now)
    assert story.watch.peers(story.now) == []


def test_an_old_beacon_of_a_peer_changes_no_vote():
    story = settled()
    story.die('a')
    story.run(2.5)
    story.hear_peer('other', ['a'], sequence=2)
    story.hear_peer('other', [], sequence=1)
    assert story.watch.agreed('a', story.now)


def test_peers_who_know_something_else():
    story = settled()
    assert not story.watch.differs('x', story.now)
    story.hear_peer('other', digest='x')
    assert not story.watch.differs('x', story.now)
    assert story.watch.differs('y', story.now)


def test_another_inspector_of_this_name_is_told():
    story = settled()
    decisions = story.watch.hear_inspector(
        InspectorBeacon(ME, 'someone', 1, 500), story.now)
    assert decisions == [Namesake()]


def test_suspects_name_the_undecided_first():
    story = settled(hosts_named(30), percent=100)
    story.watch.mark('host-1', 'first', 10 ** 6, 0, story.now)
    story.die('host-1', 'host-2')
    story.run(3)
    assert story.watch.suspects() == ('host-2', 'host-1')


def test_the_deadline_is_no_later_than_what_it_is_for():
    story = settled()
    story.die('a')
    while not story.of(Probe):
        due = story.watch.next_deadline()
        story.run(TICK_S)
    assert due <= story.when(Probe)
    story.run(1)
    story.told.clear()
    due = story.watch.next_deadline()
    assert story.watch.next_deadline() < math.inf
    assert Fleet().watch.next_deadline() == math.inf
