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

"""The governor: when an action is due, and what speaks against it."""

import dataclasses

import pytest

from nova_vmhealth.core import actions
from nova_vmhealth.core.actions import Withheld
from nova_vmhealth.core.vocabulary import Action

FREE = actions.Situation(lost=True, planned=False, host_suspected=False,
                         running=True)


def governor(max_actions=2, window_s=100.0, delay_s=5.0):
    return actions.Governor(max_actions, window_s, delay_s)


@pytest.mark.parametrize('found, reason', [
    ({}, None),
    ({'lost': False}, Withheld.RECOVERED),
    ({'planned': True}, Withheld.PLANNED),
    ({'host_suspected': True}, Withheld.HOST_SUSPECTED),
    ({'running': False}, Withheld.NOT_RUNNING),
    # the first row of the table that holds is told
    ({'planned': True, 'running': False, 'lost': False}, Withheld.PLANNED),
    ({'running': False, 'lost': False}, Withheld.NOT_RUNNING),
    ({'lost': False, 'host_suspected': True}, Withheld.RECOVERED),
])
def test_what_speaks_against_it(found, reason):
    assert governor().decide(
        'u', dataclasses.replace(FREE, **found), 0.0) is reason


def test_every_reason_but_the_quota_has_a_row():
    assert {reason for reason, _ in actions.WITHHELD} == (
        set(Withheld) - {Withheld.QUOTA})


def test_quota_is_per_instance_and_window():
    judge = governor(max_actions=2, window_s=100.0)

    def decide(uuid, now):
        return judge.decide(uuid, FREE, now)
    assert decide('u', 0.0) is None
    assert decide('u', 50.0) is None
    assert decide('u', 60.0) is Withheld.QUOTA
    assert decide('other', 60.0) is None
    assert decide('u', 99.9) is Withheld.QUOTA
    assert decide('u', 100.0) is None           # the first has left
    assert decide('u', 149.9) is Withheld.QUOTA


def test_what_is_withheld_does_not_count():
    judge = governor(max_actions=1)
    planned = dataclasses.replace(FREE, planned=True)
    assert judge.decide('u', planned, 0.0) is Withheld.PLANNED
    assert judge.decide('u', FREE, 1.0) is None


def test_due_after_the_delay_and_once():
    judge = governor(delay_s=5.0)
    assert judge.next_deadline() is None
    judge.lost('a', Action.RESET, 10.0)
    judge.lost('b', Action.PAUSE, 11.0)
    assert judge.next_deadline() == 15.0
    assert judge.due(14.9) == []
    assert judge.due(15.0) == [('a', Action.RESET)]
    assert judge.next_deadline() == 16.0
    assert judge.due(20.0) == [('b', Action.PAUSE)]
    assert judge.next_deadline() is None


def test_a_new_loss_begins_the_delay_anew():
    judge = governor(delay_s=5.0)
    judge.lost('a', Action.RESET, 10.0)
    judge.lost('b', Action.RESET, 11.0)
    judge.lost('a', Action.RESET, 12.0)
    assert judge.next_deadline() == 16.0
    assert judge.due(17.0) == [('b', Action.RESET), ('a', Action.RESET)]


def test_cancel_and_forget():
    judge = governor(max_actions=1)
    judge.lost('a', Action.RESET, 0.0)
    assert judge.cancel('a') is Action.RESET
    assert judge.cancel('a') is None
    assert judge.due(100.0) == []
    assert judge.decide('a', FREE, 0.0) is None
    judge.lost('a', Action.RESET, 0.0)
    judge.forget('a')
    assert judge.due(100.0) == []
    assert judge.decide('a', FREE, 1.0) is None     # its quota is new too


def test_refund():
    judge = governor(max_actions=1)
    judge.refund('u')                               # nothing was taken
    assert judge.decide('u', FREE, 0.0) is None
    judge.refund('u')
    assert judge.decide('u', FREE, 1.0) is None
    assert judge.decide('u', FREE, 2.0) is Withheld.QUOTA


class Untouched(dict):
    """Counts how many of its items are looked at."""

    looked = 0

    def items(self):
        for item in super().items():
            self.looked += 1
            yield item

    def __iter__(self):
        raise AssertionError('copied')


def test_what_is_not_due_is_not_looked_at():
    judge = governor(delay_s=5.0)
    judge._pending = Untouched()
    for number in range(1000):
        judge.lost(str(number), Action.RESET, number // 2)
    assert judge.due(5.0) == [('0', Action.RESET), ('1', Action.RESET)]
    assert judge._pending.looked == 3
