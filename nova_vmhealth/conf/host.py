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

"""Options of group [vmhealth] that are about the host itself."""

from oslo_config import cfg

from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth import exception

_DAY_S = 24 * 3600.0
# More often than a broker and a cloud of inspectors should be bothered.
MIN_BEACON_MS = 50

# Faults of the host that nova-compute itself sees or is told of: each has an
# option on_CAUSE.
HOST_CAUSES = (
    HostCause.LIBVIRT_LOST, HostCause.STORAGE_FAULT, HostCause.MEMORY_FAILURE,
    HostCause.MANY_GUESTS_LOST, HostCause.REPORTED_FAULT)

_HOST_ACTIONS = [
    (HostAction.NONE.value,
     'Leave the record alone; the fault is told all the same.'),
    (HostAction.DISABLE.value,
     'Disable the compute service: no new instance is scheduled to the host, '
     'and host_status is MAINTENANCE.'),
    (HostAction.FORCE_DOWN.value,
     'Disable it and force it down: host_status is DOWN, and instances may be '
     'evacuated. They may still run: whoever evacuates them must fence the '
     'host first, or two of one write to the same disk.'),
]


def _on(cause, default, what):
    return cfg.StrOpt(
        f'on_{cause.value}', default=default.value, choices=_HOST_ACTIONS,
        help=f"""
What is done to the compute service's record in Nova when {what}.

It is undone when the fault has been over for a while. What an operator has
disabled is never touched. The fault is told by ``host.health``, and to each
instance of the host by ``instance.health`` with the cause ``host_fault``.
""")


OPTS = [
    _on(HostCause.LIBVIRT_LOST, HostAction.DISABLE,
        'libvirt is lost or gives no answer. Nova disables the service too'),
    _on(HostCause.STORAGE_FAULT, HostAction.DISABLE,
        'storage fails (see ``storage_fault_instances``)'),
    _on(HostCause.MEMORY_FAILURE, HostAction.DISABLE,
        'the memory of QEMU itself, and not only that of a guest, is bad'),
    _on(HostCause.MANY_GUESTS_LOST, HostAction.NONE,
        'many guests are lost at once (see ``mass_loss_guests``). A project '
        'with enough guests on a host can bring that about by itself, so the '
        'host is not disabled for it unless you want that'),
    _on(HostCause.REPORTED_FAULT, HostAction.DISABLE,
        'somebody reports a fault by ``nova-vmhealth host fault`` without '
        '``--force-down``'),
    cfg.FloatOpt(
        'host_fault_quiet_s', default=10.0, min=0.0, max=_DAY_S,
        help="""
Time that a fault of the host must have been over before it is told as cleared
and what was done to the compute service's record is undone, in seconds.

Raise it where libvirtd or storage comes and goes. A reported fault ends at
once when it is cleared, many lost guests have a time of their own.
"""),
    cfg.IntOpt(
        'storage_fault_instances', default=3, min=0, max=100000,
        help="""
Fewest instances with an I/O error within ``storage_fault_window_s`` on the
same storage, as far as that can be told from the disk's path, for the storage
to be at fault. 0 turns this off.

The fault is over when fewer than so many still suffer: are paused for it, or
had an error in the last ``io_error_quiet_s``. Lower it on hosts with few
instances.
"""),
    cfg.FloatOpt(
        'storage_fault_window_s', default=60.0, min=1.0, max=_DAY_S,
        help="""
Time within which I/O errors of several instances count as one fault of their
storage, in seconds.
"""),
    cfg.FloatOpt(
        'memory_failure_quiet_s', default=3600.0, min=1.0, max=7 * _DAY_S,
        help="""
Time without another failure of the host's memory after which the last one is
over, in seconds. ``nova-vmhealth host clear`` ends it before.
"""),
    cfg.IntOpt(
        'beacon_interval_ms', default=500, min=0, max=60000,
        help="""
Time between two beacons, by which nova-compute tells the processes
``nova-vmhealth-inspector`` that it lives, in milliseconds. 0 sends none: then
nobody misses this host.

A host is missed after ``[vmhealth_inspector]beacon_misses`` of these. Lower it
to notice a dead host sooner: each beacon is a message of some 300 bytes.
"""),
]


def validate(group):
    """Check what the options' own ranges do not say.

    :param group: [vmhealth] of an oslo.config ConfigOpts
    :raises nova_vmhealth.exception.InvalidConfiguration: naming the option
    """
    if 0 < group.beacon_interval_ms < MIN_BEACON_MS:
        raise exception.InvalidConfiguration(
            option='beacon_interval_ms',
            reason=f'{group.beacon_interval_ms} is neither 0 nor at least '
                   f'{MIN_BEACON_MS}')
