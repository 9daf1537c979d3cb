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


"""The ledger against tables of stories: what goes in, what is told."""

import pytest

from nova_vmhealth.core import ledger
from nova_vmhealth.core import page
from nova_vmhealth.core import transitions
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import Severity
from tests.unit.core.story import ALL
from tests.unit.core.story import BEATS
from tests.unit.core.story import begun
from tests.unit.core.story import CHANNEL
from tests.unit.core.story import DESTROYED
from tests.unit.core.story import details
from tests.unit.core.story import ended
from tests.unit.core.story import EPOCH
from tests.unit.core.story import fault
from tests.unit.core.story import line
from tests.unit.core.story import REBOOTED
from tests.unit.core.story import recovered
from tests.unit.core.story import RESUMED
from tests.unit.core.story import saw
from tests.unit.core.story import SHUT_DOWN
from tests.unit.core.story import STARTED
from tests.unit.core.story import Story

UNREACHABLE = saw('heartbeat_unreachable', silent_ms='60000',
                  reason='no such file')

# Design, the table of causes: what comes, what clears it, what does not.
@pytest.mark.parametrize('comes,condition,keeps,clears', [
    ([BEATS, fault('heartbeat_lost')], 'heartbeat_lost',
     [RESUMED, recovered('io_error')], recovered('heartbeat_lost')),
    ([BEATS, fault('heartbeat_lost')], 'heartbeat_lost',
     [STARTED, REBOOTED], BEATS),
    ([fault('heartbeat_not_established')], 'heartbeat_not_established',
     [STARTED, RESUMED], BEATS),
    ([fault('heartbeat_not_established')], 'heartbeat_not_established',
     [REBOOTED], recovered('heartbeat_not_established')),
    ([fault('guest_unhealthy', 'db')], 'guest_unhealthy db',
     [BEATS, RESUMED, recovered('guest_unhealthy'),
      recovered('guest_unhealthy', 'disk'),
      recovered('guest_degraded', 'db')],
     recovered('guest_unhealthy', 'db')),
    ([fault('guest_unhealthy')], 'guest_unhealthy',
     [recovered('guest_unhealthy', 'db')], recovered('guest_unhealthy')),
    ([fault('guest_degraded', 'db')], 'guest_degraded db',
     [recovered('guest_degraded')], recovered('guest_degraded', 'db')),
    ([fault('guest_degraded', 'db')], 'guest_degraded db', [], STARTED),
    ([fault('guest_unhealthy', 'db')], 'guest_unhealthy db', [], REBOOTED),
    ([BEATS, fault('agent_exited', reason='bye')], 'agent_exited',
     [STARTED, RESUMED], BEATS),
    ([BEATS, fault('agent_exited', reason='bye')], 'agent_exited',
     [], recovered('agent_exited')),
    ([BEATS, saw('agent_disconnected', channel=CHANNEL)], 'agent_exited',
     # an open port is no answer: a guest could be silent behind it
     [saw('agent_connected', channel=CHANNEL)], BEATS),
    ([fault('watchdog_expired', action='none')], 'watchdog_expired',
     [RESUMED, fault('watchdog_expired', action='none'), BEATS], STARTED),
    ([fault('watchdog_expired', action='none')], 'watchdog_expired',
     [BEATS, RESUMED], recovered('heartbeat_lost')),
    ([fault('watchdog_expired', action='inject-nmi')], 'watchdog_expired',
     [RESUMED], BEATS),
    ([fault('watchdog_expired', action='reset')], 'watchdog_expired',
     [], REBOOTED),
    ([fault('watchdog_expired', action='pause')], 'watchdog_expired',
     [BEATS], RESUMED),
    ([fault('watchdog_expired', action='none')], 'watchdog_expired',
     [], recovered('watchdog_expired')),
    ([fault('io_error', 'vda', action='pause')], 'io_error vda',
     [REBOOTED, BEATS, fault('io_error', 'vda', action='report')], RESUMED),
    ([fault('io_error', 'vda', action='pause')], 'io_error vda',
     [], STARTED),
    ([fault('io_error', 'vda', action='report')], 'io_error vda',
     [RESUMED, STARTED, recovered('io_error', 'vdb')],
     recovered('io_error', 'vda')),
    ([fault('io_error', 'vda', action='report')], 'io_error vda',
     [], recovered('io_error')),
    ([fault('guest_crashed', reason='panicked')], 'guest_crashed',
     [RESUMED, BEATS], STARTED),
    ([saw('stopped', reason='crashed')], 'guest_crashed', [], REBOOTED),
    ([saw('stopped', reason='failed')], 'qemu_failed',
     [REBOOTED, RESUMED, BEATS], STARTED),
    ([DESTROYED], 'stopped_unexpectedly', [REBOOTED, RESUMED], STARTED),
    ([SHUT_DOWN], 'stopped_unexpectedly', [], STARTED),
    ([saw('stopped')], 'stopped_unexpectedly', [], STARTED),
    ([saw('stopped', reason='of libvirt 99')], 'stopped_unexpectedly',
     [], STARTED),
    ([saw('shutdown_by_host'), SHUT_DOWN], 'stopped_unexpectedly',
     [], STARTED),
    ([saw('shutdown_by_guest'), DESTROYED], 'stopped_unexpectedly',
     [], STARTED),
    ([saw('shutdown_by_guest'), STARTED, SHUT_DOWN], 'stopped_unexpectedly',
     [], STARTED),
    ([saw('shutdown_by_guest'), SHUT_DOWN], 'guest_shutdown',
     [REBOOTED, begun('power_off'), ended('power_off')], STARTED),
    ([saw('stopped', reason='shutdown', by='guest')], 'guest_shutdown',
     [], STARTED),
    ([saw('paused', reason='ioerror')], 'paused_unexpectedly',
     [REBOOTED, BEATS], RESUMED),
    ([saw('paused', reason='watchdog')], 'paused_unexpectedly', [], RESUMED),
    ([saw('paused', reason='api_error')], 'paused_unexpectedly', [], RESUMED),
    ([saw('paused', reason='postcopy_failed')], 'paused_unexpectedly',
     [], STARTED),
    ([fault('memory_failure', recipient='guest')], 'memory_failure',
     [RESUMED, REBOOTED, BEATS], STARTED),
    ([fault('control_error')], 'control_error',
     [RESUMED, REBOOTED], recovered('control_error')),
    ([fault('control_error')], 'control_error', [], STARTED),
    ([fault('not_running')], 'not_running', [], recovered('not_running')),
    ([fault('not_running')], 'not_running', [RESUMED], STARTED),
    ([fault('host_fault')], 'host_fault',
     [STARTED, REBOOTED, RESUMED, BEATS], recovered('host_fault')),
])
def test_a_row_of_the_table(comes, condition, keeps, clears):
    story = Story()
    assert story.tell(*comes) == ['raised ' + condition]
    story.tell(*keeps)
    assert story.active() == [condition]
    story.wait(5)
    told = story.tell(clears)
    assert len(told) == 1
    assert told[0].startswith('cleared ' + condition)
    assert story.active() == []
    assert story.tell(clears) == []


@pytest.mark.parametrize('seen', [
    [STARTED], [RESUMED], [REBOOTED], [BEATS],
    [saw('paused', reason='paused')],
    [saw('paused', reason='migrated')],
    [saw('paused', reason='restored')],
    [saw('paused', reason='from_snapshot')],
    [saw('paused', reason='postcopy')],
    [saw('paused', reason='crashed')],
    [saw('paused')],
    [saw('paused', reason='of libvirt 99')],
    [saw('stopped', reason='migrated')],
    [saw('stopped', reason='saved')],
    [saw('stopped', reason='from_snapshot')],
    [saw('shutdown_by_guest')],
    [saw('shutdown_by_host')],
    [BEATS, saw('heartbeat_missed', misses='1')],
    [saw('heartbeat_unheard')],
    [BEATS, UNREACHABLE],
    # only the ledger itself can know
    [fault('flapping', 'heartbeat')],
    [saw('agent_connected', channel=CHANNEL)],
    # no agent was ever there
    [saw('agent_disconnected', channel=CHANNEL)],
    [BEATS, saw('agent_disconnected', channel='org.qemu.guest_agent.0')],
    [recovered('io_error', 'vda')],
    [begun(), ended()],
    # nobody speaks for a guest that is off
    [saw('stopped', reason='saved'), fault('heartbeat_lost')],
])
def test_no_fault(seen):
    story = Story()
    assert story.tell(*seen) == []
    assert story.active() == []


def test_an_unwanted_cause_raises_nothing():
    story = Story(wanted=frozenset({Cause.IO_ERROR}))
    assert story.tell(BEATS, fault('watchdog_expired'), DESTROYED) == []
    assert story.tell(fault('io_error', 'vda')) == ['raised io_error vda']


def test_a_silent_guest_is_not_healthy_even_if_nobody_wants_to_know():
    story = Story(wanted=frozenset())
    story.tell(BEATS)
    assert story.ledger.health('vm') is Health.HEALTHY
    story.tell(fault('heartbeat_lost'))
    assert story.ledger.health('vm') is Health.UNKNOWN


@pytest.mark.parametrize('stop,told', [
    (DESTROYED, []),
    (SHUT_DOWN, []),
    (saw('stopped', reason='crashed'), []),
    (saw('stopped', reason='failed'), ['raised qemu_failed']),
])
def test_the_stop_after_a_crash_is_part_of_it(stop, told):
    story = Story()
    story.tell(fault('guest_crashed', reason='panicked'))
    assert story.tell(stop) == told


def test_the_stop_after_a_crash_that_is_held_is_part_of_it_too():
    story = Story()
    story.tell(fault('guest_crashed'), REBOOTED)
    assert story.tell(fault('guest_crashed'), DESTROYED) == []
    assert story.wait(1) == ['raised guest_crashed']


# Health

@pytest.mark.parametrize('cause', [
    cause for cause in Cause if cause is not Cause.FLAPPING])
def test_severity_decides_health(cause):
    story = Story()
    event, = story.see(fault(cause))
    assert event.health is {
        Severity.CRITICAL: Health.UNHEALTHY,
        Severity.WARNING: Health.DEGRADED,
        Severity.INFO: Health.UNKNOWN,
    }[event.severity]
    assert event.previous_health is Health.UNKNOWN
    assert story.ledger.health('vm') is event.health


def test_health_follows_the_worst():
    story = Story()
    story.see(BEATS)
    changes = [(event.previous_health.value, event.health.value)
               for seen in (fault('control_error'),
                            fault('io_error', 'vda'),
                            fault('guest_unhealthy', 'db'),
                            recovered('io_error', 'vda'),
                            recovered('guest_unhealthy', 'db'),
                            recovered('control_error'))
               for event in story.see(seen)]
    assert changes == [
        ('healthy', 'degraded'), ('degraded', 'unhealthy'),
        ('unhealthy', 'unhealthy'), ('unhealthy', 'unhealthy'),
        ('unhealthy', 'degraded'), ('degraded', 'healthy')]


@pytest.mark.parametrize('seen,health', [
    ([], 'unknown'),
    ([BEATS], 'healthy'),
    ([BEATS, STARTED], 'unknown'),
    ([BEATS, REBOOTED], 'unknown'),
    ([BEATS, RESUMED], 'healthy'),
    ([BEATS, saw('stopped', reason='saved')], 'unknown'),
    ([BEATS, saw('shutdown_by_guest'), SHUT_DOWN], 'unknown'),
    ([BEATS, fault('heartbeat_lost')], 'unhealthy'),
    ([BEATS, fault('heartbeat_lost'), recovered('heartbeat_lost')],
     'healthy'),
    ([BEATS, fault('agent_exited')], 'degraded'),
    ([BEATS, fault('agent_exited'), BEATS], 'healthy'),
    ([BEATS, saw('agent_disconnected', channel=CHANNEL),
      saw('agent_connected', channel=CHANNEL)], 'degraded'),
    ([fault('heartbeat_not_established'), BEATS], 'healthy'),
    ([BEATS, UNREACHABLE], 'unknown'),
    ([BEATS, UNREACHABLE, BEATS], 'healthy'),
    # the port of a guest that is not known to beat
    ([BEATS, UNREACHABLE, saw('agent_disconnected', channel=CHANNEL)],
     'unknown'),
    ([BEATS, fault('guest_degraded', 'db'), UNREACHABLE], 'degraded'),
    ([BEATS, fault('heartbeat_lost'), UNREACHABLE], 'unhealthy'),
    ([BEATS, fault('heartbeat_lost'), UNREACHABLE, BEATS], 'healthy'),
])
def test_health_without_a_condition_is_the_heartbeats(seen, health):
    story = Story()
    story.tell(*seen)
    assert story.ledger.health('vm') is Health(health)


def test_a_recovery_says_healthy_in_the_same_event():
    story = Story()
    story.tell(BEATS, fault('heartbeat_lost'))
    event, = story.see(recovered('heartbeat_lost'))
    assert (event.previous_health, event.health) == (
        Health.UNHEALTHY, Health.HEALTHY)


# What an event carries

def test_an_event_in_full():
    story = Story()
    story.now = 100.0
    event, = story.see(fault('io_error', 'vda', action='pause', path='/d'))
    assert event.event_id == 'id-1'
    assert event.sequence == 1
    assert event.instance_uuid == 'vm'
    assert event.subject == 'vda'
    assert event.severity is Severity.CRITICAL
    assert event.occurred_at == EPOCH + 99.75
    assert event.detected_at == EPOCH + 100.0
    assert event.count == 1
    assert event.details == {'action': 'pause', 'path': '/d'}
    assert event.operation == ''
    assert event.suppressed is False
    assert event.conditions == story.ledger.conditions('vm')
    condition, = event.conditions
    assert (condition.cause, condition.subject) == (Cause.IO_ERROR, 'vda')
    assert condition.since == EPOCH + 99.75
    assert condition.count == 1

    story.now = 103.0
    cleared, = story.see(RESUMED)
    assert cleared.sequence == 2
    assert cleared.occurred_at == EPOCH + 102.75
    assert cleared.detected_at == EPOCH + 103.0
    assert cleared.details == {'action': 'pause', 'path': '/d'}
    assert cleared.conditions == ()


def test_instances_have_nothing_in_common():
    story = Story()
    story.tell(fault('io_error', 'vda'), uuid='a')
    event, = story.see(fault('io_error', 'vda'), uuid='b')
    assert event.sequence == 1
    assert len(event.conditions) == 1
    story.tell(saw('forgotten'), uuid='a')
    assert story.active('a') == []
    assert story.active('b') == ['io_error vda']


def test_forgotten_ends_what_was_wrong_and_keeps_nothing():
    story = Story()
    story.tell(begun(), fault('io_error', 'vda', action='report'),
               fault('io_error', 'vda', action='report'))
    assert story.tell(saw('forgotten')) == [
        'cleared io_error vda x2 during reboot']
    assert story.tell(saw('forgotten')) == []
    assert story.ledger.next_deadline() is None
    assert story.ledger.health('vm') is Health.UNKNOWN
    assert not story.ledger.is_planned('vm')
    story.see(fault('io_error', 'vda'))
    event, = story.see(fault('control_error'))
    assert event.sequence == 2


# Storms and flaps

def test_a_storm_is_one_update_a_second():
    story = Story()
    told = []
    for _ in range(40):
        told += story.wait(0.125)
        told += story.tell(fault('io_error', 'vda', action='report'))
    told += story.wait(30)
    assert told == ['raised io_error vda',
                    'updated io_error vda x8',
                    'updated io_error vda x16',
                    'updated io_error vda x24',
                    'updated io_error vda x32',
                    'updated io_error vda x40']


def test_a_late_repeat_is_told_at_once():
    story = Story()
    story.tell(fault('io_error', 'vda', n='1'))
    story.wait(1)
    event, = story.see(fault('io_error', 'vda', n='2'))
    assert line(event) == 'updated io_error vda x2'
    assert event.details == {'n': '2'}
    assert event.occurred_at == EPOCH + 0.75
    assert event.conditions[0].since == EPOCH - 0.25


def test_many_that_are_due_are_attended_to_in_parts():
    story = Story()
    for number in range(ledger.MAX_DUE + 1):
        for moment in (0.0, 0.5):
            story.now = moment
            story.tell(fault('io_error', 'vda'), uuid='guest-%d' % number)
    assert len(story.ledger.handle_timer(1.5, EPOCH)) == ledger.MAX_DUE
    assert story.ledger.next_deadline() <= 1.5
    assert len(story.ledger.handle_timer(1.5, EPOCH)) == 1
    assert story.ledger.handle_timer(1.5, EPOCH) == []


def test_a_pending_update_carries_the_last_occurrence():
    story = Story()
    story.tell(fault('io_error', 'vda', n='1'))
    story.now = 0.5
    story.tell(fault('io_error', 'vda', n='2'))
    assert story.ledger.next_deadline() == 1.0
    assert story.ledger.handle_timer(0.875, EPOCH + 0.875) == []
    event, = story.ledger.handle_timer(1.0, EPOCH + 1)
    assert event.details == {'n': '2'}
    assert (event.occurred_at, event.detected_at) == (
        EPOCH + 0.25, EPOCH + 0.5)
    assert story.ledger.handle_timer(2.0, EPOCH + 2) == []


def test_a_clear_takes_the_pending_update_along():
    story = Story()
    assert story.tell(fault('io_error', 'vda', action='pause'),
                      fault('io_error', 'vda', action='pause'),
                      RESUMED) == ['raised io_error vda',
                                   'cleared io_error vda x2']
    assert story.wait(100) == []


def test_a_flap_raises_once_a_second():
    story = Story()
    told = []
    for _ in range(20):
        told += story.tell(fault('guest_crashed'), REBOOTED)
        told += story.wait(0.125)
    assert told == ['raised guest_crashed', 'cleared guest_crashed'] * 3


def test_a_flap_ends_with_the_truth():
    story = Story()
    story.tell(fault('guest_crashed'), REBOOTED)
    story.now = 0.5
    assert story.tell(fault('guest_crashed'), fault('guest_crashed')) == []
    assert story.ledger.health('vm') is Health.UNKNOWN
    story.now = 1.0
    event, = story.ledger.handle_timer(1.0, EPOCH + 1)
    assert line(event) == 'raised guest_crashed x2'
    assert (event.occurred_at, event.detected_at) == (
        EPOCH + 0.25, EPOCH + 0.5)


def test_degraded_and_unhealthy_replace_each_other():
    story = Story()
    assert story.tell(fault('guest_degraded', 'db'),
                      fault('guest_unhealthy', 'disk'),
                      fault('guest_unhealthy', 'db')) == [
        'raised guest_degraded db', 'raised guest_unhealthy disk',
        'cleared guest_degraded db', 'raised guest_unhealthy db']
    story.wait(2)
    assert story.tell(fault('guest_degraded', 'db')) == [
        'cleared guest_unhealthy db', 'raised guest_degraded db']
    assert story.active() == ['guest_unhealthy disk', 'guest_degraded db']


def test_the_replaced_ends_even_if_nobody_wants_its_successor():
    story = Story(wanted=frozenset({Cause.GUEST_UNHEALTHY}))
    story.tell(fault('guest_unhealthy', 'db'))
    assert story.tell(fault('guest_degraded', 'db')) == [
        'cleared guest_unhealthy db']


def test_a_reported_io_error_ends_by_itself():
    story = Story()
    story.tell(fault('io_error', 'vda', action='report'))
    assert story.wait(59) == []
    assert story.tell(fault('io_error', 'vda', action='report')) == [
        'updated io_error vda x2']
    assert story.wait(59.875) == []
    story.now = story.ledger.next_deadline()
    event, = story.ledger.handle_timer(story.now, EPOCH + story.now)
    assert line(event) == 'cleared io_error vda x2'
    assert event.occurred_at == event.detected_at == EPOCH + story.now
    assert story.ledger.next_deadline() is None


def test_an_io_error_that_paused_the_guest_does_not():
    story = Story()
    story.tell(fault('io_error', 'vda', action='pause'))
    assert story.ledger.next_deadline() is None
    assert story.wait(1000) == []


def test_a_guests_many_subjects_are_folded():
    story = Story(flap_flips=0)
    for number in range(1000):
        story.tell(fault('guest_unhealthy', 'audit%d' % number),
                   fault('io_error', 'vd%d' % number, action='report'))
    story.tell(*(fault(cause) for cause in Cause))
    assert len(story.active()) <= page.MAX_CONDITIONS
    causes = {condition.cause for condition in story.ledger.conditions('vm')}
    # guest_degraded on the whole took the place of guest_unhealthy's fold
    assert causes == ALL - {Cause.FLAPPING}
    story.wait(1)
    folded, = (c for c in story.ledger.conditions('vm')
               if c.cause is Cause.IO_ERROR and not c.subject)
    assert folded.count > 900


def test_subjects_that_come_and_go_are_folded_too():
    story = Story()
    told = []
    for number in range(1000):
        told += story.tell(fault('guest_unhealthy', 'audit%d' % number),
                           recovered('guest_unhealthy', 'audit%d' % number))
    assert len(told) <= 2 * page.MAX_CONDITIONS
    story.wait(1)
    assert story.tell(fault('io_error', 'vda')) == ['raised io_error vda']


# Details that come later

def test_details_are_added_to_what_is_told():
    story = Story()
    story.tell(fault('heartbeat_lost', misses='3', silent_ms='3999'))
    story.wait(1)
    event, = story.see(details('heartbeat_lost', assessment='guest_paused'))
    assert line(event) == 'updated heartbeat_lost'
    assert event.details == {
        'misses': '3', 'silent_ms': '3999', 'assessment': 'guest_paused'}
    assert (event.occurred_at, event.detected_at) == (
        EPOCH + 0.75, EPOCH + 1)
    assert event.conditions[0].since == EPOCH - 0.25


def test_details_hold_for_their_own_condition():
    story = Story()
    story.tell(fault('io_error', 'vda'), fault('io_error', 'vdb'))
    story.wait(1)
    event, = story.see(details('io_error', 'vdb', action='pause'))
    assert event.subject == 'vdb'
    cleared, = story.see(recovered('io_error', 'vda'))
    assert cleared.details == {}


def test_details_wait_for_the_next_update():
    story = Story()
    story.tell(fault('heartbeat_lost'))
    assert story.tell(details('heartbeat_lost', action_state='pending'),
                      details('heartbeat_lost', action_state='done'),
                      details('heartbeat_lost', action_reason='')) == []
    story.now = story.ledger.next_deadline()
    assert story.now == 1.0
    event, = story.ledger.handle_timer(1.0, EPOCH + 1)
    assert line(event) == 'updated heartbeat_lost'
    assert event.details == {'action_state': 'done', 'action_reason': ''}


def test_details_that_are_known_are_not_told():
    story = Story()
    story.tell(fault('heartbeat_lost', misses='3'))
    story.wait(1)
    assert story.tell(details('heartbeat_lost', misses='3'),
                      details('heartbeat_lost')) == []
    assert story.wait(10) == []


def test_details_of_what_is_held_are_told_with_it():
    story = Story()
    assert story.tell(begun(), fault('heartbeat_lost', misses='3'),
                      details('heartbeat_lost', port='closed'),
                      ended()) == []
    story.now = 10.0
    event, = story.ledger.handle_timer(10.0, EPOCH + 10)
    assert line(event) == 'raised heartbeat_lost'
    assert event.details == {'misses': '3', 'port': 'closed'}


@pytest.mark.parametrize('before', [
    [], [fault('agent_exited')], [fault('heartbeat_lost'), BEATS]])
def test_details_of_nothing_are_ignored(before):
    story = Story()
    story.tell(*before)
    assert story.tell(details('heartbeat_lost', port='closed')) == []
    assert story.wait(10) == []


# Planned operations

@pytest.mark.parametrize('seen', [
    DESTROYED, SHUT_DOWN, saw('stopped'),
    saw('stopped', reason='saved'), saw('stopped', reason='migrated'),
    saw('stopped', reason='shutdown', by='guest'),
    saw('shutdown_by_guest'), saw('shutdown_by_host'),
    saw('paused', reason='paused'), saw('paused', reason='migrated'),
    saw('agent_disconnected', channel=CHANNEL),
    fault('heartbeat_lost'), fault('heartbeat_not_established'),
    fault('agent_exited'), fault('not_running'),
    fault('stopped_unexpectedly'), fault('guest_shutdown'),
])
def test_a_side_effect_is_no_fault(seen):
    for before in ([begun()], [begun(), ended()]):
        story = Story()
        story.tell(BEATS)
        assert story.tell(*before, seen) == []
        assert story.active() == []


@pytest.mark.parametrize('seen,condition', [
    (fault('watchdog_expired', action='none'), 'watchdog_expired'),
    (fault('io_error', 'vda', action='pause'), 'io_error vda'),
    (fault('guest_crashed', reason='panicked'), 'guest_crashed'),
    (saw('stopped', reason='crashed'), 'guest_crashed'),
    (saw('stopped', reason='failed'), 'qemu_failed'),
    (fault('memory_failure'), 'memory_failure'),
    (saw('paused', reason='ioerror'), 'paused_unexpectedly'),
    (saw('paused', reason='watchdog'), 'paused_unexpectedly'),
    (saw('paused', reason='postcopy_failed'), 'paused_unexpectedly'),
    (saw('paused', reason='api_error'), 'paused_unexpectedly'),
    (fault('guest_unhealthy', 'db'), 'guest_unhealthy db'),
])
def test_a_real_fault_is_told_with_the_operation(seen, condition):
    for before in ([begun()], [begun(), ended()]):
        story = Story()
        story.tell(*before)
        assert story.tell(seen) == ['raised %s during reboot' % condition]


@pytest.mark.parametrize('steps,planned', [
    ([begun('a')], True),
    ([begun('a'), begun('b'), ended('b')], True),
    ([begun('a'), begun('b'), ended('a')], True),
    ([begun('a'), begun('a'), ended('a')], True),
    ([begun('a'), begun('b'), ended('b'), ended('a')], False),
    ([begun('a'), begun('a'), ended('a'), ended('a')], False),
    ([begun('a'), ended('b')], True),
    ([ended('a')], False),
    ([begun('a'), ended('a'), begun('b')], True),
])
def test_operations_nest(steps, planned):
    story = Story()
    story.tell(*steps)
    story.wait(10)
    assert story.ledger.is_planned('vm') is planned
    assert bool(story.tell(DESTROYED)) is not planned


def test_the_outer_operation_is_the_one_named():
    story = Story()
    assert story.tell(begun('reboot'), begun('power_off'), ended('power_off'),
                      fault('io_error', 'vda')) == [
        'raised io_error vda during reboot']


def test_an_operation_without_a_name_is_one_all_the_same():
    story = Story()
    assert story.tell(saw('planned_begun'), fault('io_error', 'vda')) == [
        'raised io_error vda during unknown']


def test_the_grace_period_ends():
    story = Story()
    story.tell(begun(), ended())
    assert story.ledger.next_deadline() == 10.0
    story.wait(9.875)
    assert story.ledger.is_planned('vm')
    story.wait(0.125)
    assert not story.ledger.is_planned('vm')
    assert story.ledger.next_deadline() is None
    assert story.tell(DESTROYED) == ['raised stopped_unexpectedly']


def test_the_grace_period_ends_without_a_timer():
    story = Story()
    story.tell(begun(), ended())
    story.now = 10.0
    assert story.tell(DESTROYED) == ['raised stopped_unexpectedly']


@pytest.mark.parametrize('seen', [
    fault('heartbeat_lost'), fault('agent_exited'), fault('not_running'),
    fault('heartbeat_not_established'),
])
def test_a_side_effect_that_outlives_the_grace_is_a_fault(seen):
    story = Story()
    told = story.tell(begun(), seen, ended())
    told += story.wait(9.875)
    assert told == []
    assert story.wait(0.125) == ['raised ' + seen[1].value]


@pytest.mark.parametrize('end', [
    BEATS, recovered('heartbeat_lost'), DESTROYED, saw('forgotten'),
])
def test_a_side_effect_that_passes_is_never_told(end):
    story = Story()
    assert story.tell(
        BEATS, begun(), fault('heartbeat_lost'), end, ended()) == []
    assert story.wait(100) == []


def test_silence_that_comes_after_novas_stop_is_void():
    story = Story()
    assert story.tell(BEATS, begun('power_off'), DESTROYED,
                      fault('heartbeat_lost'), ended('power_off')) == []
    assert story.wait(100) == []


def test_novas_stop_ends_what_a_stopped_guest_cannot_have():
    story = Story()
    story.tell(BEATS, fault('guest_unhealthy', 'db'), fault('heartbeat_lost'),
               saw('paused', reason='ioerror'),
               fault('io_error', 'vda', action='pause'),
               fault('guest_crashed'))
    assert story.tell(begun('power_off'), DESTROYED) == [
        'cleared guest_unhealthy db during power_off',
        'cleared heartbeat_lost during power_off',
        'cleared paused_unexpectedly during power_off']
    assert story.active() == ['io_error vda', 'guest_crashed']


@pytest.mark.parametrize('operation,told', [
    ('power_off', ['cleared stopped_unexpectedly during power_off']),
    ('snapshot', []),
])
def test_novas_stop_of_what_has_stopped_already(operation, told):
    story = Story()
    story.tell(DESTROYED)
    assert story.tell(begun(operation), ended(operation)) == told


def test_a_stop_that_failed_clears_nothing():
    story = Story()
    story.tell(BEATS, fault('heartbeat_lost'))
    assert story.tell(begun('power_off'), ended('power_off')) == []


def test_a_stop_that_is_the_hosts_own_action_ends_nothing():
    story = Story()
    story.tell(BEATS, fault('heartbeat_lost'))
    assert story.tell(begun('action_poweroff'), DESTROYED,
                      ended('action_poweroff')) == []
    story.wait(11)
    assert story.active() == ['heartbeat_lost']
    assert story.tell(begun('power_off'), ended('power_off')) == [
        'cleared heartbeat_lost during power_off']


def test_a_guest_that_moves_away_is_not_stopped():
    story = Story()
    story.tell(BEATS, fault('heartbeat_lost'), begun('live_migration'))
    assert story.tell(saw('stopped', reason='migrated')) == []
    assert story.active() == ['heartbeat_lost']


# Time

def test_deadlines():
    story = Story()
    assert story.ledger.next_deadline() is None
    assert story.ledger.handle_timer(0.0, EPOCH) == []
    story.tell(fault('io_error', 'vda', action='report'), uuid='a')
    assert story.ledger.next_deadline() == 60.0
    story.tell(begun(), ended(), uuid='b')
    assert story.ledger.next_deadline() == 10.0
    story.tell(fault('control_error'), fault('control_error'), uuid='c')
    assert story.ledger.next_deadline() == 1.0


# The tables

def test_every_cause_can_end():
    by_kind = {cause for rules in transitions.CLEARS.values()
               for cause in rules}
    assert by_kind | set(transitions.STOPPED_BY_NOVA) == (
        ALL - {Cause.HOST_FAULT})


def test_weights_are_the_worst_first():
    assert list(transitions.WEIGHT.values()) == [
        Health.UNHEALTHY, Health.DEGRADED]
