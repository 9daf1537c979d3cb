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


"""What the tests of the agent share."""

import os
import select

from nova_vmhealth.core import protocol
from nova_vmhealth.guest.health import Result
from nova_vmhealth.guest.health import Snapshot
from nova_vmhealth.guest.health import worst

UNKNOWN = Snapshot(None, ())
FINE = Snapshot('healthy', ())


def snapshot(*pairs):
    """Make a Snapshot of (name, health) pairs."""
    results = tuple(Result(name, health, '') for name, health in pairs)
    return Snapshot(worst(r.health for r in results), results)


def challenge(sequence=1, nonce='n'):
    """Make a challenge as the host's own encoder makes it."""
    return protocol.challenge(sequence, nonce)


def decoded(lines):
    """Parse lines with the host's parser, which refuses what is no message."""
    return [protocol.parse_line(line.rstrip(b'\n')) for line in lines]


def kinds(lines):
    """Return the types of some lines, by the names of the host's classes."""
    return [type(message).__name__ for message in decoded(lines)]


def read_messages(fd, count):
    """Read so many messages; give up after some seconds of silence."""
    data = b''
    while data.count(b'\n') < count:
        assert select.select([fd], [], [], 20)[0], 'the agent says nothing'
        data += os.read(fd, 4096)
    return decoded(data.splitlines())
