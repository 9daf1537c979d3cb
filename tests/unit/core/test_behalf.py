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

"""What was told of a host, written down; and the events that say so."""

import dataclasses

import pytest

from nova_vmhealth.core import behalf
from nova_vmhealth.core import marks
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth.core.vocabulary import Severity
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth import exception

TOLD = marks.Told(
    behalf.raised_id('compute-1', 'a', 7, HostCause.HOST_DOWN), 100.0,
    '3 beacons were missed', HostAction.FORCE_DOWN, {'check': 'tcp:22'},
    False, False, ('u-1', 'u-2'))
MARK = marks.Mark('one', False, 'a', 7, {HostCause.HOST_DOWN: TOLD})
FORCING = marks.Forcing('one', 100.5, False)
RAISED, UPDATED, CLEARED = (Transition.RAISED, Transition.UPDATED,
                            Transition.CLEARED)


def saying(transition=RAISED, told=TOLD, **fields):
    return behalf.Saying('compute-1', HostCause.HOST_DOWN, transition, told,
                         100.0, 102.0, HostStatus.DOWN, **fields)


@pytest.mark.parametrize('what', [MARK, FORCING])
def test_there_and_back(what):
    assert type(what).restored(what.record()) == what


def test_a_cause_of_a_later_release_is_left_out():
    record = MARK.record()
    record['causes']['struck_by_lightning'] = TOLD.record()
    assert marks.Mark.restored(record) == MARK


@pytest.mark.parametrize('kind, record', [
    (marks.Mark, None),
    (marks.Mark, {**MARK.record(), 'by': 7}),
    (marks.Mark, {**MARK.record(), 'sent': 'no'}),
    (marks.Mark, {**MARK.record(), 'sequence': -1}),
    (marks.Mark, {**MARK.record(), 'causes': []}),
    (marks.Mark, {**MARK.record(), 'causes': {'host_down': {}}}),
    (marks.Mark, {**MARK.record(), 'causes': {
        'host_down': {**TOLD.record(), 'action': 'shoot'}}}),
    (marks.Mark, {**MARK.record(), 'causes': {
        'host_down': {**TOLD.record(), 'instances': 'all'}}}),
    (marks.Forcing, {**FORCING.record(), 'done': None}),
    (marks.Forcing, {}),
])
def test_refused(kind, record):
    with pytest.raises(exception.InvalidRecord):
        kind.restored(record)


def test_a_mark_has_room_for_so_many_instances():
    many = dataclasses.replace(
        TOLD, instances=tuple(str(number) for number in range(5000)))
    assert len(many.record()['instances']) == marks.MAX_TOLD


def test_the_event_of_the_host():
    event = saying().host_event(['u-1', 'u-2'])
    assert event.event_id == TOLD.event_id
    assert (event.sequence, event.cause, event.severity) == (
        0, HostCause.HOST_DOWN, Severity.CRITICAL)
    assert event.instance_uuids == ('u-1', 'u-2')
    assert event.instance_count == 2
    assert event.details == {'check': 'tcp:22', 'host_event': TOLD.event_id}
    assert (event.status, event.action, event.reason) == (
        HostStatus.DOWN, HostAction.FORCE_DOWN, TOLD.reason)


def test_an_event_names_so_many_instances():
    event = saying().host_event([str(number) for number in range(1500)])
    assert len(event.instance_uuids) == 1000
    assert event.instance_count == 1500


@pytest.mark.parametrize('transition, health, previous, conditions', [
    (RAISED, Health.UNHEALTHY, Health.UNKNOWN, 1),
    (CLEARED, Health.UNKNOWN, Health.UNHEALTHY, 0),
])
def test_the_event_of_an_instance(transition, health, previous, conditions):
    event = saying(transition).instance_event('u-1')
    assert (event.cause, event.subject) == (Cause.HOST_FAULT, 'host_down')
    assert (event.health, event.previous_health) == (health, previous)
    assert len(event.conditions) == conditions
    assert event.details == {
        'reason': TOLD.reason, 'host_event': TOLD.event_id,
        'host_cause': 'host_down'}
    assert event.sequence == 0


def test_whoever_says_the_same_says_it_under_the_same_id():
    for make in (lambda s: s.host_event(['u-1']),
                 lambda s: s.instance_event('u-1')):
        for transition in Transition:
            one, other = saying(transition), dataclasses.replace(
                saying(transition), detected_at=103.0)
            assert make(one).event_id == make(other).event_id


def test_what_says_something_else_has_another_id():
    other_told = dataclasses.replace(TOLD, event_id=behalf.raised_id(
        'compute-1', 'a', 8, HostCause.HOST_DOWN))
    ids = [event.event_id for event in (
        saying().host_event([]),
        saying(UPDATED, again='alive').host_event([]),
        saying(UPDATED, again='planned').host_event([]),
        saying(CLEARED).host_event([]),
        saying().instance_event('u-1'),
        saying().instance_event('u-2'),
        saying(CLEARED).instance_event('u-1'),
        saying(told=other_told).host_event([]),
        saying(told=other_told).instance_event('u-1'))]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize('one, other', [
    (('a', 'b', 1), ('ab', '', 1)), (('a', '1', 2), ('a', '', 12))])
def test_names_do_not_run_together(one, other):
    assert behalf.raised_id(*one, HostCause.HOST_DOWN) != behalf.raised_id(
        *other, HostCause.HOST_DOWN)
