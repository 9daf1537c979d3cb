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

"""The soak's judge: what it takes and what it complains of."""

import types

import pytest

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Transition
from tests.soak import record
from tests.soak import run

LOST = Cause.HEARTBEAT_LOST, ''
EXITED = Cause.AGENT_EXITED, ''
HOST = Cause.HOST_FAULT, 'libvirt_lost'
STORAGE = Cause.HOST_FAULT, 'storage_fault'


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Story:
    """One guest, and what is done to it and told of it, step by step."""

    def __init__(self):
        self.clock = Clock()
        self.outages = record.Outages(self.clock)
        self.tally = record.Tally(lambda _text: None)
        self.guest = record.Guest('uuid', 'name', 1, self.outages, self.tally)
        self._sequence = 0

    def expect(self, *conditions, **more):
        self.guest.expect(*conditions, **more)

    def over(self):
        self.guest.over()

    def wait(self, seconds):
        self.clock.now += seconds

    def tell(self, transition, key=LOST, skip=0):
        self._sequence += 1 + skip
        self.guest.take(types.SimpleNamespace(
            transition=Transition(transition), cause=key[0], subject=key[1],
            sequence=self._sequence, details={},
            detected_at=self.clock.now))

    def down(self, disturbs=True):
        self.outages.begin('driver', disturbs)

    def up(self, disturbs=True):
        self.outages.end('driver', disturbs)

    def told(self):
        assert self.guest.told()

    def not_told(self):
        assert not self.guest.told()

    def cleared(self):
        assert self.guest.cleared()


FAULT = [('expect', LOST), ('tell', 'raised'), ('told',)]
END = [('over',), ('tell', 'cleared'), ('cleared',)]
OUTAGE = [('down',), ('wait', 100), ('up',)]


@pytest.mark.parametrize('steps, problem', [
    (FAULT + END, None),
    (FAULT + [('tell', 'updated')] + END, None),
    ([('tell', 'raised')], 'false alarm'),
    ([('expect', LOST), ('tell', 'raised', EXITED)], 'false alarm'),
    (FAULT + [('tell', 'raised')], 'raised twice'),
    (FAULT + [('tell', 'cleared')], 'cleared too early'),
    ([('tell', 'cleared')], 'cleared unraised'),
    ([('tell', 'updated')], 'updated unraised'),
    ([('expect', LOST), ('tell', 'raised', LOST, 1)], 'sequence'),
    ([('expect', LOST), ('wait', 30), ('not_told',), ('wait', 9), ('told',)],
     'missed'),
    (FAULT + [('over',), ('wait', 39), ('cleared',)], 'not cleared'),
    # nobody is late while something is down, nor right after it
    ([('expect', LOST), *OUTAGE, ('wait', 38), ('not_told',), ('wait', 1),
      ('told',)], 'missed'),
    # what is told of the host, whatever a guest's story is
    ([('tell', 'raised', HOST), *FAULT, ('tell', 'updated', HOST), *END,
      ('tell', 'cleared', HOST)], None),
    ([('tell', 'raised', HOST), ('tell', 'raised', STORAGE),
      ('tell', 'cleared', HOST), ('tell', 'raised', HOST)], None),
    ([('tell', 'raised', HOST), ('tell', 'raised', HOST)], 'raised twice'),
    ([('tell', 'cleared', HOST)], 'cleared unraised'),
    ([('tell', 'updated', HOST)], 'updated unraised'),
    # what an outage excuses, and what it does not
    ([('expect', LOST), *OUTAGE, ('tell', 'raised', EXITED)], 'false alarm'),
])
def test_judges(steps, problem):
    judge(steps, problem)


@pytest.mark.parametrize('steps, problem', [
    ([*OUTAGE, ('tell', 'raised', EXITED), ('wait', 9), ('told',)], None),
    ([('tell', 'raised', EXITED)], 'false alarm'),
])
def test_outage_lets_another_cause_be_told(steps, problem):
    story = judge([], None)
    story.expect(LOST, otherwise={EXITED})
    judge(steps, problem, story)


@pytest.mark.parametrize('disturbs, problem', [(True, None),
                                               (False, 'missed')])
def test_kill_excuses_what_only_an_event_shows(disturbs, problem):
    story = judge([], None)
    story.expect(LOST, only_by_event=True)
    judge([('down', disturbs), ('up', disturbs), ('wait', 39), ('told',)],
          problem, story)
    assert story.tally.excused == (problem is None)


def judge(steps, problem, story=None):
    story = story or Story()
    for name, *arguments in steps:
        getattr(story, name)(*arguments)
    assert list(story.tally.problems) == ([problem] if problem else [])
    return story


def test_slope():
    assert run.slope([(0, 1.0), (10, 3.0), (20, 5.0)]) == pytest.approx(0.2)
