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

"""When a guest's channel asks for the way through libvirt, and what is told.

How it reads and writes is tested with the loop, in test_heartbeat.
"""

import types

import pytest

from nova_vmhealth.virt import guest_channel
from nova_vmhealth.virt.guest_channel import LIBVIRT
from nova_vmhealth.virt.guest_channel import PATIENCE
from nova_vmhealth.virt.guest_channel import RETRY_LAST_S
from nova_vmhealth.virt.guest_channel import SOCKET
from nova_vmhealth.virt import unix_socket

BARRED = unix_socket.Unreachable(13, 'permission denied', bypass=True)
BUSY = unix_socket.Unreachable(11, 'queue is full')
ENDED = ConnectionResetError('the other end closed the connection')


class Connection:
    def setsockopt(self, *_option):
        pass

    def close(self):
        pass


@pytest.fixture
def channel():
    session = types.SimpleNamespace(
        last_answer_at=None, connected=lambda now: None,
        disconnected=lambda now: None)
    return guest_channel.GuestChannel('uuid', '/path', session)


def fail(channel, error, times, now=0.0):
    """Whether another way was asked for, at each failure."""
    asked = []
    for _ in range(times):
        channel.failed(error, now)
        asked.append(channel.wants_second_way(error, now))
    return asked


@pytest.mark.parametrize('error, asked', [
    (BARRED, [False] * (PATIENCE - 1) + [True]),
    (BUSY, [False] * PATIENCE),
    (OSError(5, 'Input/output error'), [False] * PATIENCE),
])
def test_which_failures_ask_for_it(channel, error, asked):
    assert fail(channel, error, PATIENCE) == asked


def test_it_is_asked_for_seldom(channel):
    assert fail(channel, BARRED, PATIENCE + 2)[-3:] == [True, False, False]
    assert fail(channel, BARRED, 1, RETRY_LAST_S - 0.1) == [False]
    assert fail(channel, BARRED, 1, RETRY_LAST_S) == [True]


def test_not_while_nova_is_at_work_on_it(channel):
    channel.held = True
    assert fail(channel, BARRED, PATIENCE) == [False] * PATIENCE
    channel.held = False
    assert fail(channel, BARRED, 1) == [True]


def test_a_stream_that_ends_is_replaced_at_once(channel):
    fail(channel, BARRED, PATIENCE)
    channel.adopt(Connection(), LIBVIRT, 1.0)
    channel.lost(ENDED, 10.0)
    assert fail(channel, BARRED, 1, 10.0) == [True]


def test_a_socket_that_was_reached_has_new_patience(channel):
    fail(channel, BARRED, PATIENCE)
    channel.adopt(Connection(), SOCKET, 1.0)
    channel.lost(ENDED, 10.0)
    assert fail(channel, BARRED, PATIENCE, 10.0)[-2:] == [False, True]


@pytest.mark.parametrize('answered_at', [None, 5.0])
def test_a_guest_cannot_fill_the_log_by_ending_its_stream(channel,
                                                          answered_at):
    assert channel.failed(BARRED, 0.0) == 'permission denied'
    for at in (1.0, 10.0, 20.0):
        channel.adopt(Connection(), LIBVIRT, at)
        channel.session.last_answer_at = answered_at and at + answered_at
        assert channel.lost(ENDED, at + 6.0) is None
        assert channel.failed(BARRED, at + 6.1) is None
    assert channel.failed(BUSY, 30.0) == 'queue is full'
