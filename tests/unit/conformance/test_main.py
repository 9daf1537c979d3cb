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

"""The command line: what it takes, and its exit status."""

import io
import json

import pytest

from nova_vmhealth.conformance import links
from nova_vmhealth.conformance import main
from nova_vmhealth.conformance import process
from nova_vmhealth.conformance import suite
from tests.unit.conformance import broken
from tests.unit.conformance import world


@pytest.fixture
def agent(monkeypatch):
    """A function that puts an agent of ours where the command looks."""
    def put(make_agent):
        link = world.World(make_agent)
        link.end = lambda: None
        link.stop = lambda: None
        monkeypatch.setattr(links, 'Pty', lambda: link)
        monkeypatch.setattr(process, 'Process', lambda command, port: link)
        return link
    return put


@pytest.mark.parametrize('argv, text', [
    ([], 'one of --socket and --pty is needed'),
    (['--pty', '--socket', 'x'], 'not allowed with'),
    (['--pty', '--listen'], 'belong to --socket'),
    (['--pty', '--connect'], 'belong to --socket'),
    (['--socket', 'x', '--listen', '--connect'], 'not allowed with'),
    (['--pty', '--only', 'splat'], "there is no check 'splat'"),
    (['--list', '--only', 'splat'], "there is no check 'splat'"),
    (['--pty', '--timeout', '0'], 'invalid number of seconds'),
    (['--pty', '--timeout', 'nan'], 'invalid number of seconds'),
    (['--pty', '--wait', 'long'], 'invalid number of seconds'),
    (['--dance'], 'unrecognized'),
])
def test_wrong_usage(argv, text, capsys):
    with pytest.raises(SystemExit) as stopped:
        main.main(argv)
    assert stopped.value.code == 2
    assert text in capsys.readouterr().err


def test_command_of_the_agent_keeps_its_options():
    options = main.parse_args(
        ['--pty', '--timeout', '2', '--', 'agent', '--port', '{port}',
         '--timeout', '5'])
    assert options.command == [
        'agent', '--port', '{port}', '--timeout', '5']
    assert options.timeout == 2.0


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        main.main(['--help'])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert '{port}' in text and 'exit status' in text


def test_list(capsys):
    assert main.main(['--list']) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(suite.CHECKS)
    assert main.main(['--list', '--json', '--only', 'split']) == 0
    [check] = json.loads(capsys.readouterr().out)
    assert check['name'] == 'split'


@pytest.mark.parametrize('make_agent, status, words', [
    (world.Agent, 0, 'The agent conforms.'),
    (broken.Silent, 0, 'The agent conforms.'),
    (broken.Banner, 1, 'The agent does not conform.'),
])
def test_exit_status(agent, capsys, make_agent, status, words):
    agent(make_agent)
    assert main.main(['--pty', '--', 'agent']) == status
    assert capsys.readouterr().out.endswith(words + '\n')


def test_json_stands_alone_on_standard_output(agent, capsys):
    agent(world.Agent)
    assert main.main(['--pty', '--json', '--', 'agent']) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)['agent'] == 'test/1'
    assert 'The agent conforms.' in told.err


def test_only_some_checks(agent, capsys):
    agent(broken.Banner)
    assert main.main(['--pty', '--only', 'split', '--only', 'nack', '--',
                      'agent']) == 0
    assert '2 checks: 2 ok' in capsys.readouterr().out


def test_timeout_is_what_an_answer_may_take(agent):
    agent(broken.Slow)
    command = ['--pty', '--only', 'answers', '--', 'agent']
    assert main.main(command) == 1
    assert main.main(['--timeout', '1.5', *command]) == 0


def test_no_agent_is_no_verdict(agent, capsys):
    class Absent(world.Agent):
        comes = False

    agent(Absent)
    assert main.main(['--pty', '--', 'agent']) == 2
    assert 'nobody came' in capsys.readouterr().err


def test_interruption_is_no_verdict(agent, capsys):
    class Interrupted(world.Agent):
        def answer(self, sequence, nonce):
            raise KeyboardInterrupt

    link = agent(Interrupted)
    stopped = []
    link.stop = lambda: stopped.append(1)
    assert main.main(['--pty', '--', 'agent']) == 2
    assert stopped and 'interrupted' in capsys.readouterr().err


def test_progress_comes_before_the_result(agent, monkeypatch):
    stream = io.StringIO()
    seen = []

    class Watching(world.Agent):
        def answer(self, sequence, nonce):
            seen.append(stream.getvalue())
            super().answer(sequence, nonce)

    agent(Watching)
    monkeypatch.setattr(main.sys, 'stdout', stream)
    main.main(['--pty', '--only', 'split', '--', 'agent'])
    assert seen[-1].splitlines()[-1].rstrip() == 'split'
