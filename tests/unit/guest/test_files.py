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


"""What is shipped beside the Python agent: shell agent, unit, cloud-init."""

import base64
import gzip
import os
import pathlib
import re
import select
import shutil
import subprocess
import tty

import pytest
import yaml

from nova_vmhealth.core import protocol
from nova_vmhealth.guest import agent

GUEST = pathlib.Path(agent.__file__).parent
SHELLS = [shell for shell in (['busybox', 'sh'], ['sh'])
          if shutil.which(shell[0])]


def read_answers(fd, count):
    """Read so many messages; give up after some seconds of silence."""
    data = b''
    while data.count(b'\n') < count:
        assert select.select([fd], [], [], 20)[0], 'the agent says nothing'
        data += os.read(fd, 4096)
    return [protocol.parse_line(line) for line in data.splitlines()]


@pytest.mark.parametrize('shell', SHELLS, ids=' '.join)
def test_shell_agent_answers_challenges_and_nothing_else(shell):
    master, slave = os.openpty()
    tty.setraw(slave)
    process = subprocess.Popen(
        [*shell, str(GUEST / 'vmhealth-guest.sh'), os.ttyname(slave)])
    try:
        os.write(master, protocol.init_ack(1000, 1000) + b'garbage\n'
                 + protocol.challenge(7, 'abc') + protocol.nack('challenge')
                 + b'{"nonce": "d:e", "sequence": 8, "type": "challenge"}\n')
        answers = read_answers(master, 2)
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)

    assert answers == [protocol.ChallengeResponse(7, 'abc'),
                       protocol.ChallengeResponse(8, 'd:e')]


@pytest.mark.parametrize('shell', SHELLS, ids=' '.join)
def test_shell_agent_finds_a_port_that_comes_late(shell, tmp_path):
    port = tmp_path / 'port'
    master, slave = os.openpty()
    tty.setraw(slave)
    process = subprocess.Popen(
        [*shell, '-x', str(GUEST / 'vmhealth-guest.sh'), str(port)],
        stderr=subprocess.PIPE)
    try:
        # It tells its commands: by then it has looked in vain.
        for line in process.stderr:
            if line == b'+ sleep 1\n':
                break
        port.symlink_to(os.ttyname(slave))
        os.write(master, protocol.challenge(7, 'abc'))
        answers = read_answers(master, 1)
    finally:
        process.kill()
        process.communicate()
        os.close(slave)
        os.close(master)

    assert answers == [protocol.ChallengeResponse(7, 'abc')]


def test_shell_agent_is_small():
    code = [line for line in (GUEST / 'vmhealth-guest.sh').read_text()
            .splitlines() if line.strip() and not line.strip()[0] == '#']
    assert len(code) <= 20


@pytest.fixture
def user_data():
    """The user data, made by the command that the snippet's head gives."""
    text = (GUEST / 'cloud-init.yaml').read_text()
    command = re.search(r'^#   (sed .*)$', text, re.MULTILINE).group(1)
    made = subprocess.run(['sh', '-c', command], cwd=GUEST, check=True,
                          capture_output=True).stdout
    # Nova's limit, for the base64 form in which user data is sent.
    assert len(base64.b64encode(made)) < 65535
    return yaml.safe_load(made)


def test_cloud_init_installs_the_files_that_are_shipped(user_data):
    files = {entry['path']: entry for entry in user_data['write_files']}
    installed = files['/usr/local/lib/vmhealth-guest.py']['content']
    unit = files['/etc/systemd/system/vmhealth-guest.service']['content']

    assert gzip.decompress(base64.b64decode(installed)) == (
        GUEST / 'agent.py').read_bytes()
    assert unit == (GUEST / 'vmhealth-guest.service').read_text()
    assert '/usr/local/lib/vmhealth-guest.py' in unit


def test_cloud_init_brings_an_audit_that_works(user_data, tmp_path):
    [audit] = [entry for entry in user_data['write_files']
               if entry['path'].startswith(agent.DEFAULT_AUDITS_DIR)]
    path = tmp_path / 'root-disk'
    path.write_text(audit['content'])
    path.chmod(int(audit['permissions'], 8))

    [found] = agent.discover(str(tmp_path), 10.0, 5.0, print)
    result = agent.run_audit(found)

    assert found.interval == 30.0
    assert re.fullmatch(r'/ is \d+% full', result.message)
