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

"""Checks of how challenges are answered, in whatever form they come."""

from nova_vmhealth.conformance.check import Check
from nova_vmhealth.conformance import host as hosts

# The fastest that an operator may allow, seconds, and challenges at that rate.
_FASTEST_S = 0.1
_FAST_ROUNDS = 20
# Challenges in one write: what a guest finds that was stopped for a moment.
_TOGETHER = 5
# Seconds between two bytes: enough for the agent to be woken by each.
_BYTE_S = 0.001

# Python's % fills these in; each stands for a writer of JSON.
_FORMS = (
    '{"type": "challenge", "version": 1, "sequence": %(sequence)d, '
    '"nonce": "%(nonce)s"}\n',
    '{"nonce":"%(nonce)s","sequence":%(sequence)d,"type":"challenge",'
    '"version":1}\n',
    '{ "sequence" : %(sequence)d , "nonce" : "%(nonce)s" , "version" : 1 , '
    '"type" : "challenge" } \n',
    '\t{"version":1,\t"nonce":\t"%(nonce)s",\t"type":"challenge",'
    '"sequence":%(sequence)d\t}\r\n',
)
_UNKNOWN_KEYS = (
    '{"type":"challenge","version":1,"future":null,"sequence":%(sequence)d,'
    '"hint":"some text, with {braces}: and [more]","nonce":"%(nonce)s"}\n',
    '{"more":[1,2.5,true],"type":"challenge","version":1,'
    '"nonce":"%(nonce)s","limits":{"low":-1,"high":{}},'
    '"sequence":%(sequence)d,"last":false}\n',
)
_CONFUSING_KEYS = (
    '{"type":"challenge","version":1,"previous":{"type":"none",'
    '"sequence":1,"nonce":"0"},"sequence":%(sequence)d,'
    '"nonce":"%(nonce)s"}\n',
    '{"hint":"\\"sequence\\":1,\\"nonce\\":\\"0\\"","type":"challenge",'
    '"version":1,"sequence":%(sequence)d,"nonce":"%(nonce)s"}\n',
)

# The last is the largest that every reader of JSON holds exactly.
_BIG_SEQUENCES = (2 ** 31 - 1, 2 ** 31, 2 ** 32 + 1, 2 ** 53 - 1)
# The shortest and the longest nonce of the protocol.
_NONCES = ('7', 'f0' * 32)


def _answers(host):
    return host.converse(5)


def _interval(host):
    challenges = []
    for _ in range(_FAST_ROUNDS):
        challenges.append(host.challenge())
        host.listen(_FASTEST_S)
    return host.expect_beats(challenges)


def _together(host):
    challenges = [host.new_challenge() for _ in range(_TOGETHER)]
    host.send(b''.join(map(hosts.encode, challenges)))
    return host.expect_beats(challenges)


def _split(host):
    challenge = host.new_challenge()
    line = hosts.encode(challenge)
    for position in range(len(line)):
        challenge.sent_at = host.link.now()
        host.send(line[position:position + 1])
        host.listen(_BYTE_S)
    return host.expect([challenge])


def _in_forms(forms):
    def run(host):
        challenges = []
        for form in forms:
            challenge = host.new_challenge()
            challenges.append(challenge)
            host.send((form % {'sequence': challenge.sequence,
                               'nonce': challenge.nonce}).encode())
            words = host.expect(challenges)
        return words
    return run


def _big_sequence(host):
    # The host counts from 1 afterwards; an agent must take that as well.
    for sequence in _BIG_SEQUENCES:
        host.expect([host.challenge(sequence=sequence)])
    host.count_anew()
    return host.converse()


def _nonce(host):
    for nonce in _NONCES:
        words = host.expect([host.challenge(nonce=nonce)])
    return words


CHECKS = (
    Check('answers', 'silence within the timeout is what the host reports '
          'as a lost guest', _answers),
    Check('interval', 'an operator may allow ten challenges a second',
          _interval),
    Check('together', 'a guest that was stopped for a moment finds several '
          'challenges at once, and has to get to the newest', _together),
    Check('split', 'a read may return any part of a line', _split),
    Check('json_form', 'the order of keys and the white space between them '
          'mean nothing in JSON', _in_forms(_FORMS)),
    Check('unknown_keys', 'later hosts may say more in a challenge',
          _in_forms(_UNKNOWN_KEYS)),
    Check('confusing_keys', 'what later hosts say more may hold the names of '
          'keys too', _in_forms(_CONFUSING_KEYS), required=False),
    Check('big_sequence', 'the host counts on for years, and anew after a '
          'restart', _big_sequence),
    Check('nonce', 'a nonce has 1 to 64 characters', _nonce),
)
