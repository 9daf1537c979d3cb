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


"""What raises and what clears a condition: the ledger's rules, as data.

A rule that is no row of a table here is no rule; the engine that reads them is
:mod:`nova_vmhealth.core.page`.
"""

import enum
from typing import Mapping, Optional

from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import HealthEvent
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Severity


class When(enum.Enum):
    """On which conditions a clearing rule works."""

    ALWAYS = 'always'
    # only if the fault's own action was to pause the guest
    IF_IT_PAUSED = 'if_it_paused'
    # only if the guest was resumed after the fault
    IF_RESUMED_SINCE = 'if_resumed_since'


# What an active condition makes of the instance, the worst first; info has no
# weight.
WEIGHT: Mapping[Severity, Health] = {
    Severity.CRITICAL: Health.UNHEALTHY,
    Severity.WARNING: Health.DEGRADED,
}

# The heartbeat's own causes: a guest that says nothing. They mean nothing
# while the guest is off, and beats end all of them.
SILENCE = frozenset({
    Cause.HEARTBEAT_LOST,
    Cause.HEARTBEAT_NOT_ESTABLISHED,
    Cause.AGENT_EXITED,
})

# details['reason'] of a stop that reconciliation finds, of an instance that
# Nova does not want to run: nobody saw Nova stop it.
EXPECTED = 'expected'

# What an observation raises by its kind and details['reason'] (libvirt's
# virDomainEventStoppedDetailType and virDomainEventSuspendedDetailType). A
# FAULT names its cause itself. A reason that is not here counts as unknown.
RAISES: Mapping[tuple[Kind, str], Optional[Cause]] = {
    (Kind.STOPPED, 'shutdown'): Cause.STOPPED_UNEXPECTEDLY,
    (Kind.STOPPED, 'destroyed'): Cause.STOPPED_UNEXPECTEDLY,
    (Kind.STOPPED, 'crashed'): Cause.GUEST_CRASHED,
    (Kind.STOPPED, 'migrated'): None,
    (Kind.STOPPED, 'saved'): None,
    (Kind.STOPPED, 'failed'): Cause.QEMU_FAILED,
    (Kind.STOPPED, 'from_snapshot'): None,
    (Kind.STOPPED, 'unknown'): Cause.STOPPED_UNEXPECTEDLY,
    # no detail of libvirt's: what reconciliation finds, and cannot explain
    (Kind.STOPPED, 'missing'): Cause.NOT_RUNNING,
    (Kind.STOPPED, EXPECTED): None,
    (Kind.PAUSED, 'paused'): None,
    (Kind.PAUSED, 'migrated'): None,
    (Kind.PAUSED, 'ioerror'): Cause.PAUSED_UNEXPECTEDLY,
    (Kind.PAUSED, 'watchdog'): Cause.PAUSED_UNEXPECTEDLY,
    (Kind.PAUSED, 'restored'): None,
    (Kind.PAUSED, 'from_snapshot'): None,
    (Kind.PAUSED, 'api_error'): Cause.PAUSED_UNEXPECTEDLY,
    (Kind.PAUSED, 'postcopy'): None,
    (Kind.PAUSED, 'postcopy_failed'): Cause.PAUSED_UNEXPECTEDLY,
    (Kind.PAUSED, 'pmsuspended'): None,
    (Kind.PAUSED, 'crashed'): None,
    (Kind.PAUSED, 'unknown'): None,
}

# The stop that follows a crash is the same fact, and told already.
PART_OF_A_CRASH = frozenset({
    Cause.STOPPED_UNEXPECTEDLY,
    Cause.GUEST_SHUTDOWN,
    Cause.GUEST_CRASHED,
})

# One of a pair takes the other's place on the same subject.
REPLACES: Mapping[Cause, Cause] = {
    Cause.GUEST_UNHEALTHY: Cause.GUEST_DEGRADED,
    Cause.GUEST_DEGRADED: Cause.GUEST_UNHEALTHY,
}

# What is damped when it flaps, and the source that it is of: the heartbeat, or
# the audit that the subject names.
HEARTBEAT = 'heartbeat'
AUDIT = 'audit:'
SOURCES: Mapping[Cause, str] = {
    Cause.HEARTBEAT_LOST: HEARTBEAT,
    Cause.AGENT_EXITED: HEARTBEAT,
    Cause.GUEST_UNHEALTHY: AUDIT,
    Cause.GUEST_DEGRADED: AUDIT,
}

# In the details of a condition that is told as cleared because its source
# flaps: it is told no more, and may be as wrong as before.
WITHDRAWN: Mapping[str, str] = {'flapping': 'true'}


def is_withdrawn(event: HealthEvent) -> bool:
    """Say whether what it tells as cleared is only told no more."""
    return WITHDRAWN.items() <= event.details.items()


# For these the empty subject is one of its own, the guest's word on the
# whole of itself; for every other cause it stands for all subjects.
EMPTY_SUBJECT_IS_ONE = frozenset(REPLACES)

# A new QEMU process: whatever the old one suffered from, or its guest said,
# is over. The heartbeat is not: only beats end that.
_STARTED: Mapping[Cause, When] = {
    Cause.GUEST_UNHEALTHY: When.ALWAYS,
    Cause.GUEST_DEGRADED: When.ALWAYS,
    Cause.WATCHDOG_EXPIRED: When.ALWAYS,
    Cause.IO_ERROR: When.IF_IT_PAUSED,
    Cause.GUEST_CRASHED: When.ALWAYS,
    Cause.QEMU_FAILED: When.ALWAYS,
    Cause.STOPPED_UNEXPECTEDLY: When.ALWAYS,
    Cause.GUEST_SHUTDOWN: When.ALWAYS,
    Cause.PAUSED_UNEXPECTEDLY: When.ALWAYS,
    Cause.MEMORY_FAILURE: When.ALWAYS,
    Cause.CONTROL_ERROR: When.ALWAYS,
    Cause.NOT_RUNNING: When.ALWAYS,
}

# What clears what by its kind. A RECOVERED names its cause itself.
CLEARS: Mapping[Kind, Mapping[Cause, When]] = {
    Kind.STARTED: _STARTED,
    # What the guest said before its reboot is void: it is asked anew.
    Kind.REBOOTED: {
        Cause.GUEST_UNHEALTHY: When.ALWAYS,
        Cause.GUEST_DEGRADED: When.ALWAYS,
        Cause.WATCHDOG_EXPIRED: When.ALWAYS,
        Cause.GUEST_CRASHED: When.ALWAYS,
    },
    Kind.RESUMED: {
        Cause.PAUSED_UNEXPECTEDLY: When.ALWAYS,
        Cause.IO_ERROR: When.IF_IT_PAUSED,
        Cause.WATCHDOG_EXPIRED: When.IF_IT_PAUSED,
    },
    Kind.HEARTBEAT_ESTABLISHED: {
        **dict.fromkeys(SILENCE, When.ALWAYS),
        Cause.WATCHDOG_EXPIRED: When.IF_RESUMED_SINCE,
    },
}

# What is over when Nova itself has stopped the instance. Apart from that only
# time ends a flapping: a guest could end it by a reboot of its own, and flap
# on.
STOPPED_BY_NOVA: Mapping[Cause, When] = {
    **dict.fromkeys(SILENCE, When.ALWAYS),
    Cause.GUEST_UNHEALTHY: When.ALWAYS,
    Cause.GUEST_DEGRADED: When.ALWAYS,
    Cause.STOPPED_UNEXPECTEDLY: When.ALWAYS,
    Cause.PAUSED_UNEXPECTEDLY: When.ALWAYS,
    Cause.NOT_RUNNING: When.ALWAYS,
    Cause.FLAPPING: When.ALWAYS,
}

# Reasons of a stop that keeps the guest's memory: a suspend.
SAVED = frozenset({'saved', 'from_snapshot'})

# What the host itself does to a guest that is lost is announced as a planned
# operation too, and is a stop that ends nothing: the guest was lost, and Nova
# wanted it to run.
ACTION = 'action_'

# What an observation says about the instance apart from its conditions.
NOTES: Mapping[Kind, Mapping[str, object]] = {
    Kind.STARTED: {'beating': False, 'running': True, 'shutdown_by': '',
                   'guest': Guest.WAITING, 'rebooted': False,
                   'beat_when_saved': False},
    Kind.REBOOTED: {'beating': False, 'running': True, 'shutdown_by': '',
                    'guest': Guest.WAITING, 'beat_when_saved': False},
    Kind.RESUMED: {'running': True},
    Kind.STOPPED: {'beating': False, 'running': False,
                   'guest': Guest.WAITING, 'rebooted': False},
    Kind.SHUTDOWN_BY_GUEST: {'shutdown_by': 'guest'},
    Kind.SHUTDOWN_BY_HOST: {'shutdown_by': 'host'},
    Kind.HEARTBEAT_ESTABLISHED: {'beating': True, 'running': True,
                                 'guest': Guest.BEATING, 'rebooted': False},
    # Nobody hears it any more, which says nothing about how it is.
    Kind.HEARTBEAT_UNREACHABLE: {'beating': False},
}

# How the heartbeat of a guest stands after it raised one of its own causes,
# told or not: so it begins in a new run of nova-compute.
STANDS: Mapping[Cause, Guest] = {
    Cause.HEARTBEAT_LOST: Guest.LOST,
    Cause.HEARTBEAT_NOT_ESTABLISHED: Guest.OVERDUE,
    Cause.AGENT_EXITED: Guest.EXITED,
}
