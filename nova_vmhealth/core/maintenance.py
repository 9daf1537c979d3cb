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

"""Planned maintenance: a window of time in which a host is worked on.

Whoever knows the windows of a host says with these functions whether it is
under maintenance, and when that changes. Times named ``wall`` are seconds
since the epoch.
"""

import dataclasses
import hashlib
import json
import math
from typing import Any, Iterable, Optional
import uuid

from nova_vmhealth.core.beacons import MAX_HOST
from nova_vmhealth.core import protocol
from nova_vmhealth.core import saving
from nova_vmhealth import exception

# Of one host. An operator has a few; Fenix one for each of its sessions. All
# of them go to the host in one message, of some 50 KiB at most.
MAX_WINDOWS = 100
# What a line of text for people has everywhere in Nova.
MAX_REASON = 255
# The last second that a notification can tell, of the year 9999.
_LATEST = 253402300799
# Of a name that this package gives.
_MAX_SOURCE = 64

OPERATOR = 'operator'
FENIX = 'fenix'


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """A time in which a host is worked on.

    :ivar id: uuid
    :ivar host: name of the compute service
    :ivar starts_at: seconds since the epoch
    :ivar ends_at: seconds since the epoch, after its start; None: until it is
        withdrawn
    :ivar reason: for people; tenants read it. Made printable, and cut
    :ivar source: who asked for it: OPERATOR, FENIX, or what a later release
        knows besides
    :ivar created_at: seconds since the epoch
    :raises nova_vmhealth.exception.InvalidWindow: a value is none of these
    """

    id: str
    host: str
    starts_at: float
    ends_at: Optional[float]
    reason: str
    source: str
    created_at: float

    def __post_init__(self) -> None:
        _check_id(self.id)
        _check_host(self.host)
        _check_time('starts_at', self.starts_at)
        _check_time('created_at', self.created_at)
        if self.ends_at is not None:
            _check_time('ends_at', self.ends_at)
            if self.ends_at <= self.starts_at:
                raise exception.InvalidWindow(
                    reason='its end is not after its start')
        if not (0 < len(self.source) <= _MAX_SOURCE
                and self.source.isprintable()):
            raise exception.InvalidWindow(reason='source is no word')
        object.__setattr__(
            self, 'reason', protocol.clean_text(self.reason, MAX_REASON))

    def record(self) -> dict[str, Any]:
        """Return what JSON can carry."""
        return dataclasses.asdict(self)

    @classmethod
    def restored(cls, record: Any) -> 'Window':
        """Read what :meth:`record` gave; what else is in it is left alone.

        :raises nova_vmhealth.exception.InvalidRecord: it did not
        """
        fields = saving.Record(record)
        return cls(
            id=fields.text('id'), host=fields.text('host'),
            starts_at=fields.time('starts_at'),
            ends_at=fields.time_or_none('ends_at'),
            reason=fields.text('reason'), source=fields.text('source'),
            created_at=fields.time('created_at'))


def _check_id(text: str) -> None:
    try:
        # Written another way it would be another window.
        if str(uuid.UUID(text)) == text:
            return
    except ValueError:
        pass
    raise exception.InvalidWindow(reason='id is no uuid')


def _check_host(text: str) -> None:
    # Cleaned or cut, it would be the name of another host.
    if not text or len(text) > MAX_HOST or not text.isprintable():
        raise exception.InvalidWindow(reason='host is no name of a host')


def _check_time(name: str, seconds: float) -> None:
    if not 0 <= seconds <= _LATEST:
        raise exception.InvalidWindow(
            reason=f'{name} is not between the years 1970 and 9999')


def _end(window: Window) -> float:
    return math.inf if window.ends_at is None else window.ends_at


def is_active(window: Window, wall: float) -> bool:
    """Say whether it has begun and is not over."""
    return window.starts_at <= wall < _end(window)


def active(windows: Iterable[Window], wall: float) -> Optional[Window]:
    """Return the window that a host is in; the one that ends last of several.

    :param windows: of one host
    """
    found = [window for window in windows if is_active(window, wall)]
    return max(found, key=lambda window: (_end(window), window.id),
               default=None)


def next_change(windows: Iterable[Window], wall: float) -> Optional[float]:
    """Return when the next window begins or ends; None for never."""
    times = [time for window in windows
             for time in (window.starts_at, _end(window)) if time > wall]
    soonest = min(times, default=math.inf)
    return None if soonest == math.inf else soonest


def unexpired(windows: Iterable[Window], wall: float) -> list[Window]:
    """Return those that are not over, the earliest first."""
    return sorted((window for window in windows if wall < _end(window)),
                  key=lambda window: (window.starts_at, window.id))


def digest(windows: Iterable[Window]) -> str:
    """Return a text that is another for other windows.

    In whatever order; empty for none.
    """
    records = sorted(json.dumps(window.record(), sort_keys=True)
                     for window in windows)
    if not records:
        return ''
    return hashlib.sha256('\n'.join(records).encode()).hexdigest()


def host_id(project_id: str, host: str) -> str:
    """Return a host's name as Nova's API tells it to a project (hostId)."""
    return hashlib.sha224((project_id + host).encode()).hexdigest()
