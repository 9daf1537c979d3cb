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


"""The port's file: found by its name, read and written without waiting."""

import os
import threading

import pytest

from nova_vmhealth.guest import port
from nova_vmhealth.guest import talk
from tests.unit.guest.helpers import FINE


def test_an_empty_read_means_that_no_host_client_is_there(host):
    with port.Port(os.devnull) as opened:
        assert opened.read() is None
    with port.Port(host[1]) as opened:
        assert opened.read() == b''


def test_all_that_waits_is_read_at_once(tmp_path):
    path = tmp_path / 'port'
    path.write_bytes(b'x' * 10000)

    with port.Port(str(path)) as opened:
        assert opened.read() == b'x' * 10000
        assert opened.read() is None


def test_a_read_has_an_end(tmp_path):
    path = tmp_path / 'port'
    most = port.MAX_READS * talk.MAX_LINE
    path.write_bytes(b'x' * (most + 1))

    with port.Port(str(path)) as opened:
        assert len(opened.read()) == most
        assert opened.read() == b'x'


def test_what_the_host_does_not_read_is_bounded(host):
    master, path = host
    with port.Port(path) as opened:
        line = talk.encode({'type': 'exit', 'reason': 'x' * 3000})
        for _ in range(100):
            opened.unsent.append(line)
            opened.flush()
        assert not opened.flush()
        assert len(opened.unsent) <= port.MAX_UNSENT
        while not opened.flush():
            os.read(master, 65536)


def test_what_was_meant_for_another_client_is_dropped(host):
    master, path = host
    with port.Port(path) as opened:
        opened.unsent.append(b'x' * 100000)
        assert not opened.flush()
        opened.forget()
        assert opened.flush()


def test_a_guest_without_the_port_is_told_so(monkeypatch):
    monkeypatch.setattr(port.os, 'listdir', lambda path: [])
    monkeypatch.setattr(port.os.path, 'exists', lambda path: False)
    with pytest.raises(FileNotFoundError, match='no virtio-serial port'):
        port.find_port()


@pytest.mark.parametrize('wake', [False, True])
def test_a_wait_ends(host, wake):
    """By a wake-up from another thread, or by what the host writes."""
    master, path = host
    waker = port.Waker()
    with port.Port(path) as opened:
        thread = threading.Thread(
            target=waker.wake if wake else lambda: os.write(master, b'x'))
        thread.start()
        # Without it this takes as long as a test may at most.
        waker.wait(1000, opened.fd)
        thread.join()


def test_a_wake_up_before_the_wait_is_not_lost_nor_do_many_block():
    waker = port.Waker()
    for _ in range(100000):
        waker.wake()
    waker.wait(1000)


def test_the_talk_fits(host):
    """Whole lines leave, in their order."""
    master, path = host
    with port.Port(path) as opened:
        opened.unsent += [talk.Talk().init(FINE), talk.Talk.exit('x')]
        assert opened.flush()
    assert os.read(master, 4096).count(b'\n') == 2
