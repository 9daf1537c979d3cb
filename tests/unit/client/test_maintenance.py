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

"""Announcing maintenance from a program."""

import pytest

from nova_vmhealth.client import maintenance
from nova_vmhealth.core import maintenance as core_maintenance
from nova_vmhealth import exception
from tests.unit.client.bus import Bus

ID = '0b5e8a4c-3a4e-4f0e-9f53-000000000001'
WINDOW = core_maintenance.Window(
    ID, 'compute-1', 1000.0, None, 'new fans', 'operator', 900.0)
RECORD = {**WINDOW.record(), 'stage': 'started', 'projects': ['red']}
PLANNED = maintenance.PlannedMaintenance(WINDOW, 'started', ('red',))


@pytest.mark.parametrize('call, answer, result, method, arguments', [
    (lambda client: client.set({'host': 'compute-1'}), RECORD, PLANNED,
     'set_window', {'window': {'host': 'compute-1'}}),
    (lambda client: client.unset('compute-1'), [RECORD], [PLANNED],
     'unset_windows', {'host': 'compute-1', 'window_id': None}),
    (lambda client: client.unset(window_id=ID), [RECORD], [PLANNED],
     'unset_windows', {'host': None, 'window_id': ID}),
    (lambda client: client.list(), [], [], 'list_windows', {'host': None}),
    (lambda client: client.show(ID), [RECORD], PLANNED, 'list_windows',
     {'host': None})])
def test_asks_an_inspector(call, answer, result, method, arguments):
    bus = Bus(inspector=answer)
    with maintenance.MaintenanceClient(bus.transport) as client:
        assert call(client) == result
    assert bus.driver.calls == [
        ('vmhealth_inspector', None, method, arguments)]
    assert bus.driver.closed


def test_no_inspector_answers():
    with maintenance.MaintenanceClient(Bus().transport) as client:
        with pytest.raises(exception.InspectorUnreachable, match='start one'):
            client.list()


def test_takes_what_a_later_inspector_says_besides():
    assert maintenance.PlannedMaintenance.restored(
        {**RECORD, 'stage': 'postponed', 'later': 1}).stage == 'postponed'
