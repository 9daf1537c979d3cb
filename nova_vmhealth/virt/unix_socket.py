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

"""The first way to a guest's channel: QEMU's unix socket.

Whatever stands in the way is said in words that name the cure, and whether
libvirt's stream may get around it.
"""

import errno
import functools
import os
import posix
import resource
import socket
import stat

# sun_path holds 108 bytes, the last of them a zero (unix(7)).
MAX_PATH = 107
# Where names of users and groups are looked up. Not through the system's
# name service: that may ask the network, and the heartbeat must not wait.
_USERS = '/etc/passwd'
_GROUPS = '/etc/group'


class Unreachable(OSError):
    """There is no connection to a guest's socket.

    :param code: errno
    :param reason: what stands in the way and what cures it; the same text as
        long as the same thing stands there
    :param bypass: whether libvirt's stream may reach the channel all the same
    """

    def __init__(self, code, reason, bypass=False):
        super().__init__(code, reason)
        self.reason = reason
        self.bypass = bypass


def connect(path, sockets=socket):
    """Connect to QEMU's end of a channel without ever waiting.

    A symbolic link in the socket's place is never followed: QEMU's user may
    write to that folder, and must not choose what else on this host
    nova-compute talks to.

    :param path: of the socket
    :param sockets: the socket module to use
    :returns: a connected non-blocking socket
    :raises Unreachable: there is nobody, no permission, no such path, ...
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise Unreachable(
            errno.ENAMETOOLONG, 'the path is longer than the %d bytes that a '
            "unix socket's may have: shorten [DEFAULT]instance_name_template"
            % MAX_PATH)
    try:
        return _connect(path, sockets)
    except Unreachable:
        raise
    except OSError as error:
        raise _explained(error, path) from error


def _connect(path, sockets):
    # The file is opened as a mere place, looked at and connected to by its
    # descriptor: nobody can put something else there in between. posix's
    # open, since os.open may be eventlet's, which is not for native threads.
    place = posix.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _expect_socket(os.fstat(place).st_mode)
        connection = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect('/proc/self/fd/%d' % place)
        except BaseException:
            connection.close()
            raise
    finally:
        os.close(place)
    return connection


def _expect_socket(mode):
    if stat.S_ISLNK(mode):
        raise Unreachable(
            errno.ELOOP, "there is a symbolic link in the socket's place, "
            'which is not followed: see who put it there and remove it',
            bypass=True)
    if not stat.S_ISSOCK(mode):
        raise Unreachable(
            errno.ENOTSOCK, 'there is something else than a socket: see who '
            'put it there and remove it', bypass=True)


def _explained(error, path):
    """Return the Unreachable that says what an OSError means here."""
    code = error.errno
    if code in (errno.EACCES, errno.EPERM):
        return Unreachable(code, _denial(path), bypass=True)
    if code in (errno.ENOENT, errno.ENOTDIR):
        return Unreachable(
            code, 'no such file: hard reboot the instance if it has run since '
            "before it opted in, and mount libvirt's folder if nova-compute "
            'is in a container', bypass=True)
    if code == errno.EMFILE:
        return Unreachable(
            code, 'nova-compute has as many open files as it may, %d: raise '
            'LimitNOFILE of its service'
            % resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if code == errno.ENFILE:
        return Unreachable(
            code, 'this host has as many open files as it may: raise the '
            'sysctl fs.file-max')
    if code == errno.EAGAIN:
        return Unreachable(
            code, "the socket's queue is full: another program on this host "
            'holds the channel; "ss -xp" shows which')
    if code == errno.ECONNREFUSED:
        return Unreachable(
            code, 'nobody listens there: the QEMU that made the socket has '
            'ended')
    return Unreachable(code, error.strerror or str(error))


def _denial(path):
    """Say which folder, or the socket itself, keeps nova-compute out."""
    cure = 'to that group and restart it'
    folder = path
    while True:
        try:
            info = os.lstat(folder)
            break
        except OSError:
            folder = os.path.dirname(folder)
            if folder in ('', '/'):
                return 'permission denied'
    owners = 'user %s, group %s, mode %04o' % (
        _name(_USERS, info.st_uid), _name(_GROUPS, info.st_gid),
        stat.S_IMODE(info.st_mode))
    if folder != path:
        return ('permission denied on the folder %s (%s): add the user of '
                'nova-compute %s' % (folder, owners, cure))
    return ('permission denied on the socket (%s): add the user of '
            'nova-compute %s, or see whether SELinux or AppArmor refuses'
            % (owners, cure))


# Of the owners of libvirt's folders there are a handful.
@functools.lru_cache(maxsize=32)
def _name(file, number):
    """Return the name of a user or group, its number where it has none."""
    try:
        with open(file, encoding='utf-8', errors='replace') as lines:
            for line in lines:
                fields = line.split(':')
                if len(fields) > 2 and fields[2] == str(number):
                    return fields[0]
    except OSError:
        pass        # the number says as much
    return str(number)
