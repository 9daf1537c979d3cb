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

"""Which file systems are mounted, by the kernel's own list."""

import pytest

from nova_vmhealth.virt import mounts


class World:
    """A list of mounts, and a clock that the test turns."""

    def __init__(self, path):
        self.now = 100.0
        self.path = path
        self.mounts = mounts.Mounts(str(path), lambda: self.now)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / 'mounts')


@pytest.mark.parametrize('line, found', [
    ('/dev/sda1 / ext4 rw,relatime 0 0', [('/dev/sda1', '/', 'ext4')]),
    ('nas:/export /mnt nfs4 rw 0 0', [('nas:/export', '/mnt', 'nfs4')]),
    # what the kernel writes as octal numbers
    (r'nas:/a\040b /mnt/c\011d\134e nfs rw 0 0',
     [('nas:/a b', '/mnt/c\td\\e', 'nfs')]),
    (r'none /mnt/\0401 tmpfs rw 0 0', [('none', '/mnt/ 1', 'tmpfs')]),
    (r'none /mnt/\08 tmpfs rw 0 0', [('none', r'/mnt/\08', 'tmpfs')]),
    # and what it does not: other blanks, and anything but UTF-8
    ('none /mnt/a\u00a0b tmpfs rw 0 0', [('none', '/mnt/a\u00a0b', 'tmpfs')]),
    (b'none /mnt/\xff tmpfs rw 0 0', [('none', '/mnt/\ufffd', 'tmpfs')]),
    # no mount
    ('', []), ('none', []), ('none /mnt', []),
])
def test_a_line(world, line, found):
    raw = line if isinstance(line, bytes) else line.encode()
    world.path.write_bytes(raw + b'\n')
    assert world.mounts() == found


def test_in_their_order(world):
    world.path.write_text('a / b\nrubbish\nc / d\n')
    assert world.mounts() == [('a', '/', 'b'), ('c', '/', 'd')]


def test_the_kernel_is_not_asked_for_each_error(world):
    world.path.write_text('a / b rw 0 0\n')
    assert world.mounts() == [('a', '/', 'b')]
    world.path.write_text('c / d rw 0 0\n')
    world.now += mounts.KEPT_S - 0.1
    assert world.mounts() == [('a', '/', 'b')]
    world.now += 0.1
    assert world.mounts() == [('c', '/', 'd')]


def test_where_there_is_no_list_nothing_is_mounted(world):
    assert world.mounts() == []
    world.path.write_text('a / b rw 0 0\n')
    world.now += mounts.KEPT_S
    assert world.mounts() != []
    world.path.unlink()
    world.now += mounts.KEPT_S
    assert world.mounts() == []


def test_this_machine_has_a_root():
    assert '/' in [point for _source, point, _kind in mounts.Mounts()()]
