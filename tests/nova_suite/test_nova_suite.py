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

"""Nova's own libvirt tests pass with our driver in place of Nova's."""

import pytest

from tests.nova_suite import run

PATIENCE_S = 1800


@pytest.mark.timeout(PATIENCE_S + 60)
def test_no_failure_that_stock_nova_does_not_have(pytestconfig, capsys):
    whole = pytestconfig.getoption('nova_suite_whole')
    with capsys.disabled():
        print()
        bad = run.compare(whole=whole, patience_s=PATIENCE_S)
    assert bad == []
