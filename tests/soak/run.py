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


"""The soak's loop: every guest in some story, and things that restart."""

import contextlib
import time

from tests.soak import restarts
from tests.soak import stories
from tests.soak import world as world_lib

TICK_S = 0.05
# A guest is well for so long between two stories, seconds: a heartbeat that
# is lost more than five times a minute would count as flapping.
REST_S = (8.0, 25.0)
# By then each has answered for the first time.
FIRST_BEAT_S = 3.0
# The driver's process lives through this last part of the time, if that is
# long enough to judge its memory.
LASTING = 1 / 3
SAMPLE_S = 2.0
PROGRESS_S = 60.0
# After the end of the time: until the last stories are over.
FINISH_S = 180.0
# A young process still grows.
WARM_S = 120.0
# From when on a slope says something.
JUDGED_S = 100.0


class Actor:
    """One who tells stories, one after the other.

    :param stories: generator of what it waits for
    """

    def __init__(self, stories):
        self._stories = stories
        self._ready = lambda: True
        self.done = False

    def tick(self):
        """Go on if what it waits for has come."""
        while not self.done and self._ready():
            try:
                wait = next(self._stories)
            except StopIteration:
                self.done = True
                return
            self._ready = wait if callable(wait) else _after(wait)


def _after(seconds):
    at = time.monotonic() + seconds
    return lambda: time.monotonic() >= at


def life(world, guest, until):
    """The stories of one guest, until it is time to end."""
    weights = [story.weight for story in stories.STORIES.values()]
    yield world.between(FIRST_BEAT_S, REST_S[1])
    while not until():
        name, = world.choices(list(stories.STORIES), weights)
        story = stories.STORIES[name]
        if story.needs_driver:
            yield world.calm
        guest.story = name
        guest.expect()
        yield from story.tell(world, guest)
        world.tally.stories[name] += 1
        yield world.between(*REST_S)


class Soak:
    """One run.

    :param seconds: how long new stories begin
    :param every_s: between two restarts, seconds; None for none
    """

    def __init__(self, folder, guests, seconds, every_s, seed, say):
        self.world = world_lib.World(folder, guests, seed, say)
        self._seconds = seconds
        self._every_s = every_s
        self._say = say
        self._began = None
        # (process id, its age in seconds, KiB)
        self._samples = []
        self._born = {}
        self._slowest = 0.0

    def run(self):
        """Do it; the lines of the tally."""
        with contextlib.ExitStack() as stack:
            self.world.start(stack)
            self._began = time.monotonic()
            self._loop()
            statistics = self.world.driver.do('statistics')
        return [*self.world.tally.lines(), *self._memory(),
                'repeats dropped by the listener: %d'
                % self.world.listener.duplicates,
                'the loop itself was late by at most %.1f s' % self._slowest,
                'driver: ' + ', '.join(
                    '%s %s' % pair for pair in sorted(statistics.items()))]

    def _passed(self):
        return time.monotonic() - self._began

    def _over(self):
        return self._passed() > self._seconds

    def _kinds(self):
        last = self._seconds * LASTING
        lasting = (last > WARM_S + JUDGED_S
                   and self._passed() > self._seconds - last)
        return restarts.LASTING if lasting else restarts.KINDS

    def _loop(self):
        lives = [Actor(life(self.world, guest, self._over))
                 for guest in self.world.guests.values()]
        actors = list(lives)
        if self._every_s:
            actors.append(Actor(restarts.restarts(
                self.world, self._every_s, self._kinds, self._over)))
        chores = [Actor(self._sample()), Actor(self._progress())]
        last = time.monotonic()
        while not all(actor.done for actor in actors):
            now = time.monotonic()
            self._slowest = max(self._slowest, now - last - TICK_S)
            last = now
            self.world.take_events()
            for actor in (*actors, *chores):
                actor.tick()
            if self._passed() > self._seconds + FINISH_S:
                self.world.tally.problem('unfinished', ', '.join(
                    guest.story for actor, guest in zip(
                        lives, self.world.guests.values(), strict=True)
                    if not actor.done))
                return
            time.sleep(TICK_S)

    def _sample(self):
        while True:
            yield SAMPLE_S
            driver = self.world.driver
            with contextlib.suppress(OSError, StopIteration):
                resident = driver.resident_kib()
                born = self._born.setdefault(driver.pid, self._passed())
                self._samples.append(
                    (driver.pid, self._passed() - born, resident))

    def _progress(self):
        while True:
            yield PROGRESS_S
            tally = self.world.tally
            self._say('%d s: stories %d, told %d, restarts %d, problems %d, '
                      'driver %d MiB' % (
                          self._passed(), sum(tally.stories.values()),
                          sum(tally.transitions.values()),
                          sum(tally.restarts.values()),
                          sum(map(len, tally.problems.values())),
                          self._samples[-1][2] / 1024))

    def _memory(self):
        """Describe the memory of the last of the driver's processes."""
        found = [(age, resident / 1024)
                 for pid, age, resident in self._samples
                 if pid == self._samples[-1][0] and age > WARM_S]
        if not found:
            return
        yield 'memory of the last process: %.1f MiB at %d s, %.1f at %d s' % (
            found[0][1], found[0][0], found[-1][1], found[-1][0])
        if found[-1][0] - found[0][0] > JUDGED_S:
            yield 'memory grew by %.1f MiB an hour' % (slope(found) * 3600)


def slope(points):
    """Return the slope of the line that fits the points best."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
        (x - mean_x) ** 2 for x, _ in points)
