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

"""Which operations a guest is told of, and for how long Nova waits."""

import types

import pytest

from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import guest_notices
from nova_vmhealth.virt import planned
from nova_vmhealth.virt import steering
from tests.unit.virt import fakes
from tests.unit.virt.fakes import UUID


class Told:
    """GuestNotices over a heartbeat that answers after so many looks."""

    def __init__(self, timeout_ms=100, acked_after=None, over_after=None,
                 wants=True):
        self.now = 0.0
        self.slept = 0
        self._acked_after, self._over_after = acked_after, over_after
        self.heartbeat = fakes.Heartbeat()
        self.steering = steering.Steering(self.heartbeat, fakes.Saved())
        self.steering.watch(UUID, fakes.entry(UUID))
        if wants:
            self.heartbeat.answer = types.SimpleNamespace(
                acked=acked_after == 0, over=over_after == 0)
        self.notices = guest_notices.GuestNotices(
            self.heartbeat, self.steering, timeout_ms,
            monotonic=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds):
        self.now += seconds
        self.slept += 1
        notice = self.heartbeat.answer
        notice.acked = self.slept == self._acked_after
        notice.over = self.slept == self._over_after


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(guest_notices.LOG, 'info',
                        lambda text, values: lines.append(text % values))
    return lines


@pytest.mark.parametrize('method, operation', [
    ('power_off', 'stop'), ('destroy', 'stop'), ('reboot', 'reboot'),
    ('suspend', 'suspend'), ('pause', 'pause'), ('live_migration', 'migrate'),
    ('migrate_disk_and_power_off', 'resize'), ('rescue', 'rescue')])
def test_told_before(method, operation):
    told = Told(acked_after=0)
    told.notices.before(UUID, method)
    assert told.heartbeat.notices == [(operation, 100)]


@pytest.mark.parametrize('method, operation', [
    ('resume', 'resumed'), ('unpause', 'resumed'),
    ('post_live_migration_at_destination', 'migrated')])
@pytest.mark.parametrize('timeout_ms', [0, 100])
def test_told_after(method, operation, timeout_ms):
    """Nobody waits for the answer, so the limit does not matter."""
    told = Told(timeout_ms=timeout_ms)
    told.notices.after(UUID, method)
    assert told.heartbeat.notices == [(operation, None)]


def restored():
    """A guest that was resumed before libvirt said that it is back."""
    told = Told()
    told.steering.leave(UUID)
    told.notices.after(UUID, 'resume')
    assert told.heartbeat.notices == []
    return told


def test_told_once_when_libvirt_comes_after_nova():
    told = restored()
    told.steering.watch(UUID, fakes.entry(UUID))
    told.notices.watched(UUID)
    told.notices.watched(UUID)
    assert told.heartbeat.notices == [('resumed', None)]


def test_old_news_are_none():
    told = restored()
    told.now += 61.0
    told.notices.watched(UUID)
    assert told.heartbeat.notices == []


def test_nothing_is_kept_of_an_instance_that_left():
    told = restored()
    told.notices.forget(UUID)
    told.notices.watched(UUID)
    assert told.heartbeat.notices == []


def test_nothing_is_said_of_the_rest():
    told = Told()
    for method in planned.OPERATIONS:
        if method not in guest_notices.BEFORE:
            told.notices.before(UUID, method)
        if method not in guest_notices.AFTER:
            told.notices.after(UUID, method)
    assert told.heartbeat.notices == []


def test_each_is_an_operation_that_is_wrapped():
    assert {*guest_notices.BEFORE, *guest_notices.AFTER} <= set(
        planned.OPERATIONS)


@pytest.mark.parametrize('answer, slept, outcome', [
    ({'acked_after': 0}, 0, 'was ready after 0 ms'),
    ({'acked_after': 3}, 3, 'was ready after 30 ms'),
    ({'over_after': 2}, 2, 'was gone after 20 ms'),
    ({'timeout_ms': 95}, 10, 'gave no answer after 100 ms'),
])
def test_waits_no_longer_than_it_must(said, answer, slept, outcome):
    told = Told(**answer)
    told.notices.before(UUID, 'reboot')
    assert told.slept == slept
    (line,) = said
    assert line == ('[instance: %s] its guest was told of reboot and %s'
                    % (UUID, outcome))


def test_who_does_not_want_notices_costs_nothing(said):
    told = Told(wants=False)
    told.notices.before(UUID, 'reboot')
    assert told.slept == 0 and said == []


@pytest.mark.parametrize('happens', [
    lambda told: told.steering.leave(UUID),
    lambda told: told.steering.follow(fakes.see(Kind.PAUSED), None),
    lambda told: vars(told.heartbeat).update(established=True, misses=3),
])
def test_who_cannot_answer_is_not_told(happens):
    told = Told(acked_after=0)
    happens(told)
    told.notices.before(UUID, 'reboot')
    assert told.heartbeat.notices == []


def test_off():
    told = Told(timeout_ms=0, acked_after=0)
    told.notices.before(UUID, 'reboot')
    assert told.heartbeat.notices == []
