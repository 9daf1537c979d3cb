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


"""What can happen to a guest, and what must be told of it.

A story is a generator: it changes the guest through the world's methods and
yields what it waits for, a number of seconds or a function that says when. It
declares what it does to the ledger's eyes before it does it, see
:mod:`tests.soak.record`.
"""

import dataclasses
from typing import Callable

from nova_vmhealth.core.vocabulary import Cause
from tests.soak import guest as guest_lib
from tests.soak.guest import GONE
from tests.soak.guest import GOOD
from tests.soak.guest import HUNG
from tests.soak.guest import SILENT

# libvirt's numbers: states with their reasons, and lifecycle events
RUNNING = [guest_lib.RUNNING, 1]
UNPAUSED = [guest_lib.RUNNING, 5]
PAUSED_BY_USER = [guest_lib.PAUSED, 1]
PAUSED_IOERROR = [guest_lib.PAUSED, 5]
SHUT_DOWN = [guest_lib.SHUTOFF, 1]
DESTROYED = [guest_lib.SHUTOFF, 2]
CRASHED = [guest_lib.SHUTOFF, 3]
STARTED = ('lifecycle', [2, 0])
SUSPENDED = ('lifecycle', [3, 0])
SUSPENDED_IOERROR = ('lifecycle', [3, 2])
RESUMED = ('lifecycle', [4, 0])
STOPPED_SHUTDOWN = ('lifecycle', [5, 0])
STOPPED_DESTROYED = ('lifecycle', [5, 1])
STOPPED_CRASHED = ('lifecycle', [5, 2])
STOPPED_FAILED = ('lifecycle', [5, 5])
SHUTDOWN_BY_GUEST = ('lifecycle', [6, 1])
PANICKED = ('lifecycle', [8, 0])
REBOOT = ('reboot', [])
WATCHDOG_NONE = ('watchdog', [0])
DISK = 'virtio-disk0'
IO_PAUSE = ('io_error_reason', ['/disks/0', DISK, 1, 'enospc'])
IO_REPORT = ('io_error_reason', ['/disks/0', DISK, 2, 'eio'])
STORM = 20

# A guest takes so long until its agent answers, seconds.
BOOT_S = (0.5, 2.0)
# A fault stays so long once it is told.
FAULT_S = (0.5, 5.0)
# Less than makes a loss: the third miss comes three seconds after the hang.
BLINK_S = (0.5, 1.8)

# What else a guest may be told of that has stopped while nobody listened.
STOPS = frozenset((cause, '') for cause in (
    Cause.GUEST_CRASHED, Cause.QEMU_FAILED, Cause.STOPPED_UNEXPECTEDLY,
    Cause.NOT_RUNNING, Cause.GUEST_SHUTDOWN))
LOST = frozenset({(Cause.HEARTBEAT_LOST, '')})


@dataclasses.dataclass(frozen=True)
class Story:
    """One of them.

    :ivar tell: makes the generator, of the world and the guest
    :ivar weight: how often it is chosen, beside others
    :ivar needs_driver: it cannot be known of unless the driver runs
    """

    tell: Callable
    weight: int = 1
    needs_driver: bool = False


def hang(world, guest):
    """It stands still until that is told."""
    guest.expect((Cause.HEARTBEAT_LOST, ''))
    world.change(guest, mode=HUNG)
    yield guest.told
    yield world.between(*FAULT_S)
    guest.over()
    world.change(guest, mode=GOOD)
    yield guest.cleared


def blink(world, guest):
    """It stands still for less than makes a loss."""
    world.change(guest, mode=HUNG)
    yield world.between(*BLINK_S)
    world.change(guest, mode=GOOD)


def agent_exit(world, guest):
    """Its agent says goodbye, and comes back."""
    guest.expect((Cause.AGENT_EXITED, ''), otherwise=LOST)
    if not world.change(guest, exits=True):
        guest.expect(*LOST)         # nobody has heard it
    yield guest.told
    yield world.between(*FAULT_S)
    guest.over()
    world.change(guest, mode=GOOD)
    yield guest.cleared


def report(world, guest):
    """It says itself that it is ill."""
    cause, health = world.choice([(Cause.GUEST_UNHEALTHY, 'unhealthy'),
                                  (Cause.GUEST_DEGRADED, 'degraded')])
    guest.expect((cause, 'db'))
    world.change(guest, audits={'db': health})
    yield guest.told
    yield world.between(*FAULT_S)
    guest.over()
    world.change(guest, audits={'db': 'healthy'})
    yield guest.cleared


def panic(world, guest):
    """Its kernel panics, and libvirt ends it."""
    guest.expect((Cause.GUEST_CRASHED, ''), otherwise=STOPS)
    yield from _die_and_start(world, guest, CRASHED,
                              [PANICKED, STOPPED_CRASHED])


def qemu_dies(world, guest):
    """QEMU is killed."""
    guest.expect((Cause.QEMU_FAILED, ''), otherwise=STOPS)
    yield from _die_and_start(world, guest, CRASHED, [STOPPED_FAILED])


def power_off(world, guest):
    """It powers itself off."""
    guest.expect((Cause.GUEST_SHUTDOWN, ''), otherwise=STOPS)
    yield from _die_and_start(world, guest, SHUT_DOWN,
                              [SHUTDOWN_BY_GUEST, STOPPED_SHUTDOWN])


def destroyed(world, guest):
    """Somebody ends it behind Nova's back."""
    guest.expect((Cause.STOPPED_UNEXPECTEDLY, ''), otherwise=STOPS)
    yield from _die_and_start(world, guest, DESTROYED, [STOPPED_DESTROYED])


def _die_and_start(world, guest, state, events):
    world.change(guest, state=state, mode=GONE, events=events)
    yield guest.told
    yield world.between(*FAULT_S)
    guest.over()
    yield from _start(world, guest)
    yield guest.cleared


def _start(world, guest):
    world.change(guest, state=RUNNING, mode=SILENT, audits={},
                 events=[STARTED])
    yield world.between(*BOOT_S)
    world.change(guest, mode=GOOD)


def disk_full(world, guest):
    """Its disk has no room, and QEMU pauses it."""
    guest.expect((Cause.IO_ERROR, DISK), (Cause.PAUSED_UNEXPECTEDLY, ''),
                 otherwise=LOST | {(Cause.IO_ERROR, '')})
    world.change(guest, state=PAUSED_IOERROR, mode=HUNG,
                 events=[IO_PAUSE, SUSPENDED_IOERROR])
    yield guest.told
    yield world.between(*FAULT_S)
    guest.over()
    world.change(guest, state=UNPAUSED, mode=GOOD, events=[RESUMED])
    yield guest.cleared


def storm(world, guest):
    """Its disk returns errors, until it does no more."""
    guest.expect((Cause.IO_ERROR, DISK), only_by_event=True)
    guest.over()                # a quiet time ends it
    for _ in range(STORM):
        world.change(guest, events=[IO_REPORT])
        yield 0
    yield guest.told
    yield guest.cleared


def watchdog(world, guest):
    """Its watchdog expires, and it is reset."""
    guest.expect((Cause.WATCHDOG_EXPIRED, ''), only_by_event=True)
    world.change(guest, events=[WATCHDOG_NONE])
    yield guest.told
    yield world.between(*FAULT_S)
    # Nobody could know of a reboot that was not seen.
    yield world.calm
    guest.over()
    with world.undisturbed():
        yield from reboot(world, guest)
    yield guest.cleared


def reboot(world, guest):
    """It boots anew by itself."""
    world.change(guest, mode=SILENT, audits={}, events=[REBOOT])
    yield world.between(*BOOT_S)
    world.change(guest, mode=GOOD)


def nova_reboots(world, guest):
    """Nova's hard reboot."""
    with world.operation(guest, 'reboot', 'active'):
        world.change(guest, state=DESTROYED, mode=GONE,
                     events=[STOPPED_DESTROYED])
        yield world.between(0.1, 1.0)
        world.change(guest, state=RUNNING, mode=SILENT, audits={},
                     events=[STARTED])
    yield world.between(*BOOT_S)
    world.change(guest, mode=GOOD)


def nova_stops(world, guest):
    """Nova's stop, and its start a while later."""
    with world.operation(guest, 'power_off', 'stopped'):
        world.change(guest, state=DESTROYED, mode=GONE,
                     events=[STOPPED_DESTROYED])
        yield world.between(0.1, 1.0)
    yield world.between(1.0, 10.0)
    yield world.calm
    with world.operation(guest, 'power_on', 'active'):
        yield from _start(world, guest)


def nova_pauses(world, guest):
    """Nova's pause, and its end a while later."""
    with world.operation(guest, 'pause', 'paused'):
        world.change(guest, state=PAUSED_BY_USER, mode=HUNG,
                     events=[SUSPENDED])
        yield 0.1
    yield world.between(1.0, 10.0)
    yield world.calm
    with world.operation(guest, 'unpause', 'active'):
        world.change(guest, state=UNPAUSED, mode=GOOD, events=[RESUMED])
        yield 0.1


STORIES = {
    'hang': Story(hang, 3), 'blink': Story(blink, 3),
    'agent exit': Story(agent_exit, 2), 'report': Story(report, 2),
    'panic': Story(panic, 2), 'qemu dies': Story(qemu_dies, 2),
    'power off': Story(power_off), 'destroyed': Story(destroyed),
    'disk full': Story(disk_full, 2), 'storm': Story(storm, 1, True),
    'watchdog': Story(watchdog, 1, True), 'reboot': Story(reboot, 2, True),
    'nova reboots': Story(nova_reboots, 2, True),
    'nova stops': Story(nova_stops, 2, True),
    'nova pauses': Story(nova_pauses, 2, True),
}
