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

"""The worker's queue: what is dropped, and how that is told."""

import queue

import pytest

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import inbox
from tests.unit.virt import fakes


def test_drops_what_repeats_when_full_and_counts_it():
    box = inbox.Inbox(3)
    for _ in range(5):
        box.put_observation(fakes.see(Kind.FAULT, cause=Cause.IO_ERROR))
    box.put_observation(fakes.see(Kind.STOPPED, reason='failed'))
    box.put_observation(fakes.see(Kind.FAULT, cause=Cause.HEARTBEAT_LOST))
    box.put('an answer')
    assert box.dropped == 2
    assert box.depth == 6


def test_gives_in_order_and_waits_no_longer_than_told():
    box = inbox.Inbox(3)
    box.put(1)
    box.put(2)
    assert [box.get(0), box.get(0)] == [1, 2]
    with pytest.raises(queue.Empty):
        box.get(0)


def test_drops_are_told_once_a_minute(monkeypatch):
    lines = []
    monkeypatch.setattr(inbox.LOG, 'warning',
                        lambda *args: lines.append(args[1]))
    box = inbox.Inbox(3)
    for now, dropped in ((0.0, 1), (1.0, 2), (59.0, 3), (61.0, 4)):
        box.dropped = dropped
        box.tell_drops(now)
    assert lines == [{'new': 1, 'all': 1}, {'new': 3, 'all': 4}]
