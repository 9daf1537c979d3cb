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


"""Restarts of everything, one after the other, as stories of their own."""

import threading

# How long something stays away, seconds.
AWAY_S = (1.0, 8.0)
# Between two restarts, as a part of what is wanted on average.
VARIED = (0.5, 1.5)


def restarts(world, every_s, kinds, until):
    """Restart things for ever.

    :param every_s: between two restarts, seconds
    :param kinds: gives the names of what may be restarted now
    :param until: says when to begin with no other
    """
    waiting = []
    while True:
        yield world.between(*VARIED) * every_s
        if until():
            return
        waiting = [kind for kind in waiting if kind in kinds()] \
            or sorted(kinds())
        kind = world.choice(waiting)
        waiting.remove(kind)
        world.close()
        yield world.closed
        world.tally.restarts[kind] += 1
        yield from KINDS[kind](world)
        world.open()


def driver(world):
    """kill -9 of the process with the driver."""
    world.outages.begin('driver', disturbs=True)
    world.driver.kill()
    yield world.between(*AWAY_S)
    world.start_driver()
    yield lambda: world.driver.ready
    world.outages.end('driver', disturbs=True)


def libvirtd(world):
    """libvirtd ends; its guests do not."""
    world.outages.begin('libvirtd', disturbs=True)
    world.libvirtd('away')
    yield world.between(*AWAY_S)
    world.libvirtd('back')
    yield 1.0
    world.outages.end('libvirtd', disturbs=True)


def broker(world):
    """kill -9 of the broker."""
    world.outages.begin('broker', disturbs=False)
    yield from _wait_for(world.broker.kill)
    yield world.between(*AWAY_S)
    yield from _wait_for(world.broker.start)
    world.outages.end('broker', disturbs=False)


def both(world):
    """kill -9 of both at once."""
    world.outages.begin('broker', disturbs=False)
    world.outages.begin('driver', disturbs=True)
    world.driver.kill()
    yield from _wait_for(world.broker.kill)
    world.start_driver()
    yield lambda: world.driver.ready
    world.outages.end('driver', disturbs=True)
    yield world.between(*AWAY_S)
    yield from _wait_for(world.broker.start)
    world.outages.end('broker', disturbs=False)


def _wait_for(function):
    """What waits by itself waits elsewhere: the guests go on."""
    thread = threading.Thread(target=function)
    thread.start()
    yield lambda: not thread.is_alive()


KINDS = {'driver': driver, 'libvirtd': libvirtd, 'broker': broker,
         'driver and broker': both}
# Where the driver's process lives on, so that its memory can be judged.
LASTING = frozenset({'libvirtd', 'broker'})
