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

"""Which channels another program of this host holds.

QEMU serves one client of a channel at a time. The next one is connected too,
as far as it can tell, but waits in the queue of the socket, unheard.
"""

_TABLE = '/proc/net/unix'
# net/unix/af_unix.c, unix_seq_show(): one row for each socket of this network
# namespace, "Num RefCount Protocol Flags Type St Inode Path". The state is
# SS_CONNECTED for both ends of a connection; a connection that nobody accepted
# yet has no inode at its far end, and is SS_CONNECTING there.
_STATE, _INODE, _PATH = 5, 6, 7
_CONNECTED, _CONNECTING = b'03', b'02'
_NO_INODE = b'0'


def occupied(paths, table=_TABLE):
    """Tell of which sockets another client is in the way; one quick read.

    Not for the heartbeat's thread all the same: a host may have very many
    sockets.

    :param paths: an iterable of paths of sockets that we wait at
    :param table: where the kernel lists the unix sockets
    :returns: the set of those paths where somebody is served while somebody
        waits
    :raises OSError: there is no such table
    """
    with open(table, 'rb') as lines:
        return parse(lines, paths)


def parse(lines, paths):
    """Find the same in the lines of the table.

    :param lines: an iterable of bytes
    :param paths: an iterable of paths
    """
    wanted = {path.encode(errors='surrogateescape'): path for path in paths}
    served, waiting = set(), set()
    for line in lines:
        # Fixed columns, then the path, which may have blanks in it.
        fields = line.rstrip(b'\n').split(None, _PATH)
        if len(fields) <= _PATH or fields[_PATH] not in wanted:
            continue
        if fields[_STATE] == _CONNECTED:
            served.add(fields[_PATH])
        elif fields[_STATE] == _CONNECTING and fields[_INODE] == _NO_INODE:
            waiting.add(fields[_PATH])
    return {wanted[path] for path in served & waiting}
