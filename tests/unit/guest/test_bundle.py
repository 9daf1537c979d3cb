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


"""The one file in which the agent is shipped."""

import ast
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from nova_vmhealth.guest import bundle

GUEST = pathlib.Path(bundle.__file__).parent


def test_the_same_bytes_every_time(tmp_path):
    """Whatever the files' times and rights, and whoever makes it."""
    for name, zone in (('a', 'UTC+7'), ('b', 'UTC-7')):
        subprocess.run(
            [sys.executable, '-m', 'nova_vmhealth.guest.bundle',
             str(tmp_path / name)], check=True, cwd=GUEST.parents[1],
            env=dict(os.environ, TZ=zone, PYTHONHASHSEED=str(ord(name))))

    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()
    assert (tmp_path / 'a').read_bytes() == bundle.make()


def test_it_runs_by_its_name_and_knows_nothing_of_the_package(tmp_path):
    path = tmp_path / 'vmhealth-guest'
    assert bundle.main([str(path)]) == 0

    done = subprocess.run([str(path), '--help'], capture_output=True,
                          text=True, cwd=tmp_path, check=True)

    assert done.stdout.startswith('usage: vmhealth-guest')
    assert path.read_bytes().startswith(b'#!/usr/bin/env python3\n')


def test_what_runs_is_what_is_in_the_file(tmp_path):
    """Not the modules of an installed package of the same name."""
    path = tmp_path / 'vmhealth-guest'
    bundle.main([str(path)])
    code = ('import sys; sys.argv = ["x", "--once", "--audits-dir", "/no"]\n'
            'import nova_vmhealth, runpy\n'
            'try: runpy.run_path(%r, run_name="__main__")\n'
            'except SystemExit as ended: assert not ended.code\n'
            'print(*sorted(m.__file__ for n, m in sys.modules.items()'
            ' if "guest" in n))' % str(path))
    done = subprocess.run([sys.executable, '-c', code], capture_output=True,
                          text=True, cwd=GUEST.parents[1], check=True)

    files = done.stdout.split()
    assert files
    assert [f for f in files if not f.startswith(str(path))] == []


def test_every_module_is_in_and_nothing_else(tmp_path):
    path = tmp_path / 'vmhealth-guest'
    bundle.main([str(path)])
    with zipfile.ZipFile(str(path)) as archive:
        names = archive.namelist()
        texts = [archive.read(name).decode() for name in names]

    assert names == sorted(names)
    assert set(names) == {'__main__.py'} | {
        'vmhealth_guest/' + module.name for module in GUEST.glob('*.py')
        if module.name != 'bundle.py'}
    assert not [text for text in texts if 'from nova_vmhealth' in text
                or 'import nova_vmhealth' in text]


@pytest.mark.parametrize('name', sorted(bundle.modules()))
def test_old_guests_can_read_it(name):
    ast.parse(bundle.modules()[name], feature_version=(3, 6))
