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

SLOT_S = 0.010
# Deadlines are sums of floats: one that lies this little after a slot's
# moment belongs to it. Without that a guest would wander to the next slot.
_EPSILON_S = 1e-6


class Wheel:
    """Keys and when they are due, to the slot.

    Setting and moving a deadline cost the same however many keys there are,
    and a turn costs what is due in it. A heap orders the slots in use; there
    are at most 100 of them a second, shared by all keys.
    """

    def __init__(self):
        self._slots = {}
        self._order = []
        self._slot_of = {}
        self._passed = -1

    def schedule(self, key, when):
        """Set a key's deadline in the place of the one it had.

        :param key: hashable
        :param when: monotonic seconds; one that is past is due with the next
            slot, infinity is never
        """
        number = (None if when == math.inf else
                  max(math.ceil((when - _EPSILON_S) / SLOT_S),
                      self._passed + 1))
        if self._slot_of.get(key) == number:
            return
        self.cancel(key)
        if number is None:
            return
        if number not in self._slots:
            self._slots[number] = set()
            heapq.heappush(self._order, number)
        self._slots[number].add(key)
        self._slot_of[key] = number

    def cancel(self, key):
        """Forget a key; nothing happens when it has no deadline."""
        number = self._slot_of.pop(key, None)
        if number is not None:
            # The slot stays, empty, until its time: it is in the heap.
            self._slots[number].discard(key)

    def due(self, now):
        """Take out the keys whose slot has come.

        :param now: monotonic seconds
        :returns: a list of keys, the most overdue first
        """
        keys = []
        # A slot is reached at its own moment, not at the float beside it.
        current = math.floor((now + _EPSILON_S) / SLOT_S)
        while self._order and self._order[0] <= current:
            slot = self._slots.pop(heapq.heappop(self._order))
            for key in slot:
                del self._slot_of[key]
            keys.extend(slot)
        self._passed = max(self._passed, current)
        return keys

    def next_at(self):
        """Return the moment of the next slot in use; infinity for none."""
        return self._order[0] * SLOT_S if self._order else math.inf
