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


"""What a heartbeat session tells its caller."""

import dataclasses
from typing import Union

from nova_vmhealth.core.audits import HealthChanged
from nova_vmhealth.core.session_table import Guest


@dataclasses.dataclass(frozen=True, slots=True)
class Established:
    """The guest beats; ``previous`` says what is over with that."""

    previous: Guest


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """The guest did not answer for the allowed number of challenges.

    :ivar misses: how many in a row
    :ivar first_missed_at: when the first of them was sent, monotonic seconds
    :ivar silent_s: seconds since the last valid answer, or since there was
        a channel when there was no answer in this session
    """

    misses: int
    first_missed_at: float
    silent_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Missed:
    """A beating guest left a challenge unanswered and is not lost yet.

    Told of the first miss, and of the last one before a loss.

    :ivar misses: how many in a row
    :ivar silent_s: seconds since the last valid answer
    """

    misses: int
    silent_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Unheard:
    """There is a channel, and nothing came through it; told once for each.

    :ivar open_s: seconds since there is
    """

    open_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Unreachable:
    """A beating guest has had no channel for long; told once for each time.

    :ivar silent_s: seconds since it had one
    """

    silent_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class NoticeAcked:
    """The guest is ready for what a notice announced.

    :ivar number: of the notice
    """

    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class NotEstablished:
    """The boot deadline passed without a valid answer."""

    deadline_s: int


@dataclasses.dataclass(frozen=True, slots=True)
class AgentExited:
    """The guest's agent stopped on purpose, in its own words."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Complaint:
    """The guest misbehaves; said once per session."""

    reason: str


Outcome = Union[Established, Lost, Missed, Unheard, Unreachable,
                NotEstablished, AgentExited, HealthChanged, NoticeAcked,
                Complaint]
