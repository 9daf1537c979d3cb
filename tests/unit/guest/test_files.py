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
import configparser
import gzip
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tty

import pytest
import yaml

from nova_vmhealth.core import protocol
from nova_vmhealth.guest import agent
from nova_vmhealth.guest import audits
from nova_vmhealth.guest import board
from nova_vmhealth.guest import bundle
from nova_vmhealth.guest import notices
from nova_vmhealth.guest import processes
from nova_vmhealth.guest import systemd
from tests.unit.guest.helpers import read_messages

GUEST = pathlib.Path(bundle.__file__).parent
SHELLS = [['busybox', 'sh'], ['dash'], ['sh']]


@pytest.fixture(params=SHELLS, ids=' '.join)
def shell(request, require):
    """The words that run each of the shells."""
    require(shutil.which(request.param[0]), 'needs %s' % request.param[0])
    return request.param


def test_shell_agent_answers_challenges_and_nothing_else(shell):
    master, slave = os.openpty()
    tty.setraw(slave)
    process = subprocess.Popen(
        [*shell, str(GUEST / 'vmhealth-guest.sh'), os.ttyname(slave)])
    try:
        os.write(master, protocol.init_ack(1000, 1000) + b'garbage\n'
                 + protocol.challenge(7, 'abc') + protocol.nack('challenge')
                 + protocol.notice(1, 'reboot', 2000)
                 + b'{"nonce": "d:e", "sequence": 8, "type": "challenge"}\n')
        answers = read_messages(master, 2)
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)

    assert answers == [protocol.ChallengeResponse(7, 'abc'),
                       protocol.ChallengeResponse(8, 'd:e')]


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
        answers = read_messages(master, 1)
    finally:
        process.kill()
        process.communicate()
        os.close(slave)
        os.close(master)

    assert answers == [protocol.ChallengeResponse(7, 'abc')]


def test_shell_agent_says_that_it_stops(shell, host):
    master, path = host
    process = subprocess.Popen(
        [*shell, str(GUEST / 'vmhealth-guest.sh'), path])
    try:
        os.write(master, protocol.challenge(7, 'abc'))
        read_messages(master, 1)
        process.terminate()
        found = read_messages(master, 1)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()

    assert found == [protocol.Exit('terminated')]


def test_shell_agent_stops_without_a_port(shell, tmp_path):
    process = subprocess.Popen(
        [*shell, '-x', str(GUEST / 'vmhealth-guest.sh'),
         str(tmp_path / 'none')], stderr=subprocess.PIPE)
    try:
        for line in process.stderr:
            if line == b'+ sleep 1\n':
                break
        process.terminate()
        process.stderr.read()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_shell_agent_is_small():
    code = [line for line in (GUEST / 'vmhealth-guest.sh').read_text()
            .splitlines() if line.strip() and not line.strip()[0] == '#']
    assert len(code) <= 20


@pytest.fixture
def user_data(tmp_path):
    """The user data, made by the command that the template's head gives."""
    text = (GUEST / 'cloud-init.yaml').read_text()
    [command] = re.findall(r'^#   python3 (.*) user-data$', text, re.MULTILINE)
    path = tmp_path / 'user-data'
    subprocess.run([sys.executable, *command.split(), str(path)],
                   cwd=GUEST.parents[1], check=True)
    # Nova's limit, for the base64 form in which user data is sent.
    assert len(base64.b64encode(path.read_bytes())) < 65535
    return yaml.safe_load(path.read_text())


def test_cloud_init_installs_the_files_that_are_shipped(user_data):
    files = {entry['path']: entry for entry in user_data['write_files']}
    installed = files['/usr/local/bin/vmhealth-guest']
    unit = files['/etc/systemd/system/vmhealth-guest.service']['content']

    assert gzip.decompress(
        base64.b64decode(installed['content'])) == bundle.make()
    assert installed['permissions'] == '0755'
    assert unit == (GUEST / 'vmhealth-guest.service').read_text()
    assert '\nExecStart=/usr/local/bin/vmhealth-guest\n' in unit


def installed(user_data, directory, folder):
    """Install the only program of a directory; return its path."""
    [entry] = [entry for entry in user_data['write_files']
               if entry['path'].startswith(directory)]
    path = folder / pathlib.Path(entry['path']).name
    path.write_text(entry['content'])
    path.chmod(int(entry['permissions'], 8))
    return path


def test_cloud_init_brings_an_audit_that_works(user_data, tmp_path):
    (tmp_path / 'audits').mkdir()
    installed(user_data, agent.DEFAULT_AUDITS_DIR, tmp_path / 'audits')

    [found] = audits.discover(str(tmp_path / 'audits'), 10.0, 5.0, print)
    result = audits.run_audit(found)

    assert found.interval == 30.0
    assert re.fullmatch(r'/ is \d+% full', result.message)


@pytest.mark.parametrize('operation, synced', [
    ('stop', b'synced\n'), ('reboot', b'synced\n'), ('resumed', b'')])
def test_cloud_init_brings_a_notice_that_works(
        user_data, tmp_path, program, monkeypatch, operation, synced):
    path = installed(user_data, agent.DEFAULT_NOTICES_DIR, tmp_path)
    (tmp_path / 'bin').mkdir()
    program('bin/sync', '#!/bin/sh\necho synced\n')
    monkeypatch.setenv(
        'PATH', '%s:%s' % (tmp_path / 'bin', os.environ['PATH']))

    assert notices.PROGRAM_NAME.match(path.name)
    assert processes.run([str(path), operation, '500'], 60.0) == (0, synced)


def test_the_unit_agrees_with_the_agent():
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str
    unit.read(str(GUEST / 'vmhealth-guest.service'))
    service = unit['Service']

    assert service['Type'] == 'notify'
    # When nobody looks after the audits, --watchdog comes first: an agent
    # that systemd has restarted would pet the device again. The last sign of
    # life may be older than that by the time between two of them.
    options = agent.parse_args([])
    assert int(service['WatchdogSec']) / systemd.PETS > (
        board.LOOK_LATE_SECONDS + options.watchdog_grace
        + options.watchdog_timeout)
