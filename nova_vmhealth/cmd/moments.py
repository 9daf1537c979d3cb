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

"""Times as people write them: on a clock, or from now."""

import argparse
import re
from typing import NamedTuple, Optional

from oslo_utils import timeutils

_UNITS = {'s': 1, 'm': 60, 'h': 3600, 'd': 24 * 3600}
_PART = re.compile(r'(\d{1,9}(?:\.\d{1,9})?)([smhd])', re.ASCII)
_DURATION = re.compile(f'(?:{_PART.pattern})+', re.ASCII)
# Without its zone a time is another one on another machine.
_WITH_ZONE = re.compile(
    r'\d{4}-\d\d-\d\d[T ]\d\d(:?\d\d){0,2}(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)',
    re.ASCII)


class Moment(NamedTuple):
    """A time on the clock, or one from now.

    :ivar at: seconds since the epoch; None: it is from now
    :ivar after_s: how long from now
    """

    at: Optional[float] = None
    after_s: float = 0.0

    def resolve(self, now):
        """Return it as seconds since the epoch.

        :param now: seconds since the epoch
        """
        return now + self.after_s if self.at is None else self.at


def duration(text):
    """Read a duration; an argparse type.

    :param text: such as ``30m``, ``1h30m`` or ``2d``
    :returns: seconds, more than 0
    :raises argparse.ArgumentTypeError: it is none
    """
    parts = _PART.findall(text) if _DURATION.fullmatch(text) else []
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(
            f'{text!r:.40} is no duration: write it as 30m, 1h30m or 2d')
    return seconds


def moment(text):
    """Read a time; an argparse type.

    :param text: ``now``, a duration from now such as ``+30m``, or ISO 8601
        with a zone
    :returns: a Moment
    :raises argparse.ArgumentTypeError: it is none
    """
    if text == 'now':
        return Moment()
    if text.startswith('+'):
        return Moment(after_s=duration(text[1:]))
    if _WITH_ZONE.fullmatch(text):
        try:
            return Moment(timeutils.parse_isotime(text).timestamp())
        except (OverflowError, ValueError):
            pass
    raise argparse.ArgumentTypeError(
        f'{text!r:.40} is no time: write it with its zone, as '
        '2026-01-31T22:00Z or 2026-01-31T22:00+01:00, or as now, or from now '
        'as +30m, +1h30m or +2d')


def moment_or_open(text):
    """Read a time that may be ``open``; an argparse type.

    :returns: a Moment, or None for an open end
    """
    return None if text == 'open' else moment(text)
