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


"""What systemd is told, by whom and how often."""

import os
import socket

import pytest

from nova_vmhealth.guest.board import OWN_AUDIT
from nova_vmhealth.guest import systemd
from tests.unit.guest.helpers import FINE
from tests.unit.guest.helpers import snapshot

HUNG = snapshot((OWN_AUDIT, 'degraded'))
ILL = snapshot(('db', 'unhealthy'))
PID = 77


@pytest.mark.parametrize('environ, period', [
    ({}, None),
    ({'WATCHDOG_USEC': '30000000'}, 15.0),
    ({'WATCHDOG_USEC': '30000000', 'WATCHDOG_PID': '77'}, 15.0),
    ({'WATCHDOG_USEC': '30000000', 'WATCHDOG_PID': '78'}, None),
    ({'WATCHDOG_USEC': '500000'}, 0.25),
    ({'WATCHDOG_USEC': '1'}, systemd.MIN_PERIOD_SECONDS),
    ({'WATCHDOG_USEC': '0'}, None),
    ({'WATCHDOG_USEC': '-5'}, None),
    ({'WATCHDOG_USEC': 'soon'}, None),
])
def test_watchdog_period(environ, period):
    assert systemd.watchdog_period(environ, PID) == period


@pytest.fixture
def listening(tmp_path):
    """A socket in the place of systemd's, and its path."""
    path = str(tmp_path / 'notify')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.setblocking(False)
        yield receiver, path


def heard(receiver):
    """Return the lines of each message that has come."""
    messages = []
    try:
        while True:
            messages.append(receiver.recv(4096).decode().split('\n'))
    except BlockingIOError:
        return messages


@pytest.mark.parametrize('period, ticks, expected', [
    (None, [(0.0, FINE, 'a'), (1.0, FINE, 'a'), (2.0, FINE, 'b')],
     [['READY=1', 'STATUS=a'], ['STATUS=b']]),
    # Twice in the watchdog's time, and not at each tick.
    (15.0, [(n * 1.0, FINE, 'a') for n in range(31)],
     [['READY=1', 'STATUS=a', 'WATCHDOG=1'], ['WATCHDOG=1'],
      ['WATCHDOG=1']]),
    # That an audit is unhealthy is no fault of the agent.
    (15.0, [(0.0, ILL, 'a'), (15.0, ILL, 'a')],
     [['READY=1', 'STATUS=a', 'WATCHDOG=1'], ['WATCHDOG=1']]),
    # That nobody runs them is.
    (15.0, [(0.0, FINE, 'a'), (15.0, HUNG, 'a'), (30.0, HUNG, 'a'),
            (31.0, FINE, 'a')],
     [['READY=1', 'STATUS=a', 'WATCHDOG=1'], ['WATCHDOG=1']]),
])
def test_what_systemd_is_told(listening, period, ticks, expected):
    receiver, path = listening
    notifier = systemd.Notifier(path, period)
    found = []
    for now, status, doing in ticks:
        notifier.tick(status, doing, now)
        found += heard(receiver)
    notifier.stop()

    assert found == expected
    assert heard(receiver) == [['STOPPING=1']]


def test_what_was_not_heard_is_said_again(tmp_path, listening, caplog):
    receiver, path = listening
    notifier = systemd.Notifier(path + '-later', 15.0)
    notifier.tick(FINE, 'a', 0.0)
    notifier.tick(FINE, 'a', 1.0)
    os.rename(path, path + '-later')
    notifier.tick(FINE, 'a', 2.0)

    assert heard(receiver) == [['READY=1', 'STATUS=a', 'WATCHDOG=1']]
    assert len(caplog.messages) == 1
    notifier.stop()


def test_an_abstract_address(tmp_path):
    name = 'vmhealth-guest-test-%d' % os.getpid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind('\0' + name)
        notifier = systemd.Notifier('@' + name)
        notifier.tick(FINE, 'a', 0.0)
        assert receiver.recv(99) == b'READY=1\nSTATUS=a'
        notifier.stop()


@pytest.mark.parametrize('environ, period', [
    ({}, 'none'),
    ({'NOTIFY_SOCKET': ''}, 'none'),
    ({'NOTIFY_SOCKET': 'vsock:2:1234'}, 'none'),
    ({'WATCHDOG_USEC': '30000000'}, 'none'),
    ({'NOTIFY_SOCKET': '/run/x'}, 1.0),
    ({'NOTIFY_SOCKET': '@x', 'WATCHDOG_USEC': '1000000',
      'WATCHDOG_PID': str(os.getpid())}, 0.5),
])
def test_the_environment_asks_for_it_and_is_cleared(environ, period):
    environ['PATH'] = '/bin'

    notifier = systemd.take_notifier(environ)

    assert (notifier.period if notifier else 'none') == period
    assert environ == {'PATH': '/bin'}
