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


"""The transition table of a heartbeat session, and nothing else.

Two small machines stand in it, the channel (:class:`Link`) and the guest
(:class:`Guest`). The contributor documentation's table is made from it by
``tools/session_diagram.py``.
"""

import enum
import types
from typing import Mapping, TypeVar, Union

from nova_vmhealth import exception


class Link(str, enum.Enum):
    """The channel, and whether the heartbeat holds."""

    CONNECTING = 'connecting'
    OPEN = 'open'
    HELD = 'held'
    HELD_OPEN = 'held_open'


class Guest(str, enum.Enum):
    """What the host knows of the guest."""

    WAITING = 'waiting'      # never answered
    OVERDUE = 'overdue'      # never answered, and the boot deadline is over
    BEATING = 'beating'
    LOST = 'lost'
    EXITED = 'exited'        # said goodbye after it had answered


class Event(str, enum.Enum):
    """What can happen to a session."""

    CONNECTED = 'connected'
    DISCONNECTED = 'disconnected'
    HOLD = 'hold'
    RELEASE = 'release'
    BEAT = 'beat'            # a valid answer
    RECOVERY = 'recovery'    # the last of the valid answers that it takes
    MISS = 'miss'            # a challenge that was not answered in time
    LOSS = 'loss'            # the last of the misses that are allowed
    BOOT_DEADLINE = 'boot_deadline'
    EXIT = 'exit'


State = Union[Link, Guest]
AnyState = TypeVar('AnyState', Link, Guest)

TRANSITIONS: Mapping[State, Mapping[Event, State]] = types.MappingProxyType({
    Link.CONNECTING: {Event.CONNECTED: Link.OPEN,
                      Event.HOLD: Link.HELD},
    Link.OPEN: {Event.DISCONNECTED: Link.CONNECTING,
                Event.HOLD: Link.HELD_OPEN},
    Link.HELD: {Event.CONNECTED: Link.HELD_OPEN,
                Event.RELEASE: Link.CONNECTING},
    Link.HELD_OPEN: {Event.DISCONNECTED: Link.HELD,
                     Event.RELEASE: Link.OPEN},
    Guest.WAITING: {Event.BEAT: Guest.BEATING,
                    Event.MISS: Guest.WAITING,
                    Event.BOOT_DEADLINE: Guest.OVERDUE,
                    Event.EXIT: Guest.WAITING},
    Guest.OVERDUE: {Event.BEAT: Guest.BEATING,
                    Event.MISS: Guest.OVERDUE,
                    Event.EXIT: Guest.OVERDUE},
    Guest.BEATING: {Event.BEAT: Guest.BEATING,
                    Event.MISS: Guest.BEATING,
                    Event.LOSS: Guest.LOST,
                    Event.EXIT: Guest.EXITED},
    Guest.LOST: {Event.BEAT: Guest.LOST,
                 Event.RECOVERY: Guest.BEATING,
                 Event.MISS: Guest.LOST,
                 Event.EXIT: Guest.LOST},
    Guest.EXITED: {Event.BEAT: Guest.BEATING,
                   Event.MISS: Guest.EXITED,
                   Event.EXIT: Guest.EXITED},
})


def step(state: AnyState, event: Event) -> AnyState:
    """Look up the state that follows.

    :raises nova_vmhealth.exception.IllegalTransition: the event is not
        allowed in this state
    """
    try:
        return TRANSITIONS[state][event]  # type: ignore[return-value]
    except KeyError:
        raise exception.IllegalTransition(
            event=event.value, state=state.value) from None
