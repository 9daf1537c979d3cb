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

"""The table of causes that users read says what the code does."""

import pathlib
import re

from nova_vmhealth.core.vocabulary import SEVERITY

EVENTS = (pathlib.Path(__file__).parents[3] / 'doc' / 'source' / 'user'
          / 'events.rst')
ROW = re.compile(r'^   \* - ``(\w+)``\n     - (\w+)$', re.MULTILINE)


def test_every_cause_with_its_severity():
    told = dict(ROW.findall(EVENTS.read_text()))
    assert told == {cause.value: severity.value
                    for cause, severity in SEVERITY.items()}
