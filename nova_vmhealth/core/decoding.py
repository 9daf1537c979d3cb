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


"""JSON from hostile lines, decoded in the same way whatever is installed."""

import itertools
import json
import math
from typing import Any, Union

from nova_vmhealth import exception

try:
    import orjson
except ImportError:
    # Slower, nothing else.
    orjson = None  # type: ignore[assignment]

# Characters of an integer that is kept as one: those of 2 ** 64, or of a sign
# and 2 ** 63.
_MAX_INTEGER = 20
# A message needs three levels. Far below what makes either decoder give up,
# which depends on its version and on how deep the caller's stack is.
MAX_DEPTH = 32


def fail(reason: str) -> exception.ProtocolError:
    """Make an error of a reason.

    :param reason: a fixed text: it goes back to the guest and into logs
    """
    return exception.ProtocolError(reason=reason)


def _refuse_constant(_text: str) -> None:
    raise fail('NaN and Infinity are not JSON')


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise fail('a number is too large')
    return number


def _integer(text: str) -> Union[int, float]:
    # As orjson does it. No field of ours takes a float.
    return int(text) if len(text) <= _MAX_INTEGER else _float(text)


# Of keys that stand twice the last one counts, as with orjson. Harmless:
# nothing before or behind this decoder reads the line in another way.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant,
                            parse_float=_float, parse_int=_integer)


def load_with_json(line: bytes) -> dict[str, Any]:
    """Decode an object, or say what is wrong with it."""
    try:
        fields: dict[str, Any] = _DECODER.decode(line.decode('utf-8'))
        if b'\\ud' in line or b'\\uD' in line:
            # Escapes can smuggle in halves of surrogate pairs, which no
            # UTF-8 encoder behind us would take.
            json.dumps(fields, ensure_ascii=False).encode('utf-8')
    except UnicodeError:
        raise fail('not UTF-8') from None
    except ValueError:
        raise fail('not JSON') from None
    return fields


def load_with_orjson(line: bytes) -> dict[str, Any]:
    """Decode as :func:`load_with_json` does, faster.

    What orjson refuses is decided by the other one, so that a line's fate does
    not depend on what is installed. It takes nothing that the other refuses.
    """
    try:
        fields: dict[str, Any] = orjson.loads(line)
    except ValueError:
        return load_with_json(line)
    return fields


load = load_with_json if orjson is None else load_with_orjson

# Leaves of a line its quotes and brackets, and makes of a bracket what it does
# to the depth, as a signed byte.
_TO_STEPS = bytes.maketrans(b'[{]}', b'\1\1\xff\xff')
_NO_STEP = bytes(set(range(256)) - set(b'[]{}"'))


def _depth(line: bytes) -> int:
    """Return how deep brackets are nested, whether they match or not."""
    without_escapes = line.replace(b'\\\\', b'').replace(b'\\"', b'')
    parts = without_escapes.translate(_TO_STEPS, _NO_STEP).split(b'"')
    outside_strings = memoryview(b''.join(parts[::2])).cast('b')
    return max(itertools.accumulate(outside_strings), default=0)


def decode(line: bytes) -> dict[str, Any]:
    """Make an object of a line from the guest.

    :param line: bytes, of a length that the caller has bounded
    :raises nova_vmhealth.exception.ProtocolError: it is no JSON object, or
        one with something in it that is not to go further
    """
    if not line.startswith(b'{') and not line.lstrip().startswith(b'{'):
        raise fail('not a JSON object')     # cheap, for floods of garbage
    # A line with few brackets cannot be deep, wherever they stand.
    if (line.count(b'[') + line.count(b'{') > MAX_DEPTH
            and _depth(line) > MAX_DEPTH):
        raise fail('nested too deeply')
    return load(line)
