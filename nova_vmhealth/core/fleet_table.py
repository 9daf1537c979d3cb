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

"""How a host stands with an inspector: the table of transitions, no more."""

import enum
import types
from typing import Mapping

from nova_vmhealth import exception


class Standing(str, enum.Enum):
    """What an inspector makes of a host's beacons."""

    RETURNING = 'returning'    # they come, not enough of them in a row yet
    WATCHED = 'watched'        # they come
    SILENT = 'silent'          # too many were missed
    REFUSED = 'refused'        # and of too many other hosts, too
    MARKED = 'marked'          # and it was told that the host is down
    LEFT = 'left'              # they need not come: it said goodbye


class Event(str, enum.Enum):
    """What can happen to a host."""

    BEACON = 'beacon'
    RECOVERY = 'recovery'      # the last of the beacons in a row that it takes
    GOODBYE = 'goodbye'
    SILENCE = 'silence'
    REFUSAL = 'refusal'        # too many others are silent
    PARDON = 'pardon'          # and are no more
    MARK = 'mark'              # some inspector told that it is down
    UNMARK = 'unmark'          # some inspector told that it is not


TRANSITIONS: Mapping[Standing, Mapping[Event, Standing]] = (
    types.MappingProxyType({
        Standing.RETURNING: {Event.BEACON: Standing.RETURNING,
                             Event.RECOVERY: Standing.WATCHED,
                             Event.GOODBYE: Standing.LEFT,
                             Event.SILENCE: Standing.SILENT,
                             Event.MARK: Standing.MARKED,
                             Event.UNMARK: Standing.RETURNING},
        Standing.WATCHED: {Event.BEACON: Standing.WATCHED,
                           Event.GOODBYE: Standing.LEFT,
                           Event.SILENCE: Standing.SILENT,
                           Event.MARK: Standing.MARKED,
                           Event.UNMARK: Standing.WATCHED},
        Standing.SILENT: {Event.BEACON: Standing.RETURNING,
                          Event.GOODBYE: Standing.LEFT,
                          Event.REFUSAL: Standing.REFUSED,
                          Event.MARK: Standing.MARKED,
                          Event.UNMARK: Standing.LEFT},
        Standing.REFUSED: {Event.BEACON: Standing.RETURNING,
                           Event.GOODBYE: Standing.LEFT,
                           Event.PARDON: Standing.SILENT,
                           Event.MARK: Standing.MARKED,
                           Event.UNMARK: Standing.LEFT},
        # It was not there to say goodbye: whoever came and went at once has
        # not returned.
        Standing.MARKED: {Event.BEACON: Standing.RETURNING,
                          Event.GOODBYE: Standing.MARKED,
                          Event.MARK: Standing.MARKED,
                          # Somebody says that all is well, though nothing is
                          # heard of it: it is not judged until it is.
                          Event.UNMARK: Standing.LEFT},
        Standing.LEFT: {Event.BEACON: Standing.RETURNING,
                        Event.GOODBYE: Standing.LEFT,
                        Event.MARK: Standing.MARKED,
                        Event.UNMARK: Standing.LEFT},
    }))

# Of which the next beacon is waited for.
EXPECTED = frozenset({Standing.RETURNING, Standing.WATCHED})
# Of which something is still to be decided.
SUSPECTED = frozenset({Standing.SILENT, Standing.REFUSED})
# Of which nothing is heard.
UNHEARD = SUSPECTED | {Standing.MARKED}


def step(standing: Standing, event: Event) -> Standing:
    """Look up the standing that follows.

    :raises nova_vmhealth.exception.IllegalTransition: the event is not
        allowed in this standing
    """
    try:
        return TRANSITIONS[standing][event]
    except KeyError:
        raise exception.IllegalTransition(
            event=event.value, state=standing.value) from None
