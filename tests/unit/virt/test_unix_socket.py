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

"""Connecting to QEMU's socket: what stands in the way is named, once each."""

import errno
import os
import socket
import types

import pytest

from nova_vmhealth.virt import unix_socket


@pytest.fixture
def listening(tmp_path):
    """The path of a socket that somebody listens on."""
    path = str(tmp_path / 'channel.sock')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        yield path


def refusal(path, sockets=socket):
    with pytest.raises(unix_socket.Unreachable) as refused:
        unix_socket.connect(str(path), sockets)
    assert refused.value.strerror == refused.value.reason
    return refused.value


def failing(code):
    """A socket module whose sockets fail to connect."""
    closed = []

    class Socket:
        def __init__(self, *_kind):
            pass

        def setblocking(self, _flag):
            pass

        def connect(self, _path):
            raise OSError(code, os.strerror(code))

        def close(self):
            closed.append(self)

    return types.SimpleNamespace(
        AF_UNIX=1, SOCK_STREAM=1, socket=Socket, closed=closed)


def open_files():
    return set(os.listdir('/proc/self/fd'))


def test_connects(tmp_path):
    path = str(tmp_path / 'channel.sock')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        before = open_files()
        with unix_socket.connect(path) as ours:
            assert len(open_files() - before) == 1
            assert not ours.getblocking()
            theirs, _ = listener.accept()
            with theirs:
                theirs.send(b'x')
                assert ours.recv(1) == b'x'


@pytest.mark.parametrize('make, text', [
    (lambda path, target: path.symlink_to(target), 'symbolic link'),
    (lambda path, target: path.symlink_to('nowhere'), 'symbolic link'),
    (lambda path, target: path.write_text(''), 'something else'),
    (lambda path, target: path.mkdir(), 'something else'),
    (lambda path, target: None, 'no such file'),
])
def test_what_is_in_the_sockets_place(tmp_path, listening, make, text):
    """A link is not followed, wherever it leads: it may be the guest's."""
    path = tmp_path / 'place'
    make(path, listening)
    before = open_files()
    error = refusal(path)
    assert text in error.reason
    assert error.bypass
    assert open_files() == before


def test_a_folder_that_is_a_link_is_the_operators(tmp_path, listening):
    (tmp_path / 'link').symlink_to(os.path.dirname(listening))
    with unix_socket.connect(str(tmp_path / 'link' / 'channel.sock')):
        pass


@pytest.mark.parametrize('length, too_long', [(107, False), (108, True)])
def test_length_of_the_path(length, too_long):
    error = refusal('/' + 'x' * (length - 1))
    assert ('instance_name_template' in error.reason) == too_long
    assert error.bypass != too_long


def test_nobody_listens(tmp_path):
    path = str(tmp_path / 'left')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
    error = refusal(path)
    assert error.errno == errno.ECONNREFUSED
    assert 'nobody listens' in error.reason
    assert not error.bypass


def test_full_queue(tmp_path):
    path = str(tmp_path / 'busy')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with unix_socket.connect(path):
            error = refusal(path)
    assert 'another program' in error.reason
    assert not error.bypass


@pytest.mark.parametrize('code, text, bypass', [
    (errno.EACCES, 'permission denied on the socket (user ', True),
    (errno.EPERM, 'permission denied on the socket (user ', True),
    (errno.EMFILE, 'LimitNOFILE', False),
    (errno.ENFILE, 'fs.file-max', False),
    (errno.ENOBUFS, os.strerror(errno.ENOBUFS), False),
])
def test_errors_of_the_system(listening, code, text, bypass):
    sockets = failing(code)
    before = open_files()
    error = refusal(listening, sockets)
    assert error.errno == code
    assert text in error.reason
    assert error.bypass == bypass
    assert len(sockets.closed) == 1
    assert open_files() == before


def test_a_folder_that_may_not_be_entered(listening, monkeypatch):
    folder = os.path.dirname(listening)
    real = os.lstat

    def lstat(path):
        if path != folder:
            raise PermissionError(errno.EACCES, 'denied')
        return real(path)

    monkeypatch.setattr(unix_socket.os, 'lstat', lstat)
    reason = refusal(listening, failing(errno.EACCES)).reason
    assert 'on the folder %s (user ' % folder in reason


def test_names_come_from_the_files_not_from_the_network(tmp_path):
    users = tmp_path / 'passwd'
    users.write_text('broken\nroot:x:0:0::/root:/bin/sh\n'
                     'qemu:x:64055:107::/:/bin/false\n')
    unix_socket._name.cache_clear()
    assert unix_socket._name(str(users), 64055) == 'qemu'
    assert unix_socket._name(str(users), 5) == '5'
    assert unix_socket._name(str(tmp_path / 'none'), 7) == '7'
