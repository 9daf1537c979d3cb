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

"""Every check finds the agent that breaks it, and no other."""

import pytest

from nova_vmhealth.conformance import host as hosts
from nova_vmhealth.conformance import links
from nova_vmhealth.conformance import suite
from nova_vmhealth.conformance.suite import Status
from tests.unit.conformance import broken
from tests.unit.conformance import world

REQUIRED = {check.name for check in suite.CHECKS if check.required}


class Minimal(world.Agent):
    """Answers challenges, and nothing else."""

    says_init = False

    def say_report(self):
        pass

    def take_notice(self, fields):
        pass

    def terminated(self):
        self.die()


def results_of(make_agent, checks=suite.CHECKS, ours=True):
    """Make checks of an agent; a dict of results by name."""
    link = world.World(make_agent)
    host = hosts.Host(link, link)
    if not ours:
        link.start()
        host.process = None
    return {result.check.name: result for result in suite.run(checks, host)}


def names_of(results, *statuses):
    return {name for name, result in results.items()
            if result.status in statuses}


def test_good_agent():
    results = results_of(world.Agent)
    assert {name: result.detail for name, result in results.items()
            if result.status is not Status.OK} == {}
    assert suite.conforms(results.values())


def test_minimal_agent_conforms():
    results = results_of(Minimal)
    assert names_of(results, Status.SKIPPED) == {
        'init', 'report', 'notices', 'reinit'}
    assert names_of(results, Status.WARNING) == {'sigterm'}
    assert names_of(results, Status.FAILED) == set()
    assert suite.conforms(results.values())


@pytest.mark.parametrize('agent, names', broken.FAIL,
                         ids=lambda value: getattr(value, '__name__', ''))
def test_each_fault_fails_its_checks_only(agent, names):
    results = results_of(agent)
    assert names_of(results, Status.FAILED) == names & REQUIRED
    assert names_of(results, Status.WARNING) == names - REQUIRED
    assert suite.conforms(results.values()) == (not names & REQUIRED)


@pytest.mark.parametrize('agent, names', broken.FAIL_MUCH,
                         ids=lambda value: getattr(value, '__name__', ''))
def test_agent_that_answers_badly(agent, names):
    results = results_of(agent)
    assert names <= names_of(results, Status.FAILED)
    assert not suite.conforms(results.values())


def test_flood_in_silence_is_found_alone():
    results = results_of(broken.LateFlood, suite.choose(['flood']))
    assert results['flood'].status is Status.FAILED


def test_each_check_is_broken_by_an_agent():
    broken_names = set().union(*(names for _, names in broken.FAIL),
                               *(names for _, names in broken.FAIL_MUCH))
    assert broken_names == {check.name for check in suite.CHECKS}


@pytest.mark.parametrize('check', suite.CHECKS, ids=lambda check: check.name)
def test_each_check_can_be_made_alone(check):
    assert results_of(world.Agent, [check])[check.name].status is Status.OK
    caught = [agent for agent, names in broken.FAIL + broken.FAIL_MUCH
              if check.name in names]
    results = [results_of(agent, [check])[check.name] for agent in caught]
    assert any(result.status in (Status.FAILED, Status.WARNING)
               for result in results)


def test_answer_settles_the_challenges_before():
    class Newest(world.Agent):
        """Answers the last challenge of what it reads at once."""

        def receive(self, data):
            super().receive(data[data.rfind(b'\n', 0, -1) + 1:])

    class Disordered(world.Agent):
        """The third answer comes long after those to later challenges."""

        answers = 0

        def answer(self, sequence, nonce):
            self.answers += 1
            self.delay_s = 1.5 if self.answers == 3 else 0.001
            super().answer(sequence, nonce)

    for agent in (Newest, Disordered):
        results = results_of(agent, suite.choose(['interval', 'together']))
        assert names_of(results, Status.OK) == {'interval', 'together'}


def test_agent_that_was_not_started_here_is_not_ended():
    results = results_of(world.Agent, suite.choose(['sigterm']), ours=False)
    assert results['sigterm'].status is Status.SKIPPED


def test_agent_that_does_not_come_back():
    class NeverBack(world.Agent):
        def take_nack(self, fields):
            self.comes = False
            self.world.close()

    results = results_of(NeverBack)
    names = list(results)
    after = set(names[names.index('nack') + 1:])
    assert names_of(results, Status.FAILED, Status.WARNING) == {'nack'}
    assert results['nack'].detail == 'it closed the connection'
    assert names_of(results, Status.UNMADE) == after
    assert not suite.conforms(results.values())


def test_agent_that_a_recommended_check_ends_does_not_conform():
    class Mortal(world.Agent):
        def take_challenge(self, fields):
            if fields['sequence'] is True:
                self.comes = False
                self.world.close()
            super().take_challenge(fields)

        def take_nack(self, fields):
            raise AssertionError('not made')

    checks = suite.choose(['malformed', 'nack'])
    results = results_of(Mortal, checks)
    assert [result.status for result in results.values()] == [
        Status.WARNING, Status.UNMADE]
    assert not suite.conforms(results.values())


def test_agent_that_never_answers():
    class Mute(world.Agent):
        def answer(self, sequence, nonce):
            pass

    results = results_of(Mute)
    assert results['answers'].detail == (
        'no answer to any challenge in 10 s')
    assert names_of(results, Status.FAILED) == {'answers'}
    assert len(names_of(results, Status.UNMADE)) == len(suite.CHECKS) - 1
    assert not suite.conforms(results.values())


def test_no_agent_at_all():
    class Absent(world.Agent):
        comes = False

    with pytest.raises(links.Unavailable):
        results_of(Absent)


def test_agent_that_ends_is_named_and_started_again():
    class Short(world.Agent):
        def take_nack(self, fields):
            self.die()

    results = results_of(Short)
    assert results['nack'].detail == (
        'it does not read; the agent has ended: exit status 1')
    assert results['stale'].status is Status.OK


def test_choose_keeps_the_order_of_the_suite():
    assert [check.name for check in suite.choose(['split', 'answers'])] == [
        'answers', 'split']
    assert tuple(suite.choose([])) == suite.CHECKS
    with pytest.raises(KeyError):
        suite.choose(['splat'])


def test_names_are_unique_and_reasons_are_given():
    assert len({check.name for check in suite.CHECKS}) == len(suite.CHECKS)
    for check in suite.CHECKS:
        assert check.why and not check.why.endswith('.')


def test_host_never_sends_more_than_the_protocol_allows():
    """But for noise, which no host sends: that check is named for it."""
    sent = []

    class Listening(world.Agent):
        def line(self, line):
            sent.append(len(line))
            super().line(line)

    results_of(Listening, [check for check in suite.CHECKS
                           if check.name != 'overlong_line'])
    assert max(sent) <= 1024
