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

"""What libvirt's events mean: one table from (event, detail) to observation.

The numbers are libvirt's public enumerations (virDomainEventType and the
detail types beside it), which are part of its stable ABI; they are spelled
out here because Nova's fake libvirt and older bindings lack some of the
names.

The translators run on libvirt's event-loop thread: they look up and copy,
nothing else.
"""

import dataclasses
from typing import Callable, Optional

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation

# virDomainEventWatchdogAction
WATCHDOG_ACTIONS = ('none', 'pause', 'reset', 'poweroff', 'shutdown', 'debug',
                    'inject-nmi')
# virDomainEventIOErrorAction
IO_ERROR_ACTIONS = ('none', 'pause', 'report')
# virDomainEventMemoryFailureRecipientType, ...ActionType, ...Flags
MEMORY_RECIPIENTS = ('hypervisor', 'guest')
MEMORY_ACTIONS = ('ignore', 'inject', 'fatal', 'reset')
MEMORY_FLAGS = ((1, 'action_required'), (2, 'recursive'))
# virConnectDomainEventAgentLifecycleState and ...ChannelLifecycleState
CHANNEL_STATES = (None, Kind.AGENT_CONNECTED, Kind.AGENT_DISCONNECTED)

STARTED_DETAILS = ('booted', 'migrated', 'restored', 'from_snapshot',
                   'wakeup', 'recreated')
SUSPENDED_DETAILS = ('paused', 'migrated', 'ioerror', 'watchdog', 'restored',
                     'from_snapshot', 'api_error', 'postcopy',
                     'postcopy_failed')
RESUMED_DETAILS = ('unpaused', 'migrated', 'from_snapshot', 'postcopy',
                   'postcopy_failed')
STOPPED_DETAILS = ('shutdown', 'destroyed', 'crashed', 'migrated', 'saved',
                   'failed', 'from_snapshot')
CRASHED_DETAILS = ('panicked', 'crashloaded')

# The guest agent's own channel; ours is told apart by its name.
GUEST_AGENT_CHANNEL = 'org.qemu.guest_agent.0'

# A disk's path comes from the operator, yet may be an rbd URL of any length.
_MAX_DETAIL = 255


def _name(names, number):
    if 0 <= number < len(names):
        return names[number]
    return f'unknown ({number})'


def _text(value):
    return str(value or '')[:_MAX_DETAIL]


def _fault(uuid, now, cause, subject='', **details):
    return Observation(Kind.FAULT, uuid, now, cause, subject, details)


def watchdog(uuid, now, action):
    """VIR_DOMAIN_EVENT_ID_WATCHDOG."""
    return _fault(uuid, now, Cause.WATCHDOG_EXPIRED,
                  action=_name(WATCHDOG_ACTIONS, action))


def io_error_reason(uuid, now, path, alias, action, reason):
    """VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON."""
    return _fault(uuid, now, Cause.IO_ERROR, _text(alias), path=_text(path),
                  device=_text(alias), action=_name(IO_ERROR_ACTIONS, action),
                  reason=_text(reason))


def control_error(uuid, now):
    """VIR_DOMAIN_EVENT_ID_CONTROL_ERROR."""
    return _fault(uuid, now, Cause.CONTROL_ERROR)


def memory_failure(uuid, now, recipient, action, flags):
    """VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE."""
    return _fault(
        uuid, now, Cause.MEMORY_FAILURE,
        recipient=_name(MEMORY_RECIPIENTS, recipient),
        action=_name(MEMORY_ACTIONS, action),
        flags=','.join(name for bit, name in MEMORY_FLAGS if flags & bit))


def reboot(uuid, now):
    """VIR_DOMAIN_EVENT_ID_REBOOT."""
    return Observation(Kind.REBOOTED, uuid, now)


def agent_lifecycle(uuid, now, state, _reason):
    """VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: the QEMU guest agent's port."""
    return _channel(uuid, now, GUEST_AGENT_CHANNEL, state)


def channel_lifecycle(uuid, now, channel, state, _reason):
    """VIR_DOMAIN_EVENT_ID_CHANNEL_LIFECYCLE: any port, libvirt 12.4 on."""
    return _channel(uuid, now, _text(channel), state)


def _channel(uuid, now, channel, state):
    kind = CHANNEL_STATES[state] if 0 < state < len(CHANNEL_STATES) else None
    if kind is None:
        return None
    return Observation(kind, uuid, now, details={'channel': channel})


def _lifecycle_kind(kind, names):
    def translate(uuid, now, detail):
        return Observation(kind, uuid, now,
                           details={'reason': _name(names, detail)})
    return translate


def _started(uuid, now, detail):
    # Waking from its own suspend to RAM is the same QEMU going on.
    reason = _name(STARTED_DETAILS, detail)
    kind = Kind.RESUMED if reason == 'wakeup' else Kind.STARTED
    return Observation(kind, uuid, now, details={'reason': reason})


def _shutdown(uuid, now, detail):
    # 1: the guest asked for it, 2: the host did; older QEMU does not say.
    kind = Kind.SHUTDOWN_BY_HOST if detail == 2 else Kind.SHUTDOWN_BY_GUEST
    return Observation(kind, uuid, now)


def _crashed(uuid, now, detail):
    return _fault(uuid, now, Cause.GUEST_CRASHED,
                  reason=_name(CRASHED_DETAILS, detail))


def _slept(uuid, now, _detail):
    # The guest's own suspend to RAM: its vCPUs stand still, as in a pause.
    return Observation(Kind.PAUSED, uuid, now,
                       details={'reason': 'pmsuspended'})


# virDomainEventType; what is not here (defined, undefined) says nothing about
# health.
LIFECYCLE = {
    2: _started,
    3: _lifecycle_kind(Kind.PAUSED, SUSPENDED_DETAILS),
    4: _lifecycle_kind(Kind.RESUMED, RESUMED_DETAILS),
    5: _lifecycle_kind(Kind.STOPPED, STOPPED_DETAILS),
    6: _shutdown,
    7: _slept,
    8: _crashed,
}


def lifecycle(uuid, now, event, detail):
    """VIR_DOMAIN_EVENT_ID_LIFECYCLE."""
    translate = LIFECYCLE.get(event)
    return translate(uuid, now, detail) if translate else None


@dataclasses.dataclass(frozen=True)
class Subscription:
    """One libvirt event that the driver listens to.

    :ivar event_id: the name of its constant in the libvirt binding
    :ivar translate: (instance uuid, wall clock in s, the callback's own
        arguments...) to an Observation, or None where it means nothing
    """

    event_id: str
    translate: Callable[..., Optional[Observation]]


# LIFECYCLE is not here: Nova subscribes to it, and HealthHost listens in.
SUBSCRIPTIONS = (
    Subscription('VIR_DOMAIN_EVENT_ID_WATCHDOG', watchdog),
    Subscription('VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON', io_error_reason),
    Subscription('VIR_DOMAIN_EVENT_ID_CONTROL_ERROR', control_error),
    Subscription('VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE', memory_failure),
    Subscription('VIR_DOMAIN_EVENT_ID_REBOOT', reboot),
    Subscription('VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE', agent_lifecycle),
    Subscription('VIR_DOMAIN_EVENT_ID_CHANNEL_LIFECYCLE', channel_lifecycle),
)
