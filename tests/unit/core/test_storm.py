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


"""Many guests lost at once make one suspicion of the host, with its end."""

import itertools

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_vmhealth.core import storm
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import Severity
from nova_vmhealth.core.vocabulary import Transition

EPOCH = 1_000_000.0
GUESTS, PERCENT, WINDOW_S = 3, 10, 8.0


class Weather:
    """A storm with its clock in the test's hand."""

    def __init__(self, guests=GUESTS, percent=PERCENT, window_s=WINDOW_S,
                 watched=20):
        ids = itertools.count(1)
        self.storm = storm.Storm(
            guests, percent, window_s, lambda: 'id-%d' % next(ids))
        self.now = 0.0
        self.watched = watched

    def lose(self, *uuids, every=0.0):
        told = []
        for uuid in uuids:
            told += [self.storm.lost(
                uuid, self.now, EPOCH + self.now, self.watched)]
            told += self.wait(every)
        return [event for event in told if event]

    def recover(self, *uuids):
        for uuid in uuids:
            self.storm.recovered(uuid, self.now, EPOCH + self.now)

    def wait(self, seconds):
        """Let time pass, the timer being called when it asks to be."""
        told, end = [], self.now + seconds
        while (deadline := self.storm.next_deadline()) is not None:
            if deadline > end:
                break
            self.now = max(self.now, deadline)
            told += self.storm.handle_timer(self.now, EPOCH + self.now)
            again = self.storm.next_deadline()
            assert again is None or again > self.now
        self.now = end
        return told


def words(events):
    return [event.transition.value for event in events]


def guests(number, first=0):
    return ['vm%d' % each for each in range(first, first + number)]


@pytest.mark.parametrize('number,options,every,raised', [
    (3, {}, 0, True),
    (2, {}, 0, False),
    (3, {}, 3.875, True),
    # the first is out of the window when the third comes
    (3, {}, 4, False),
    (30, {}, 4, False),
    (3, {'watched': 30}, 0, True),
    (3, {'watched': 31}, 0, False),
    (4, {'watched': 31}, 0, True),
    (1, {'guests': 1, 'watched': 1}, 0, True),
    (100, {'guests': 0}, 0, False),
])
def test_when_the_host_is_suspected(number, options, every, raised):
    weather = Weather(**options)
    told = words(weather.lose(*guests(number), every=every))
    assert told.count('raised') == int(raised)
    assert weather.storm.suspected is raised
    assert bool(weather.storm.event_id) is raised


def test_an_event_in_full():
    weather = Weather()
    event, = weather.lose('a', 'b', 'c', every=1.0)
    assert event.event_id == weather.storm.event_id == 'id-1'
    assert event.sequence == 1
    assert event.transition is Transition.RAISED
    assert event.cause is HostCause.MANY_GUESTS_LOST
    assert event.severity is Severity.CRITICAL
    # when the first of them was lost
    assert event.occurred_at == EPOCH
    assert event.detected_at == EPOCH + 2
    assert event.instance_uuids == ('a', 'b', 'c')
    assert event.instance_count == 3
    assert event.details == {
        'host_event': 'id-1', 'lost_in_all': '3', 'watched': '20',
        'window_s': '8'}


def test_one_guest_again_and_again_is_one_guest():
    weather = Weather()
    for _ in range(10):
        assert weather.lose('a', 'a', 'b') == []
        weather.recover('a', 'b')
    assert not weather.storm.suspected


def test_a_guest_that_has_recovered_does_not_count():
    weather = Weather()
    weather.lose('a', 'b')
    weather.recover('a')
    assert weather.lose('c') == []
    assert words(weather.lose('d')) == ['raised']


def test_more_losses_are_told_once_a_second():
    weather = Weather(watched=80)
    told = weather.lose(*guests(80), every=0.125)
    # the eighth is enough, at 0.875 s
    assert words(told) == ['raised'] + ['updated'] * 9
    assert [event.sequence for event in told] == list(range(1, 11))
    assert len({event.event_id for event in told}) == 10
    assert {event.details['host_event'] for event in told} == {'id-1'}
    last = weather.wait(5)
    assert words(last) == ['updated']
    assert last[0].instance_uuids == tuple(guests(80))
    assert last[0].instance_count == 80
    assert last[0].occurred_at == EPOCH + 79 * 0.125
    assert weather.wait(5) == []


def test_a_late_loss_is_told_at_once():
    weather = Weather()
    weather.lose(*guests(3))
    weather.now = 5.0
    event, = weather.lose('x')
    assert event.transition is Transition.UPDATED
    assert event.instance_uuids[-1] == 'x'


def test_it_ends_a_window_after_too_few_are_lost():
    weather = Weather()
    weather.lose('a', 'b', 'c', 'd')
    weather.wait(10)
    weather.recover('a')
    assert weather.wait(10) == []
    weather.recover('b')
    event_id = weather.storm.event_id
    assert weather.wait(7.875) == []
    assert weather.storm.suspected
    event, = weather.wait(0.125)
    assert event.transition is Transition.CLEARED
    assert event.occurred_at == EPOCH + 20
    assert event.detected_at == EPOCH + 28
    # those that stay lost
    assert event.instance_uuids == ('c', 'd')
    assert event.details['host_event'] == event_id != event.event_id
    assert event.details['lost_in_all'] == '4'
    assert not weather.storm.suspected
    assert weather.storm.event_id is None
    assert weather.storm.next_deadline() is None


def test_a_host_on_the_edge_stays_suspected():
    weather = Weather()
    weather.lose('a', 'b', 'c')
    for _ in range(100):
        weather.recover('a')
        told = weather.wait(7)
        told += weather.lose('a')
        assert 'cleared' not in words(told)
        weather.wait(1)
    assert weather.storm.suspected


def test_guests_that_leave_count_no_more():
    weather = Weather()
    weather.lose('a', 'b', 'c')
    weather.storm.forget('a', weather.now, EPOCH + weather.now)
    event, = weather.wait(8)
    assert event.transition is Transition.CLEARED
    assert event.instance_uuids == ('b', 'c')


@pytest.mark.parametrize('lost,ends', [(9, True), (10, False), (20, False)])
def test_it_ends_when_only_few_stay_lost_for_long(lost, ends):
    weather = Weather()
    weather.lose(*guests(lost))
    weather.wait(79.875)
    assert weather.storm.suspected
    assert words(weather.wait(1000)) == ['cleared'] * ends
    assert weather.storm.suspected is not ends


def test_each_loss_begins_the_long_wait_anew():
    weather = Weather()
    weather.lose(*guests(4))
    weather.wait(79)
    weather.lose('x')
    weather.wait(79)
    assert weather.storm.suspected
    assert words(weather.wait(1)) == ['cleared']


def test_the_next_storm_is_another():
    weather = Weather()
    weather.lose('a', 'b', 'c')
    weather.wait(80)
    # these are lost since then, and no news
    assert weather.lose('d', 'e') == []
    event, = weather.lose('f')
    assert event.transition is Transition.RAISED
    assert event.instance_uuids == ('d', 'e', 'f')
    assert (event.event_id, event.sequence) == ('id-3', 3)


def test_what_was_just_lost_counts_for_the_next_storm():
    weather = Weather()
    weather.lose('a', 'b', 'c')
    weather.recover('b', 'c')
    weather.wait(7)
    weather.lose('d')
    assert words(weather.wait(1)) == ['cleared']
    assert list(weather.storm._lost) == ['d']
    assert words(weather.lose('e', 'f')) == ['raised']


def test_an_event_names_so_many_and_counts_the_rest(monkeypatch):
    monkeypatch.setattr(storm, 'MAX_NAMED', 5)
    weather = Weather()
    weather.lose(*guests(9))
    event, = weather.wait(1)
    assert event.instance_uuids == tuple(guests(5))
    assert event.instance_count == 9


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(storm, '_MAX_LOST', 5)
    weather = Weather(percent=100, watched=1000)
    weather.lose(*guests(9))
    assert len(weather.storm._lost) == 5
    weather.now = 8.0
    weather.lose('x')
    assert list(weather.storm._lost) == ['x']


steps = st.lists(st.tuples(
    st.sampled_from(('lose', 'recover')), st.sampled_from(guests(6)),
    st.integers(0, 100).map(lambda eighths: eighths / 8)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_the_events_make_a_story(script):
    """Raised and cleared in turn, apart by a window, at most one a second."""
    weather = Weather()
    told = []
    for what, uuid, pause in script:
        told += getattr(weather, what)(uuid) or []
        assert weather.storm.suspected is bool(
            told and told[-1].transition is not Transition.CLEARED)
        told += weather.wait(pause)
    assert [event.sequence for event in told] == list(
        range(1, len(told) + 1))
    for before, event in itertools.pairwise([None, *told]):
        begins = before is None or before.transition is Transition.CLEARED
        assert (event.transition is Transition.RAISED) is begins
        if event.transition is Transition.UPDATED:
            assert event.detected_at - before.detected_at >= 1.0
