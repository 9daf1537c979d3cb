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

"""Locks in files, and backends that do not work."""

import subprocess
import sys

import pytest
from tooz import coordination

from nova_vmhealth import exception
from nova_vmhealth.inspector import locks


@pytest.fixture
def url(tmp_path):
    return f'file://{tmp_path}/coordination'


def test_one_has_it_at_a_time(url):
    one, two = locks.Locks(url, 'one'), locks.Locks(url, 'two')
    held = one.hold('host-a')
    with held:
        assert two.hold('host-a') is None
        assert one.hold('host-a') is None
        other = two.hold('host-b')
        with other:
            pass
    again = two.hold('host-a')
    with again:
        assert one.hold('host-a') is None
    one.close()
    two.close()


def test_it_is_let_go_when_what_it_was_for_fails(url):
    one = locks.Locks(url, 'one')
    with pytest.raises(ZeroDivisionError), one.hold('a'):
        raise ZeroDivisionError
    with one.hold('a'):
        pass


def test_a_process_that_dies_lets_it_go(url):
    one = locks.Locks(url, 'one')
    other = subprocess.Popen(
        [sys.executable, '-c', f'''
import sys
from nova_vmhealth.inspector import locks
with locks.Locks({url!r}, 'two').hold('a'):
    print('held', flush=True)
    sys.stdin.read()
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b'held\n'
    assert one.hold('a') is None
    other.kill()
    other.communicate()
    with one.hold('a'):
        pass


@pytest.mark.parametrize('name, lock', [
    ('host-compute-1', b'vmhealth-host-compute-1'),
    ('host-../../etc/passwd', b'vmhealth-host-..%2F..%2Fetc%2Fpasswd'),
    ('host-\u00e4', b'vmhealth-host-%C3%A4'),
])
def test_names(name, lock):
    assert locks.lock_name(name) == lock


def test_long_names_are_names_still(url):
    names = ['host-' + 'x' * 255 + end for end in 'ab']
    first, second = map(locks.lock_name, names)
    assert first != second
    assert max(len(first), len(second)) < 255
    one = locks.Locks(url, 'one')
    with one.hold(names[0]):
        assert one.hold(names[0]) is None
        with one.hold(names[1]):
            pass


def test_a_backend_that_is_not_there(tmp_path):
    (tmp_path / 'file').write_text('')
    one = locks.Locks(f'file://{tmp_path}/file/folder', 'one')
    with pytest.raises(exception.CoordinationFailed) as caught:
        one.hold('a')
    assert f'file://{tmp_path}/file/folder' in str(caught.value)


def test_no_such_backend_and_no_password_in_what_is_said():
    one = locks.Locks('nosuch://user:secret@controller:1/', 'one')
    with pytest.raises(exception.CoordinationFailed) as caught:
        one.hold('a')
    assert 'nosuch://controller:1' in str(caught.value)
    assert 'secret' not in str(caught.value)


class _Backend:
    """A coordinator of tooz whose locks fail, or cannot be let go."""

    def __init__(self, acquire=None, release=None):
        self.stopped = False
        self.name = b'a'
        self._acquire, self._release = acquire, release

    def start(self, start_heart):
        assert start_heart

    def stop(self):
        self.stopped = True

    def get_lock(self, name):
        return self

    def acquire(self, blocking):
        assert blocking is False
        if self._acquire:
            raise self._acquire
        return True

    def release(self):
        if self._release:
            raise self._release


def test_a_backend_that_fails_is_connected_to_anew(monkeypatch):
    backends = [_Backend(acquire=coordination.ToozConnectionError('gone')),
                _Backend()]
    made = iter(backends)
    monkeypatch.setattr(coordination, 'get_coordinator',
                        lambda url, member: next(made))
    one = locks.Locks('etcd3+http://controller', 'one')
    with pytest.raises(exception.CoordinationFailed):
        one.hold('a')
    with one.hold('a'), one.hold('b'):
        pass
    one.close()
    assert backends[1].stopped


def test_one_that_cannot_be_let_go_is_no_reason_to_fail(monkeypatch):
    monkeypatch.setattr(
        coordination, 'get_coordinator', lambda url, member: _Backend(
            release=coordination.ToozConnectionError('gone')))
    with locks.Locks('etcd3+http://controller', 'one').hold('a'):
        pass
