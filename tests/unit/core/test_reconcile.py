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


import pytest

from nova_vmhealth.core import reconcile
from nova_vmhealth.core import transitions
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Condition
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.core.vocabulary import Severity

UUID = '6f70656e-7374-6163-6b20-6865616c7468'
DISK = reconcile.DiskError('virtio-disk0', '/disk', 'enospc')


def conditions(*causes):
    return [Condition(cause, '', Severity.CRITICAL, 1.0, 1)
            for cause in causes]


def said(observations):
    return [(obs.cause or obs.kind, obs.details.get('reason'))
            for obs in observations]


def told(state, active=(), held=False, running=True):
    """What is said of a guest that ought to run: kind or cause, reason."""
    return said(reconcile.observations(
        reconcile.finding_of(state), UUID, 5.0, conditions(*active), running,
        held))


# virDomainState and its reasons, each that libvirt has.
@pytest.mark.parametrize('state, seen', [
    (None, [(Kind.STOPPED, 'missing')]),
    ((0, 0), []),
    *(((1, reason), []) for reason in range(12)),
    ((2, 0), []),
    ((3, 0), [(Kind.PAUSED, 'paused')]),             # unknown
    ((3, 1), [(Kind.PAUSED, 'paused')]),             # user
    ((3, 2), [(Kind.PAUSED, 'paused')]),             # migration
    ((3, 3), [(Kind.PAUSED, 'paused')]),             # save
    ((3, 4), [(Kind.PAUSED, 'paused')]),             # dump
    ((3, 5), [(Kind.PAUSED, 'ioerror')]),            # the disks come after
    ((3, 6), [(Cause.WATCHDOG_EXPIRED, None), (Kind.PAUSED, 'watchdog')]),
    ((3, 7), [(Kind.PAUSED, 'paused')]),             # from snapshot
    ((3, 8), [(Kind.PAUSED, 'paused')]),             # shutting down
    ((3, 9), [(Kind.PAUSED, 'paused')]),             # snapshot
    ((3, 10), [(Cause.GUEST_CRASHED, 'panicked'), (Kind.PAUSED, 'paused')]),
    ((3, 11), [(Kind.PAUSED, 'paused')]),            # starting up
    ((3, 12), [(Kind.PAUSED, 'paused')]),            # post-copy
    ((3, 13), [(Kind.PAUSED, 'postcopy_failed')]),
    ((3, 14), [(Kind.PAUSED, 'api_error')]),
    ((4, 0), []),
    ((4, 1), []),
    ((5, 0), [(Kind.STOPPED, 'missing')]),           # unknown
    ((5, 1), [(Kind.STOPPED, 'shutdown')]),
    ((5, 2), [(Kind.STOPPED, 'destroyed')]),
    ((5, 3), [(Kind.STOPPED, 'failed')]),            # crashed
    ((5, 4), [(Kind.STOPPED, 'missing')]),           # migrated
    ((5, 5), [(Kind.STOPPED, 'missing')]),           # saved
    ((5, 6), [(Kind.STOPPED, 'missing')]),           # failed to start
    ((5, 7), [(Kind.STOPPED, 'missing')]),           # from snapshot
    ((5, 8), [(Kind.STOPPED, 'failed')]),            # daemon
    ((6, 0), [(Cause.GUEST_CRASHED, 'panicked'), (Kind.PAUSED, 'paused')]),
    ((6, 1), [(Cause.GUEST_CRASHED, 'panicked'), (Kind.PAUSED, 'paused')]),
    ((7, 0), [(Kind.PAUSED, 'paused')]),
    ((8, 0), []),                                    # of a later libvirt
    ((3, 99), [(Kind.PAUSED, 'paused')]),
    ((5, 99), [(Kind.STOPPED, 'missing')]),
])
def test_each_state_is_told_in_the_words_of_the_live_events(state, seen):
    assert told(state) == seen


@pytest.mark.parametrize('finding', [
    *reconcile.STATES.values(), *reconcile.REASONS.values()])
def test_the_ledger_gives_each_finding_its_causes(finding):
    """Its own table makes of the observations what this one promises."""
    causes = {Cause.IO_ERROR} & set(finding.causes)
    for obs in reconcile.observations(finding, UUID, 5.0, (), True, True):
        by_guest = obs.details.get('by') == 'guest'
        causes.add(obs.cause or (
            Cause.GUEST_SHUTDOWN if by_guest else transitions.RAISES[
                obs.kind, obs.details['reason']]))
    assert causes == set(finding.causes)


def test_nobody_saw_it_and_the_event_says_so():
    assert reconcile.observations(
        reconcile.finding_of((5, 3)), UUID, 5.0, (), True, False) == [
            Observation(
            Kind.STOPPED, UUID, 5.0,
            details={'reason': 'failed', 'found_by': 'reconciliation'})]


def test_a_disk_has_the_alias_that_live_events_give_it():
    first, = reconcile.disk_errors(UUID, 5.0, (DISK,))
    assert (first.cause, first.subject) == (Cause.IO_ERROR, 'virtio-disk0')
    assert first.details == {
        'device': 'virtio-disk0', 'path': '/disk', 'action': 'pause',
        'reason': 'enospc', 'found_by': 'reconciliation'}


def test_a_disk_that_libvirt_does_not_name_has_an_error_too():
    error, = reconcile.disk_errors(UUID, 5.0, ())
    assert (error.cause, error.subject) == (Cause.IO_ERROR, '')


@pytest.mark.parametrize('state', [None, (5, 0), (5, 1), (5, 2), (5, 3)])
def test_a_stop_that_was_seen_is_no_news(state):
    """It was told, or is of no interest to the owner."""
    assert told(state, running=False) == []


@pytest.mark.parametrize('active, held, seen', [
    ((Cause.IO_ERROR, Cause.PAUSED_UNEXPECTEDLY), True, []),
    # told by an earlier run: the heartbeat is yet to hold
    ((Cause.IO_ERROR, Cause.PAUSED_UNEXPECTEDLY), False,
     [(Kind.PAUSED, 'paused')]),
    ((Cause.IO_ERROR,), True, [(Kind.PAUSED, 'ioerror')]),
    ((Cause.PAUSED_UNEXPECTEDLY,), True, []),
])
def test_of_a_pause_what_is_missing_is_told(active, held, seen):
    assert told((3, 5), active, held) == seen


def test_a_crash_is_told_once():
    assert told((6, 1), [Cause.GUEST_CRASHED], held=True) == []


@pytest.mark.parametrize('active, reason', [
    (Cause.PAUSED_UNEXPECTEDLY, 'failed'), (Cause.GUEST_CRASHED, 'crashed')])
def test_what_explains_a_stop(active, reason):
    assert told((5, 3), [active]) == [(Kind.STOPPED, reason)]


@pytest.mark.parametrize('state, running, seen', [
    ((5, 3), True, [(Kind.STOPPED, 'expected')]),
    (None, True, [(Kind.STOPPED, 'expected')]),
    ((5, 3), False, []),
    ((3, 5), True, [(Kind.PAUSED, 'paused')]),
    ((6, 1), True, [(Kind.PAUSED, 'paused')]),
])
def test_what_need_not_run_is_no_fault(state, running, seen):
    assert said(reconcile.unwanted(
        reconcile.finding_of(state), UUID, 5.0, running)) == seen
    assert transitions.RAISES[Kind.STOPPED, transitions.EXPECTED] is None


def ended(*active, running=True, held=False, unseen=False, is_back=False):
    return [obs.cause or obs.kind for obs in reconcile.ended(
        UUID, 5.0, conditions(*active), running=running, held=held,
        unseen=unseen, is_back=is_back)]


@pytest.mark.parametrize('active, how, seen', [
    ((), {}, []),
    ((), {'unseen': True, 'is_back': True}, []),
    ((), {'held': True}, [Kind.RESUMED]),
    ((), {'running': False}, [Kind.STARTED]),
    ((Cause.GUEST_SHUTDOWN, Cause.PAUSED_UNEXPECTEDLY), {'running': False},
     [Kind.STARTED]),
    # no start: it beats already
    ((Cause.QEMU_FAILED,), {}, [Cause.QEMU_FAILED]),
    ((Cause.PAUSED_UNEXPECTEDLY,), {}, [Kind.RESUMED]),
    # its crash kernel may run
    ((Cause.GUEST_CRASHED,), {'unseen': True}, []),
    ((Cause.GUEST_CRASHED,), {'is_back': True}, [Cause.GUEST_CRASHED]),
    # merely reported, maybe
    ((Cause.IO_ERROR,), {}, []),
    ((Cause.IO_ERROR,), {'unseen': True}, [Kind.RESUMED]),
    ((Cause.WATCHDOG_EXPIRED,), {}, []),
    ((Cause.WATCHDOG_EXPIRED,), {'unseen': True}, [Kind.RESUMED]),
    # no matter of the domain's
    ((Cause.HEARTBEAT_LOST, Cause.GUEST_UNHEALTHY), {'unseen': True}, []),
])
def test_a_guest_that_runs_again(active, how, seen):
    assert ended(*active, **how) == seen


@pytest.mark.parametrize('last_seen_at, watched, back', [
    (None, False, True), (None, True, False), (1.0, True, False),
    (1.4, True, False), (1.6, True, True)])
def test_a_guest_that_crashed_is_back_when_it_has_answered(
        last_seen_at, watched, back):
    crash, = conditions(Cause.GUEST_CRASHED)
    assert reconcile.is_back(crash, last_seen_at, watched) is back


@pytest.mark.parametrize('obs, changes', [
    (Observation(Kind.STOPPED, UUID, 1.0), True),
    (Observation(Kind.PLANNED_BEGUN, UUID, 1.0), True),
    (Observation(Kind.FAULT, UUID, 1.0, Cause.IO_ERROR), True),
    (Observation(Kind.FAULT, UUID, 1.0, Cause.GUEST_UNHEALTHY), False),
    (Observation(Kind.HEARTBEAT_ESTABLISHED, UUID, 1.0), False),
    (Observation(Kind.STOPPED, UUID, 1.0, details=reconcile.FOUND_BY), False),
])
def test_what_makes_a_look_old(obs, changes):
    assert reconcile.is_change(obs) is changes


@pytest.mark.parametrize('vm_state, task_state, host, expected', [
    ('active', None, 'here', True),
    ('rescued', None, 'here', True),
    ('active', 'powering-off', 'here', False),
    ('active', 'migrating', 'here', False),
    ('active', None, 'there', False),
    ('active', None, None, False),
    *((state, None, 'here', False) for state in (
        'building', 'paused', 'suspended', 'stopped', 'resized', 'error',
        'deleted', 'soft-delete', 'shelved', 'shelved_offloaded', None)),
])
def test_when_nova_expects_it_to_run(vm_state, task_state, host, expected):
    assert reconcile.ought_to_run(
        vm_state, task_state, host, 'here') is expected
