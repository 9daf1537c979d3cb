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

"""The table of checks that authors of agents read says what the suite does."""

import pathlib
import re

from nova_vmhealth.conformance import record
from nova_vmhealth.conformance import suite

TEXT = (pathlib.Path(__file__).parents[3] / 'doc' / 'source' / 'user'
        / 'conformance.rst').read_text()
ROW = re.compile(r'^   \* - ``(\w+)``\n     - (\w+)$', re.MULTILINE)


def test_every_check_in_its_order():
    assert ROW.findall(TEXT) == [
        (check.name, 'required' if check.required else 'recommended')
        for check in suite.CHECKS]


def test_numbers():
    assert 'at most %d lines a second' % record.MAX_UNASKED in TEXT
    assert '%d checks:' % len(suite.CHECKS) in TEXT
