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

"""The command nova-vmhealth-inspector, as far as it does not inspect."""

import subprocess
import sys

import pytest

from nova_vmhealth.cmd import inspector

MAIN = [sys.executable, '-m', 'nova_vmhealth.cmd.inspector']


def test_help_and_version(capsys):
    for option, text in (('--help', '--config-file'), ('--version', '.')):
        with pytest.raises(SystemExit) as caught:
            inspector.main([option])
        assert caught.value.code == 0
        assert text in capsys.readouterr().out


def test_wrong_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        inspector.main(['--config', 'x', 'y'])
    assert caught.value.code == 2


@pytest.mark.parametrize('text, said', [
    (None, 'nova.conf'),
    ('[DEFAULT]\n', '[DEFAULT]transport_url'),
    ('[vmhealth_inspector]\nchecks = ping\n', '[vmhealth_inspector]checks'),
    ('[DEFAULT]\ntransport_url = nosuch://\n', 'nosuch'),
    ('[DEFAULT]\ntransport_url = fake://\n'
     '[vmhealth_inspector]\nstate_path = /proc/nowhere\n',
     '[vmhealth_inspector]state_path'),
])
def test_what_keeps_it_from_starting(tmp_path, text, said):
    path = tmp_path / 'nova.conf'
    if text is not None:
        path.write_text(text)
    done = subprocess.run(
        [*MAIN, '--config-file', str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('nova-vmhealth-inspector: ')
    assert said in last
    assert 'Traceback' not in done.stderr
