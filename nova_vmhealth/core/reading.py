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


"""How the ledger reads an observation by itself, before it meets a page."""

import dataclasses
from typing import Iterable, Mapping, Optional

from nova_vmhealth.core.entry import Entry
from nova_vmhealth.core.entry import Phase
from nova_vmhealth.core.operations import Operations
from nova_vmhealth.core.operations import row_of
from nova_vmhealth.core import protocol
from nova_vmhealth.core import transitions
from nova_vmhealth.core.transitions import When
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation


def is_ignored(obs: Observation) -> bool:
    """Say whether it is nothing that the ledger takes from observers."""
    if obs.kind in (Kind.AGENT_CONNECTED, Kind.AGENT_DISCONNECTED):
        # some other channel's, as that of QEMU's guest agent
        return obs.details.get('channel') != protocol.CHANNEL_NAME
    # Only the ledger itself can know what flaps.
    return (obs.cause is Cause.FLAPPING
            and obs.kind in (Kind.FAULT, Kind.RECOVERED, Kind.DETAILS))


def normalized(obs: Observation) -> Observation:
    """Say in one way what observers say in several."""
    if obs.kind is Kind.RECOVERED and obs.cause in transitions.SILENCE:
        # Whichever of the heartbeat's causes is over, the guest beats.
        return dataclasses.replace(
            obs, kind=Kind.HEARTBEAT_ESTABLISHED, cause=None, subject='')
    return obs


def reason_of(obs: Observation) -> str:
    return obs.details.get('reason', 'unknown')


def cause_of(
    obs: Observation, entries: Iterable[Entry], *,
    beating: bool, shutdown_by: str,
) -> Optional[Cause]:
    """Return what it raises; None for nothing.

    :param entries: what is known of the instance
    :param beating: whether its guest beats
    :param shutdown_by: who has begun its shutdown, guest or host; empty for
        nobody
    """
    if obs.kind is Kind.FAULT:
        return obs.cause
    if obs.kind is Kind.AGENT_DISCONNECTED:
        return Cause.AGENT_EXITED if beating else None
    cause = transitions.RAISES.get(
        (obs.kind, reason_of(obs)),
        transitions.RAISES.get((obs.kind, 'unknown')))
    if (cause is Cause.STOPPED_UNEXPECTEDLY
            and reason_of(obs) == 'shutdown'
            and (obs.details.get('by') or shutdown_by) == 'guest'):
        cause = Cause.GUEST_SHUTDOWN
    if (cause in transitions.PART_OF_A_CRASH
            and any(entry.cause is Cause.GUEST_CRASHED
                    and entry.phase is not Phase.GONE
                    for entry in entries)):
        return None
    return cause


def is_about(obs: Observation, entry: Entry) -> bool:
    """Say whether what it ends may be this entry, by its subject."""
    if obs.kind is not Kind.RECOVERED:
        return True
    return (obs.subject == entry.subject
            or not obs.subject
            and obs.cause not in transitions.EMPTY_SUBJECT_IS_ONE)


def clearing_rules(
    obs: Observation, operations: Operations, running: bool,
) -> Mapping[Cause, When]:
    """Return which causes it ends, and when.

    :param operations: what Nova is doing to the instance
    :param running: whether the domain runs after this observation
    """
    if obs.kind is Kind.RECOVERED:
        return {obs.cause: When.ALWAYS}
    if obs.kind is Kind.STOPPED:
        stopped_by_nova = reason_of(obs) == transitions.EXPECTED or (
            operations.by_nova and reason_of(obs) != 'migrated'
            and (operations.expects(Cause.STOPPED_UNEXPECTEDLY)
                 or reason_of(obs) in transitions.SAVED))
    else:
        stopped_by_nova = (
            obs.kind is Kind.PLANNED_ENDED and not running
            and row_of(obs.details.get('operation', '')).stops)
    if stopped_by_nova:
        return transitions.STOPPED_BY_NOVA
    return transitions.CLEARS.get(obs.kind, {})


def ended_by(
    obs: Observation, entries: Iterable[Entry], operations: Operations,
    running: bool,
) -> list[Entry]:
    """Return the entries that it ends.

    :param entries: what is known of the instance
    :param operations: what Nova is doing to the instance
    :param running: whether the domain runs after this observation
    """
    rules = clearing_rules(obs, operations, running)
    return [entry for entry in entries
            if entry.cause in rules
            and entry.matches(rules[entry.cause])
            and is_about(obs, entry)]
