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

"""The agent as a process that the suite has started."""

import os
import sys

import pytest

from nova_vmhealth.conformance import links
from nova_vmhealth.conformance import process


def test_command_gets_the_port(tmp_path, capfd):
    agent = process.Process(
        [sys.executable, '-c', 'import sys; print(sys.argv[1])',
         '--port={port}'], str(tmp_path))
    agent.start()
    agent._process.wait()
    assert not agent.running
    assert agent.status == 'exit status 0'
    told = capfd.readouterr()
    assert told.out == ''
    agent.stop()


def test_agent_is_ended_with_its_children(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    agent = process.Process(
        ['sh', '-c', 'exec >{port}; sleep 1000 & echo ready; wait'],
        str(pipe))
    agent.start()
    with open(pipe) as output:
        assert output.readline() == 'ready\n'
        assert agent.running
        agent.stop()
        # It ends when no process holds the other end any more.
        assert output.read() == ''
    assert not agent.running


def test_agent_that_cannot_be_started():
    agent = process.Process(['/nonexistent/agent'], 'x')
    with pytest.raises(links.Unavailable, match='cannot start /nonexistent'):
        agent.start()
    assert not agent.running
    agent.stop()


def test_words_for_a_signal():
    agent = process.Process(['sleep', '1000'], 'x')
    agent.start()
    agent.terminate()
    agent._process.wait()
    assert agent.status == 'signal 15'
    agent.stop()
