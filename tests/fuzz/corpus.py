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


"""The corpus: what a fuzzer begins with, and what is run again by the tests.

``python -m tests.fuzz.corpus`` writes the part that is made from the tables of
the unit tests; ``python -m tests.fuzz.corpus sessions FOLDER`` takes in what
the fuzzer found, under names that begin with ``found-``.
"""

import pathlib
import re
import sys

from tests.fuzz import harness
from tests.unit.core import test_bad_input
from tests.unit.core import test_protocol

FOLDER = pathlib.Path(__file__).parent / 'corpus'

# The first byte is the policy: "0" is at 100 ms, "2" and "7" are the defaults.
SESSIONS = {
    'a good guest': b'2cggggg',
    'a hang and its recovery': b'2cggg;;;;;;ggggg',
    'known from before and silent': b'7c_',
    'silent and unknown': b'2c_',
    'boot deadline': b'1;;;;;;;;',
    'exit and back': b'2cgge;;;gg',
    'exit and init in turns': b'0cg' + b'ei,Ra' * 20,
    'replays': b'2cg;Raaaappp;Rboooa',
    'answers of a channel that is gone': b'2cg;RdcaaR;dc;bbo',
    'channel storm': b'0cg' + b'dc' * 30 + b'd.c.' * 20,
    'hold and release': b'2cggh;;;ar;;gg',
    'held over a new channel': b'2cgh;dc;r;;;;',
    'stalls': b'2cggs;s;s;S;gS,a;;;;',
    'health toggled': b'4cg' + b'ukRukR.' * 20,
    'init flood': b'4cg' + b'iiiiiiiiii,Ra' * 10,
    'line flood': b'4cg' + b'f,Ra' * 20,
    'oversize line and a valid one': b'4cglllllnRag',
    'never reads': b'2c' + b'_' * 12,
    'reads a byte at a time': b'1c' + b'1.' * 100,
    'answer in two pieces': b'4cg{"type":"challenge_response","sequence\n,g',
    'binary': b'4cgx\x10' + bytes(range(16)) + b'nx\x04\xff\xfe\n\xffng',
}


def _file_name(title):
    title = re.sub(r'^-|(?<= )-', 'minus ', title)
    return re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')


def made():
    """Yield the folder, file name and content of all that is made."""
    for title, (data, _) in test_bad_input.REFUSED.items():
        yield 'lines', _file_name(title), data[:4200] + b'\n'
    for title, (text, _) in test_bad_input.CLEANED.items():
        yield ('lines', 'text-' + _file_name(title),
               test_bad_input.EXIT % (b'"%s"' % text.encode()) + b'\n')
    for number, (line, message) in enumerate(test_protocol.MESSAGES):
        yield ('lines', 'valid-%02d-%s' % (number, _file_name(
            type(message).__name__)), line + b'\n')
    for number, (line, _) in enumerate(test_protocol.REFUSED):
        yield 'lines', 'refused-%02d' % number, line[:4200] + b'\n'
    yield 'lines', 'several', b'{"type":"exit"}\n\n\n[]\nx' + b'y' * 5000 + (
        b'\n{"type":"init"}\n{"type":"exit"')
    for title, script in SESSIONS.items():
        yield 'sessions', _file_name(title), script


def _traits(kind, content):
    """Return in a few words what a find leads to."""
    result = harness.HARNESSES[kind](content)
    if kind == 'sessions':
        return ['%d ms' % result.policy.interval_ms] + [
            name for name in sorted(result.counts) if name[0].isupper()]
    return list(dict.fromkeys(
        found if isinstance(found, str) else type(found).__name__
        for found in result))[:3] or ['no line']


def take_in(kind, folder):
    """Copy from a fuzzer's folder the smallest that leads to what is new.

    Each is named after what it leads to.
    """
    known = {path.read_bytes() for path in (FOLDER / kind).iterdir()}
    finds = {path.read_bytes() for path in pathlib.Path(folder).iterdir()}
    for content in sorted(finds - known, key=lambda find: (len(find), find)):
        path = FOLDER / kind / _file_name(
            'found ' + ' '.join(_traits(kind, content)))
        if not path.exists():
            path.write_bytes(content)


def main(arguments):
    """Write the files."""
    for kind, name, content in made():
        path = FOLDER / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if arguments:
        take_in(*arguments)


if __name__ == '__main__':
    main(sys.argv[1:])
