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

"""Second opinions: how they are named, and which of them decides."""

import pytest

from nova_vmhealth.core import checks
from nova_vmhealth.core.checks import Finding
from nova_vmhealth.core.checks import Kind
from nova_vmhealth.core.checks import Opinion

GONE, ALIVE, UNSURE = Opinion.GONE, Opinion.ALIVE, Opinion.UNSURE


@pytest.mark.parametrize('text, check', [
    ('quorum', checks.Check('quorum', Kind.QUORUM)),
    ('tcp:22', checks.Check('tcp:22', Kind.TCP, port=22)),
    ('tcp:65535', checks.Check('tcp:65535', Kind.TCP, port=65535)),
    ('exec:/bin/a b', checks.Check('exec:/bin/a b', Kind.EXEC,
                                   path='/bin/a b')),
])
def test_parse(text, check):
    assert checks.parse(text) == check


@pytest.mark.parametrize('text', [
    '', 'Quorum', 'quorum:2', 'tcp', 'tcp:', 'tcp:0', 'tcp:65536', 'tcp:ssh',
    'tcp:-1', 'tcp:٢٢', 'tcp:22 ', 'exec', 'exec:', 'exec:fence',
    'exec:./fence', 'icmp:1'])
def test_refused(text):
    with pytest.raises(ValueError):
        checks.parse(text)


@pytest.mark.parametrize('opinions, decides', [
    ([GONE], 0),
    ([GONE, GONE], 0),
    ([GONE, ALIVE], 1),
    ([GONE, UNSURE], 1),
    ([UNSURE, ALIVE, GONE], 1),
    ([UNSURE, UNSURE], 0),
])
def test_all_must_agree(opinions, decides):
    findings = [Finding(str(number), opinion, '')
                for number, opinion in enumerate(opinions)]
    assert checks.weigh(findings).check == str(decides)
