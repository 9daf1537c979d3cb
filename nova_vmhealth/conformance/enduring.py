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

"""Checks of what an agent must bear: noise, replies, hosts that come and go.

After each the agent has to answer challenges as if nothing had been.
"""

from nova_vmhealth.conformance.check import Check
from nova_vmhealth.conformance import host as hosts
from nova_vmhealth.conformance.host import Failed
from nova_vmhealth.conformance.host import Skipped
from nova_vmhealth.core import protocol

# Seconds in which an agent must be back after what no real host does to it;
# nova-compute's own losses take as long with the default policy.
_BACK_S = 5.0

_GARBAGE = (
    b'\n', b'\r\n', b'garbage\n', b'{\n', b'{}\n', b'[]\n', b'null\n',
    b'42\n', b'"challenge"\n', b'\x00\x00\x00\n', b'\x1b[2J\x04\x03\n',
    b'{"type":"challenge","version":1,"sequence":1,"no\n',
    b'{"type":"challenge"}\n',
    b'[' * 900 + b'\n',
)
_MALFORMED = (
    b'{"type":"challenge","sequence":true,"nonce":7}\n',
    b'{"type":"challenge","sequence":"7","nonce":null}\n',
    b'{"type":["challenge"],"sequence":{},"nonce":[]}\n',
    b'{"type":"challenge","sequence":-1.5,"nonce":""}\n',
)
_NOT_UTF8 = (
    b'\xff\xfe\x00\x80\n',
    b'{"type":"challenge","version":1,"hint":"\xc3\x28"}\n',
    b'\xed\xa0\x80\xf8\x88\x80\x80\x80\n',
)
_UNKNOWN_TYPES = (
    b'{"type":"future","version":1,"sequence":3,"operation":"dance"}\n',
    b'{"type":"notice","version":1,"sequence":1,"operation":"resumed",'
    b'"timeout_ms":0}\n',
    b'{"type":"","version":1}\n',
)
# A line's worth of noise that does not end, 1 MiB.
_OVERLONG = b'{"type":"' + b'x' * (1 << 20)
# Seconds to read it: a shell does so byte by byte.
_OVERLONG_S = 60.0

_NOTICE_MS = 2000
_OPERATIONS = ('stop', 'migrate')
# Challenges of the client before that a guest finds when its port opens:
# those that fit the socket's buffer in nova-compute.
_STALE = 20
_AWAY_S = 1.0
# Seconds for an agent to say again who it is.
_REINIT_S = 3.0


def _after(lines):
    def run(host):
        for line in lines:
            host.send(line)
            host.expect([host.challenge()])
        return '%d lines' % len(lines)
    return run


def _overlong_line(host):
    host.send(_OVERLONG, _OVERLONG_S)
    host.send(b'\n')
    challenges = [host.challenge()]
    host.expect(challenges, max(_BACK_S, host.timeout_s))
    return host.converse()


def _init_ack(host):
    inits = host.record.inits
    for _ in range(3):
        host.send(protocol.init_ack(1000, 1000))
        host.converse()
    if host.record.inits > inits + 1:
        raise Failed('it introduces itself again after each init_ack')
    return None


def _nack(host):
    for reason in ('not JSON', 'unknown type', 'x' * 200):
        host.send(protocol.nack(reason))
        host.converse()
    return None


def _notices(host):
    _seen_init(host)
    if not host.record.last_init or not host.record.last_init.notices:
        raise Skipped('it declares no notices')
    for sequence, operation in enumerate(_OPERATIONS, 1):
        _one_notice(host, sequence, operation)
    # To this one no answer is awaited, and one does no harm.
    host.send(protocol.notice(len(_OPERATIONS) + 1, 'migrated', 0))
    return host.converse()


def _one_notice(host, sequence, operation):
    host.record.acks.clear()
    sent_at = host.link.now()
    host.send(protocol.notice(sequence, operation, _NOTICE_MS))
    # The heartbeat goes on while the guest gets ready.
    host.converse()
    left = sent_at + _NOTICE_MS / 1000 - host.link.now()
    if not host.wait_for(lambda: host.record.acks, left):
        raise Failed('no notice_ack to %s within %d ms' % (
            operation, _NOTICE_MS))
    if host.record.acks[0] not in (sequence, None):
        raise Failed('the notice_ack has sequence %d, the notice had %d' % (
            host.record.acks[0], sequence))


def _stale(host):
    old = [host.new_challenge() for _ in range(_STALE)]
    host.count_anew()
    new = host.new_challenge()
    host.send(b''.join(map(hosts.encode, [*old, new])))
    host.expect([new])
    return host.converse()


def _away(host):
    if not host.link.can_reopen:
        raise Skipped('not possible over %s' % host.link)
    host.challenge()
    host.go_away(_AWAY_S)
    host.meet(_BACK_S)
    return host.converse()


def _reinit(host):
    _seen_init(host)
    if not host.record.inits:
        raise Skipped('it sends no init')
    host.converse(3)
    inits = host.record.inits
    host.count_anew()
    host.converse()
    if not host.wait_for(lambda: host.record.inits > inits, _REINIT_S):
        raise Failed('no init within %d s' % _REINIT_S)
    return None


def _seen_init(host):
    """Give the agent occasion to introduce itself, unless it has."""
    if not host.record.inits:
        host.converse()
        host.count_anew()
        host.converse()


def _sigterm(host):
    if host.process is None:
        raise Skipped('the suite has not started the agent')
    exits = host.record.exits
    host.process.terminate()
    if not host.hear_out(_BACK_S):
        raise Failed('it still runs %d s after SIGTERM' % _BACK_S)
    if host.record.exits == exits:
        raise Failed('it ends without a word: the host reports a loss')
    return None


CHECKS = (
    Check('garbage', 'what a crash or a cut connection leaves in the channel '
          'is over at the next newline', _after(_GARBAGE)),
    Check('malformed', 'noise may look like a challenge, and earns no answer',
          _after(_MALFORMED), required=False),
    Check('overlong_line', 'noise without a newline must not fill or stop '
          'the agent', _overlong_line),
    Check('invalid_utf8', 'noise need not be text', _after(_NOT_UTF8)),
    Check('unknown_type', 'later hosts may send other messages',
          _after(_UNKNOWN_TYPES)),
    Check('init_ack', 'the host answers each init, sometimes late', _init_ack),
    Check('nack', 'the host says what was wrong with a line, and goes on',
          _nack),
    Check('notices', 'an agent that wants to be told must answer, or each '
          'stop and migration waits in vain', _notices),
    Check('stale', 'after an interruption the agent finds challenges of the '
          'client before, and must get to the new ones in time', _stale),
    Check('away', 'nova-compute is restarted while guests run', _away),
    Check('reinit', 'a restarted nova-compute has forgotten who the agent is',
          _reinit, required=False),
)

# Made last of all: the agent is gone afterwards.
SIGTERM = Check('sigterm', 'an agent that says exit is not reported as a '
                'lost guest', _sigterm, required=False)
