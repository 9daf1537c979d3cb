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

"""The command of the fuzzer, as far as it goes without atheris."""

import os
import subprocess
import sys

import pytest

# None is an ImportError for whoever asks for the module.
CODE = """
import sys
sys.modules['atheris'] = None
from tests.fuzz import __main__ as fuzz
fuzz.main(sys.argv[1:])
"""
USAGE = 'usage: python -m tests.fuzz {lines,sessions}'
LACKING = 'atheris is not installed: pip install atheris\n'


@pytest.mark.parametrize('arguments, said', [
    ([], USAGE),
    (['nothing'], USAGE),
    (['--help'], USAGE),
    (['-runs=1', 'lines'], USAGE),
    (['lines'], LACKING),
    (['sessions', '-runs=1'], LACKING),
])
def test_says_what_it_wants(arguments, said):
    done = subprocess.run(
        [sys.executable, '-c', CODE, *arguments], capture_output=True,
        text=True, timeout=60,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
    assert done.returncode == 1
    assert done.stdout == ''
    assert done.stderr.startswith(said)
