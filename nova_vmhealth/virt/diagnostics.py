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

"""An instance's health in Nova's diagnostics, for whoever asks by the API."""

from nova_vmhealth.notifications import times


def of(ledger, uuid, heartbeat, host_status):
    """Say how an instance is; on the worker.

    :param ledger: nova_vmhealth.core.ledger.Ledger
    :param uuid: the instance's
    :param heartbeat: its HeartbeatStatus, or None
    :param host_status: HostStatus
    :returns: name -> text, in the order of reading
    """
    return {
        'vmhealth_health': ledger.health(uuid).value,
        'vmhealth_conditions': '; '.join(
            map(_condition, ledger.conditions(uuid))) or 'none',
        'vmhealth_heartbeat': _heartbeat(heartbeat),
        'vmhealth_last_event': _event(ledger.last_told(uuid)),
        'vmhealth_host_status': host_status.value,
    }


def _named(cause, subject):
    return f'{cause.value} ({subject})' if subject else cause.value


def _condition(condition):
    return (f'{_named(condition.cause, condition.subject)}, '
            f'{condition.severity.value}, since '
            f'{times.iso_time(condition.since)}, {condition.count} times')


def _heartbeat(status):
    if status is None:
        return 'not watched'
    if not status.established:
        return f'waiting, every {status.interval_ms} ms'
    # It may have been established in an earlier run.
    seen = ('not seen yet' if status.last_seen_at is None
            else f'last seen {times.iso_time(status.last_seen_at)}')
    return (f'{status.misses} of {status.misses_allowed} misses, every '
            f'{status.interval_ms} ms, {seen}')


def _event(told):
    if told is None:
        return 'none'
    return (f'{told.sequence}: {_named(told.cause, told.subject)} '
            f'{told.transition.value} at {times.iso_time(told.occurred_at)}')
