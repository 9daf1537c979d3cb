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

"""An answer from the bus becomes a HostView, or nothing does."""

import dataclasses
import json

import pytest

from nova_vmhealth import client
from nova_vmhealth.core import maintenance
from nova_vmhealth.core import vocabulary
from nova_vmhealth import exception
from tests.unit.client.bus import ANSWER

WINDOW = maintenance.Window(
    id='0b5e8a4c-3a4e-4f0e-9f53-000000000001', host='compute-1',
    starts_at=1000.0, ends_at=None, reason='new fans', source='operator',
    created_at=900.0)
CONDITION = {'cause': 'storage_fault', 'subject': 'ceph', 'since': 1000.5,
             'reason': '3 instances', 'action': 'disable'}


def restored(**changes):
    # as it comes from the bus
    return client.HostView.restored(
        json.loads(json.dumps({**ANSWER, **changes})), 'nova-compute')


def test_of_nova_compute():
    assert restored(conditions=[CONDITION], windows=[WINDOW.record()],
                    cleared=['reported_fault']) == client.HostView(
        host='compute-1', status='UP', answered_by='nova-compute',
        disabled=False, disabled_reason=None, forced_down=False,
        conditions=(client.HostCondition(
            'storage_fault', 'ceph', 1000.5, '3 instances', 'disable'),),
        windows=(WINDOW,), instances={'healthy': 2, 'unhealthy': 1},
        last_beacon_at=None, cleared=('reported_fault',))


def test_of_an_inspector_that_did_not_reach_nova():
    answer = {'host': 'compute-1', 'status': 'UNKNOWN', 'disabled': None,
              'disabled_reason': None, 'forced_down': None, 'conditions': [],
              'windows': [], 'last_beacon_at': 12.5}
    assert client.HostView.restored(answer, 'inspector') == client.HostView(
        host='compute-1', status='UNKNOWN', answered_by='inspector',
        last_beacon_at=12.5)


def test_words_are_those_of_the_vocabulary():
    view = restored(conditions=[CONDITION])
    assert view.status == vocabulary.HostStatus.UP
    assert view.conditions[0].cause == vocabulary.HostCause.STORAGE_FAULT
    assert view.conditions[0].action == vocabulary.HostAction.DISABLE


def test_words_of_a_later_release_are_no_error():
    view = restored(status='DREAMING', more=1, conditions=[
        {**CONDITION, 'cause': 'sunspots', 'more': 1}])
    assert (view.status, view.conditions[0].cause) == ('DREAMING', 'sunspots')


@pytest.mark.parametrize('said, kept', [
    ('a\x1b[2Jb\nc\u202e', 'a[2Jb c'), ('x' * 1000, 'x' * 255)])
def test_texts_are_fit_for_a_terminal(said, kept):
    view = restored(
        host=said, status=said, disabled_reason=said, instances={said: 1},
        conditions=[dict.fromkeys(CONDITION, said) | {'since': 1.0}],
        cleared=[said])
    condition, = view.conditions
    assert {view.host, view.status, view.disabled_reason, *view.instances,
            condition.cause, condition.subject, condition.reason,
            condition.action, *view.cleared} == {kept}


@pytest.mark.parametrize('changes', [
    {'host': None}, {'status': 3}, {'disabled': 'no'}, {'forced_down': 0},
    {'disabled_reason': 7}, {'conditions': None}, {'conditions': ['bad']},
    {'conditions': [{**CONDITION, 'since': 'now'}]},
    {'conditions': [{'cause': 'storage_fault'}]},
    {'windows': {}}, {'windows': None}, {'windows': [1]}, {'windows': [{}]},
    {'instances': []}, {'instances': {'healthy': -1}},
    {'instances': {'healthy': True}}, {'last_beacon_at': 'never'},
    {'cleared': 'all'}, {'cleared': [1]},
])
def test_what_is_no_answer(changes):
    with pytest.raises(exception.InvalidRecord):
        restored(**changes)


@pytest.mark.parametrize('answer', [None, [], 'UP', 1])
def test_what_is_no_record(answer):
    with pytest.raises(exception.InvalidRecord):
        client.HostView.restored(answer, 'inspector')


def test_is_a_value():
    view = restored()
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.status = 'DOWN'
    assert dataclasses.asdict(view)['instances'] == ANSWER['instances']
