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


"""One object for what thousands of sessions have in common.

It saves memory, and time: what is in the processor's cache already is had
sooner than one of thousands of equal objects.
"""

import functools
from typing import Optional

from nova_vmhealth.core import protocol

# Sessions look into it themselves, which is shorter. It is emptied, and filled
# anew, when there is too much in it.
NUMBERS: dict[int, int] = {}
_MOST_NUMBERS = 4096
# What an answer says besides its nonce is remembered up to this many bytes, to
# know it again: the health of a few audits, and little for each guest.
_MAX_TAIL = 512


def one(number: int) -> int:
    """Return the same object for equal numbers, mostly.

    The guests of a slot have the next in common, and most guests their count
    of challenges.
    """
    if len(NUMBERS) > _MOST_NUMBERS:
        NUMBERS.clear()
    return NUMBERS.setdefault(number, number)


@functools.lru_cache(maxsize=1024)
def shared(tail: bytes) -> bytes:
    """Return the same object for equal tails of answers, mostly."""
    return tail


def known_tail(line: bytes,
               answer: protocol.ChallengeResponse) -> Optional[bytes]:
    """Return what follows an answer's nonce, if it is to be known again."""
    tail = protocol.usual_tail(line, answer)
    return shared(tail) if tail and len(tail) <= _MAX_TAIL else None
