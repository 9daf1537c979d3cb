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

"""How the host stands: its service record, and whether maintenance is on."""

from typing import Optional, Sequence

from nova_vmhealth.core.host_record import Owner
from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth.core import maintenance
from nova_vmhealth.core.vocabulary import HostStatus


class HostStanding:
    """What each event says of the host besides what is wrong.

    :ivar record: the compute service's, as it was read last; None before
    :ivar windows: of maintenance, core.maintenance.Window, those that are over
        among them
    """

    def __init__(self) -> None:
        self.record: Optional[ServiceRecord] = None
        self.windows: Sequence[maintenance.Window] = ()

    @property
    def status(self) -> HostStatus:
        """What Nova's API says of the host."""
        return self.record.status if self.record else HostStatus.UNKNOWN

    def is_planned(self, wall: float) -> bool:
        """Say whether the host is under planned maintenance.

        An operator has disabled it, or a window is open.

        :param wall: seconds since the epoch
        """
        return (self.record is not None
                and self.record.owner is Owner.OPERATOR
                or maintenance.active(self.windows, wall) is not None)
