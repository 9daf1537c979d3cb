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

"""Checks of everything that the agent has said, whatever the host did."""

from nova_vmhealth.conformance.check import Check
from nova_vmhealth.conformance.host import Failed
from nova_vmhealth.conformance.host import Skipped

# A fault that comes now and then needs some occasions.
_ROUNDS = 5
# Seconds in which the host sends nothing.
_SILENCE_S = 2.0


def _never(name, silence_s=0.0):
    """Return a check that nothing was put down under its name."""
    def run(host):
        host.converse(_ROUNDS)
        host.listen(silence_s)
        if name in host.record.faults:
            raise Failed(host.record.faults[name])
        return None
    return run


def _if_sent(name, count, run):
    """Return a check that an agent passes over which never sends that."""
    def run_if_sent(host):
        run(host)
        if not count(host.record):
            raise Skipped('it sends no %s' % name)
        return None
    return run_if_sent


CHECKS = (
    Check('exact', 'an answer with another sequence or nonce does not count',
          _never('exact')),
    Check('messages', 'what is no message of the protocol is thrown away, '
          'and held against the guest', _never('messages')),
    Check('line_limit', 'the host reads 4,096 bytes of a line, and throws a '
          'longer one away', _never('line_limit')),
    Check('utf8', 'a line is UTF-8, or the host cannot read it',
          _never('utf8')),
    Check('no_echo', 'a terminal that echoes, or a program that copies, is '
          'no agent', _never('no_echo')),
    Check('flood', 'the host reads little of a guest that talks without end',
          _never('flood', _SILENCE_S)),
    Check('init', 'the host reads who the agent is, and shows it',
          _if_sent('init', lambda seen: seen.inits, _never('init'))),
    Check('report', 'health that the host cannot read is lost',
          _if_sent('report', lambda seen: seen.reports, _never('report'))),
)
