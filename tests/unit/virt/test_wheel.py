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


"""When the wheel's keys are due."""

import math

import pytest

from nova_vmhealth.virt.wheel import Wheel


class Guest:
    def __init__(self, name):
        self.name = name
        self.slot = None


def names(guests):
    return [guest.name for guest in guests]


def test_wheel():
    wheel = Wheel(0.0)
    wheel.due(9.0)
    a, b, c, past, never = map(Guest, ('a', 'b', 'c', 'past', 'never'))
    assert wheel.next_at() == math.inf
    wheel.schedule(a, 10.003)
    wheel.schedule(b, 10.0)
    wheel.schedule(c, 10.5)
    wheel.schedule(never, math.inf)
    assert wheel.next_at() == pytest.approx(10.0)
    assert wheel.due(9.99) == []
    assert names(wheel.due(10.0)) == ['b']
    assert wheel.due(10.009) == []
    assert names(wheel.due(10.01)) == ['a']
    wheel.schedule(past, 3.0)
    assert wheel.due(10.01) == []           # the next slot, not this one
    assert names(wheel.due(10.02)) == ['past']
    wheel.cancel(c)
    wheel.cancel(c)
    assert wheel.due(99.0) == []


def test_the_earlier_of_two_deadlines_holds():
    wheel = Wheel(9.0)
    guest = Guest('a')
    wheel.schedule(guest, 10.5)
    wheel.schedule(guest, 11.0)
    assert names(wheel.due(10.5)) == ['a']
    wheel.schedule(guest, 12.0)
    wheel.schedule(guest, 11.0)
    assert names(wheel.due(11.0)) == ['a']
    assert wheel.due(12.0) == []            # what was left of it there


def test_a_guest_comes_up_once_however_often_it_was_scheduled():
    wheel = Wheel(9.0)
    guest = Guest('a')
    for _ in range(50):
        wheel.schedule(guest, 12.0)
        wheel.schedule(guest, 10.0)
        wheel.cancel(guest)
    wheel.schedule(guest, 12.0)
    assert wheel.due(11.0) == []
    assert names(wheel.due(12.0)) == ['a']


def test_a_deadline_far_away_is_looked_at_in_between():
    wheel = Wheel(100.0)
    guest = Guest('a')
    wheel.schedule(guest, 3700.0)
    assert wheel.next_at() == pytest.approx(110.0)
    assert names(wheel.due(110.0)) == ['a']


def test_wheel_gives_the_most_overdue_first_and_all_at_once():
    wheel = Wheel(9.0)
    for number in (3, 1, 2):
        wheel.schedule(Guest(number), 10.0 + number)
    assert names(wheel.due(1000.0)) == [1, 2, 3]
    assert wheel.next_at() == math.inf


@pytest.mark.parametrize('start', [0.25, 1.0 / 3, 12345.67, 9.9e6])
def test_wheel_is_at_most_a_slot_late_and_keeps_its_slot(start):
    wheel = Wheel(start - 1)
    guest = Guest('a')
    for beat in range(2000):
        when = start + beat * 0.2
        wheel.schedule(guest, when)
        at = wheel.next_at()
        assert -2e-6 <= at - when < 0.01
        assert names(wheel.due(at)) == ['a']
