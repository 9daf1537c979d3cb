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

"""What an inspector's watch over the hosts is told, and what it says."""

import dataclasses
import enum
from typing import Optional, Union

from nova_vmhealth.core.fleet_table import Standing


class Obstacle(str, enum.Enum):
    """Why nothing may be done about a host now."""

    NOT_SILENT = 'not_silent'
    BLIND = 'blind'
    TOO_MANY_HOSTS = 'too_many_hosts'
    # it is not known yet whether it is too many
    UNSETTLED = 'unsettled'


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the operator wants.

    :ivar misses: beacons in a row that a silent host has missed
    :ivar recover_beacons: beacons in a row after which it is back
    :ivar grace_s: time that hosts have to connect anew after an outage
    :ivar percent: of all hosts that may be marked down within the window
    :ivar window_s: seconds
    """

    misses: int = 3
    recover_beacons: int = 3
    grace_s: float = 10.0
    percent: float = 10.0
    window_s: float = 600.0


# What follows, for the caller to do.


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """An own beacon is to be sent at once, to see whether it comes back."""


@dataclasses.dataclass(frozen=True, slots=True)
class Suspected:
    """A host is silent, and no longer refused if it was."""

    host: str


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """Nothing is done about silent hosts, since there are too many.

    :ivar hosts: all that nothing is done about
    :ivar silent: how many are silent or doubtful, or were marked down in the
        window
    :ivar limit: how many may be
    :ivar watched: how many there are
    """

    hosts: tuple[str, ...]
    silent: int
    limit: int
    watched: int


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """A beacon of a host came that was silent; it may be a single one."""

    host: str


@dataclasses.dataclass(frozen=True, slots=True)
class Recovered:
    """Enough beacons of a host have come in a row."""

    host: str


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """A host has said goodbye, or is to be left alone."""

    host: str


@dataclasses.dataclass(frozen=True, slots=True)
class Stalled:
    """The caller itself was late.

    :ivar seconds: which count for nobody
    """

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Blinded:
    """Nothing is heard any more, so nobody is judged."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sighted:
    """The first own beacon came back, or the first after an outage.

    :ivar seconds: how long nothing was heard; inf at the start
    """

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Namesake:
    """Another inspector has this one's name."""


Decision = Union[Probe, Suspected, Refused, Heard, Recovered, Left, Stalled,
                 Blinded, Sighted, Namesake]


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """How a host stands.

    :ivar heard_at: when its last beacon came, on the caller's monotonic
        clock; None where this inspector heard none
    :ivar incarnation: of its last beacon, or empty
    :ivar sequence: of its last beacon, or 0
    :ivar interval_s: that it sends them in
    :ivar excused: whether its silence counts for nothing
    """

    standing: Standing
    heard_at: Optional[float]
    incarnation: str
    sequence: int
    interval_s: float
    excused: bool
