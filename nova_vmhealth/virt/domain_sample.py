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

"""What libvirt can say of many domains in one call, as far as it helps here.

Nothing of it comes from inside the guests, so there is nothing to distrust.
"""

import dataclasses
from typing import Optional
from xml.etree import ElementTree

from nova_vmhealth.core import protocol
from nova_vmhealth.core import reconcile

# virDomainStatsTypes and virConnectGetAllDomainStatsFlags, stable ABI. NOWAIT
# leaves out what a QEMU that is busy with another call cannot tell at once; a
# libvirt older than 4.5 refuses it.
_STATE, _VCPU, _BLOCK = 1, 8, 32
_NOWAIT = 1 << 29
# virDomainState
_STATES = ('no state', 'running', 'blocked', 'paused', 'shutting down',
           'shut off', 'crashed', 'suspended')
# virDomainDiskErrorCode, in the words of IO_ERROR_REASON
_DISK_ERRORS = {1: 'unspecified', 2: 'enospc'}
# The states in which a guest's processors stand still and may go on.
PAUSED = ('paused', 'suspended')


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """Counters of one domain at one time, since QEMU's start.

    :ivar at: monotonic seconds
    :ivar vcpu_ns: time that its processors ran, nanoseconds
    :ivar delay_ns: time that they waited for a processor of the host,
        nanoseconds
    :ivar requests: reads, writes and flushes of its disks; None where QEMU
        was too busy to tell
    """

    at: float
    vcpu_ns: int
    delay_ns: int
    requests: Optional[int]


def states(connection, domains):
    """Return the state of each domain by uuid; QEMU is not asked.

    :param connection: virConnect
    :param domains: virDomain by uuid
    :raises libvirtError: (virDomainListGetStats)
    """
    return {uuid: _name(found.get('state.state'))
            for uuid, found in _stats(connection, domains, _STATE)}


def all_states(connection):
    """Return (state, reason) of every domain by uuid; QEMU is not asked.

    :param connection: virConnect
    :raises libvirtError: (virConnectGetAllDomainStats)
    """
    return {domain.UUIDString(): (found.get('state.state', 0),
                                  found.get('state.reason', 0))
            for domain, found in connection.getAllDomainStats(_STATE, _NOWAIT)}


def disk_errors(domain):
    """Return the disks that have an error as reconcile.DiskError.

    It waits for QEMU, for ever where that hangs.

    :param domain: virDomain
    :raises libvirtError: (virDomainGetDiskErrors, virDomainGetXMLDesc)
    """
    errors = domain.diskErrors(0)
    if not errors:
        return ()
    root = ElementTree.fromstring(domain.XMLDesc(0))
    return tuple(
        reconcile.DiskError(
            _attribute(disk, 'alias', 'name'),
            _attribute(disk, 'source', 'file', 'dev', 'name'),
            _DISK_ERRORS.get(errors[target], ''))
        for disk in root.iterfind('devices/disk')
        for target in [_attribute(disk, 'target', 'dev')] if target in errors)


def port_state(domain):
    """Return the state of the heartbeat's port; QEMU is not asked.

    :param domain: virDomain
    :returns: 'connected' while a program in the guest has it open, else
        'disconnected'; '' where libvirt does not say
    :raises libvirtError: (virDomainGetXMLDesc)
    """
    root = ElementTree.fromstring(domain.XMLDesc(0))
    for target in root.iterfind('devices/channel/target'):
        if target.get('name') == protocol.CHANNEL_NAME:
            return target.get('state') or ''
    return ''


def samples(connection, domains, now):
    """Return a Sample of each domain by uuid.

    It takes as long as the slowest QEMU, and for ever where one hangs.

    :param connection: virConnect
    :param domains: virDomain by uuid
    :param now: monotonic clock, seconds
    :raises libvirtError: (virDomainListGetStats)
    """
    return {uuid: Sample(now(), _sum(found, 'vcpu', 'time') or 0,
                         _sum(found, 'vcpu', 'delay') or 0,
                         _requests(found))
            for uuid, found in _stats(connection, domains, _VCPU | _BLOCK)}


def movement(first, last):
    """Say what moved between two samples, as details of an event.

    :returns: strings; empty when there is no time between them or the domain
        was started in between
    """
    if last.at <= first.at or last.vcpu_ns < first.vcpu_ns:
        return {}
    moved = {'observed_ms': _ms((last.at - first.at) * 1e9),
             'vcpu_time_ms': _ms(last.vcpu_ns - first.vcpu_ns),
             'vcpu_delay_ms': _ms(last.delay_ns - first.delay_ns)}
    if first.requests is not None and last.requests is not None:
        moved['block_requests'] = str(max(0, last.requests - first.requests))
    return moved


def moved(first, last):
    """Say whether the domain did anything at all between two samples."""
    # The processor time comes in steps of 10 ms, which an idle guest may not
    # reach; the time in which its processors waited is exact, and grows
    # whenever they had something to do.
    return (last.vcpu_ns != first.vcpu_ns or last.delay_ns != first.delay_ns
            or (None not in (first.requests, last.requests)
                and last.requests != first.requests))


def _stats(connection, domains, groups):
    """Yield (uuid, statistics); domains that are gone are left out."""
    # Under eventlet domains come wrapped for greenthreads, and libvirt's
    # binding wants its own.
    own = [getattr(domain, '_obj', domain) for domain in domains.values()]
    for domain, found in connection.domainListGetStats(own, groups, _NOWAIT):
        yield domain.UUIDString(), found


def _attribute(element, child, *names):
    """Return the first of a child's attributes that is there, else ''."""
    found = element.find(child)
    values = [found.get(name) for name in names] if found is not None else []
    return next((value for value in values if value), '')


def _name(number):
    if number is not None and 0 <= number < len(_STATES):
        return _STATES[number]
    return f'unknown ({number})'


def _sum(found, kind, *names):
    """Add up the counters KIND.NUMBER.NAME; None when there are none."""
    values = [value for key, value in found.items()
              if key.startswith(kind + '.')
              and key.split('.', 2)[-1] in names]
    return sum(values) if values else None


def _requests(found):
    if found.get('block.count') == 0:
        return 0
    return _sum(found, 'block', 'rd.reqs', 'wr.reqs', 'fl.reqs')


def _ms(nanoseconds):
    return str(int(nanoseconds // 1_000_000))
