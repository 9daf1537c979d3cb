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

"""What begins, holds and ends a heartbeat."""

import pytest

from nova_vmhealth.core.operations import row_of
from nova_vmhealth.core import protocol
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import steering
from tests.unit.virt import fakes
from tests.unit.virt.fakes import see
from tests.unit.virt.fakes import UUID

WATCH = ('watch', 'org.openstack.vmhealth.0.instance-1.sock')


class Wheel:
    """A Steering, its heartbeat, and an instance that opted in."""

    def __init__(self, **extra_specs):
        self.heartbeat = fakes.Heartbeat()
        self.saved = fakes.Saved()
        self.steering = steering.Steering(self.heartbeat, self.saved)
        self.entry = fakes.entry(UUID, **extra_specs)

    def see(self, kind, **details):
        self.steering.follow(see(kind, **details), self.entry)

    @property
    def calls(self):
        return self.heartbeat.calls


@pytest.fixture
def wheel():
    return Wheel()


@pytest.mark.parametrize('kinds, calls', [
    ([Kind.STARTED], [WATCH]),
    ([Kind.PAUSED], [('hold',)]),
    ([Kind.PAUSED, Kind.PAUSED, Kind.RESUMED],
     [('hold',), WATCH, ('hold',), ('release',)]),
    ([Kind.STARTED, Kind.STOPPED], [WATCH, ('unwatch',)]),
    ([Kind.REBOOTED], [WATCH]),
])
def test_follows_the_domain(wheel, kinds, calls):
    for kind in kinds:
        wheel.see(kind, reason='paused')
    assert wheel.calls == calls


def test_no_heartbeat_unless_asked_for():
    wheel = Wheel(heartbeat='false')
    wheel.see(Kind.STARTED)
    assert wheel.heartbeat.watched == set()


@pytest.mark.parametrize('channel, calls', [
    (protocol.CHANNEL_NAME, [('port_closed',)]),
    ('org.qemu.guest_agent.0', []),
    ('', []),
])
def test_only_our_own_port_is_closed(wheel, channel, calls):
    wheel.see(Kind.AGENT_DISCONNECTED, channel=channel)
    assert wheel.calls == calls


def test_a_paused_guest_stays_held_after_the_operation(wheel):
    wheel.steering.hold(UUID, 'pause')
    wheel.see(Kind.PAUSED, reason='paused')
    wheel.steering.release(UUID, 'pause')
    assert wheel.calls[-1] == ('hold',)
    wheel.see(Kind.RESUMED)
    assert wheel.calls[-1] == ('release',)


def test_nested_operations_hold_until_the_last_ends(wheel):
    assert wheel.steering.hold(UUID, 'reboot') is True
    assert wheel.steering.hold(UUID, 'power_on') is False
    assert wheel.steering.is_planned(UUID)
    wheel.steering.release(UUID, 'power_on')
    assert ('release',) not in wheel.calls
    wheel.steering.release(UUID, 'reboot')
    assert wheel.calls[-1] == ('release',)
    assert not wheel.steering.is_planned(UUID)
    assert wheel.steering.hold(UUID, 'reboot') is True


@pytest.mark.parametrize('name', ['attach_volume', 'cleanup'])
def test_what_explains_nothing_does_not_hold(wheel, name):
    assert wheel.steering.hold(UUID, name) is True
    assert wheel.steering.is_planned(UUID) and not wheel.steering.claim(UUID)
    wheel.see(Kind.STARTED)
    assert wheel.calls == [WATCH]
    wheel.steering.release(UUID, name)
    assert wheel.calls == [WATCH]
    assert not wheel.steering.is_planned(UUID)


@pytest.mark.parametrize('name', ['snapshot', 'live_migration'])
def test_an_operation_that_hangs_holds_no_longer_than_it_may(name):
    wheel = Wheel()
    now = [0.0]
    wheel.steering = steering.Steering(wheel.heartbeat, fakes.Saved(),
                                       lambda: now[0])
    wheel.steering.hold(UUID, name)
    now[0] = row_of(name).patience_s
    wheel.steering.handle_timer(now[0] - 1.0)
    assert wheel.calls == [('hold',)]
    wheel.steering.handle_timer(now[0])
    wheel.see(Kind.STARTED)
    assert wheel.calls == [('hold',), ('release',), WATCH]
    # another one, within it, is as patient as any
    wheel.steering.hold(UUID, 'pause')
    assert wheel.calls[-1] == ('hold',)
    wheel.steering.release(UUID, 'pause')
    assert wheel.calls[-1] == ('release',)
    assert wheel.steering.is_planned(UUID)
    wheel.steering.release(UUID, name)
    assert not wheel.steering.is_planned(UUID)
    assert wheel.calls.count(('release',)) == 2


def test_a_pause_is_held_for_ever(wheel):
    wheel.see(Kind.PAUSED, reason='paused')
    wheel.steering.handle_timer(1e12)
    assert wheel.calls == [('hold',)]


def test_a_pause_is_no_operation(wheel):
    wheel.see(Kind.PAUSED, reason='paused')
    assert not wheel.steering.is_planned(UUID)
    assert wheel.steering.hold(UUID, 'unpause') is True


def test_running_means_watched_and_not_paused(wheel):
    assert not wheel.steering.is_running(UUID)
    wheel.see(Kind.STARTED)
    assert wheel.steering.is_running(UUID)
    wheel.steering.hold(UUID, 'snapshot')
    assert wheel.steering.is_running(UUID)
    wheel.see(Kind.PAUSED)
    assert not wheel.steering.is_running(UUID)
    wheel.see(Kind.RESUMED)
    wheel.see(Kind.STOPPED)
    assert not wheel.steering.is_running(UUID)


@pytest.mark.parametrize('established, misses, lost', [
    (True, 3, True), (True, 7, True), (True, 2, False), (False, 9, False)])
def test_lost_means_silent_after_it_beat(wheel, established, misses, lost):
    assert not wheel.steering.is_lost(UUID)         # not watched
    wheel.see(Kind.STARTED)
    wheel.heartbeat.established = established
    wheel.heartbeat.misses = misses
    assert wheel.steering.is_lost(UUID) is lost


@pytest.mark.parametrize('beat, restored, guest', [
    (True, 'restored', Guest.BEATING), (True, 'booted', Guest.WAITING),
    (False, 'restored', Guest.WAITING)])
def test_a_guest_that_was_beating_when_saved_is_expected_to_beat(
        wheel, beat, restored, guest):
    wheel.saved.beat = beat
    wheel.see(Kind.STARTED, reason=restored)
    assert wheel.heartbeat.began[0] is guest


def test_a_migration_that_arrives_is_held_until_it_runs_here(wheel):
    wheel.see(Kind.STARTED, reason='migrated')
    assert wheel.calls == [WATCH, ('hold',)]
    wheel.see(Kind.RESUMED, reason='migrated')
    assert wheel.calls[-1] == ('release',)


def test_present_is_watched_once(wheel):
    wheel.steering.present(UUID, wheel.entry)
    wheel.steering.present(UUID, wheel.entry)
    assert wheel.calls == [WATCH]


def test_present_is_taken_up_where_it_was_left(wheel):
    wheel.saved.guest, wheel.saved.said = Guest.LOST, {'db': Health.DEGRADED}
    wheel.steering.present(UUID, wheel.entry)
    assert wheel.heartbeat.began == (Guest.LOST, {'db': Health.DEGRADED})


@pytest.mark.parametrize('asked, due', [
    ('0', steering.REBOOT_DEADLINE_S), ('50', 50)])
def test_one_that_was_rebooting_is_to_beat_again(asked, due):
    wheel = Wheel(boot_deadline_s=asked)
    wheel.saved.has_rebooted = True
    wheel.steering.present(UUID, wheel.entry)
    assert wheel.heartbeat.policies[UUID].boot_deadline_s == due
    # once more before it beats
    wheel.see(Kind.REBOOTED)
    assert wheel.heartbeat.policies[UUID].boot_deadline_s == due


def test_a_guest_that_was_paused_is_taken_up_when_it_is_resumed(wheel):
    wheel.saved.guest = Guest.BEATING
    wheel.see(Kind.RESUMED)
    assert wheel.heartbeat.began == (Guest.BEATING, {})


@pytest.mark.parametrize('kind', [Kind.STARTED, Kind.REBOOTED])
def test_one_that_is_started_begins_anew(wheel, kind):
    wheel.saved.guest = Guest.BEATING
    wheel.see(kind)
    assert wheel.heartbeat.began[0] is Guest.WAITING
    assert not wheel.heartbeat.began[1]


def test_a_guest_under_an_operation_is_not_forgotten(wheel):
    dropped = []
    wheel.steering.hold(UUID, 'spawn')
    assert not wheel.steering.forget(UUID, lambda: dropped.append(1))
    wheel.steering.release(UUID, 'spawn')
    wheel.see(Kind.PAUSED)
    assert wheel.steering.forget(UUID, lambda: dropped.append(1))
    assert dropped == [1]
    assert wheel.calls[-1] == ('unwatch',)
    assert not wheel.steering._holds


@pytest.mark.parametrize('kinds, own, deadline_s', [
    ([Kind.REBOOTED], '0', steering.REBOOT_DEADLINE_S),
    ([Kind.REBOOTED], '30', 30),
    ([Kind.STARTED], '0', 0),
    ([Kind.STOPPED, Kind.REBOOTED], '0', 0),
    ([Kind.REBOOTED, Kind.STARTED, Kind.REBOOTED], '0', 0),
])
def test_a_guest_that_reboots_by_itself_is_to_beat_again(
        kinds, own, deadline_s):
    wheel = Wheel(boot_deadline_s=own)
    wheel.see(Kind.STARTED)
    wheel.heartbeat.established = True
    for kind in kinds:
        wheel.see(kind)
    assert wheel.heartbeat.policies[UUID].boot_deadline_s == deadline_s


def test_not_where_it_never_beat_or_nova_reboots_it(wheel):
    wheel.see(Kind.STARTED)
    wheel.see(Kind.REBOOTED)
    assert wheel.heartbeat.policies[UUID].boot_deadline_s == 0
    wheel.heartbeat.established = True
    wheel.steering.hold(UUID, 'reboot')
    wheel.see(Kind.REBOOTED)
    assert wheel.heartbeat.policies[UUID].boot_deadline_s == 0


@pytest.mark.parametrize('name', ['snapshot', 'detach_volume',
                                  'trigger_crash_dump'])
def test_a_reboot_during_anything_else_is_its_own(wheel, name):
    wheel.see(Kind.STARTED)
    wheel.heartbeat.established = True
    wheel.steering.hold(UUID, name)
    wheel.see(Kind.REBOOTED)
    assert (wheel.heartbeat.policies[UUID].boot_deadline_s
            == steering.REBOOT_DEADLINE_S)


def test_a_claim_keeps_operations_waiting_and_they_keep_claims_away(wheel):
    clock = [0.0]

    def sleep(seconds):
        clock[0] += seconds
        if len(slept) == 3:
            waiting.unclaim(UUID)
        slept.append(seconds)
    slept = []
    waiting = steering.Steering(wheel.heartbeat, fakes.Saved(),
                                lambda: clock[0], sleep)
    assert waiting.claim(UUID)
    waiting.hold(UUID, 'reboot')
    waiting.wait_for_action(UUID)
    assert len(slept) == 4
    assert not waiting.claim(UUID)
    waiting.wait_for_action(UUID)
    assert len(slept) == 4
    waiting.release(UUID, 'reboot')
    assert waiting.claim(UUID)                  # and never unclaimed
    waiting.wait_for_action(UUID)
    assert clock[0] == pytest.approx(steering.CLAIM_WAIT_S + 0.04, abs=0.02)


def test_has_not_recovered_whatever_the_misses(wheel):
    assert not wheel.steering.has_not_recovered(UUID)
    wheel.see(Kind.STARTED)
    wheel.heartbeat.lost = True
    assert wheel.steering.has_not_recovered(UUID)


@pytest.mark.parametrize('established', [True, False])
def test_who_answered_at_its_old_host_is_missed_at_once(wheel, established):
    wheel.see(Kind.STARTED, reason='migrated')
    wheel.heartbeat.established = established
    before = len(wheel.calls)
    wheel.steering.was_heard(UUID, wheel.entry)
    assert (len(wheel.calls) > before) is not established


def test_who_is_not_watched_here_is_not_missed(wheel):
    wheel.steering.was_heard(UUID, wheel.entry)
    assert wheel.calls == []
