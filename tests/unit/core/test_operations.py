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

"""What each operation of Nova's explains, and what it never does."""

import pytest

from nova_vmhealth.core import operations
from nova_vmhealth.core import saving
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from tests.unit.core import story
from tests.unit.core.story import begun
from tests.unit.core.story import DESTROYED
from tests.unit.core.story import ended
from tests.unit.core.story import fault
from tests.unit.core.story import saw
from tests.unit.core.story import SHUT_DOWN
from tests.unit.core.story import Story

GRACE_S = 10.0
EVERY = sorted(operations.OPERATIONS)
BY_GUEST = saw('shutdown_by_guest')
SAVED = saw('stopped', reason='saved')
LOST = fault('heartbeat_lost')

# Faults in whatever Nova does: seen -> told.
REAL = {
    'QEMU dies': (saw('stopped', reason='failed'), 'qemu_failed'),
    'I/O error': (fault('io_error', 'vda', action='pause'), 'io_error vda'),
    'paused for it': (saw('paused', reason='ioerror'), 'paused_unexpectedly'),
    'post-copy': (saw('paused', reason='postcopy_failed'),
                  'paused_unexpectedly'),
    'watchdog': (fault('watchdog_expired'), 'watchdog_expired'),
    'memory': (fault('memory_failure'), 'memory_failure'),
}


@pytest.fixture
def told():
    return Story(planned_grace_s=GRACE_S)


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('what', REAL)
@pytest.mark.parametrize('later', [0.0, 100_000.0])
def test_a_real_fault_is_told_in_any_operation(told, name, what, later):
    """At once, and after a day of one that hangs."""
    seen, line = REAL[what]
    told.tell(begun(name))
    told.wait(later)
    assert told.tell(seen) == [f'raised {line} during {name}']


def stops(name):
    return Cause.STOPPED_UNEXPECTEDLY in operations.row_of(name).expects


@pytest.mark.parametrize('seen, line', [
    ([BY_GUEST, SHUT_DOWN], 'guest_shutdown'),
    ([DESTROYED], 'stopped_unexpectedly')])
@pytest.mark.parametrize('name', EVERY)
def test_a_plain_stop_is_no_fault_only_where_nova_stops(
        told, name, seen, line):
    told.tell(begun(name))
    assert told.tell(*seen) == (
        [] if stops(name) else [f'raised {line} during {name}'])


def test_which_operations_stop_a_guest():
    assert [name for name in EVERY if stops(name)] == [
        'destroy', 'finish_migration', 'finish_revert_migration',
        'migrate_disk_and_power_off', 'power_off', 'power_on', 'reboot',
        'rescue', 'resume', 'resume_state_on_host_boot',
        'rollback_live_migration_at_destination', 'spawn', 'unrescue']


HOT_PLUG = ['attach_interface', 'attach_volume', 'detach_interface',
            'detach_volume', 'extend_volume', 'swap_volume']


def test_which_operations_explain_nothing():
    assert [name for name in EVERY
            if not operations.row_of(name).explains] == sorted([
                *HOT_PLUG, 'cleanup', 'confirm_migration',
                'volume_snapshot_delete'])


@pytest.mark.parametrize('name', HOT_PLUG)
def test_hot_plug_is_only_named(told, name):
    told.tell(begun(name))
    assert told.tell(LOST) == [f'raised heartbeat_lost during {name}']
    told.tell(ended(name))
    assert not told.ledger.is_planned('vm')
    assert told.tell(fault('watchdog_expired')) == ['raised watchdog_expired']


@pytest.mark.parametrize('name', sorted(
    name for name in EVERY if operations.row_of(name).holds_heartbeat))
def test_a_silent_guest_is_told_when_the_operation_has_lasted_too_long(
        told, name):
    """It may hang for ever, as nova-compute sees no end of it."""
    told.tell(begun(name))
    assert told.tell(LOST) == []
    patience_s = operations.row_of(name).patience_s
    assert told.wait(patience_s - 1.0) == []
    assert told.wait(1.0) == [f'raised heartbeat_lost during {name}']
    assert told.tell(fault('agent_exited')) == [
        f'raised agent_exited during {name}']


@pytest.mark.parametrize('name', ['snapshot', 'live_migration', 'pause'])
def test_a_silent_guest_is_told_after_the_grace(told, name):
    told.tell(begun(name), LOST)
    told.wait(5.0)
    told.tell(ended(name))
    assert told.wait(GRACE_S - 0.1) == []
    assert told.wait(0.1) == ['raised heartbeat_lost']


# -- one within another ------------------------------------------------------

def test_what_is_told_is_the_outermost(told):
    told.tell(begun('reboot'), begun('destroy'))
    assert told.tell(fault('watchdog_expired')) == [
        'raised watchdog_expired during reboot']
    told.tell(ended('destroy'), ended('reboot'))
    assert told.tell(fault('memory_failure')) == [
        'raised memory_failure during reboot']


def test_a_stop_within_a_snapshot_is_explained_no_longer_than_its_own(told):
    """A cold snapshot suspends, and uploads for hours then."""
    told.tell(begun('snapshot'), begun('suspend'))
    assert told.tell(SAVED) == []
    told.tell(ended('suspend'), saw('started', reason='restored'))
    assert told.tell(BY_GUEST, SHUT_DOWN) == [
        'raised guest_shutdown during snapshot']


def test_an_inner_end_does_not_end_the_outer(told):
    told.tell(begun('reboot'), begun('destroy'), DESTROYED, ended('destroy'))
    told.wait(GRACE_S + 1.0)
    assert told.tell(DESTROYED) == []
    assert told.tell(ended('reboot')) == []


def test_the_same_operation_twice_ends_with_its_second_end(told):
    told.tell(begun('destroy'), begun('destroy'), ended('destroy'))
    told.wait(GRACE_S + 1.0)
    assert told.tell(DESTROYED) == []
    told.tell(ended('destroy'))
    told.wait(GRACE_S)
    assert told.tell(DESTROYED) == ['raised stopped_unexpectedly']


def test_hot_plug_in_a_grace_leaves_it_its_name(told):
    told.tell(begun('reboot'), ended('reboot'), begun('attach_volume'))
    assert told.tell(fault('watchdog_expired')) == [
        'raised watchdog_expired during attach_volume']
    told.tell(ended('attach_volume'))
    assert told.tell(fault('memory_failure')) == [
        'raised memory_failure during reboot']


def test_an_end_without_a_begin_is_nothing(told):
    told.tell(ended('reboot'))
    assert not told.ledger.is_planned('vm')


# -- crash dump, quiesce -----------------------------------------------------

CRASHED = fault('guest_crashed', reason='panicked')


def dump(told):
    return told.tell(begun('trigger_crash_dump'), ended('trigger_crash_dump'))


def test_a_crash_dump_explains_the_crash_and_the_silence_after_it(told):
    assert dump(told) == []
    told.wait(2 * GRACE_S)
    assert told.tell(CRASHED, saw('stopped', reason='crashed'),
                     saw('rebooted'), LOST) == []
    told.wait(operations.CRASH_DUMP_S / 2)
    assert told.tell(story.BEATS) == []
    assert told.wait(10 * operations.CRASH_DUMP_S) == []


def test_a_guest_that_does_not_come_back_from_it_is_told(told):
    dump(told)
    told.tell(LOST)
    assert told.wait(operations.CRASH_DUMP_S - 1.0) == []
    assert told.wait(1.0) == ['raised heartbeat_lost']


@pytest.mark.parametrize('over', [
    [story.BEATS],
    [begun('reboot'), ended('reboot')],
    [begun('power_off'), ended('power_off')]])
def test_then_the_next_crash_is_its_own(told, over):
    dump(told)
    told.wait(2 * GRACE_S)
    told.tell(*over)
    told.wait(GRACE_S)
    assert told.tell(CRASHED) == ['raised guest_crashed']


def failed(name):
    return saw('planned_ended', operation=name, outcome='failed')


@pytest.mark.parametrize('name, seen', [
    ('trigger_crash_dump', CRASHED), ('quiesce', LOST)])
def test_what_failed_explains_nothing_for_long(told, name, seen):
    """Nova tries to quiesce guests that have no agent for it."""
    told.tell(begun(name), failed(name))
    told.wait(GRACE_S)
    assert len(told.tell(seen)) == 1


def test_a_frozen_guest_is_given_until_it_is_thawed(told):
    told.tell(begun('quiesce'), ended('quiesce'))
    told.wait(operations.FROZEN_S / 2)
    assert told.tell(LOST, fault('guest_unhealthy', 'disk')) == []
    told.tell(begun('unquiesce'), ended('unquiesce'), story.BEATS)
    assert told.wait(GRACE_S - 0.1) == []
    assert told.wait(0.1) == ['raised guest_unhealthy disk']


def test_a_guest_that_nobody_thaws_is_told(told):
    told.tell(begun('quiesce'), ended('quiesce'), LOST)
    assert told.wait(operations.FROZEN_S) == ['raised heartbeat_lost']


# -- what Nova's own stop ends -----------------------------------------------

@pytest.mark.parametrize('name, seen, line', [
    ('power_off', DESTROYED, ['cleared heartbeat_lost during power_off']),
    ('suspend', SAVED, ['cleared heartbeat_lost during suspend']),
    ('snapshot', DESTROYED, ['raised stopped_unexpectedly during snapshot']),
    ('live_migration', saw('stopped', reason='migrated'), []),
    # the host's own action ends nothing: Nova wanted the guest to run
    ('action_poweroff', DESTROYED, []),
])
def test_a_stop_ends_what_is_over_only_if_it_is_novas(
        told, name, seen, line):
    told.tell(LOST, begun(name))
    assert told.tell(seen) == line


@pytest.mark.parametrize('name', EVERY)
def test_the_end_of_which_leaves_the_instance_stopped(told, name):
    """Nova runs power_off on an instance that has stopped already."""
    told.tell(DESTROYED, begun(name))
    assert told.tell(ended(name)) == (
        [f'cleared stopped_unexpectedly during {name}']
        if name in ('power_off', 'destroy') else [])


# -- on disk and back --------------------------------------------------------

def note(planned, kind, name, now):
    planned.note(Observation(kind, 'vm', now, details={'operation': name}),
                 now)


def restored(planned, now=100.0, down_s=5.0, grace_s=GRACE_S):
    record = planned.save(saving.Times(now, 1000.0 + now))
    again = operations.Operations(grace_s)
    again.restore(saving.Record(record),
                  saving.Times(0.0, 1000.0 + now + down_s))
    return again


@pytest.mark.parametrize('name, causes, explained', [
    # it makes another domain: nothing of the old one matters
    ('reboot', (), True), ('reboot', (Cause.QEMU_FAILED,), True),
    ('action_reset', (), True),
    ('snapshot', (), False), ('snapshot', (Cause.QEMU_FAILED,), False),
    ('live_migration', (Cause.NOT_RUNNING,), True),
    ('trigger_crash_dump', (Cause.GUEST_CRASHED,), True),
    ('trigger_crash_dump', (Cause.QEMU_FAILED,), False),
    ('attach_volume', (Cause.NOT_RUNNING,), False),
])
def test_what_may_be_why_a_domain_is_not_as_it_was(name, causes, explained):
    assert operations.explain([name], causes) is explained
    planned = operations.Operations(GRACE_S)
    assert not planned.explains(causes)
    for kind in (Kind.PLANNED_BEGUN, Kind.PLANNED_ENDED):
        note(planned, kind, name, 1.0)
        assert planned.explains(causes) is explained


def test_what_was_on_is_over_after_a_restart_but_for_its_grace():
    planned = operations.Operations(GRACE_S)
    note(planned, Kind.PLANNED_BEGUN, 'reboot', 90.0)
    note(planned, Kind.PLANNED_BEGUN, 'destroy', 91.0)
    again = restored(planned)
    assert (again.name, again.planned) == ('reboot', True)
    assert again.expects(Cause.STOPPED_UNEXPECTEDLY)
    assert again.held_until(Cause.HEARTBEAT_LOST) == GRACE_S
    again.expire(GRACE_S)
    assert (again.name, again.planned) == ('', False)


def test_a_grace_goes_on():
    planned = operations.Operations(GRACE_S)
    for kind in (Kind.PLANNED_BEGUN, Kind.PLANNED_ENDED):
        note(planned, kind, 'trigger_crash_dump', 100.0)
    again = restored(planned)
    assert again.held_until(Cause.HEARTBEAT_LOST) == (
        operations.CRASH_DUMP_S - 5.0)
    assert again.expects(Cause.GUEST_CRASHED)


def test_it_says_whether_it_changed():
    planned = operations.Operations(GRACE_S)
    marks = [planned.mark]
    for kind, now in ((Kind.PLANNED_BEGUN, 1.0), (Kind.PLANNED_ENDED, 2.0)):
        note(planned, kind, 'reboot', now)
        marks.append(planned.mark)
    planned.expire(20.0)
    assert len(set(marks)) == 3 and planned.mark == marks[0]
