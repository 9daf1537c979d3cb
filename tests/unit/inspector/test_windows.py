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

import pytest

from nova_vmhealth.core import announcements
from nova_vmhealth.core import maintenance
from nova_vmhealth.core import replica
from nova_vmhealth.core.vocabulary import MaintenanceStage as Stage
from nova_vmhealth import exception
from nova_vmhealth.inspector import windows

NOW = 1_700_000_000.0
ID = '11111111-1111-4111-8111-111111111111'
OTHER = '22222222-2222-4222-8222-222222222222'
DAY = 24 * 3600.0


def plan(window_id=ID, host='compute-1', starts_at=NOW, ends_at=NOW + 60,
         withdrawn_at=None):
    return announcements.Plan(maintenance.Window(
        window_id, host, starts_at, ends_at, 'x', 'operator', NOW), NOW,
        withdrawn_at)


def told(stage, *projects):
    return announcements.Told(stage, NOW, projects)


@pytest.fixture
def kept():
    return replica.Replica('one')


@pytest.fixture
def subject(kept):
    return windows.Windows(kept)


def test_reads_what_there_was_before_and_what_comes(kept, subject):
    subject.put(plan(), NOW)
    subject.put_told(ID, told(Stage.STARTED, 'red'), NOW)
    again = replica.Replica('one')
    again.merge(kept.records(), NOW)
    later = windows.Windows(again)
    assert later.plans() == {ID: plan()}
    assert later.told(ID) == told(Stage.STARTED, 'red')
    assert later.take_changed() == {ID}
    assert later.take_changed() == set()


def test_sorts_them_by_host(subject):
    subject.put(plan(starts_at=NOW + 1), NOW)
    subject.put(plan(OTHER), NOW)
    assert subject.open(NOW) == subject.open_of('compute-1', NOW) == [
        plan(OTHER), plan(starts_at=NOW + 1)]
    assert subject.of_host('compute-1', NOW).windows == (
        plan(OTHER).window, plan(starts_at=NOW + 1).window)
    # One that moves leaves nothing behind.
    for window_id in (ID, OTHER):
        subject.put(plan(window_id, 'compute-2'), NOW)
    assert subject.open_of('compute-1', NOW) == []
    assert subject.of_host('compute-1', NOW).digest == ''
    assert len(subject.of_host('compute-2', NOW).windows) == 2
    assert subject.of_host('compute-2', NOW + 60).windows == ()
    assert subject.open(NOW + 60) == []


def test_of_a_host_it_is_made_once(subject):
    subject.put(plan(), NOW)
    first = subject.of_host('compute-1', NOW)
    assert subject.of_host('compute-1', NOW + 59) is first
    assert subject.of_host('compute-1', NOW + 60) is not first


def test_puts_together_what_several_have_told(kept, subject):
    subject.put(plan(), NOW)
    subject.put_told(ID, told(Stage.ANNOUNCED, 'red'), NOW)
    kept.put(f'told/{ID}/two', told(Stage.STARTED, 'blue').record(), NOW)
    assert subject.told(ID) == told(Stage.STARTED, 'red', 'blue')
    # The end that one tells is not that of the other's projects.
    kept.put(f'told/{ID}/two', told(Stage.ENDED, 'blue').record(), NOW)
    assert subject.told(ID) == told(Stage.ANNOUNCED, 'red')
    subject.put_told(ID, told(Stage.ENDED, 'red'), NOW)
    assert subject.told(ID).is_final
    # What one has told before is not forgotten with what it tells now.
    kept.put(f'told/{ID}/two', told(Stage.STARTED, 'blue', 'red').record(),
             NOW)
    subject.put_told(ID, told(Stage.ENDED, 'blue'), NOW)
    assert subject.told(ID).is_final


def test_forgets_all_of_it_for_long_enough(kept, subject):
    subject.put(plan(), NOW)
    subject.put_told(ID, told(Stage.ENDED, 'red'), NOW)
    kept.put(f'told/{ID}/two', {'of': 'a later release'}, NOW)
    subject.forget(plan(), NOW + 60)
    assert kept.items('') == {}
    assert subject.plans() == {}
    assert subject.told(ID) is None
    assert subject.forgotten_at(ID) == NOW + 60
    kept.expire(NOW + 60 + windows.KEEP_S - 1)
    assert subject.forgotten_at(ID) is not None
    kept.expire(NOW + 60 + windows.KEEP_S)
    assert subject.forgotten_at(ID) is None


@pytest.mark.parametrize('ends_at, days', [(NOW + 20 * DAY, 20), (None, 31)])
def test_remembers_a_withdrawn_window_until_its_end(kept, subject, ends_at,
                                                    days):
    gone = plan(ends_at=ends_at, withdrawn_at=NOW)
    subject.put(gone, NOW)
    subject.forget(gone, NOW)
    kept.expire(NOW + days * DAY - 1)
    assert subject.forgotten_at(ID) is not None


def test_finds_what_was_told_of_a_forgotten_window(kept, subject):
    subject.put(plan(), NOW)
    assert not subject.is_orphan(ID)
    subject.forget(plan(), NOW)
    assert not subject.is_orphan(ID)
    kept.put(f'told/{ID}/two', told(Stage.STARTED, 'red').record(), NOW)
    assert subject.is_orphan(ID)
    subject.forget_told(ID, NOW)
    assert not subject.is_orphan(ID)
    # Of one that has not come yet it may not be said.
    kept.put(f'told/{OTHER}/two', told(Stage.STARTED, 'red').record(), NOW)
    assert not subject.is_orphan(OTHER)


def test_says_that_there_is_no_room(subject, monkeypatch):
    monkeypatch.setattr(replica, 'MAX_KEYS', 0)
    with pytest.raises(exception.InvalidWindow, match='no room'):
        subject.put(plan(), NOW)
    assert not subject.put_told(ID, told(Stage.STARTED), NOW)


def test_ignores_and_logs_what_it_cannot_read(kept, subject, caplog):
    kept.put(f'window/{ID}', {'window': 7}, NOW)
    kept.put(f'window/{OTHER}', plan().record(), NOW)
    kept.put('window/', {}, NOW)
    kept.put('told/', {}, NOW)
    for number in range(20):
        kept.put(f'told/{ID}/{number}', {}, NOW)
    assert subject.plans() == {}
    assert subject.told(ID) is None
    assert len(caplog.records) == 1
