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

"""What outlives an inspector, and what others tell it."""

import json
import logging

import pytest

from nova_vmhealth.core.marks import Mark
from nova_vmhealth.core.marks import Told
from nova_vmhealth.core.vocabulary import HostCause
from tests.unit.inspector.stage import Stage

TOLD = Told('178b0921-8f85-4257-88b6-2e743b5a9701', 1.0, 'fan')
MARK = Mark('other', True, 'x', 7, {HostCause.REPORTED_FAULT: TOLD})


@pytest.fixture
def stage():
    return Stage().settle()


@pytest.mark.parametrize('pages', [
    {'host/b': 'no json'},
    {'replica/mark/a': '[' * 100000},
    {'replica/mark/a': '{}'},
    {'replica/mark/a': '7'},
    {'replica/mark/a': json.dumps(
        {'at': 1, 'by': 'other', 'value': {'causes': 7}})},
    {'somebody else': 'text'},
])
def test_what_is_damaged_on_disk_is_not_used(stage, pages):
    again = stage.add('again', {'host/c': '{"left": true}', **pages})
    assert 'c' in again.watch.hosts()
    assert dict(again.marks.all) == {}


@pytest.mark.parametrize('records', [
    None, 7, [], {'mark/a': None}, {'mark/a': {'at': 'now'}},
    {'mark/a': {'at': 10 ** 30, 'by': 'other', 'value': {}}}])
def test_what_others_send_may_be_nothing(stage, records):
    one = stage.inspectors[0]
    one.keeping.hear('other', records, stage.wall())
    assert dict(one.marks.all) == {}


def test_a_mark_that_cannot_be_read_is_none(stage, caplog):
    caplog.set_level(logging.WARNING)
    one = stage.inspectors[0]
    for _ in range(3):
        one.keeping.hear('other', {'mark/a': {
            'at': 1, 'by': 'other', 'value': {'causes': 7}}}, stage.wall())
        stage.run(0.1)
    assert one.marks.get('a') is None
    assert caplog.text.count('mark/a is ignored') == 1


def test_what_others_told_is_kept_and_not_sent_on(stage):
    one = stage.inspectors[0]
    said = []
    one.sync = said.append
    one.keeping.hear('other', {'mark/a': {
        'at': 1, 'by': 'other', 'value': MARK.record()}}, stage.wall())
    stage.run(0.1)
    assert one.marks.get('a') == MARK
    assert 'replica/mark/a' in one.publisher.pages
    assert said == []
    one.marks.put('a', MARK, stage.wall())
    stage.run(0.1)
    assert [list(records) for records in said] == [['mark/a']]


def test_hosts_that_come_and_leave_are_written_down(stage):
    one = stage.inspectors[0]
    stage.run(1.5)
    assert json.loads(one.publisher.pages['host/a']) == {'left': False}
    one.publisher.pages.clear()
    stage.run(3)
    assert one.publisher.pages == {}
    stage.die('a')
    one.loop._take(stage._beacon('a').__class__(
        'a', 'first', 10 ** 6, 500, 1.0, leaving=True))
    stage.run(1.5)
    assert json.loads(one.publisher.pages['host/a']) == {'left': True}


def test_everything_is_written_into_another_file(stage):
    one = stage.inspectors[0]
    one.marks.put('a', MARK, stage.wall())
    stage.run(1.5)
    one.publisher.pages.clear()
    renewed = [True]
    one.publisher.was_renewed = lambda: bool(renewed) and renewed.pop()
    one.publisher.take_found = lambda: {'host/old': '{"left": true}'}
    stage.run(1.5)
    assert {'host/a', 'host/old', 'replica/mark/a'} <= set(
        one.publisher.pages)


def test_everything_is_told_where_somebody_knows_something_else(stage):
    one = stage.inspectors[0]
    one.marks.put('a', MARK, stage.wall())
    stage.run(1)
    said = []
    plain, one.sync = one.sync, lambda records: said.append(
        stage.now) or plain(records)
    two = stage.add('two')
    stage.run(10)
    assert two.marks.get('a') == MARK
    assert 1 <= len(said) <= 2
