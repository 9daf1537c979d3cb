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


"""What a fuzzer may find out: that anything breaks a rule.

Two harnesses, each a function of bytes that raises AssertionError:

* :func:`check_lines`: what a guest writes, cut into lines and decoded;
* :func:`check_session`: a script of what happens to a heartbeat session. A
  byte is a step (see ``STEPS``); ``{`` and all up to the next newline is
  something that the guest writes, and so are as many bytes as the one after an
  ``x`` says. The first byte chooses the policy: a digit, from 5 on for a guest
  that is known from before.
"""

import itertools

from nova_vmhealth.core import decoding
from nova_vmhealth.core.policy import Policy
from nova_vmhealth.core import protocol
from nova_vmhealth import exception
from tests.fuzz.judge import Judge

# Steps of a script that are taken: its time is bounded, and so is its memory.
MOST_STEPS = 400
# interval, timeout, misses, boot deadline, jitter, room
_NUMBERS = [(100, 100, 1, 0, 0.0, 8192), (200, 200, 2, 3, 0.008, 300),
            (1000, 1000, 3, 0, 0.0, 8192), (300, 1000, 1, 5, 0.04, 60),
            (100, 350, 2, 0, 0.0, 8192)]

LOADERS = [decoding.load_with_json]
if decoding.orjson is not None:
    LOADERS.append(decoding.load_with_orjson)


def _parse(line, load):
    before, decoding.load = decoding.load, load
    try:
        return protocol.parse_line(line)
    except exception.ProtocolError as error:
        assert error.reason.isascii()
        assert len(protocol.nack(error.reason)) <= protocol.MAX_HOST_LINE
        return error.reason
    finally:
        decoding.load = before


def _check_message(message):
    texts = [getattr(message, name, '') for name in
             ('agent', 'boot_id', 'reason')]
    for audit in getattr(message, 'audits', ()):
        texts += [audit] if isinstance(audit, str) else [
            audit.name, audit.message]
    for text in texts:
        text.encode('utf-8')
        assert text == '' or text.isprintable()
        assert len(text) <= protocol.MAX_MESSAGE
    sequence = getattr(message, 'sequence', None)
    assert sequence is None or 0 <= sequence < 2 ** 63


def check_lines(data):
    """Cut and decode what a guest writes.

    :returns: what became of each line: a message, or why not
    """
    whole, _ = protocol.Framer().feed(data, len(data) + 1)
    framer = protocol.Framer()
    cut = 1 + len(data) // 3
    parts = [framer.feed(data[start:start + cut], len(data) + 1)[0]
             for start in range(0, len(data), cut)]
    assert whole == list(itertools.chain.from_iterable(parts))
    results = []
    for line in whole[:100]:
        first, *others = (_parse(line, load) for load in LOADERS)
        assert all(other == first for other in others)
        if not isinstance(first, str):
            _check_message(first)
        results.append(first)
    return results


STEPS = {
    b'c': lambda judge: judge.connect(),
    b'd': lambda judge: judge.disconnect(),
    b'h': lambda judge: judge.hold(),
    b'r': lambda judge: judge.release(),
    b's': lambda judge: judge.stall(0.6),
    b'S': lambda judge: judge.stall(7.0),
    b'.': lambda judge: judge.advance(0.03),
    b',': lambda judge: judge.advance(0.1),
    b';': lambda judge: judge.advance(0.9),
    b'_': lambda judge: judge.advance(11.0),
    b'R': lambda judge: judge.read(),
    b'1': lambda judge: judge.read(1),
    b'g': lambda judge: judge.behave(0.7),
    b'k': lambda judge: judge.behave(0.7, health='healthy'),
    b'a': lambda judge: _answer(judge, -1),
    b'b': lambda judge: _answer(judge, -2),
    b'o': lambda judge: _answer(judge, 0),
    b'u': lambda judge: _answer(judge, -1, health='unhealthy'),
    b'p': lambda judge: _answer(judge, -1, nonce='0' * 32),
    b'i': lambda judge: judge.feed(b'{"type":"init","notices":true}\n'),
    b'e': lambda judge: judge.feed(b'{"type":"exit"}\n'),
    b'n': lambda judge: judge.feed(b'\n'),
    b'f': lambda judge: judge.feed(b'y\n' * 300),
    b'l': lambda judge: judge.feed(b'z' * 4097),
}


def _answer(judge, which, **changes):
    if len(judge.challenges) >= abs(which) and judge.challenges:
        challenge = {**judge.challenges[which], **changes}
        counted = judge.answer(challenge, **{
            name: changes[name] for name in changes if name == 'health'})
        assert not counted or 'nonce' not in changes


def _steps(script):
    place = 0
    for _ in range(MOST_STEPS):
        step = script[place:place + 1]
        if not step:
            return
        end = place + 1
        if step == b'{':
            end = script.find(b'\n', place) + 1 or len(script)
        elif step == b'x':
            end += 1 + sum(script[end:end + 1])
        yield step, script[place:end]
        place = end


def check_session(script):
    """Run a script.

    :returns: the judge, whose counts say what happened
    """
    known, numbers = divmod(sum(script[:1]) - ord('0'), len(_NUMBERS))
    interval, timeout, misses, boot, jitter, room = _NUMBERS[numbers]
    policy = Policy(True, interval, timeout, misses, boot, False, frozenset())
    judge = Judge(policy, known % 2 == 1, jitter, room)
    for step, text in _steps(script[1:]):
        if step == b'{':
            judge.feed(text)
        elif step == b'x':
            judge.feed(text[2:])
        elif step in STEPS:
            STEPS[step](judge)
    judge.finish()
    return judge


HARNESSES = {'lines': check_lines, 'sessions': check_session}
