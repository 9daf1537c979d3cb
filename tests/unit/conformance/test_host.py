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

"""The host's side of the talk."""

import pytest

from nova_vmhealth.conformance import host as hosts
from nova_vmhealth.conformance import links
from tests.unit.conformance import broken
from tests.unit.conformance import world


class Noting(world.Agent):
    """Keeps what it gets."""

    def __init__(self):
        super().__init__()
        self.lines = []
        self.connections = 0

    def connected(self):
        self.connections += 1
        if self.world.can_reopen:
            self.buffer = b''

    def line(self, line):
        self.lines.append(line)
        super().line(line)


def begun(make_agent, can_reopen=True):
    link = world.World(make_agent)
    link.can_reopen = can_reopen
    host = hosts.Host(link, link)
    host.begin()
    return host


@pytest.mark.parametrize('can_reopen', [True, False])
def test_half_a_line_does_no_harm_to_the_next_check(can_reopen):
    host = begun(Noting, can_reopen)
    host.send(b'half a line')
    host.recover()
    lines = host.link.agent.lines
    assert (b'half a line' in lines) == (not can_reopen)
    # The very first challenge after it was answered.
    assert lines[-1].startswith(b'{"type":"challenge"')
    assert b'"sequence":1,' in lines[-1]


def test_recovery_starts_the_agent_only_if_it_has_ended():
    host = begun(Noting)
    agent = host.link.agent
    host.recover()
    assert host.link.agent is agent
    agent.die()
    host.recover()
    assert host.link.agent is not agent


def test_host_that_comes_back_counts_anew():
    host = begun(Noting)
    host.converse(3)
    before = host.link.now()
    host.go_away(2.0)
    assert host.link.now() == before + 2.0
    assert host.link.agent.connections == 2
    assert host.challenge().sequence == 1


def test_answer_that_was_read_late():
    host = begun(broken.Slow)
    challenge = host.challenge()
    host.listen(3.0)
    with pytest.raises(hosts.Failed, match='took 1200 ms'):
        host.expect([challenge])


def test_answer_may_take_the_timeout():
    host = begun(world.Agent)
    host.link.agent.delay_s = 1.0
    assert host.converse(1) == 'slowest answer 1000 ms'


def test_wait_for_an_agent_that_has_ended_is_short():
    host = begun(world.Agent)
    challenge = host.challenge()
    before = host.link.now()
    host.link.agent.die()
    host.link.close()
    host.link.connected = True    # a pty stays
    with pytest.raises(hosts.Failed, match='the agent has ended'):
        host.expect([challenge])
    assert host.link.now() - before < 1.0


def test_connection_that_ends():
    host = begun(world.Agent)
    host.link.close()
    with pytest.raises(links.Gone):
        host.challenge()
    with pytest.raises(links.Gone):
        host.listen(1.0)


def test_nonces_are_new_and_of_the_hosts_kind():
    host = begun(world.Agent)
    nonces = {host.new_challenge().nonce for _ in range(100)}
    assert len(nonces) == 100
    assert {len(nonce) for nonce in nonces} == {32}
