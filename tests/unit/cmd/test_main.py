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

"""The command: its exit status and what it says."""

import subprocess
import sys

import pytest

from nova_vmhealth.cmd import main


@pytest.mark.parametrize('argv, status, said', [
    ([], 0, 'usage:'),
    (['--help'], 0, 'listen'),
    (['help', 'listen'], 0, '--transport-url'),
    (['help', 'check'], 0, '--config-file'),
    (['dance'], 2, 'dance'),
    (['listen', '--count', '0'], 2, '--count'),
    (['listen', '--timeout', 'soon'], 2, '--timeout'),
    (['listen', '--health', 'poor'], 2, '--health'),
    (['listen', '--cause', 'bad luck'], 2, '--cause'),
    (['check'], 2, '--config-file'),
    (['listen'], 1, '--transport-url'),
    (['listen', '--config-file', '/nonexistent'], 1, '/nonexistent'),
    (['listen', '--transport-url', 'pigeon://'], 1, 'pigeon'),
])
def test_status_and_what_it_says(argv, status, said, capfd):
    try:
        assert main.main(argv) == status
    except SystemExit as end:
        # argparse leaves by itself
        assert (end.code or 0) == status
    assert said in ''.join(capfd.readouterr())


@pytest.mark.parametrize('name', main.COMMANDS)
def test_commands_have_a_description(name):
    app = main.HealthApp()
    factory, _, _ = app.command_manager.find_command([name])
    assert factory(app, None).get_description()


def test_runs_as_a_module_without_noise():
    done = subprocess.run(
        [sys.executable, '-m', 'nova_vmhealth.cmd.main', 'listen'],
        capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.strip() == (
        'No message broker: give --transport-url, or a --config-file with a '
        'transport_url')
