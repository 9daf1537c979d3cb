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

"""What inspectors do about hosts that die, by whole stories."""

import dataclasses

import pytest

from nova_vmhealth.core.beacons import InspectorBeacon
from nova_vmhealth.core.checks import Finding
from nova_vmhealth.core.checks import Opinion
from nova_vmhealth.core.fleet_table import Standing
from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth.core.marks import Forcing
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth.inspector import acting
from tests.unit.inspector.stage import Stage

FORCED = ('a', {'forced_down': True})
DOWN = [('a', 'host_down', 'raised'), ('a-vm-0', 'host_down', 'raised'),
        ('a-vm-1', 'host_down', 'raised')]
UP = [('a-vm-0', 'host_down', 'cleared'), ('a-vm-1', 'host_down', 'cleared'),
      ('a', 'host_down', 'cleared')]
PAIR = ('one', 'two')


def dead(inspectors=('one',), hosts=('a',), seconds=3, **wanted):
    """A host has died, and everybody had time to do something about it."""
    stage = Stage(hosts, inspectors, **wanted).settle()
    stage.die('a')
    stage.run(seconds)
    return stage


def without_doubles(stage):
    """What consumers keep of what was told: each id once."""
    ids, told = set(), []
    for inspector in stage.inspectors:
        for about, event, _ in inspector.publisher.events:
            if event.event_id not in ids:
                ids.add(event.event_id)
                told.append((about, event.subject or event.cause.value,
                             event.transition.value))
    return told


# it is down

@pytest.mark.parametrize('inspectors', [
    ('one',), PAIR, ('one', 'two', 'three')])
def test_forced_down_once_and_told_once(inspectors):
    stage = dead(inspectors)
    assert stage.forced() == [FORCED]
    assert stage.told == DOWN
    for inspector in stage.inspectors:
        assert inspector.watch.view('a').standing is Standing.MARKED
        assert inspector.marks.get('a').sent
    stage.run(120)
    assert stage.forced() == [FORCED]
    assert stage.told == DOWN


@pytest.mark.parametrize('inspectors', [('one',), PAIR])
def test_nobody_waits_for_the_next_beacon_of_an_inspector(inspectors):
    stage = Stage(inspectors=inspectors).settle()
    stage.die('a')
    stage.run(0.1)
    heard_at = stage.inspectors[0].watch.view('a').heard_at
    while not stage.nova.changes:
        stage.run(0.02)
    # Own beacons go out, and come in with the next turn, twice.
    assert stage.now - heard_at <= 1.5 + 0.1
    assert stage.inspectors[0].marks.forcing('a').done or stage.inspectors[
        1].marks.forcing('a').done


def test_what_is_told_of_it():
    stage = dead()
    host, first, _ = stage.inspectors[0].publisher.events
    _, event, projects = host
    assert (event.status, event.action) == (
        HostStatus.DOWN, HostAction.FORCE_DOWN)
    assert event.instance_uuids == ('a-vm-0', 'a-vm-1')
    assert projects == {'a-vm-0': 'project', 'a-vm-1': 'project'}
    assert event.reason == ('3 beacons were missed; quorum: the inspectors '
                            'agree')
    assert event.sequence == 0
    _, told, who = first
    assert who.host_status == 'DOWN'
    assert told.details['host_event'] == event.event_id


def test_back_is_told_and_the_record_stays():
    stage = dead(PAIR)
    stage.beating.add('a')
    stage.run(5)
    assert without_doubles(stage) == DOWN + UP
    assert stage.forced() == [FORCED]
    assert stage.nova.records['a'].forced_down
    cleared = [event for inspector in stage.inspectors
               for event in inspector.publisher.of('a', 'host_down',
                                                   'cleared')]
    assert {event.status for event in cleared} == {HostStatus.DOWN}
    assert not any(each.marks.all for each in stage.inspectors)


def test_undone_where_the_operator_wants_it():
    stage = dead(unforce=True)
    stage.beating.add('a')
    stage.run(5)
    assert stage.forced() == [FORCED, ('a', {'forced_down': False})]
    event, = stage.inspectors[0].publisher.of('a', 'host_down', 'cleared')
    assert event.status is HostStatus.UP


def test_what_others_forced_down_is_not_undone():
    stage = Stage(unforce=True).settle()
    stage.nova.records['a'] = ServiceRecord(False, None, True)
    stage.die('a')
    stage.run(5)
    assert stage.told == DOWN
    event, = stage.inspectors[0].publisher.of('a', 'host_down')
    assert event.action is HostAction.NONE
    stage.beating.add('a')
    stage.run(5)
    assert stage.told == DOWN + UP
    assert stage.forced() == []


def test_down_once_more():
    stage = dead()
    stage.beating.add('a')
    stage.run(5)
    stage.nova.records['a'] = ServiceRecord(False, None, False)
    stage.die('a')
    stage.run(4)
    assert stage.forced() == [FORCED, FORCED]
    assert without_doubles(stage) == DOWN + UP + DOWN


def test_down_once_more_before_it_was_told_to_be_back():
    stage = dead()
    stage.nova.fails = {'servers_of'}
    stage.beating.add('a')
    stage.run(5)
    assert stage.inspectors[0].watch.view('a').standing is Standing.WATCHED
    stage.die('a')
    stage.run(5)
    assert stage.inspectors[0].watch.view('a').standing is Standing.MARKED
    assert stage.forced() == [FORCED]
    assert stage.told == DOWN


def test_heard_just_before_it_is_forced_down():
    stage = Stage().settle()
    one = stage.inspectors[0]
    check = stage.nova.check

    def late(method):
        one.loop._take(stage._beacon('a'))
        check(method)
    stage.nova.check = late
    stage.die('a')
    stage.run(1.7)
    assert stage.forced() == stage.told == []


def test_an_instance_that_has_moved_meanwhile_hears_of_the_end():
    stage = dead()
    stage.nova.servers['a'] = ['a-vm-1', 'new']
    stage.nova.elsewhere = {'a-vm-0': 'b'}
    stage.beating.add('a')
    stage.run(5)
    assert set(stage.told[3:]) == {
        ('a-vm-0', 'host_down', 'cleared'),
        ('a-vm-1', 'host_down', 'cleared'),
        ('new', 'host_down', 'cleared'), ('a', 'host_down', 'cleared')}


def test_servers_are_set_to_error_where_the_operator_wants_it():
    assert dead().nova.resets == []
    stage = dead(reset_state=True)
    assert stage.nova.resets == ['a-vm-0', 'a-vm-1']
    stage = Stage(reset_state=True).settle()
    stage.nova.fails = {'servers_of'}
    stage.die('a')
    stage.run(3)
    stage.nova.fails = set()
    stage.run(3)
    assert stage.nova.resets == ['a-vm-0', 'a-vm-1']


@pytest.mark.parametrize('told', ['others', 'report'])
def test_servers_of_a_host_that_was_not_found_dead_are_not(told):
    stage = Stage(reset_state=True).settle()
    if told == 'others':
        stage.nova.records['a'] = ServiceRecord(False, None, True)
        stage.die('a')
        stage.run(5)
        assert stage.told == DOWN
    else:
        stage.inspectors[0].reports.report_fault('a', 'fan', True, 'me')
    assert stage.nova.resets == []


# it is left alone

PLANNED = [
    ServiceRecord(True, 'new disks', False),
    ServiceRecord(True, None, False),
]


@pytest.mark.parametrize('record', PLANNED)
def test_an_operators_word_stands(record):
    stage = Stage(inspectors=PAIR).settle()
    stage.nova.records['a'] = record
    stage.die('a')
    stage.run(30)
    assert stage.forced() == []
    assert without_doubles(stage) == [('a', 'beacons_lost', 'raised')]
    event = next(each for inspector in stage.inspectors
                 for each in inspector.publisher.of('a'))
    assert event.suppressed
    assert event.details['withheld'] == 'planned'
    assert event.status is HostStatus.MAINTENANCE
    # The plan is over, and it is still silent.
    stage.nova.records['a'] = ServiceRecord(False, None, False)
    stage.run(8)
    assert stage.forced() == [FORCED]
    stage.beating.add('a')
    stage.run(5)
    assert ('a', 'beacons_lost', 'cleared') in without_doubles(stage)
    assert stage.nova.records['a'].disabled is False


@pytest.mark.parametrize('reason', [
    'AUTO: Connection to libvirt lost', 'vmhealth: storage_fault: sda',
    'vmhealth-inspector: reported_fault: fan'])
def test_what_was_disabled_by_itself_is_no_plan(reason):
    stage = Stage().settle()
    stage.nova.records['a'] = ServiceRecord(True, reason, False)
    stage.die('a')
    stage.run(3)
    assert stage.forced() == [FORCED]
    assert stage.nova.records['a'] == ServiceRecord(True, reason, True)


def test_in_a_maintenance_window():
    stage = Stage(inspectors=PAIR).settle()
    one, two = stage.inspectors
    one.windows_calls.set({'host': 'a', 'reason': 'new disks'})
    stage.run(1)
    stage.die('a')
    stage.run(20)
    assert stage.forced() == []
    assert without_doubles(stage) == [('a', 'beacons_lost', 'raised')]
    two.windows_calls.unset('a', None)
    stage.run(8)
    assert stage.forced() == [FORCED]


def test_hosts_in_maintenance_do_not_keep_others_from_being_acted_upon():
    hosts = [f'host-{number}' for number in range(10)]
    stage = Stage(hosts, PAIR).settle()
    for host in hosts[:5]:
        stage.nova.records[host] = PLANNED[0]
    stage.die(*hosts[:5])
    stage.run(10)
    stage.die(hosts[5])
    stage.run(4)
    assert stage.forced() == [(hosts[5], {'forced_down': True})]


def test_when_the_plan_ends_they_count_before_they_are_acted_upon():
    hosts = [f'host-{number}' for number in range(10)]
    stage = Stage(hosts, PAIR).settle()
    for host in hosts[:5]:
        stage.nova.records[host] = PLANNED[0]
    stage.die(*hosts[:5])
    stage.run(10)
    for host in hosts[:5]:
        stage.nova.records[host] = ServiceRecord(False, None, False)
    stage.run(20)
    assert stage.forced() == []
    event = stage.inspectors[0].publisher.of(hosts[0]) + (
        stage.inspectors[1].publisher.of(hosts[0]))
    assert {each.details['withheld'] for each in event} == {
        'planned', 'too_many_hosts'}


def test_too_many_hosts():
    hosts = ['a', *(f'host-{number}' for number in range(19))]
    stage = Stage(hosts, PAIR).settle()
    stage.die(*hosts[:4])
    stage.run(10)
    assert stage.forced() == []
    told = without_doubles(stage)
    assert sorted(told) == [(host, 'beacons_lost', 'raised')
                            for host in sorted(hosts[:4])]
    event = next(each for inspector in stage.inspectors
                 for each in inspector.publisher.of('a'))
    assert event.details['withheld'] == 'too_many_hosts'
    # Two are back: of the others there are not too many.
    stage.beating |= set(hosts[2:4])
    stage.run(8)
    assert sorted(stage.forced()) == [
        (host, {'forced_down': True}) for host in sorted(hosts[:2])]
    assert (hosts[3], 'beacons_lost', 'cleared') in without_doubles(stage)


def test_one_that_an_operator_has_forced_down_is_one_less():
    hosts = ['a', *(f'host-{number}' for number in range(9))]
    stage = Stage(hosts).settle()
    stage.die(*hosts[:2])
    stage.run(5)
    assert stage.forced() == []
    stage.nova.records[hosts[1]] = ServiceRecord(False, None, True)
    stage.run(acting.REFUSED_S + 5)
    assert stage.forced() == [FORCED]
    assert (hosts[1], 'host_down', 'raised') in stage.told


@pytest.mark.parametrize('opinion, word', [
    (Opinion.ALIVE, 'alive'), (Opinion.UNSURE, 'unsure')])
def test_a_check_says_otherwise(opinion, word):
    stage = Stage(checks=[Finding('tcp:22', Opinion.GONE, ''),
                          Finding('exec:/look', opinion, 'it says')]).settle()
    stage.die('a')
    stage.run(30)
    assert stage.forced() == []
    assert stage.told == [('a', 'beacons_lost', 'raised')]
    event, = stage.inspectors[0].publisher.of('a')
    assert event.details['withheld'] == word
    assert event.details['check'] == 'exec:/look'
    assert event.reason == '3 beacons were missed; exec:/look: it says'
    assert not event.suppressed
    stage.inspectors[0].findings = [Finding('tcp:22', Opinion.GONE, 'gone')]
    stage.run(6)
    assert stage.forced() == [FORCED]
    stage.beating.add('a')
    stage.run(5)
    assert sorted(stage.told[-4:]) == sorted([
        *UP, ('a', 'beacons_lost', 'cleared')])


def test_another_reason_is_told_as_well():
    stage = Stage(checks=[Finding('tcp:22', Opinion.ALIVE, '')]).settle()
    stage.die('a')
    stage.run(5)
    stage.inspectors[0].findings = [Finding('tcp:22', Opinion.UNSURE, '')]
    stage.run(6)
    assert stage.told == [('a', 'beacons_lost', 'raised'),
                          ('a', 'beacons_lost', 'updated')]


def test_heard_again_before_anything_was_done():
    stage = Stage(checks=[Finding('tcp:22', Opinion.ALIVE, '')]).settle()
    stage.die('a')
    stage.run(5)
    stage.beating.add('a')
    stage.run(5)
    assert stage.told == [('a', 'beacons_lost', 'raised'),
                          ('a', 'beacons_lost', 'cleared')]
    assert stage.forced() == []


def test_the_others_hear_it():
    """The one that does not is cut off from the host, or from the broker."""
    stage = Stage(inspectors=('one', 'two', 'three')).settle()
    one = stage.inspectors[0]
    arrive, one.inbox.arrive = one.inbox.arrive, lambda beacon: None
    stage.run(30)
    assert stage.forced() == []
    assert one.publisher.told == [('a', 'beacons_lost', 'raised')]
    event, = one.publisher.of('a')
    assert (event.details['withheld'], event.details['check']) == (
        'alive', 'quorum')
    # Those who hear it know better.
    assert without_doubles(stage)[1:] == [('a', 'beacons_lost', 'cleared')]
    one.inbox.arrive = arrive
    stage.run(5)
    stage.die('a')
    stage.run(3)
    assert stage.forced() == [FORCED]


def test_the_others_hear_it_again_while_it_is_looked_at():
    stage = Stage(inspectors=PAIR).settle()
    one, two = stage.inspectors
    two.kill()
    stage.run(2)

    def look(host):
        one.watch.hear_inspector(InspectorBeacon(
            'two', two.incarnation, 10 ** 6, 500), stage.now)
        return Finding('tcp:22', Opinion.GONE, 'gone')
    one.ask = look
    stage.die('a')
    stage.run(1.8)
    assert stage.forced() == []
    event, = one.publisher.of('a')
    assert event.details['check'] == 'quorum'


def test_without_quorum_one_is_enough():
    stage = Stage(inspectors=PAIR, quorum=False,
                  checks=[Finding('tcp:22', Opinion.GONE, 'gone')]).settle()
    stage.inspectors[0].inbox.arrive = lambda beacon: None
    stage.run(4)
    assert stage.forced() == [FORCED]


# something is away

def test_nova_is_away():
    stage = Stage(inspectors=PAIR).settle()
    stage.nova.fails = {'all'}
    stage.die('a')
    stage.run(20)
    assert without_doubles(stage) == [('a', 'beacons_lost', 'raised')]
    event = next(each for inspector in stage.inspectors
                 for each in inspector.publisher.of('a'))
    assert event.details['withheld'] == 'nova_api'
    stage.nova.fails = set()
    stage.run(6)
    assert stage.forced() == [FORCED]


def test_the_answer_to_forcing_down_is_lost():
    """It has had its effect: that is looked up, and not asked for again."""
    stage = Stage().settle()
    one = stage.inspectors[0]
    change = stage.nova.check

    def check(method):
        if method == 'change' and not stage.nova.changes:
            stage.nova.changes.append(('one', *FORCED))
            stage.nova.records['a'] = ServiceRecord(False, None, True)
            raise_away(method)
        change(method)

    def raise_away(method):
        stage.nova.fails = {method}
        change(method)
    stage.nova.check = check
    stage.die('a')
    stage.run(3)
    assert one.publisher.told == []
    stage.nova.fails = set()
    stage.run(4)
    assert stage.forced() == [FORCED]
    assert stage.told == DOWN
    event, = one.publisher.of('a')
    assert event.action is HostAction.FORCE_DOWN


def test_the_locks_are_away():
    stage = Stage().settle()
    stage.locks.fails = True
    stage.die('a')
    stage.run(20)
    assert stage.forced() == stage.told == []
    stage.locks.fails = False
    stage.run(3)
    assert stage.forced() == [FORCED]


def test_the_servers_are_not_known_at_first():
    stage = Stage().settle()
    stage.nova.fails = {'servers_of'}
    stage.die('a')
    stage.run(4)
    assert stage.forced() == [FORCED]
    assert stage.told == [('a', 'host_down', 'raised')]
    stage.nova.fails = set()
    stage.run(5)
    assert stage.told == [
        ('a', 'host_down', 'raised'), ('a', 'host_down', 'updated'),
        *DOWN[1:]]
    _, updated = stage.inspectors[0].publisher.of('a')
    assert updated.instance_count == 2


def test_the_broker_is_away():
    stage = Stage(inspectors=PAIR).settle()
    stage.broker = False
    stage.run(30)
    stage.broker = True
    stage.run(30)
    assert stage.forced() == stage.told == []


def test_a_host_that_nova_does_not_know_is_forgotten():
    stage = Stage().settle()
    del stage.nova.records['a']
    stage.die('a')
    stage.run(5)
    assert stage.told == stage.forced() == []
    assert stage.inspectors[0].watch.hosts() == []
    assert stage.inspectors[0].publisher.pages['host/a'] is None


def test_a_host_that_is_taken_out_of_nova_while_it_is_down():
    stage = dead()
    del stage.nova.records['a']
    one = stage.inspectors[0]
    one.cases.census(frozenset())
    stage.run(3)
    assert stage.told == DOWN + UP
    assert one.watch.hosts() == []
    assert one.marks.forcing('a') is None


def test_the_census_leaves_those_alone_that_beat_or_are_known():
    stage = Stage(('a', 'b')).settle()
    stage.die('b')
    stage.run(3)
    stage.inspectors[0].cases.census(frozenset({'b'}))
    stage.run(3)
    assert stage.inspectors[0].watch.hosts() == ['a', 'b']


# inspectors die

@pytest.mark.parametrize('moment', ['checked', 'changed'])
def test_one_is_killed_as_it_acts(moment):
    stage = Stage(inspectors=PAIR).settle()
    stage.inspectors[0].dies_at = moment
    stage.die('a')
    stage.run(10)
    assert not stage.inspectors[0].alive
    assert stage.forced() == [FORCED]
    assert without_doubles(stage) == DOWN
    event = stage.inspectors[1].publisher.of('a', 'host_down', 'raised')[0]
    assert event.action is HostAction.FORCE_DOWN


def test_a_request_that_may_be_under_way_is_waited_for():
    stage = Stage(inspectors=PAIR).settle()
    two = stage.inspectors[1]
    stage.inspectors[0].kill()
    stage.run(2)
    stage.die('a')
    stage.run(1)
    two.marks.put_forcing('a', Forcing('one', stage.wall(), False),
                          stage.wall())
    stage.run(1.8)
    assert stage.forced() == []
    # It has had its effect.
    stage.nova.records['a'] = ServiceRecord(False, None, True)
    stage.run(3)
    assert stage.forced() == []
    assert stage.told == DOWN
    event, = two.publisher.of('a')
    assert event.action is HostAction.FORCE_DOWN


@pytest.mark.parametrize('ahead_s', [0.0, 3600.0, -3600.0])
def test_a_request_that_came_to_nothing_is_made_again(ahead_s):
    """Whatever the clock of the one that made it said."""
    stage = Stage(inspectors=PAIR).settle()
    two = stage.inspectors[1]
    stage.inspectors[0].kill()
    stage.run(2)
    stage.die('a')
    stage.run(1)
    two.marks.put_forcing('a', Forcing('one', stage.wall() + ahead_s, False),
                          stage.wall())
    stage.run(5)
    assert stage.forced() == [FORCED]


def test_what_one_had_not_sent_is_told_by_another():
    stage = Stage(inspectors=PAIR).settle()
    one, two = stage.inspectors
    one.publisher.sends = two.publisher.sends = False
    stage.die('a')
    stage.run(3)
    first, = [each for each in (one, two) if each.publisher.events]
    other, = {one, two} - {first}
    stage.run(5)
    assert other.publisher.events == []
    first.kill()
    other.publisher.sends = True
    stage.run(10)
    assert [event for _, event, _ in other.publisher.events] == [
        dataclasses.replace(event, detected_at=now.detected_at)
        for (_, event, _), (_, now, _) in zip(
            first.publisher.events, other.publisher.events, strict=True)]
    assert other.marks.get('a').by == other.name
    assert other.marks.get('a').sent
    assert stage.forced() == [FORCED]


def test_it_is_not_told_by_another_while_the_first_is_heard():
    stage = Stage(inspectors=PAIR).settle()
    for each in stage.inspectors:
        each.publisher.sends = False
    stage.die('a')
    stage.run(30)
    assert stage.told == DOWN


def test_it_is_not_told_by_one_that_hears_nobody():
    stage = Stage(inspectors=PAIR).settle()
    for each in stage.inspectors:
        each.publisher.sends = False
    stage.die('a')
    stage.run(3)
    stage.broker = False
    stage.run(30)
    assert stage.told == DOWN
    # Nor by one that does again, and has not heard all of them yet.
    stage.broker = True
    for each in stage.inspectors:
        if not each.publisher.events:
            each.watch._others = type(each.watch._others)()
            each.watch._others.hear = lambda beacon, time: False
    stage.run(9)
    assert stage.told == DOWN


def test_what_others_told_outlives_a_restart():
    stage = dead(PAIR)
    one, = [each for each in stage.inspectors if not each.publisher.events]
    for each in stage.inspectors:
        each.kill()
    again = stage.add(one.name, {name: page for name, page
                                 in one.publisher.pages.items() if page})
    stage.run(20)
    assert again.watch.view('a').standing is Standing.MARKED
    assert again.publisher.events == []


def test_a_restart_tells_nothing_again():
    stage = dead()
    one = stage.inspectors[0]
    one.kill()
    again = stage.add('one', {name: page for name, page
                              in one.publisher.pages.items() if page})
    stage.run(30)
    assert again.publisher.events == []
    assert again.watch.view('a').standing is Standing.MARKED
    stage.beating.add('a')
    stage.run(5)
    assert again.publisher.told == UP


def test_a_host_that_died_while_nobody_looked():
    stage = Stage(('a', 'b')).settle()
    one = stage.inspectors[0]
    one.kill()
    stage.die('a')
    again = stage.add('one', one.publisher.pages)
    stage.run(9)
    assert stage.forced() == []
    stage.run(4)
    assert stage.forced() == [FORCED]
    assert again.publisher.told == DOWN


def test_a_newcomer_learns_what_was_told():
    stage = dead()
    two = stage.add('two')
    stage.run(20)
    assert two.watch.view('a').standing is Standing.MARKED
    stage.inspectors[0].kill()
    stage.run(20)
    assert stage.forced() == [FORCED]
    assert two.publisher.events == []


# reports

def test_a_report_disables():
    stage = dead()
    stage.beating.add('a')
    stage.run(5)
    reports = stage.inspectors[0].reports
    stage.nova.records['a'] = ServiceRecord(False, None, False)
    answer = reports.report_fault('a', 'fan\x1b[2J stopped', False, 'me')
    assert stage.nova.records['a'] == ServiceRecord(
        True, 'vmhealth-inspector: reported_fault: fan[2J stopped', False)
    assert answer['status'] == 'MAINTENANCE'
    assert [each['cause'] for each in answer['conditions']] == [
        'reported_fault']
    assert stage.told[-3:] == [
        ('a', 'reported_fault', 'raised'),
        ('a-vm-0', 'reported_fault', 'raised'),
        ('a-vm-1', 'reported_fault', 'raised')]
    answer = reports.clear_fault('a', 'me')
    assert answer['cleared'] == ['reported_fault']
    assert answer['conditions'] == []
    assert stage.nova.records['a'] == ServiceRecord(False, None, False)


@pytest.mark.parametrize('record', [
    *PLANNED, ServiceRecord(True, 'vmhealth: memory_failure: x', False)])
def test_a_report_changes_nobodys_word(record):
    stage = Stage().settle()
    stage.nova.records['a'] = record
    reports = stage.inspectors[0].reports
    reports.report_fault('a', 'fan', False, 'me')
    event, = stage.inspectors[0].publisher.of('a')
    assert event.action is HostAction.NONE
    assert event.suppressed is (record in PLANNED)
    reports.clear_fault('a', 'me')
    assert stage.forced() == []
    assert stage.nova.records['a'] == record


def test_a_report_that_wants_it_forces_down():
    stage = Stage().settle()
    reports = stage.inspectors[0].reports
    answer = reports.report_fault('a', 'it burns', True, 'me')
    assert stage.forced() == [FORCED]
    assert (answer['status'], answer['forced_down']) == ('DOWN', True)
    answer = reports.report_fault('a', 'it still burns', True, 'me')
    assert stage.forced() == [FORCED]
    assert stage.told == [
        ('a', 'reported_fault', 'raised'),
        ('a-vm-0', 'reported_fault', 'raised'),
        ('a-vm-1', 'reported_fault', 'raised'),
        ('a', 'reported_fault', 'updated')]
    reports.clear_fault('a', 'me')
    assert stage.forced() == [FORCED, ('a', {'forced_down': False})]


def test_what_was_forced_down_and_is_back_can_be_undone():
    stage = dead()
    stage.beating.add('a')
    stage.run(5)
    answer = stage.inspectors[0].reports.clear_fault('a', 'me')
    assert answer['cleared'] == []
    assert answer['status'] == 'UP'
    assert stage.forced() == [FORCED, ('a', {'forced_down': False})]


def test_cleared_while_it_is_down_it_is_left_alone():
    stage = dead(PAIR)
    stage.inspectors[1].reports.clear_fault('a', 'me')
    stage.run(30)
    assert stage.forced() == [FORCED, ('a', {'forced_down': False})]
    for inspector in stage.inspectors:
        assert inspector.watch.view('a').standing is Standing.LEFT
    assert without_doubles(stage) == DOWN + UP


def test_cleared_while_it_is_left_alone():
    stage = Stage(inspectors=PAIR, checks=[
        Finding('tcp:22', Opinion.ALIVE, '')]).settle()
    stage.die('a')
    stage.run(5)
    answer = stage.inspectors[1].reports.clear_fault('a', 'me')
    assert answer['cleared'] == ['beacons_lost']
    stage.run(30)
    assert without_doubles(stage) == [('a', 'beacons_lost', 'raised'),
                                      ('a', 'beacons_lost', 'cleared')]


@pytest.mark.parametrize('host', ['', 'x' * 256, None, 7, 'a\nb', 'nobody'])
def test_no_such_host(host):
    stage = Stage().settle()
    with pytest.raises(acting.exception.InvalidReport):
        stage.inspectors[0].reports.report_fault(host, 'fan', False, 'me')
    assert stage.told == []


def test_shown():
    stage = dead()
    one = stage.inspectors[0]
    answer = one.reports.show('a')
    assert answer['last_beacon_at'] == pytest.approx(
        stage.wall() - 3, abs=0.6)
    assert answer['conditions'] == [{
        'cause': 'host_down', 'subject': '',
        'since': one.marks.get('a').get(HostCause.HOST_DOWN).since,
        'reason': '3 beacons were missed; quorum: the inspectors agree',
        'action': 'force_down'}]
    stage.nova.fails = {'all'}
    answer = one.reports.show('a')
    assert (answer['status'], answer['forced_down'], answer['disabled']) == (
        'UNKNOWN', None, None)
    assert one.reports.show('nobody')['last_beacon_at'] is None


# windows

def test_hosts_are_told_their_windows():
    stage = Stage(('a', 'b')).settle()
    one = stage.inspectors[0]
    kept = one.windows_calls.set({'host': 'a', 'reason': 'new disks'})
    stage.run(1)
    (host, windows), = one.windows
    assert host == 'a'
    assert [window['id'] for window in windows] == [kept['id']]
    assert 'stage' not in windows[0]
    stage.run(3)
    assert len(one.windows) == 1
    stage.run(3)
    assert len(one.windows) == 2
    stage.windows_known = one.keeper.digest_of('a', stage.wall())
    stage.die('b')
    stage.run(1)
    one.windows.clear()
    stage.run(10)
    assert one.windows == []


def test_windows_of_all_hosts_by_call():
    stage = Stage(inspectors=PAIR).settle()
    one, two = stage.inspectors
    kept = one.windows_calls.set({'host': 'a', 'reason': 'new disks'})
    stage.run(0.1)
    assert [each['id'] for each in two.windows_calls.list(None)] == [
        kept['id']]
    assert two.reports.show('a')['windows'] == two.windows_calls.list('a')
    assert two.windows_calls.end(kept['id'])
    stage.run(0.1)
    assert one.windows_calls.list('a') == []
