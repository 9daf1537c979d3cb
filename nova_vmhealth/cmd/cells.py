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

"""Cells of tables that people and programs read in a form of their own."""

from cliff import columns

from nova_vmhealth.notifications import times


class Lines(columns.FormattableColumn):
    """A value for programs, and lines of text for people.

    :param lines: of the value
    """

    def __init__(self, value, lines):
        super().__init__(value)
        self._lines = lines

    def human_readable(self):
        return '\n'.join(self._lines)

    def machine_readable(self):
        return self._value


def time(seconds):
    """Give a time as notifications have it; None for none.

    :param seconds: since the epoch, or None
    """
    return None if seconds is None else times.iso_time(seconds)
