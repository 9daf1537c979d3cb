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

"""A window's life as tables of what happens and what is told then."""

import json

import pytest

from nova_vmhealth.core import announcements
from nova_vmhealth.core import maintenance
from nova_vmhealth.core import replica
from nova_vmhealth.core.vocabulary import MaintenanceStage as Stage
from nova_vmhealth import exception

ID = '11111111-1111-4111-8111-111111111111'
HOST = 'compute-1'

RED = {'red': {'r1': 'web', 'r2': 'db'}}
BLUE = {'blue': {'b1': None}}
BOTH = {**RED, **BLUE}


def window(starts_at=100.0, ends_at=200.0, reason='new memory'):
    return maintenance.Window(
        ID, HOST, starts_at, ends_at, reason, 'operator', 10.0)


def plan(starts_at=100.0, ends_at=200.0, changed_at=10.0, withdrawn_at=None,
         reason='new memory'):
    return announcements.Plan(window(starts_at, ends_at, reason), changed_at,
                              withdrawn_at)


class Story:
    """Says at each step what is told, as 'project stage'."""

    def __init__(self):
        self.told = None
        self.ids = set()
        self.events = []

    def at(self, wall, plan, instances):
        parts = [] if self.told is None else [self.told]
        self.told = announcements.combined(plan, parts)
        self.events, self.told = announcements.tell(
            plan, self.told, instances, wall)
        # as it is over a restart
        if self.told is not None:
            self.told = announcements.Told.restored(
                json.loads(json.dumps(self.told.record())))
        for event in self.events:
            assert event.event_id not in self.ids
            self.ids.add(event.event_id)
        assert announcements.due(plan, self.told, wall) == []
        return [f'{event.project_id} {event.stage.value}'
                for event in self.events]


@pytest.fixture
def story():
    return Story()


def test_an_ordinary_life(story):
    assert story.at(10, plan(), RED) == ['red announced']
    assert story.at(99, plan(), BOTH) == []
    assert story.at(100, plan(), RED) == ['red started']
    assert story.at(199, plan(), RED) == []
    assert story.at(200, plan(), RED) == ['red ended']
    assert story.at(201, plan(), RED) == []


def test_what_an_event_says(story):
    story.at(10, plan(), RED)
    announced, = story.events
    assert (announced.window_id, announced.project_id, announced.reason) == (
        ID, 'red', 'new memory')
    assert announced.host_id == maintenance.host_id('red', HOST)
    assert (announced.starts_at, announced.ends_at) == (100.0, 200.0)
    assert announced.occurred_at == 10.0
    assert announced.instances == {'r1': 'web', 'r2': 'db'}
    assert announced.instance_count == 2
    assert HOST not in repr(announced)
    # Told late, they still say when it was.
    story.at(150, plan(), RED)
    assert story.events[0].occurred_at == 100.0
    story.at(250, plan(), RED)
    assert (story.events[0].occurred_at, story.events[0].ends_at) == (
        200.0, 200.0)


def test_whose_instances_left_is_told_the_rest(story):
    story.at(10, plan(), RED)
    assert story.at(100, plan(), {}) == ['red started']
    assert story.events[0].instances == {}
    assert story.events[0].instance_count == 0
    assert story.at(200, plan(), BLUE) == ['red ended']


def test_whose_instances_arrived_is_told_at_the_start(story):
    story.at(10, plan(), RED)
    assert story.at(100, plan(), BOTH) == ['red started', 'blue started']
    assert story.at(200, plan(), {}) == ['red ended', 'blue ended']


def test_a_start_in_the_past_is_announced_and_started_at_once(story):
    late = plan(starts_at=5.0)
    assert story.at(10, late, RED) == ['red announced', 'red started']
    assert [event.occurred_at for event in story.events] == [10.0, 10.0]


def test_an_open_end(story):
    endless = plan(ends_at=None)
    story.at(10, endless, RED)
    assert story.at(100, endless, RED) == ['red started']
    assert story.events[0].ends_at is None
    assert announcements.next_change(endless, story.told, 1e9) is None
    over = plan(ends_at=None, withdrawn_at=150.0)
    assert story.at(150, over, RED) == ['red ended']
    assert story.events[0].ends_at == 150.0


def test_withdrawn_before_its_start_it_is_cancelled(story):
    story.at(10, plan(), RED)
    assert story.at(50, plan(withdrawn_at=50.0), BOTH) == ['red cancelled']
    cancelled, = story.events
    assert (cancelled.occurred_at, cancelled.starts_at, cancelled.ends_at) == (
        50.0, 100.0, 200.0)


def test_withdrawn_after_its_start_it_has_ended(story):
    story.at(10, plan(), RED)
    story.at(100, plan(), RED)
    assert story.at(151, plan(withdrawn_at=150.0), RED) == ['red ended']
    assert (story.events[0].occurred_at, story.events[0].ends_at) == (
        150.0, 150.0)


@pytest.mark.parametrize('changed', [
    {'starts_at': 120.0}, {'ends_at': 300.0}, {'reason': 'more memory'}])
def test_a_change_is_told(story, changed):
    story.at(10, plan(), RED)
    new = plan(changed_at=20.0, **changed)
    assert story.at(20, new, BOTH) == ['red changed', 'blue announced']
    assert {event.occurred_at for event in story.events} == {20.0}
    assert story.at(new.window.starts_at, new, BOTH) == [
        'red started', 'blue started']


def test_a_change_while_it_is_on(story):
    story.at(10, plan(), RED)
    story.at(100, plan(), RED)
    longer = plan(ends_at=300.0, changed_at=150.0)
    assert story.at(150, longer, BOTH) == ['red changed', 'blue started']
    assert story.at(200, longer, BOTH) == []
    assert story.at(300, longer, BOTH) == ['red ended', 'blue ended']


def test_changed_back_it_is_told_again(story):
    story.at(10, plan(), RED)
    assert story.at(20, plan(reason='x', changed_at=20.0), RED) == [
        'red changed']
    assert story.at(30, plan(changed_at=30.0), RED) == ['red changed']
    assert story.at(40, plan(reason='x', changed_at=40.0), RED) == [
        'red changed']


def test_moved_to_begin_now(story):
    story.at(10, plan(), RED)
    now = plan(starts_at=50.0, changed_at=50.0)
    assert story.at(50, now, BOTH) == [
        'red changed', 'red started', 'blue started']


def test_put_off_after_its_start(story):
    story.at(10, plan(), RED)
    story.at(100, plan(), RED)
    later = plan(starts_at=500.0, ends_at=600.0, changed_at=150.0)
    assert story.at(150, later, RED) == ['red changed']
    assert story.at(500, later, RED) == ['red started']
    assert story.at(600, later, RED) == ['red ended']


def test_put_off_and_withdrawn_at_once_it_has_ended_all_the_same(story):
    story.at(10, plan(), RED)
    story.at(100, plan(), RED)
    gone = plan(starts_at=500.0, ends_at=600.0, changed_at=150.0,
                withdrawn_at=151.0)
    assert story.at(151, gone, RED) == ['red ended']


def test_cut_short_to_now(story):
    story.at(10, plan(), RED)
    story.at(100, plan(), RED)
    assert story.at(151, plan(ends_at=150.0, changed_at=151.0), RED) == [
        'red ended']


def test_nothing_is_skipped_that_time_has_passed_over(story):
    """No inspector ran between the announcement and long after the end."""
    story.at(10, plan(), RED)
    assert story.at(1000, plan(), BOTH) == ['red started', 'red ended']
    assert [event.occurred_at for event in story.events] == [100.0, 200.0]


def test_what_was_over_a_week_ago_is_no_news(story):
    story.at(10, plan(), RED)
    week = 7 * 24 * 3600.0
    assert announcements.due(plan(), story.told, 200.0 + week - 1)
    assert announcements.due(plan(), story.told, 200.0 + week) == []


@pytest.mark.parametrize('over', [plan(), plan(withdrawn_at=50.0)])
def test_nobody_hears_of_the_end_of_what_nobody_heard_of(story, over):
    assert story.at(300, over, BOTH) == []
    assert story.told is None
    story.at(10, plan(), {})
    assert story.at(300, over, BOTH) == []


def test_an_empty_host_may_fill_up(story):
    assert story.at(10, plan(), {}) == []
    assert story.at(100, plan(), RED) == ['red started']


def test_a_window_that_was_over_can_begin_anew(story):
    story.at(10, plan(), RED)
    story.at(60, plan(withdrawn_at=50.0), RED)
    again = plan(changed_at=70.0)
    assert story.at(70, again, BLUE) == ['blue announced']
    assert story.at(100, again, BLUE) == ['blue started']


def test_two_that_tell_the_same_make_one_event():
    told = announcements.Told(Stage.ANNOUNCED, 10.0, ('red',))
    here, _ = announcements.tell(plan(), told, BOTH, 100.0)
    there, _ = announcements.tell(plan(), told, RED, 100.3)
    assert here[0].event_id == there[0].event_id
    assert here[0] == there[0]
    other, _ = announcements.tell(plan(changed_at=11.0), told, {}, 11.0)
    assert other[0].event_id != here[0].event_id


@pytest.mark.parametrize('wall, told, change_at', [
    (10, None, 100.0),
    (10, Stage.ANNOUNCED, 100.0),
    (100, Stage.ANNOUNCED, 200.0),
    (100, Stage.STARTED, 200.0),
    (50, Stage.STARTED, 200.0),
    (200, Stage.ENDED, None)])
def test_says_when_there_is_more_to_tell(wall, told, change_at):
    if told is not None:
        told = announcements.Told(told, 10.0)
    assert announcements.next_change(plan(), told, wall) == change_at


def test_names_so_many_instances_and_counts_all(story):
    many = {'red': {f'{number:04}': None for number in range(1500)}}
    story.at(10, plan(), many)
    assert list(story.events[0].instances) == [
        f'{number:04}' for number in range(announcements.MAX_NAMED)]
    assert story.events[0].instance_count == 1500


def test_tells_so_many_projects(story):
    many = {f'{number:032}': {'i': None} for number in range(1500)}
    assert len(story.at(10, plan(), many)) == announcements.MAX_PROJECTS
    assert len(story.at(100, plan(), many)) == announcements.MAX_PROJECTS
    assert len(json.dumps(story.told.record())) < replica.MAX_VALUE_BYTES


def test_a_plan_comes_back_from_its_record():
    for each in (plan(), plan(ends_at=None, withdrawn_at=7.0)):
        record = json.loads(json.dumps(each.record()))
        assert announcements.Plan.restored({**record, 'later': 1}) == each


@pytest.mark.parametrize('kind, record', [
    (announcements.Plan, None),
    (announcements.Plan, []),
    (announcements.Plan, {'changed_at': 1.0}),
    (announcements.Plan, {'window': {}, 'changed_at': 1.0}),
    (announcements.Plan, {**plan().record(), 'changed_at': None}),
    (announcements.Plan, {**plan().record(), 'withdrawn_at': 'x'}),
    (announcements.Told, None),
    (announcements.Told, {}),
    (announcements.Told,
     {'stage': 'later', 'changed_at': 1.0, 'projects': []}),
    (announcements.Told,
     {'stage': 'started', 'changed_at': 1.0, 'projects': [7]}),
])
def test_refuses_records_that_are_none(kind, record):
    with pytest.raises(exception.InvalidRecord):
        kind.restored(record)
