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

"""The bus may go and come; an event that is at fault holds up nobody else."""

import collections
import threading

import pytest

from nova_vmhealth.notifications import delivery as delivery_lib
from nova_vmhealth.notifications import outbox
from nova_vmhealth.notifications import sender
from nova_vmhealth.notifications import tables
from tests.unit.notifications.test_outbox import row

PATIENCE_S = 30


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Bus:
    """A Delivery to a bus that takes what the test says.

    :ivar up: whether it takes anything
    :ivar refused: event_ids that it never takes, as if it were away
    :ivar bad: event_ids that no message can be made of
    """

    def __init__(self):
        self.up = True
        self.refused = set()
        self.bad = set()
        self.got = []
        self.tries = collections.Counter()
        self.closed = 0
        self.took = threading.Event()

    def send(self, row):
        self.tries[row.event_id] += 1
        if row.event_id in self.bad:
            raise delivery_lib.BadEvent('no such thing')
        if not self.up or row.event_id in self.refused:
            raise ConnectionRefusedError('nobody there')
        self.got.append(row.event_id)
        self.took.set()

    def close(self):
        self.closed += 1


@pytest.fixture
def box():
    made = outbox.Outbox(None, max_events=1000, max_bytes=10 ** 9)
    made.open()
    return made


@pytest.fixture
def bus():
    return Bus()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def subject(box, bus, clock):
    return sender.Sender(box, bus, clock)


def fill(box, *abouts):
    box.write([row(n, about=about) for n, about in enumerate(abouts, 1)], {})


def steps(subject, count):
    return [subject.step() for _ in range(count)]


def test_the_oldest_first_until_there_is_nothing(subject, box, bus):
    fill(box, 'a', 'b', 'a')
    assert steps(subject, 4) == [0, 0, 0, None]
    assert bus.got == ['e00001', 'e00002', 'e00003']
    assert (subject.sent, subject.failed, box.depth) == (3, 0, 0)


def test_pauses_grow_to_some_seconds(subject, box, bus):
    fill(box, 'a')
    bus.up = False
    pauses = steps(subject, 12)
    for number, pause in enumerate(pauses):
        longest = min(0.2 * 2 ** number, 5.0)
        assert longest * 0.8 <= pause <= longest
    assert len(set(pauses)) == len(pauses)
    bus.up = True
    assert subject.step() == 0
    fill(box, 'b')
    bus.up = False
    assert subject.step() <= 0.2            # from the beginning


def test_an_outage_of_whatever_length_costs_nothing(
        subject, box, bus, clock, caplog):
    caplog.set_level('INFO')
    fill(box, *'abcabc')
    bus.up = False
    for _ in range(1000):
        assert subject.step() > 0
        clock.now += 5
    assert subject.outage_s == 5000
    assert (subject.failed, box.depth) == (0, 6)
    # once a minute, at 5 s each
    lines = [each.getMessage() for each in caplog.records]
    assert len(lines) == 1000 * 5 // 60 + 1
    assert 'nobody there' in lines[0] and '6 wait' in lines[0]
    bus.up = True
    steps(subject, 6)
    assert bus.got == ['e%05d' % n for n in range(1, 7)]
    assert subject.outage_s == 0
    assert 'again, after 5000' in caplog.messages[-1]


def test_what_no_message_can_be_made_of_is_given_up(
        subject, box, bus, caplog):
    fill(box, 'a', 'a', 'b')
    bus.bad = {'e00001'}
    first, second, third = steps(subject, 3)
    assert first > 0 and second > 0 and third == 0
    steps(subject, 3)
    assert bus.got == ['e00002', 'e00003']
    assert (subject.sent, subject.failed, box.depth) == (2, 1, 0)
    assert subject.outage_s == 0
    [record] = caplog.records
    assert record.levelname == 'ERROR'
    assert 'e00001' in record.getMessage()
    assert 'no such thing' in record.getMessage()


def test_what_the_bus_refuses_while_it_takes_others_is_given_up(
        subject, box, bus):
    fill(box, 'a', 'a', 'b', 'b', 'c', 'a')
    bus.refused = {'e00001'}
    for _ in range(20):
        subject.step()
    assert subject.failed == 1
    # one of others went first, for a test, again and again; each instance's
    # are in order
    assert bus.got == ['e00003', 'e00003', 'e00003', 'e00002', 'e00004',
                       'e00005', 'e00006']
    assert (subject.sent, box.depth) == (5, 0)


def test_several_that_the_bus_refuses_hold_up_nobody(subject, box, bus):
    fill(box, *'abcdefghi')
    bus.refused = {'e00001', 'e00002', 'e00003', 'e00005'}
    for _ in range(40):
        subject.step()
    assert (subject.failed, subject.sent, box.depth) == (4, 5, 0)
    assert set(bus.got) == {'e00004', 'e00006', 'e00007', 'e00008', 'e00009'}


def test_too_many_that_the_bus_refuses_are_no_reason_to_try_them_all(
        subject, box, bus):
    fill(box, *'abcdefghi')
    bus.up = False
    for _ in range(20):
        subject.step()
    assert (subject.failed, box.depth) == (0, 9)
    assert bus.tries['e00006'] and not bus.tries['e00007']


def test_with_only_its_own_instance_what_was_sent_before_goes_again(
        subject, box, bus):
    fill(box, 'a', 'a', 'a')
    bus.refused = {'e00002'}
    for _ in range(20):
        subject.step()
    assert bus.got == ['e00001'] * 4 + ['e00003']
    assert (subject.failed, subject.sent, box.depth) == (1, 2, 0)


def test_with_nobody_else_to_compare_it_waits(subject, box, bus):
    fill(box, 'a', 'a')
    bus.refused = {'e00001'}
    for _ in range(50):
        subject.step()
    assert (subject.failed, box.depth, bus.got) == (0, 2, [])
    box.write([row(n, about='b') for n in range(10, 13)], {})
    for _ in range(5):
        subject.step()
    assert subject.failed == 1
    assert bus.got == ['e00010', 'e00010', 'e00010', 'e00002', 'e00011']


def test_an_innocent_one_between_two_outages_is_kept(subject, box, bus):
    """The bus comes back just when another is sent, and goes again."""
    fill(box, 'a', 'b')
    bus.up = False
    steps(subject, 4)
    real = box.oldest

    def oldest(besides=()):
        if besides:
            bus.up = True
        return real(besides)
    box.oldest = oldest
    subject.step()
    box.oldest = real
    assert bus.got == ['e00002']
    bus.up = False
    steps(subject, 50)
    assert (subject.failed, box.depth) == (0, 1)
    bus.up = True
    steps(subject, 2)
    assert bus.got == ['e00002', 'e00001']


def test_a_bus_that_comes_and_goes_fills_no_log(
        subject, box, bus, clock, caplog):
    caplog.set_level('INFO')
    fill(box, *'ab' * 10)
    for _ in range(10):
        bus.up = False
        subject.step()
        bus.up = True
        subject.step()
        clock.now += 1
    assert len(caplog.records) == 2         # it went, and came


def test_what_cannot_be_removed_now_is_not_sent_once_more(subject, box, bus):
    fill(box, 'a', 'a')
    real, busy = box.remove, [tables.Busy('locked')] * 2

    def remove(event_id):
        if busy:
            raise busy.pop()
        real(event_id)
    box.remove = remove
    for _ in range(2):
        with pytest.raises(tables.Busy):
            subject.step()
    assert steps(subject, 2) == [0, None]
    assert bus.got == ['e00001', 'e00002']
    assert subject.sent == 2


def test_the_thread_waits_for_a_file_that_somebody_holds(
        box, bus, caplog, monkeypatch):
    monkeypatch.setattr(sender, '_BUSY_PAUSE_S', 0.01)
    real, busy = box.oldest, [tables.Busy('locked')] * 2

    def oldest(besides=()):
        if busy:
            raise busy.pop()
        return real(besides)
    box.oldest = oldest
    fill(box, 'a')
    subject = sender.Sender(box, bus)
    subject.start()
    assert bus.took.wait(PATIENCE_S)
    assert subject.stop(PATIENCE_S)
    assert (bus.got, caplog.records) == (['e00001'], [])


def test_the_thread_sends_what_comes_and_ends(box, bus):
    subject = sender.Sender(box, bus)
    subject.start()
    for number in range(1, 51):
        box.write([row(number)], {})
        subject.wake()
    assert subject.stop(PATIENCE_S)
    assert bus.got == ['e%05d' % n for n in range(1, 51)]
    assert bus.closed == 1
    assert not [each for each in threading.enumerate()
                if each.name == 'vmhealth-sender']


def test_stop_does_not_wait_for_a_bus_that_is_away(box, bus):
    bus.up = False
    fill(box, 'a', 'b')
    subject = sender.Sender(box, bus)
    subject.start()
    assert subject.stop(PATIENCE_S)
    assert box.depth == 2
    assert bus.tries['e00001'] <= 2


def test_a_defect_does_not_end_the_thread(box, bus, caplog, monkeypatch):
    monkeypatch.setattr(sender, 'LONGEST_PAUSE_S', 0.01)
    real, failed = box.oldest, threading.Event()

    def fails_once():
        if not failed.is_set():
            failed.set()
            raise RuntimeError('a defect')
        return real()
    box.oldest = fails_once
    fill(box, 'a')
    subject = sender.Sender(box, bus)
    subject.start()
    assert failed.wait(PATIENCE_S)
    assert subject.stop(PATIENCE_S)
    [record] = caplog.records
    assert record.exc_info


def test_stop_without_start(subject):
    assert subject.stop(0)


class StuckBus(Bus):
    """Does not come back until it is told to."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()
        self.release = threading.Event()

    def send(self, row):
        self.entered.set()
        assert self.release.wait(PATIENCE_S)
        super().send(row)


def test_an_attempt_that_does_not_end_is_told_by_somebody_else(
        box, clock, caplog):
    bus = StuckBus()
    fill(box, 'a')
    subject = sender.Sender(box, bus, clock)
    subject.tell_stuck()
    subject.start()
    assert bus.entered.wait(PATIENCE_S)
    clock.now += 59
    subject.tell_stuck()
    assert caplog.records == []
    clock.now += 1
    for _ in range(3):
        subject.tell_stuck()
    [record] = caplog.records
    assert 'not confirmed a health event for 60 s' in record.getMessage()
    assert not subject.stop(0)              # left behind
    bus.release.set()
    assert subject.stop(PATIENCE_S)
    subject.tell_stuck()
    assert len(caplog.records) == 1
