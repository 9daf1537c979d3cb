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

"""A compute service's record in Nova: whose word it is, and what may be done.

Nova's API computes ``host_status`` from it. Nova's libvirt driver, this
package and operators all write it; the reason says who has. What is said here
is what this package may change: never what an operator has set.
"""

import dataclasses
import enum
from typing import Mapping, Optional, Union

from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostStatus

# What Nova's libvirt driver begins its reasons with (DISABLE_PREFIX in
# nova.virt.libvirt.driver); it enables what has it whenever it connects to
# libvirt, so ours differ.
NOVA_PREFIX = 'AUTO:'
# What nova-compute's driver writes about its own host, and undoes.
DRIVER_PREFIX = 'vmhealth: '
# What an inspector writes about a host that cannot speak, and undoes.
INSPECTOR_PREFIX = 'vmhealth-inspector: '
# Of the column in Nova's database.
MAX_REASON = 255


class Owner(str, enum.Enum):
    """Who has disabled a compute service."""

    NOBODY = 'nobody'
    NOVA = 'nova'
    DRIVER = 'driver'
    INSPECTOR = 'inspector'
    OPERATOR = 'operator'


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A compute service's record, as far as it matters here."""

    disabled: bool
    reason: Optional[str]
    forced_down: bool

    @property
    def owner(self) -> Owner:
        """Who has disabled it; whoever gives no reason is an operator."""
        if not self.disabled:
            return Owner.NOBODY
        reason = self.reason or ''
        for prefix, owner in _PREFIXES:
            if reason.startswith(prefix):
                return owner
        return Owner.OPERATOR

    @property
    def status(self) -> HostStatus:
        """What Nova's API says of the host while it reports itself.

        As nova.compute.api.API.get_instance_host_status().
        """
        if self.forced_down:
            return HostStatus.DOWN
        if self.disabled:
            return HostStatus.MAINTENANCE
        return HostStatus.UP


_PREFIXES = (
    (NOVA_PREFIX, Owner.NOVA),
    (DRIVER_PREFIX, Owner.DRIVER),
    (INSPECTOR_PREFIX, Owner.INSPECTOR),
)

# Fields of the record, and what they are to be.
Change = Mapping[str, Union[bool, str, None]]
_UNDISABLED: Change = {'disabled': False, 'disabled_reason': None}


def reason_text(prefix: str, text: str) -> str:
    """Make the reason that is written, as long as Nova takes it."""
    return (prefix + text)[:MAX_REASON]


def change(
    record: ServiceRecord, wanted: HostAction, text: str, forced: bool, *,
    anew: bool,
) -> Change:
    """Say what nova-compute's driver changes in its own record.

    :param record: as it is
    :param wanted: the strongest action of what is wrong now
    :param text: why, without prefix
    :param forced: whether ``forced_down`` was set by this driver
    :param anew: whether something has gone wrong since the last call. If not,
        a service that is enabled was enabled by an operator, whose word
        stands, and so it is with one that is not forced down
    :returns: the fields to write; empty for none
    """
    made: dict[str, Union[bool, str, None]] = {}
    if _may_write(record, wanted, anew):
        reason = reason_text(DRIVER_PREFIX, text)
        if not record.disabled:
            made['disabled'] = True
        if record.reason != reason:
            made['disabled_reason'] = reason
        if (wanted is HostAction.FORCE_DOWN and anew
                and not record.forced_down):
            made['forced_down'] = True
    elif wanted is HostAction.NONE and record.owner is Owner.DRIVER:
        made.update(_UNDISABLED)
    if forced and record.forced_down and wanted is not HostAction.FORCE_DOWN:
        made['forced_down'] = False
    return made


def _may_write(record: ServiceRecord, wanted: HostAction, anew: bool) -> bool:
    if wanted is HostAction.NONE:
        return False
    if record.owner is Owner.NOBODY:
        return anew
    # Nova would enable it on its next connect, whatever else is wrong.
    return record.owner in (Owner.NOVA, Owner.DRIVER)
