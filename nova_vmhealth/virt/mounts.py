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

"""Which file systems are mounted, as the kernel says."""

import re
import time

# Thousands of I/O errors a second may ask: the kernel is asked again after so
# many seconds.
KEPT_S = 10.0
_MOUNTS = '/proc/self/mounts'
# A blank, a tab, a newline and a backslash are written as octal numbers.
_OCTAL = re.compile(r'\\([0-7]{3})')


class Mounts:
    """What is mounted, read again once it is old.

    :param path: of the kernel's list
    :param monotonic: clock, seconds
    """

    def __init__(self, path=_MOUNTS, monotonic=time.monotonic):
        self._path = path
        self._monotonic = monotonic
        self._mounts = []
        self._until = float('-inf')

    def __call__(self):
        """Return a list of (source, mount point, type); never raises."""
        now = self._monotonic()
        if now >= self._until:
            self._until = now + KEPT_S
            try:
                with open(self._path, errors='replace') as source:
                    self._mounts = [mount for mount in map(_mount, source)
                                    if mount is not None]
            except OSError:
                self._mounts = []
        return self._mounts


def _mount(line):
    # Other blanks may be part of a name.
    fields = line.rstrip('\n').split(' ')
    if len(fields) < 3:
        return None
    return tuple(map(_plain, fields[:3]))


def _plain(text):
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)
