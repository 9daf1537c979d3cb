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

"""How one instance and its guest stand, apart from what is wrong with them."""

import dataclasses
from typing import Any, Optional

from nova_vmhealth.core.operations import Operations
from nova_vmhealth.core import reading
from nova_vmhealth.core.saving import Record
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core import transitions
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation


@dataclasses.dataclass(slots=True)
class Standing:
    """What observations say of an instance besides its conditions.

    :data:`nova_vmhealth.core.transitions.NOTES` sets these by their names.

    :ivar guest: how its heartbeat stands
    :ivar rebooted: whether it had answered, rebooted by itself, and has not
        answered since
    :ivar beat_when_saved: whether it had answered when Nova saved it to disk,
        and is there since
    :ivar beating: whether it beats, and is heard
    :ivar running: whether its domain runs, paused or not
    :ivar shutdown_by: who has begun its shutdown, guest or host; empty for
        nobody
    """

    guest: Guest = Guest.WAITING
    rebooted: bool = False
    beat_when_saved: bool = False
    beating: bool = False
    running: bool = True
    shutdown_by: str = ''

    @property
    def heard(self) -> bool:
        """Whether the guest has answered since it was started."""
        return self.guest not in (Guest.WAITING, Guest.OVERDUE)

    def note(self, obs: Observation, cause: Optional[Cause],
             operations: Operations) -> None:
        """Take in a fact.

        :param cause: what it raises, if anything
        :param operations: what Nova was doing to the instance before it
        """
        guest = self.guest
        if obs.kind is Kind.REBOOTED:
            # Only what starts a guest anew explains one that does not answer.
            self.rebooted = (
                (self.heard or self.rebooted) and not
                operations.expects(Cause.STOPPED_UNEXPECTEDLY))
        if obs.kind is Kind.STOPPED and self.running:
            self.beat_when_saved = (self.heard
                                    and reading.reason_of(obs) == 'saved')
        for name, value in transitions.NOTES.get(obs.kind, {}).items():
            setattr(self, name, value)
        if obs.kind is Kind.STOPPED and reading.reason_of(obs) == 'migrated':
            self.guest = guest      # it goes on elsewhere, as it stood
        self.guest = transitions.STANDS.get(cause, self.guest)
        if obs.kind is Kind.FAULT and obs.cause in transitions.SILENCE:
            self.beating = False

    @property
    def mark(self) -> tuple[Any, ...]:
        """What is to be written down of it, for who asks if it changed."""
        return (self.guest, self.rebooted, self.beat_when_saved,
                self.beating, self.running, self.shutdown_by)

    def save(self) -> dict[str, Any]:
        """Return its fields in the record of its page."""
        return {**dataclasses.asdict(self), 'guest': self.guest.value}

    def restore(self, saved: Record) -> None:
        """Take up what the record of its page says.

        :raises nova_vmhealth.exception.InvalidRecord: it says nothing
        """
        self.guest = saved.word('guest', Guest)
        self.rebooted = saved.flag('rebooted')
        self.beat_when_saved = saved.flag('beat_when_saved', False)
        self.beating = saved.flag('beating')
        self.running = saved.flag('running')
        self.shutdown_by = saved.text('shutdown_by')
