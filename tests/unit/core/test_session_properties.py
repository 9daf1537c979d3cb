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


"""Any interleaving of bytes, time and what Nova does keeps the rules.

The rules are those of :class:`tests.fuzz.judge.Judge`; here stands only what
can happen.
"""

from hypothesis import settings
from hypothesis import stateful
from hypothesis import strategies as st
import pytest

from nova_vmhealth.core.policy import Policy
from nova_vmhealth import exception
from tests.fuzz.judge import answer_to
from tests.fuzz.judge import Judge

# interval, timeout, misses, boot deadline
POLICIES = [(100, 100, 1, 0), (100, 350, 2, 3), (200, 200, 2, 0),
            (1000, 100, 3, 3), (1000, 1000, 3, 0), (300, 1000, 1, 5)]

LINES = [
    b'{"type":"init"}\n', b'{"type":"init","notices":true}\n',
    b'{"type":"exit","reason":"updated"}\n',
    b'{"type":"report","health":"healthy"}\n',
    b'{"type":"report","health":"unhealthy"}\n',
    b'{"type":"notice_ack"}\n', b'{"type":"exit"\n', b'garbage\n', b'\n\n',
    b'x' * 5000, b'x\n' * 300,
    b'{"type":"report","audits":[%s]}\n' % b','.join(
        b'{"name":"a%d","health":"degraded"}' % n for n in range(100)),
]


def policy(interval_ms, timeout_ms, misses, boot_deadline_s):
    return Policy(True, interval_ms, timeout_ms, misses, boot_deadline_s,
                  False, frozenset())


class Interleavings(stateful.RuleBasedStateMachine):
    """What can happen to a session, in any order."""

    @stateful.initialize(numbers=st.sampled_from(POLICIES),
                         established=st.booleans(),
                         jitter=st.sampled_from([0.0, 0.008, 0.04]),
                         room=st.sampled_from([60, 300, 8192]),
                         connected=st.booleans())
    def begin(self, numbers, established, jitter, room, connected):
        self.judge = Judge(policy(*numbers), established, jitter, room)
        if connected:
            self.judge.connect()

    @stateful.rule(seconds=st.sampled_from([0.01, 0.1, 0.25, 1.0, 5.0]))
    def time_passes(self, seconds):
        self.judge.advance(seconds)

    @stateful.rule(seconds=st.sampled_from([0.5, 3.0, 11.0]),
                   health=st.sampled_from([{}, {'health': 'healthy'},
                                           {'health': 'degraded'}]))
    def a_good_guest_for_a_while(self, seconds, health):
        heard = self.judge.behave(seconds, **health)
        if heard and health and seconds > 2:
            assert self.judge.is_told_healthy() == (
                health == {'health': 'healthy'})

    @stateful.rule(seconds=st.sampled_from([0.1, 0.6, 7.0]))
    def the_host_stalls(self, seconds):
        self.judge.stall(seconds)

    @stateful.rule(what=st.sampled_from(
        ['connect', 'disconnect', 'hold', 'release']))
    def something_happens_to_the_channel(self, what):
        getattr(self.judge, what)()

    @stateful.rule(most=st.sampled_from([1, 10, 100, 65536]))
    def the_guest_reads(self, most):
        self.judge.read(most)

    @stateful.rule(which=st.integers(-4, 3), times=st.integers(1, 3))
    def it_answers_some_challenge(self, which, times):
        if self.judge.challenges:
            which %= len(self.judge.challenges)
            challenge = self.judge.challenges[which]
            for _ in range(times):
                self.judge.answer(challenge)

    @stateful.rule(sequence=st.integers(-1, 2), nonce=st.integers(-1, 2))
    def it_predicts(self, sequence, nonce):
        known = self.judge.challenges[-1:] or [{'sequence': 0, 'nonce': ''}]
        guessed = {'sequence': known[0]['sequence'] + sequence,
                   'nonce': ('%x' % (nonce + 2)) * 32 if nonce
                   else known[0]['nonce']}
        counted = self.judge.answer(guessed)
        assert not counted or guessed == {
            name: known[0][name] for name in guessed}

    @stateful.rule(cut=st.integers(1, 120))
    def it_answers_in_two_pieces(self, cut):
        self.judge.read()
        for challenge in self.judge.challenges[-1:]:
            line = answer_to(challenge)
            self.judge.feed(line[:cut])
            self.judge.feed(line[cut:])

    @stateful.rule(line=st.sampled_from(LINES), times=st.integers(1, 4))
    def it_says(self, line, times):
        for _ in range(times):
            self.judge.feed(line)

    @stateful.rule(data=st.binary(max_size=30))
    def it_writes(self, data):
        self.judge.feed(data)

    @stateful.precondition(lambda self: self.judge.open)
    @stateful.rule()
    def a_channel_that_is_there_cannot_come(self):
        with pytest.raises(exception.IllegalTransition):
            self.judge.session.connected(self.judge.now)

    def teardown(self):
        if hasattr(self, 'judge'):
            self.judge.finish()


Interleavings.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None)
TestInterleavings = Interleavings.TestCase
