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

"""Times on the wire: ISO 8601, UTC, microseconds.

Nova's own DateTimeField cuts a time to whole seconds. Between a fault and its
notification lie milliseconds, so times travel here as text that keeps them.
"""

import datetime
import re

_FORM = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z', re.ASCII)


def iso_time(seconds):
    """Give a time as the notifications carry it.

    :param seconds: seconds since the epoch, a float
    :returns: text like ``2026-01-31T09:00:00.000001Z``
    :raises ValueError: the time is no number, or before the year 1 or after
        9999
    """
    try:
        when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    except (OSError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f'no time: {seconds!r}') from error
    return when.replace(tzinfo=None).isoformat(timespec='microseconds') + 'Z'


def seconds_of(text):
    """Give back what :func:`iso_time` was given.

    :param text: a time in the form of :func:`iso_time`, no other
    :returns: seconds since the epoch, a float
    :raises ValueError: the text has another form or names no time
    """
    if not isinstance(text, str) or not _FORM.fullmatch(text):
        raise ValueError(f'no time: {text!r}')
    when = datetime.datetime.fromisoformat(text[:-1])
    return when.replace(tzinfo=datetime.timezone.utc).timestamp()
