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


"""Table: an outcome of a heartbeat session -> observations."""

from nova_vmhealth.core import audits
from nova_vmhealth.core import outcomes
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.notifications.times import iso_time

# What a beat ends, by what the guest was before it.
_ENDED_BY_BEAT = {
    Guest.OVERDUE: Cause.HEARTBEAT_NOT_ESTABLISHED,
    Guest.LOST: Cause.HEARTBEAT_LOST,
    Guest.EXITED: Cause.AGENT_EXITED,
}

_CAUSE_OF_HEALTH = {
    Health.UNHEALTHY: Cause.GUEST_UNHEALTHY,
    Health.DEGRADED: Cause.GUEST_DEGRADED,
}


def observations_of(uuid, outcome, now, wall, policy, last_seen_at, way):
    """Translate one outcome.

    :param uuid: the instance
    :param outcome: from nova_vmhealth.core.outcomes, but no Complaint and
        no NoticeAcked
    :param now: monotonic seconds of the outcome
    :param wall: the same moment in seconds since the epoch
    :param policy: nova_vmhealth.core.policy.Policy
    :param last_seen_at: seconds since the epoch of the last valid answer,
        None when there was none
    :param way: how the guest's port is reached
    :returns: a list of Observations
    """
    build = _BUILDERS[type(outcome)]
    return build(uuid, outcome, now, wall, policy, last_seen_at, way)


def _established(uuid, outcome, now, wall, policy, last_seen_at, way):
    observed = [Observation(Kind.HEARTBEAT_ESTABLISHED, uuid, wall,
                            details={'way': way})]
    ended = _ENDED_BY_BEAT.get(outcome.previous)
    if ended:
        observed.append(Observation(Kind.RECOVERED, uuid, wall, ended))
    return observed


def _lost(uuid, outcome, now, wall, policy, last_seen_at, way):
    details = {
        'misses': str(outcome.misses),
        'interval_ms': str(policy.interval_ms),
        'timeout_ms': str(policy.timeout_ms),
        'silent_ms': str(round(outcome.silent_s * 1000)),
    }
    if last_seen_at is not None:
        details['last_seen_at'] = iso_time(last_seen_at)
    return [Observation(Kind.FAULT, uuid,
                        wall - (now - outcome.first_missed_at),
                        Cause.HEARTBEAT_LOST, details=details)]


def _missed(uuid, outcome, now, wall, policy, last_seen_at, way):
    return [Observation(
        Kind.HEARTBEAT_MISSED, uuid, wall,
        details={'misses': str(outcome.misses),
                 'silent_ms': str(round(outcome.silent_s * 1000))})]


def _unheard(uuid, outcome, now, wall, policy, last_seen_at, way):
    return [Observation(Kind.HEARTBEAT_UNHEARD, uuid, wall,
                        details={'open_s': str(round(outcome.open_s))})]


def _unreachable(uuid, outcome, now, wall, policy, last_seen_at, way):
    return [Observation(
        Kind.HEARTBEAT_UNREACHABLE, uuid, wall,
        details={'silent_ms': str(round(outcome.silent_s * 1000)),
                 'reason': 'no channel'})]


def _not_established(uuid, outcome, now, wall, policy, last_seen_at, way):
    return [Observation(
        Kind.FAULT, uuid, wall, Cause.HEARTBEAT_NOT_ESTABLISHED,
        details={'boot_deadline_s': str(outcome.deadline_s)})]


def _agent_exited(uuid, outcome, now, wall, policy, last_seen_at, way):
    return [Observation(Kind.FAULT, uuid, wall, Cause.AGENT_EXITED,
                        details={'reason': outcome.reason})]


def _health_changed(uuid, outcome, now, wall, policy, last_seen_at, way):
    cause = _CAUSE_OF_HEALTH.get(outcome.health)
    if cause:
        return [Observation(Kind.FAULT, uuid, wall, cause, outcome.audit,
                            {'message': outcome.message})]
    return [Observation(Kind.RECOVERED, uuid, wall, ended, outcome.audit)
            for ended in _CAUSE_OF_HEALTH.values()]


_BUILDERS = {
    outcomes.Established: _established,
    outcomes.Lost: _lost,
    outcomes.Missed: _missed,
    outcomes.Unheard: _unheard,
    outcomes.Unreachable: _unreachable,
    outcomes.NotEstablished: _not_established,
    outcomes.AgentExited: _agent_exited,
    audits.HealthChanged: _health_changed,
}
