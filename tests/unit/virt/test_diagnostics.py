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

"""An instance's health in Nova's diagnostics, as people read it."""

import pytest

from nova_vmhealth.core import ledger
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import HeartbeatStatus
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.virt import diagnostics
from tests.unit.virt.fakes import UUID

NOON = 1790000000.25


@pytest.fixture
def book():
    return ledger.Ledger(ledger.Settings(), lambda: 'id')


def see(book, kind, cause=None, subject='', later_s=0.0):
    book.observe(
        Observation(kind, UUID, NOON + later_s, cause, subject,
                    {'action': 'report'}),
        later_s, NOON + later_s, frozenset(Cause))


def of(book, heartbeat=None, status=HostStatus.UP):
    return diagnostics.of(book, UUID, heartbeat, status)


def test_of_an_instance_of_which_nothing_is_known(book):
    assert of(book, status=HostStatus.UNKNOWN) == {
        'vmhealth_health': 'unknown',
        'vmhealth_conditions': 'none',
        'vmhealth_heartbeat': 'not watched',
        'vmhealth_last_event': 'none',
        'vmhealth_host_status': 'UNKNOWN',
    }


def test_in_the_order_of_reading(book):
    assert list(of(book)) == [
        'vmhealth_health', 'vmhealth_conditions', 'vmhealth_heartbeat',
        'vmhealth_last_event', 'vmhealth_host_status']


def test_of_one_that_is_not_well(book):
    see(book, Kind.FAULT, Cause.IO_ERROR, 'virtio-disk0')
    see(book, Kind.FAULT, Cause.IO_ERROR, 'virtio-disk0', later_s=0.5)
    see(book, Kind.FAULT, Cause.CONTROL_ERROR, later_s=2.0)
    found = of(book, status=HostStatus.MAINTENANCE)
    assert found['vmhealth_health'] == 'unhealthy'
    assert found['vmhealth_conditions'] == (
        'io_error (virtio-disk0), critical, since '
        '2026-09-21T14:13:20.250000Z, 2 times; '
        'control_error, warning, since 2026-09-21T14:13:22.250000Z, '
        '1 times')
    assert found['vmhealth_last_event'] == (
        '2: control_error raised at 2026-09-21T14:13:22.250000Z')
    assert found['vmhealth_host_status'] == 'MAINTENANCE'


def test_the_last_event_stays_when_all_is_well(book):
    see(book, Kind.FAULT, Cause.IO_ERROR, 'virtio-disk0')
    see(book, Kind.RECOVERED, Cause.IO_ERROR, 'virtio-disk0', later_s=1.0)
    found = of(book)
    assert found['vmhealth_conditions'] == 'none'
    assert found['vmhealth_last_event'] == (
        '2: io_error (virtio-disk0) cleared at '
        '2026-09-21T14:13:21.250000Z')


@pytest.mark.parametrize('misses, established, last_seen_at, text', [
    (0, False, None, 'waiting, every 1000 ms'),
    (0, True, NOON, '0 of 3 misses, every 1000 ms, last seen '
                    '2026-09-21T14:13:20.250000Z'),
    (2, True, NOON, '2 of 3 misses, every 1000 ms, last seen '
                    '2026-09-21T14:13:20.250000Z'),
    # It was established in an earlier run.
    (1, True, None, '1 of 3 misses, every 1000 ms, not seen yet'),
])
def test_the_heartbeat(book, misses, established, last_seen_at, text):
    status = HeartbeatStatus(
        interval_ms=1000, timeout_ms=500, misses_allowed=3, misses=misses,
        established=established, last_seen_at=last_seen_at)
    assert of(book, status)['vmhealth_heartbeat'] == text
