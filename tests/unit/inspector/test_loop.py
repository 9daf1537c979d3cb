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

"""The loop's turns: reading before judging, and what goes wrong in them."""

import logging
import math
import threading

import pytest

from nova_vmhealth.core.beacons import InspectorBeacon
from nova_vmhealth.core.fleet_table import Standing
from nova_vmhealth import exception
from nova_vmhealth.inspector import loop as loop_lib
from tests.unit.inspector.stage import Stage

PATIENCE_S = 10


@pytest.fixture
def stage():
    return Stage().settle()


def test_nobody_is_judged_before_all_is_read(stage):
    """A turn that could not read everything judges nobody."""
    one = stage.inspectors[0]
    stage.die('a')
    stage.run(1.2)
    one.watch.sent(10 ** 6, stage.now + 0.2)
    slow = one.loop._take

    def take(item):
        slow(item)
        stage.now += 1
    one.loop._take = take
    for _ in range(3):
        one.inbox.arrive(InspectorBeacon('one', one.incarnation, 10 ** 6, 1))
    one.loop.turn()
    assert len(one.inbox) == 2
    assert one.watch.view('a').standing is Standing.WATCHED


@pytest.mark.parametrize('deadlines, pause_s', [
    ((math.inf, math.inf, math.inf), 0.02),
    ((5.015, math.inf, 5.5), 0.015),
    ((math.inf, 5.01, 5.5), 0.01),
    ((math.inf, math.inf, 5.005), 0.005),
    ((4.0, math.inf, 5.5), 0.001),
])
def test_how_long_it_pauses(stage, deadlines, pause_s):
    one, stage.now = stage.inspectors[0], 5.0
    watch, cases, one.loop._beacon_at = deadlines
    one.watch.next_deadline = lambda: watch
    one.cases.next_deadline = lambda: cases
    assert one.loop._patience() == pytest.approx(pause_s)


def test_it_does_not_spin_while_nothing_is_heard(stage):
    one = stage.inspectors[0]
    stage.broker = False
    stage.run(5)
    one.loop._beacon_at = math.inf
    assert one.loop._patience() == loop_lib.TURN_S


def test_a_defect_in_one_part_does_not_end_the_others(stage, caplog):
    one = stage.inspectors[0]
    one.keeper.next_deadline = lambda wall: 1 / 0
    one.inbox.put(object())
    stage.die('a')
    stage.run(3)
    assert caplog.text.count('Failed in _take') == 1
    # Once a minute.
    assert caplog.text.count('Failed in _attend_maintenance') == 1
    assert stage.forced() == [('a', {'forced_down': True})]


def test_maintenance_is_told_when_others_had_their_say():
    stage = Stage()
    one = stage.inspectors[0]
    looked = []
    one.keeper.next_deadline = lambda wall: looked.append(stage.now)
    stage.broker = False
    stage.run(10)
    assert looked == []
    stage.broker = True
    stage.run(10)
    assert 13 <= looked[0] <= 13.6


def test_a_call_of_another_thread(stage):
    one = stage.inspectors[0]
    results = []

    def ask():
        for function in (lambda: 7, lambda: 1 / 0):
            try:
                results.append(one.loop.call(function))
            except ZeroDivisionError as error:
                results.append(error)
    asks = threading.Thread(target=ask)
    asks.start()
    while asks.is_alive():
        one.loop.turn()
    assert results[0] == 7
    assert isinstance(results[1], ZeroDivisionError)


def test_a_call_is_answered_when_it_is_written_down(stage, monkeypatch):
    one = stage.inspectors[0]
    monkeypatch.setattr(loop_lib, 'ANSWER_S', 0.01)
    one.publisher.commit = lambda pages: False
    one.publisher.is_behind = True
    with pytest.raises(exception.LoopStuck):
        one.loop.call(lambda: 7)
    one.loop.turn()
    assert len(one.loop._calls) == 1
    one.publisher.commit = lambda pages: True
    one.loop.turn()
    assert one.loop._calls == []


def test_it_runs_and_says_goodbye(stage):
    one = stage.inspectors[0]
    said = []
    one.beacon = said.append
    ran = threading.Event()
    one.loop.start()
    one.loop.post(ran.set)
    assert ran.wait(PATIENCE_S)
    one.loop.stop(PATIENCE_S)
    assert not one.loop._thread.is_alive()
    assert said[-1]['judging'] is False


def test_own_beacons_say_what_is_known(stage):
    one = stage.inspectors[0]
    said, plain = [], one.beacon
    one.beacon = lambda record: said.append(record) or plain(record)
    stage.run(1)
    assert [each['sequence'] for each in said] == list(
        range(said[0]['sequence'], said[0]['sequence'] + len(said)))
    assert len(said) == 2
    assert said[0]['suspects'] == []
    assert said[0]['digest'] == one.kept.digest()
    stage.die('a')
    stage.run(3)
    assert said[-1]['suspects'] == ['a'] and said[-1]['judging']


def test_what_is_said_in_the_log(stage, caplog):
    caplog.set_level(logging.INFO)
    one = stage.inspectors[0]
    one.inbox.put(InspectorBeacon('one', 'somebody else', 1, 500))
    stage.run(0.1)
    stage.broker = False
    stage.run(3)
    stage.broker = True
    stage.run(1)
    stage.now += 5
    stage.run(0.1)
    one.inbox.put(stage._beacon('a').__class__(
        'a', 'first', 10 ** 6, 500, 1.0, leaving=True))
    stage.run(0.1)
    for text in ('is called one too', 'Nothing is heard from the message',
                 'heard again after', 'was not run for 4.9',
                 'Host a says goodbye'):
        assert text in caplog.text


def test_too_many_hosts_are_named_shortly(caplog, monkeypatch):
    monkeypatch.setattr(loop_lib, '_MOST_SAID', 30)
    caplog.set_level(logging.INFO)
    hosts = [f'host-{number}' for number in range(40)]
    stage = Stage(hosts).settle()
    stage.die(*hosts)
    stage.run(5)
    line, = [record.getMessage() for record in caplog.records
             if 'max_down_percent' in record.getMessage()]
    assert line.startswith('40 hosts are silent')
    assert line.count('host-') == 20 and line.endswith(', ...')
    assert caplog.text.count(' is silent for ') == 30
    assert 'left alone: {' not in caplog.text
    # In the next minute there is room again.
    stage.beating |= set(hosts)
    stage.run(60)
    stage.die(*hosts)
    stage.run(5)
    assert caplog.text.count(' is silent for ') == 60
