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

"""Agents with one fault each, and the checks that must find it."""

import json
import re

from tests.unit.conformance import world


class Forgetful(world.Agent):
    def answer(self, sequence, nonce):
        if sequence % 3:
            super().answer(sequence, nonce)


class Slow(world.Agent):
    def answer(self, sequence, nonce):
        self.say({'type': 'challenge_response', 'sequence': sequence,
                  'nonce': nonce}, 1.2)


class Inventive(world.Agent):
    """Now and then there is an answer too many, with another nonce."""

    def answer(self, sequence, nonce):
        super().answer(sequence, nonce)
        if sequence % 5 == 0:
            super().answer(sequence, 'made-up')


class Busy(world.Agent):
    """Needs so long for each that it falls behind at full speed."""

    free_at = 0.0

    def connected(self):
        super().connected()
        self.free_at = 0.0

    def answer(self, sequence, nonce):
        now = self.world.now()
        self.free_at = max(self.free_at, now) + 0.155
        self.say({'type': 'challenge_response', 'sequence': sequence,
                  'nonce': nonce}, self.free_at - now)


class Napping(world.Agent):
    """Pauses once, in the middle of the fast challenges."""

    seen = 0

    def answer(self, sequence, nonce):
        self.seen += 1
        if not 8 <= self.seen <= 20:
            super().answer(sequence, nonce)


class FirstLineOnly(world.Agent):
    def receive(self, data):
        if data.count(b'\n') > 1:
            data = data[:data.index(b'\n') + 1]
        super().receive(data)


class NoBuffer(world.Agent):
    def receive(self, data):
        self.buffer = b''
        super().receive(data)


class FixedForm(world.Pattern):
    pattern = re.compile(br'\{"type":"challenge","version":1,"sequence":(\d+),'
                         br'"nonce":"(\w+)"\}$')

    def message(self, fields):
        if fields.get('type') != 'challenge':
            super().message(fields)


class Strict(world.Agent):
    def take_challenge(self, fields):
        if set(fields) == {'type', 'version', 'sequence', 'nonce'}:
            super().take_challenge(fields)


class Confused(world.Pattern):
    pass


class Bits32(world.Agent):
    def answer(self, sequence, nonce):
        super().answer(sequence & 0xffffffff, nonce)


class ShortNonce(world.Agent):
    def answer(self, sequence, nonce):
        super().answer(sequence, nonce[:32])


class Fragile(world.Agent):
    def line(self, line):
        try:
            json.loads(line.decode('utf-8', 'replace'))
        except ValueError:
            self.die()
        super().line(line)


class FragileText(world.Agent):
    def line(self, line):
        try:
            line.decode()
        except UnicodeError:
            self.die()
        super().line(line)


class FragileTypes(world.Agent):
    def take_challenge(self, fields):
        if 'sequence' in fields and type(fields['sequence']) is not int:
            self.die()
        super().take_challenge(fields)


class Parrot(world.Agent):
    """Answers a challenge that is none."""

    def take_challenge(self, fields):
        if fields.get('sequence') is True:
            self.say(dict(fields, type='challenge_response'))
        super().take_challenge(fields)


class SmallBuffer(world.Agent):
    def receive(self, data):
        super().receive(data)
        if len(self.buffer) > 65536:
            self.die()


class Choking(world.Agent):
    """Does not read on in a line that is too long."""

    def reads(self, data):
        return len(data) < 65536


class KnowsAll(world.Agent):
    def message(self, fields):
        if fields.get('type') == 'future':
            self.die()
        super().message(fields)


class Polite(world.Agent):
    def take_init_ack(self, fields):
        self.say_init()


class Touchy(world.Agent):
    def take_nack(self, fields):
        self.die()


class Offended(world.Agent):
    def take_nack(self, fields):
        self.world.close()


class DeafToNotices(world.Agent):
    def take_notice(self, fields):
        pass


class WrongAck(world.Agent):
    def take_notice(self, fields):
        super().take_notice(dict(fields, sequence=fields['sequence'] + 1))


class LateAck(world.Agent):
    def take_notice(self, fields):
        self.say({'type': 'notice_ack', 'sequence': fields['sequence']}, 2.5)


class BusyWithNotice(world.Agent):
    """Answers nothing while it gets ready."""

    until = 0.0

    def take_notice(self, fields):
        if fields['timeout_ms']:
            self.until = self.world.now() + 1.5
            self.say({'type': 'notice_ack', 'sequence': fields['sequence']},
                     1.5)

    def answer(self, sequence, nonce):
        if self.world.now() >= self.until:
            super().answer(sequence, nonce)


class OnlyOnwards(world.Agent):
    """Takes a host that counts anew for a replay."""

    def connected(self):
        super().connected()
        self.last_sequence = 0

    def answer(self, sequence, nonce):
        if sequence > self.last_sequence:
            super().answer(sequence, nonce)


class SlowBack(world.Agent):
    back_at = 0.0
    times = 0

    def connected(self):
        super().connected()
        self.times += 1
        if self.times > 1:
            self.back_at = self.world.now() + 6

    def answer(self, sequence, nonce):
        if self.world.now() >= self.back_at:
            super().answer(sequence, nonce)


class NoReinit(world.Agent):
    def reinit(self):
        pass


class Verbose(world.Agent):
    def connected(self):
        super().connected()
        self.say({'type': 'report', 'health': 'healthy', 'audits': [
            {'name': 'a', 'health': 'healthy', 'message': 'x' * 5000}]})


class NotText(world.Agent):
    def connected(self):
        super().connected()
        self.say_bytes(b'{"type":"report","health":"\xff"}\n')


class Banner(world.Agent):
    def connected(self):
        super().connected()
        self.say_bytes(b'Welcome to the agent\n')


class OtherTypes(world.Agent):
    def connected(self):
        super().connected()
        self.say({'type': 'hello'})


class BadHealth(world.Agent):
    """Some answers are of no use."""

    def answer(self, sequence, nonce):
        super().answer(sequence, nonce)
        if sequence % 5 == 0:
            self.say({'type': 'challenge_response', 'sequence': sequence,
                      'nonce': nonce, 'health': 'fine'})


class Echo(world.Agent):
    def take_challenge(self, fields):
        super().take_challenge(fields)
        self.say(fields)


class Flood(world.Agent):
    def answer(self, sequence, nonce):
        super().answer(sequence, nonce)
        for _ in range(30):
            self.say_report()


class LateFlood(world.Agent):
    def answer(self, sequence, nonce):
        super().answer(sequence, nonce)
        for _ in range(30):
            self.say({'type': 'report', 'health': 'healthy'}, 1.5)


class BigFlood(world.Agent):
    def answer(self, sequence, nonce):
        super().answer(sequence, nonce)
        self.say_bytes(b'\n' * 1000)


class BadInit(world.Agent):
    def say_init(self):
        self.say({'type': 'init', 'version': 2})
        self.say({'type': 'init', 'version': 1, 'notices': True})


class BadReport(world.Agent):
    def connected(self):
        super().connected()
        self.say({'type': 'report', 'health': 'fine'})


class Immortal(world.Agent):
    def terminated(self):
        pass


class Silent(world.Agent):
    def terminated(self):
        self.die()


class BadFarewell(world.Agent):
    def terminated(self):
        self.say({'type': 'exit', 'reason': 5}, 0)
        super().terminated()


# Those that are bad at answering fail more than what is listed.
FAIL_MUCH = [
    (Forgetful, {'answers', 'interval', 'exact'}),
    (Slow, {'answers', 'interval', 'exact'}),
]
FAIL = [
    (Inventive, {'exact'}),
    (Busy, {'interval', 'stale'}),
    (Napping, {'interval'}),
    (FirstLineOnly, {'together', 'stale'}),
    (NoBuffer, {'split'}),
    (FixedForm, {'json_form', 'unknown_keys', 'confusing_keys'}),
    (Strict, {'unknown_keys', 'confusing_keys'}),
    (Confused, {'confusing_keys'}),
    (Bits32, {'big_sequence', 'exact'}),
    (ShortNonce, {'nonce', 'exact'}),
    (Fragile, {'garbage', 'overlong_line', 'invalid_utf8'}),
    (FragileText, {'invalid_utf8'}),
    (FragileTypes, {'malformed'}),
    (Parrot, {'malformed'}),
    (SmallBuffer, {'overlong_line'}),
    (Choking, {'overlong_line'}),
    (KnowsAll, {'unknown_type'}),
    (Polite, {'init_ack'}),
    (Touchy, {'nack'}),
    (Offended, {'nack'}),
    (DeafToNotices, {'notices'}),
    (WrongAck, {'notices'}),
    (LateAck, {'notices'}),
    (BusyWithNotice, {'notices'}),
    (OnlyOnwards, {'big_sequence', 'stale', 'reinit'}),
    (SlowBack, {'away'}),
    (NoReinit, {'reinit'}),
    (Verbose, {'line_limit'}),
    (NotText, {'utf8'}),
    (Banner, {'messages'}),
    (OtherTypes, {'messages'}),
    (BadHealth, {'messages'}),
    (Echo, {'no_echo', 'flood'}),
    (Flood, {'flood'}),
    (LateFlood, {'flood'}),
    (BigFlood, {'flood'}),
    (BadInit, {'init'}),
    (BadReport, {'report'}),
    (Immortal, {'sigterm'}),
    (Silent, {'sigterm'}),
    (BadFarewell, {'sigterm'}),
]
