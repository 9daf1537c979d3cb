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

"""Whatever happens in whatever order, a project hears a story that holds.

Three inspectors, of which some are away, some have wrong clocks and some die
in the middle; operators who change their minds; instances that come and go. A
reader that knows no rules takes in what the bus has carried.
"""

import collections
import random

import pytest

from nova_vmhealth import exception
from tests.unit.inspector import world

NOW = world.EPOCH
HOUR = 3600.0
HOSTS = ('compute-1', 'compute-2')
PROJECTS = ('red', 'blue')
NAMES = ('one', 'two', 'three')

# How often each happens, among so many steps.
WEIGHTS = {'turn': 12, 'wait': 8, 'set': 3, 'change': 4, 'unset': 2, 'sync': 8,
           'restart': 2, 'die': 2, 'leave': 1, 'come': 3, 'servers': 3,
           'nova': 2}
LENGTH = 60


def step(chance, kinds, names):
    """Give what happens next, by chance."""
    def hours(low, high):
        return chance.randint(2 * low, 2 * high) / 2

    name, other = chance.choice(names), chance.choice(NAMES)
    host = chance.choice(HOSTS)
    rest = {
        'set': (name, host, hours(-2, 4), hours(0, 4)),
        'change': (name, chance.randint(0, 3), hours(-2, 4), hours(0, 4)),
        'unset': (name, chance.randint(0, 3)),
        'sync': (name, other),
        'restart': (name,),
        'die': (name,),
        'leave': (name,),
        'come': (name,),
        'turn': (name,),
        'servers': (host, chance.sample(PROJECTS, chance.randint(0, 2))),
        'nova': (chance.random() < 0.7,),
        'wait': (chance.randint(1, 90),)}
    kind, = chance.choices(kinds, [WEIGHTS[kind] for kind in kinds])
    return kind, *rest[kind]


class Play:
    """The cloud, its inspectors and its clock."""

    def __init__(self):
        self.wall = NOW
        self.cloud = world.Cloud()
        self.members = {
            name: world.Inspector(self.cloud, name) for name in NAMES}
        self._servers('compute-1', ['red'])
        # all that the bus has carried: event_id -> event
        self.carried = {}
        # those that do not run
        self.away = set()

    def step(self, kind, *rest):
        self.wall += 0.01
        if kind != 'come' and any(name in rest for name in self.away):
            return
        try:
            getattr(self, '_' + kind)(*rest)
        except exception.InvalidWindow:
            pass                # the operator asked for nonsense
        self._carry()

    def _carry(self):
        for event in self.cloud.told:
            known = self.carried.setdefault(event.event_id, event)
            # The rest may be told by two who do not know the same.
            assert (known.window_id, known.stage, known.project_id) == (
                event.window_id, event.stage, event.project_id)
        self.cloud.told.clear()

    def _set(self, name, host, after, lasts):
        starts_at = self.wall + after * HOUR
        self.members[name].keeper.set(
            {'host': host, 'starts_at': starts_at,
             'ends_at': starts_at + lasts * HOUR, 'reason': 'x'}, self.wall)

    def _pick(self, name, number):
        records = self.members[name].keeper.list(None, self.wall)
        return records[number % len(records)]['id'] if records else 'none'

    def _change(self, name, number, after, lasts):
        starts_at = self.wall + after * HOUR
        self.members[name].keeper.set(
            {'id': self._pick(name, number), 'starts_at': starts_at,
             'ends_at': starts_at + lasts * HOUR}, self.wall)

    def _unset(self, name, number):
        self.members[name].keeper.unset(
            None, self._pick(name, number), self.wall)

    def _sync(self, source, target):
        self.members[source].sync(self.members[target], self.wall)

    def _restart(self, name):
        self.members[name] = self.members[name].again()

    def _die(self, name):
        """It has asked, and never comes to telling."""
        self.members[name].keeper.handle_timer(self.wall)
        self._restart(name)

    def _turn(self, name):
        member = self.members[name]
        member.keeper.handle_timer(self.wall)
        if member.run_jobs():
            member.keeper.handle_timer(self.wall)

    def _servers(self, host, projects):
        self.cloud.servers[host] = [
            world.server(f'{host}-{project}', project)
            for project in projects]

    def _nova(self, is_well):
        self.cloud.failure = None if is_well else RuntimeError('no')

    def _leave(self, name):
        self.away.add(name)

    def _come(self, name):
        """It hears what it has missed before it does anything."""
        if name in self.away:
            self.away.remove(name)
            self._restart(name)
            self._sync_all()

    def _wait(self, minutes):
        """In a minute all that run have heard of each other."""
        self._sync_all()
        self.wall += minutes * 60.0

    def _sync_all(self):
        running = [name for name in NAMES if name not in self.away]
        # Twice: what came to a neighbour late has to get to the next.
        for source in running * 2:
            for target in running:
                self._sync(source, target)

    def finish(self):
        """Let everybody hear of everything, and all windows be over."""
        self._nova(True)
        for name in NAMES:
            self._come(name)
        for _ in range(3):
            self._sync_all()
            for name in NAMES:
                self._turn(name)
                self._carry()
            self._wait(24 * 60)

    def stories(self):
        """(window, project) -> its events, in the order in which they were."""
        stories = collections.defaultdict(list)
        for event in self.carried.values():
            stories[event.window_id, event.project_id].append(event)
        return stories


@pytest.mark.parametrize('seed', range(100))
def test_what_projects_hear(seed):
    chance = random.Random(seed)
    play = Play()
    for _ in range(LENGTH):
        play.step(*step(chance, list(WEIGHTS), NAMES))
    play.finish()
    for events in play.stories().values():
        words = [event.stage.value for event in events]
        last = [word for word in words if word in ('ended', 'cancelled')]
        # Who heard of it hears that it is over,
        assert last, words
        # and nothing but its end without a begin.
        assert words[0] in ('announced', 'started'), words
        if 'ended' in words:
            assert 'started' in words, words
    # In the end nothing is left of it anywhere.
    for member in play.members.values():
        assert member.keeper.list(None, play.wall) == []
        assert member.keeper.next_deadline(play.wall) is None
        assert member.replica.items('') == {}


@pytest.mark.parametrize('seed', range(100))
def test_what_projects_hear_of_a_single_inspector(seed):
    """Here each is told each word once, and in order."""
    chance = random.Random(seed)
    play = Play()
    for _ in range(LENGTH):
        play.step(*step(chance, [kind for kind in WEIGHTS if kind != 'sync'],
                        ['one']))
        play.step('turn', 'one')
    play.step('nova', True)
    play.step('wait', 1)
    play.step('turn', 'one')
    told = len(play.carried)
    for _ in range(3):
        play.step('restart', 'one')
        play.step('turn', 'one')
    assert len(play.carried) == told
    play.finish()
    for events in play.stories().values():
        times = [event.occurred_at for event in events]
        assert times == sorted(times)
        words = [event.stage.value for event in events]
        assert words[-1] in ('ended', 'cancelled')
        assert sum(word in ('ended', 'cancelled') for word in words) == 1
        assert words.count('announced') <= 1
