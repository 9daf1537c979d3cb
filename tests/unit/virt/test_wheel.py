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


def test_wheel():
    wheel = Wheel()
    assert wheel.next_at() == math.inf
    wheel.schedule('a', 10.003)
    wheel.schedule('b', 10.0)
    wheel.schedule('c', 10.5)
    wheel.schedule('never', math.inf)
    assert wheel.next_at() == pytest.approx(10.0)
    assert wheel.due(9.99) == []
    assert wheel.due(10.0) == ['b']
    assert wheel.due(10.009) == []
    assert wheel.due(10.01) == ['a']
    wheel.schedule('c', 11.0)
    assert wheel.due(10.9) == []
    wheel.schedule('past', 3.0)
    assert wheel.due(10.9) == []            # the next slot, not this one
    assert wheel.due(10.91) == ['past']
    wheel.cancel('c')
    wheel.cancel('c')
    assert wheel.due(99.0) == []


def test_wheel_gives_the_most_overdue_first_and_all_at_once():
    wheel = Wheel()
    for number in (3, 1, 2):
        wheel.schedule(number, 10.0 + number)
    assert wheel.due(1000.0) == [1, 2, 3]
    assert wheel.next_at() == math.inf


@pytest.mark.parametrize('start', [0.25, 1.0 / 3, 12345.67, 9.9e6])
def test_wheel_is_at_most_a_slot_late_and_keeps_its_slot(start):
    wheel = Wheel()
    for beat in range(2000):
        when = start + beat * 0.2
        wheel.schedule('a', when)
        at = wheel.next_at()
        assert -2e-6 <= at - when < 0.01
        assert wheel.due(at) == ['a']
