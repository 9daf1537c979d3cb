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


"""The sum of several runs of pytest says what each of them said."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PASSED = '<testcase classname="a" name="good"/>'
FAILED = '<testcase classname="a" name="bad"><failure>why</failure></testcase>'
BROKEN = '<testcase classname="a" name="bad"><error>why</error></testcase>'
SKIPPED = '<testcase classname="a" name="x"><skipped message="no"/></testcase>'


@pytest.mark.parametrize('status, cases, code, said', [
    (0, PASSED * 2 + SKIPPED, 0, '3 passed, 1 skipped'),
    (1, PASSED + FAILED, 1, '1 failed, 2 passed'),
    (1, PASSED + BROKEN, 1, '1 failed, 2 passed'),
    # crashed after its report, before it, and asked for what it does not have
    (3, PASSED, 1, '1 failed, 2 passed'),
    (139, None, 1, '1 failed, 1 passed'),
    (5, '', 0, '1 passed'),
    (0, None, 1, '1 failed, 1 passed'),
])
def test_sum(tmp_path, status, cases, code, said):
    for name, its_status, its_cases in (
            ('other', 0, PASSED), ('leg', status, cases)):
        (tmp_path / (name + '.status')).write_text('%d\n' % its_status)
        if its_cases is not None:
            (tmp_path / (name + '.xml')).write_text(
                '<testsuites><testsuite>%s</testsuite></testsuites>'
                % its_cases)
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
         '-p', 'tests.legs', str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(said)
