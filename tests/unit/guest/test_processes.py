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


"""Programs are run to their end, or to the end of their time."""

import os
import select

import pytest

from nova_vmhealth.guest import processes


@pytest.mark.parametrize('script, expected', [
    ('echo fine', (0, b'fine\n')),
    ('echo slow; exit 1', (1, b'slow\n')),
    ('kill -9 $$', (-9, b'')),
    ('echo only this >&2', (0, b'')),
    ('echo "$1, $2"', (0, b'a b, $(id)\n')),
    ('pwd', (0, b'/\n')),
    ('read -r line || echo no input', (0, b'no input\n')),
    # Far more than a pipe holds: it must neither block nor pile up.
    ('head -c 3000000 /dev/zero; exit 1', (
        1, b'\0' * processes.MAX_OUTPUT)),
])
def test_a_program_is_run(program, script, expected):
    path = program('it', '#!/bin/sh\n%s\n' % script)

    assert processes.run([str(path), 'a b', '$(id)'], 60.0) == expected


def test_a_child_that_stays_behind_is_not_waited_for(program):
    # Without the check this takes as long as a test may at most.
    path = program('it', '#!/bin/sh\necho done; sleep 70 & exit 0\n')

    assert processes.run([str(path)], 1000.0) == (0, b'done\n')


@pytest.mark.parametrize('script', [
    'sleep 20', 'echo early; sleep 20', 'exec >&-; sleep 20',
    'while :; do echo more; done'])
def test_a_program_that_hangs_is_killed(program, script):
    path = program('it', '#!/bin/sh\n%s\n' % script)

    with pytest.raises(processes.TimedOut):
        processes.run([str(path)], 0.2)


def test_it_is_killed_with_its_children(program, tmp_path):
    fifo = tmp_path / 'fifo'
    os.mkfifo(fifo)
    path = program('it', '#!/bin/sh\nexec 9>%s\nsleep 60 & wait\n' % fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(processes.TimedOut):
            processes.run([str(path)], 0.5)
        # At its end when the last writer is gone.
        assert select.select([reader], [], [], 10)[0]
        assert os.read(reader, 1) == b''
    finally:
        os.close(reader)


def test_time_in_which_the_guest_did_not_run_is_not_the_programs(
        program, monkeypatch):
    """A guest that was stopped for an hour must not blame its audits."""
    clock = iter([0.0, 0.1, 3600.0])
    monkeypatch.setattr(processes.time, 'monotonic',
                        lambda: next(clock, 3600.2))
    path = program('it', '#!/bin/sh\nexec >&-\nsleep 0.5\n')

    assert processes.run([str(path)], 5.0) == (0, b'')


def test_executables_of_a_directory(program, tmp_path):
    for name in ('db', 'a.sh', '.hidden'):
        program(name)
    program('readme', mode=0o644)
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'dangling').symlink_to('nowhere')

    assert processes.executables(
        str(tmp_path), lambda name: name[0] != '.') == [
            (name, str(tmp_path / name)) for name in ('a.sh', 'db')]


def test_no_directory_is_an_empty_one(tmp_path):
    assert processes.executables(str(tmp_path / 'none'), str) == []


def test_what_is_no_directory_is_an_error(program, tmp_path):
    with pytest.raises(NotADirectoryError):
        processes.executables(str(program('file')), str)
