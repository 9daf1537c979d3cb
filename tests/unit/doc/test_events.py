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

"""What users read of causes and actions says what the code does."""

import pathlib
import re

import pytest

from nova_vmhealth.core import policy
from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import SEVERITY
from nova_vmhealth.notifications import objects

DOC = pathlib.Path(__file__).parents[3] / 'doc'
EVENTS = DOC / 'source' / 'user' / 'events.rst'
OPTING_IN = DOC / 'source' / 'user' / 'opting-in.rst'
REFERENCE = DOC / 'source' / 'reference' / 'notifications.rst'
ROW = re.compile(r'^   \* - ``(\w+)``\n     - (\w+)$', re.MULTILINE)


def test_every_cause_with_its_severity():
    told = dict(ROW.findall(EVENTS.read_text()))
    assert told == {cause.value: severity.value
                    for cause, severity in SEVERITY.items()}


def test_every_cause_of_a_host():
    for cause in HostCause:
        assert f'``{cause.value}``' in EVENTS.read_text()
        assert f'``{cause.value}``' in REFERENCE.read_text()


def test_every_setting_and_action():
    text = OPTING_IN.read_text()
    for setting in policy.SETTINGS:
        row = f'   * - ``{setting.key}``\n     - ``{setting.image_key}``\n'
        assert row in text
    rows = re.findall(r'^``(\w+)`` {2,}\w', text, re.MULTILINE)
    assert rows == [action.value for action in Action]


@pytest.mark.parametrize('payload', [
    objects.InstanceHealthPayload, objects.HostHealthPayload,
    objects.ConditionPayload, objects.HeartbeatPayload])
def test_every_payload_with_its_version_and_fields(payload):
    heading = f'{payload.__name__} {payload.VERSION}\n==='
    text = REFERENCE.read_text()
    assert heading in text
    for field in payload.fields:
        assert f'``{field}``' in text.partition(heading)[2]


def test_every_sample_is_shown():
    text = REFERENCE.read_text()
    for path in (DOC / 'notification_samples').iterdir():
        assert path.name in text
