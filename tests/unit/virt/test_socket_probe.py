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

"""Who holds a channel, read from the kernel's table of unix sockets."""

import socket

import pytest

from nova_vmhealth.virt import socket_probe

HEAD = b'Num       RefCount Protocol Flags    Type St Inode Path\n'
LISTENS = b'00000000a1: 00000002 00000000 00010000 0001 01 100 /q/a b.sock\n'
SERVED = b'00000000a2: 00000003 00000000 00000000 0001 03 101 /q/a b.sock\n'
WAITS = b'00000000a3: 00000003 00000000 00000000 0001 02     0 /q/a b.sock\n'
CONNECTS = b'00000000a4: 00000003 00000000 00000000 0001 02 102 /q/a b.sock\n'
NAMELESS = b'00000000a5: 00000003 00000000 00000000 0001 03 103\n'


@pytest.mark.parametrize('rows, found', [
    ([], False),
    ([LISTENS], False),
    ([LISTENS, SERVED], False),
    ([LISTENS, WAITS], False),
    ([LISTENS, SERVED, WAITS], True),
    ([WAITS, NAMELESS, SERVED], True),
    ([LISTENS, SERVED, CONNECTS], False),
    ([SERVED, WAITS.replace(b'a b', b'c')], False),
    ([b'garbage\n', b'\n', SERVED, WAITS], True),
])
def test_rows(rows, found):
    assert socket_probe.parse([HEAD, *rows], ['/q/a b.sock', '/q/c.sock']) == (
        {'/q/a b.sock'} if found else set())


def test_sockets_that_nobody_asked_for():
    assert socket_probe.parse([SERVED, WAITS], ['/q/other.sock']) == set()


def test_the_kernels_own_table(tmp_path):
    path = str(tmp_path / 'held.sock')
    with socket.socket(socket.AF_UNIX) as listener, \
            socket.socket(socket.AF_UNIX) as holder, \
            socket.socket(socket.AF_UNIX) as waiter:
        listener.bind(path)
        listener.listen(1)
        holder.connect(path)
        assert socket_probe.occupied([path]) == set()
        served, _ = listener.accept()
        with served:
            assert socket_probe.occupied([path]) == set()
            waiter.connect(path)
            assert socket_probe.occupied([path]) == {path}
