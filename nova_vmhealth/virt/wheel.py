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


"""Timers for thousands of guests: a wheel of static 10 ms slots."""

import heapq
import math

_SLOT_MS = 10
SLOT_S = _SLOT_MS / 1000
# Deadlines are sums of floats: one that lies this little after a slot's
# moment belongs to it. Without that a guest would wander to the next slot.
_EPSILON_S = 1e-6
# Slots that a guest may be put ahead, ten seconds: a guest that is moved to an
# earlier slot leaves its place in the later one, and a hostile one is moved
# often.
_HORIZON = 1000


class _Slot:
    """The guests that come up in one slot."""

    __slots__ = ('number', 'guests', 'others')

    def __init__(self, number):
        self.number = number
        self.guests = []        # those that come up here at their interval
        self.others = set()     # those that were put here in any other way


class Wheel:
    """Whoever has a deadline, by the slot that it falls into.

    What is put into it has an attribute ``slot``, None at first, which is the
    wheel's: the slot that will bring it up. A guest with one
    challenge an interval is always in the same slots, which serve as the list
    of challenges to send and of those to judge.

    A deadline costs the same however many there are, and a turn costs what is
    due in it. A heap orders the slots in use; there are at most 100 of them a
    second, shared by all guests.

    :param now: monotonic seconds
    """

    def __init__(self, now):
        self._slots = {}
        self._order = []
        self._passed = math.floor(now / SLOT_S)

    def schedule(self, guest, when):
        """See that a guest comes up no later than its deadline's slot.

        One that comes up earlier already stays where it is: whoever handles
        it then schedules it anew.

        :param guest: has the attribute ``slot``
        :param when: monotonic seconds; one that is past is due with the next
            slot, one that is far away comes up in between, infinity is never
        """
        if when == math.inf:
            return
        number = math.ceil((when - _EPSILON_S) / SLOT_S)
        if number <= self._passed:
            number = self._passed + 1
        elif number > self._passed + _HORIZON:
            # Not all of them in the same slot.
            number = self._passed + _HORIZON - number % (_HORIZON // 2)
        armed = guest.slot
        if armed is not None and self._passed < armed.number <= number:
            return
        guest.slot = self._slot(number)
        guest.slot.others.add(guest)

    def slot_at(self, when_ms):
        """Return the slot of a deadline, for guests that have just come up.

        The caller appends each to the slot's ``guests`` and makes it the
        guest's ``slot``.

        :param when_ms: monotonic milliseconds, a whole number to come
        """
        return self._slot(-(-when_ms // _SLOT_MS))

    def _slot(self, number):
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot(number)
            heapq.heappush(self._order, number)
        return slot

    @staticmethod
    def cancel(guest):
        """Forget a guest's deadline, if it has one."""
        # Its place in the slot stays until that comes up, and says nothing.
        guest.slot = None

    def due(self, now):
        """Take out the guests whose slot has come.

        :param now: monotonic seconds
        :returns: a list of them, the most overdue first
        """
        guests = []
        # A slot is reached at its own moment, not at the float beside it.
        current = math.floor((now + _EPSILON_S) / SLOT_S)
        while self._order and self._order[0] <= current:
            slot = self._slots.pop(heapq.heappop(self._order))
            for some in (slot.guests, slot.others):
                guests += [guest for guest in some if guest.slot is slot]
        self._passed = max(self._passed, current)
        return guests

    def next_at(self):
        """Return the moment of the next slot in use; infinity for none."""
        return self._order[0] * SLOT_S if self._order else math.inf
