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

"""How patient the ledger is, as the operator sets it."""

import dataclasses

# A condition that flaps is raised at most this often, seconds.
_MAX_RAISE_INTERVAL_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How patient the ledger is.

    :ivar update_interval_s: least time between two updates of one condition,
        seconds; between two raises of it, if that is less than a second
    :ivar planned_grace_s: how long side effects of a planned operation are
        expected after its end, seconds
    :ivar io_error_quiet_s: an I/O error that did not pause the guest is over
        after this time without another, seconds
    :ivar flap_flips: how often one source may raise within the window until
        it flaps; 0: as often as it likes
    :ivar flap_window_s: that window, seconds
    :ivar flap_quiet_s: a source flaps until it did not change for so long,
        seconds
    """

    update_interval_s: float = 1.0
    planned_grace_s: float = 10.0
    io_error_quiet_s: float = 60.0
    flap_flips: int = 5
    flap_window_s: float = 60.0
    flap_quiet_s: float = 60.0

    @property
    def raise_interval_s(self) -> float:
        """Least time between two raises of one condition, seconds.

        However rare updates are wanted, a fault that is back is told.
        """
        return min(self.update_interval_s, _MAX_RAISE_INTERVAL_S)
