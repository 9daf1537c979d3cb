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


"""When the watchdog is petted, and what the device is told."""

import os
import struct

import pytest

from nova_vmhealth.guest.board import OWN_AUDIT
from nova_vmhealth.guest import watchdog
from tests.unit.guest.helpers import FINE
from tests.unit.guest.helpers import snapshot
from tests.unit.guest.helpers import UNKNOWN

DB = snapshot(('db', 'unhealthy'), ('web', 'healthy'))
WEB = snapshot(('db', 'healthy'), ('web', 'unhealthy'))
SLOW = snapshot(('db', 'degraded'))
HUNG = snapshot((OWN_AUDIT, 'degraded'))


@pytest.mark.parametrize('names, looks, expected', [
    ([], [(0.0, FINE)], ['']),
    ([], [(0.0, UNKNOWN), (1000.0, UNKNOWN)], ['', '']),
    ([], [(0.0, SLOW), (1000.0, SLOW)], ['', '']),
    ([], [(0.0, DB), (60.0, DB), (60.1, DB), (61.0, FINE)],
     ['', '', 'db', '']),
    # Well in between: the grace begins anew.
    ([], [(0.0, DB), (59.0, FINE), (60.0, DB), (120.0, DB), (121.0, DB)],
     ['', '', '', '', 'db']),
    # One after the other: the guest as a whole was not well all the time.
    ([], [(0.0, DB), (30.0, WEB), (61.0, WEB)], ['', '', 'web']),
    (['web'], [(0.0, DB), (1000.0, DB)], ['', '']),
    (['web', 'x'], [(0.0, WEB), (61.0, WEB)], ['', 'web']),
    (['web'], [(0.0, HUNG), (61.0, HUNG)], ['', OWN_AUDIT]),
])
def test_grace(names, looks, expected):
    grace = watchdog.Grace(names, 60.0)

    assert [grace.refusal(status, now) for now, status in looks] == expected


@pytest.mark.parametrize('late, now, expected', [
    (500.0, 531.0, ''), (500.0, 561.0, 'db'), (0.0, 531.0, 'db'),
    # More than what has passed is no reason for more than the grace.
    (9000.0, 590.0, ''), (9000.0, 591.0, 'db'),
])
def test_time_in_which_the_guest_did_not_run_is_no_illness(
        late, now, expected):
    grace = watchdog.Grace([], 60.0)
    grace.refusal(DB, 0.0)
    grace.excuse(late, 530.5)

    assert grace.refusal(DB, now) == expected


class Driver:
    """What the kernel does with WDIOC_SETTIMEOUT."""

    def __init__(self, error=None):
        self.error = error
        self.asked = []

    def ioctl(self, fd, request, argument):
        self.asked.append((request, struct.unpack('i', argument)[0]))
        if self.error:
            raise self.error
        return struct.pack('i', 32)


@pytest.fixture
def device(tmp_path):
    """A file in the device's place, and what was written to it."""
    path = tmp_path / 'watchdog'
    path.write_bytes(b'')
    return path


def make(path, driver):
    return watchdog.Watchdog(str(path), 30, watchdog.Grace([], 60.0),
                             driver.ioctl)


@pytest.mark.parametrize('ticks, written', [
    ([(0.0, FINE)], b'.'),
    ([(n / 10, FINE) for n in range(31)], b'....'),
    ([(0.0, DB), (60.0, DB), (61.0, DB), (62.0, DB)], b'..'),
    ([(0.0, DB), (61.0, DB), (62.0, FINE), (63.0, DB)], b'...'),
])
def test_what_is_written(device, ticks, written):
    driver = Driver()
    made = make(device, driver)
    for now, status in ticks:
        made.tick(status, '', now)

    assert device.read_bytes() == written
    assert driver.asked == [(watchdog.WDIOC_SETTIMEOUT, 30)]
    made.stop()
    assert device.read_bytes() == written + b'V'


def test_the_request_is_the_kernels_own():
    # _IOWR('W', 6, int): read and write, 4 bytes.
    assert watchdog.WDIOC_SETTIMEOUT == (
        3 << 30 | 4 << 16 | ord('W') << 8 | 6)


def test_a_device_without_timeouts_is_petted_all_the_same(device, caplog):
    made = make(device, Driver(OSError(25, 'Inappropriate ioctl')))
    made.tick(FINE, '', 0.0)

    assert device.read_bytes() == b'.'
    assert 'keeps its own timeout' in caplog.text
    made.stop()


def test_the_real_ioctl_of_what_is_no_watchdog(device, caplog):
    made = watchdog.Watchdog(str(device), 30, watchdog.Grace([], 60.0))
    made.tick(FINE, '', 0.0)

    assert device.read_bytes() == b'.'
    assert 'keeps its own timeout' in caplog.text
    made.stop()


@pytest.mark.parametrize('names, status, said', [
    ([], WEB, []),
    (['web', OWN_AUDIT], SLOW._replace(results=WEB.results), []),
    (['web', 'bd', 'x'], WEB, ['bd, x']),
    # An audit may not have ended yet.
    (['bd'], UNKNOWN, []),
])
def test_names_that_no_audit_has_are_said_once(
        device, caplog, names, status, said):
    made = watchdog.Watchdog(str(device), 30, watchdog.Grace(names, 60.0),
                             Driver().ioctl)
    for now in range(5):
        made.tick(status, '', float(now))
    made.stop()

    assert [m.rpartition(': ')[2] for m in caplog.messages] == said


def test_it_is_said_once_that_it_is_not_petted(device, caplog):
    made = make(device, Driver())
    for now in range(0, 100):
        made.tick(DB, '', float(now))

    [message] = caplog.messages
    assert 'not petted any more' in message and 'db' in message
    made.stop()


def test_a_device_that_comes_late_is_opened(tmp_path, caplog):
    path = tmp_path / 'late'
    made = make(path, Driver())
    made.tick(FINE, '', 0.0)
    made.tick(FINE, '', 1.0)
    assert len(caplog.messages) == 1
    path.write_bytes(b'')
    made.tick(FINE, '', 2.0)

    assert path.read_bytes() == b'.'
    made.stop()


def test_an_ill_guest_does_not_start_the_device(device):
    made = watchdog.Watchdog(str(device), 30, watchdog.Grace([], 1.0),
                             Driver().ioctl)
    made._grace.refusal(DB, 0.0)
    made.tick(DB, '', 5.0)
    made.stop()

    assert device.read_bytes() == b''


def test_a_device_that_breaks_is_told_and_closed(device, caplog):
    made = make(device, Driver())
    made.tick(FINE, '', 0.0)
    os.close(made._fd)
    made._fd = os.open('/dev/full', os.O_WRONLY)
    made.tick(FINE, '', 1.0)
    made.stop()

    assert 'cannot be petted' in caplog.text
    assert 'goes on' in caplog.text
