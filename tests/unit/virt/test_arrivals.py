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

"""What waits until somebody has said whose an instance is."""

import pytest

from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import arrivals
from tests.unit.virt.fakes import OTHER
from tests.unit.virt.fakes import see


@pytest.fixture
def asked():
    return []


@pytest.fixture
def waiting(asked):
    return arrivals.Arrivals(lambda uuid: asked.append(uuid) or True)


def test_asks_once_and_keeps_the_order(waiting, asked):
    first, second = see(Kind.STARTED, OTHER), see(Kind.PAUSED, OTHER)
    waiting.park(first, 0.0)
    waiting.park(second, 0.0)
    assert asked == [OTHER]
    assert list(waiting.looked(OTHER, True, 1.0)) == [first, second]
    assert list(waiting.claim(OTHER)) == []


def test_claimed_before_the_answer(waiting):
    observation = see(Kind.STARTED, OTHER)
    waiting.park(observation, 0.0)
    assert list(waiting.claim(OTHER)) == [observation]
    assert list(waiting.looked(OTHER, True, 1.0)) == []


def test_bounded_for_each_instance(waiting):
    for _ in range(3 * arrivals.MAX_PARKED):
        waiting.park(see(Kind.STARTED, OTHER), 0.0)
    assert len(waiting.claim(OTHER)) == arrivals.MAX_PARKED


def test_a_foreign_domain_is_asked_for_again_in_time(waiting, asked):
    waiting.park(see(Kind.STARTED, OTHER), 0.0)
    assert list(waiting.looked(OTHER, False, 100.0)) == []
    waiting.park(see(Kind.STARTED, OTHER), 100.0 + arrivals.FOREIGN_S / 2)
    assert asked == [OTHER]
    assert not waiting.claim(OTHER)
    waiting.park(see(Kind.STARTED, OTHER), 100.0 + arrivals.FOREIGN_S)
    assert asked == [OTHER, OTHER]


def test_foreign_domains_are_bounded(waiting, monkeypatch):
    monkeypatch.setattr(arrivals, 'MAX_FOREIGN', 2)
    for uuid in 'abc':
        waiting.looked(uuid, False, 0.0)
    assert len(waiting._foreign) <= 2


def test_what_cannot_be_asked_for_is_not_kept():
    waiting = arrivals.Arrivals(lambda uuid: False)
    waiting.park(see(Kind.STARTED, OTHER), 0.0)
    assert not waiting.claim(OTHER)
