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

"""Second opinions on a silent host: what each may say, and what all say."""

import dataclasses
import enum
from typing import Sequence


class Kind(str, enum.Enum):
    """What sort of check."""

    QUORUM = 'quorum'
    TCP = 'tcp'
    EXEC = 'exec'


class Opinion(str, enum.Enum):
    """What a check says of a host."""

    GONE = 'gone'
    ALIVE = 'alive'
    UNSURE = 'unsure'


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One that the operator has named.

    :ivar name: in the operator's words
    :ivar port: of a tcp check, else 0
    :ivar path: of an exec check, else empty
    """

    name: str
    kind: Kind
    port: int = 0
    path: str = ''


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    :ivar check: its name
    :ivar text: how it came to that, for people
    :ivar seconds: how long it took
    """

    check: str
    opinion: Opinion
    text: str
    seconds: float = 0.0


def parse(text: str) -> Check:
    """Read a check as the operator has named it.

    :raises ValueError: there is no such check; the message says why
    """
    word, _, rest = text.partition(':')
    if text == Kind.QUORUM.value:
        return Check(text, Kind.QUORUM)
    if word == Kind.TCP.value:
        if not (rest.isascii() and rest.isdigit()
                and 0 < int(rest) < 65536):
            raise ValueError('no number of a port')
        return Check(text, Kind.TCP, port=int(rest))
    if word == Kind.EXEC.value:
        if not rest.startswith('/'):
            raise ValueError('no absolute path of a program')
        return Check(text, Kind.EXEC, path=rest)
    raise ValueError('neither quorum, nor tcp:PORT, nor exec:/PATH')


def weigh(findings: Sequence[Finding]) -> Finding:
    """Return the finding that decides: all must say that the host is gone.

    :param findings: at least one
    """
    for opinion in (Opinion.ALIVE, Opinion.UNSURE):
        for finding in findings:
            if finding.opinion is opinion:
                return finding
    return findings[0]
