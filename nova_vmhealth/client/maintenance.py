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

"""Announce planned maintenance, to whichever inspector answers."""

import dataclasses
from typing import Optional

import oslo_messaging

from nova_vmhealth.client import connection
from nova_vmhealth.core import maintenance
from nova_vmhealth.core import protocol
from nova_vmhealth.core import saving
from nova_vmhealth import exception
from nova_vmhealth import rpcapi

# Of each text of an answer, which may go to a terminal.
_MAX_TEXT = 255


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedMaintenance:
    """A window, and who knows of it.

    :ivar window: core.maintenance.Window
    :ivar stage: what projects were told last, a MaintenanceStage's value; None
        for nothing yet
    :ivar projects: those that were told
    """

    window: maintenance.Window
    stage: Optional[str] = None
    projects: tuple[str, ...] = ()

    @classmethod
    def restored(cls, record):
        """Read one from an answer.

        :param record: anything
        :raises nova_vmhealth.exception.InvalidRecord: it is none
        """
        fields = saving.Record(record)
        stage = fields.text_or_none('stage')
        return cls(
            maintenance.Window.restored(record),
            stage and protocol.clean_text(stage, _MAX_TEXT),
            tuple(protocol.clean_text(each, _MAX_TEXT)
                  for each in fields.words('projects')))


class MaintenanceClient(connection.Connection):
    """A connection to the inspectors; a context manager.

    All its methods raise

    * nova_vmhealth.exception.InspectorUnreachable where none answers
    * nova_vmhealth.exception.InvalidWindow where what is asked for cannot be;
      the message says why
    * nova_vmhealth.exception.InspectorFailed where one could not do it
    * nova_vmhealth.exception.BrokerUnreachable where the broker is gone

    :param transport: oslo.messaging's for RPC; it is closed with this
    """

    def __init__(self, transport):
        super().__init__(transport)
        self._api = rpcapi.InspectorAPI(transport)

    def set(self, record):
        """Announce planned maintenance of a host, or change it.

        :param record: of a core.maintenance.Window: ``host``, ``starts_at``,
            ``ends_at`` (seconds since the epoch; None: an open end),
            ``reason``. With an ``id`` that window is changed, and what is not
            named stays as it is
        :returns: the PlannedMaintenance as it is kept
        """
        return self._read(PlannedMaintenance.restored, self._ask(
            lambda: self._api.set_window(record)))

    def unset(self, host=None, window_id=None):
        """Withdraw the windows of a host, or the one with an id.

        :returns: list of each PlannedMaintenance that was withdrawn
        """
        return self._read(_restored_all, self._ask(
            lambda: self._api.unset_windows(host, window_id)))

    def list(self, host=None):
        """Return each PlannedMaintenance that is not over, of one host or all.

        The earliest first.
        """
        return self._read(_restored_all, self._ask(
            lambda: self._api.list_windows(host)))

    def show(self, window_id):
        """Return the PlannedMaintenance with an id."""
        for each in self.list():
            if each.window.id == window_id:
                return each
        raise exception.InvalidWindow(
            reason=f'there is no window {window_id!r:.80}')

    def _ask(self, call):
        try:
            return self.ask(rpcapi.INSPECTOR_ANSWER_S, call)
        except oslo_messaging.MessagingTimeout as error:
            raise exception.InspectorUnreachable(
                broker=self.broker) from error
        except connection.Failed as error:
            if error.kind in _OURS:
                raise exception.InvalidWindow(error.text) from error
            raise exception.InspectorFailed(reason=error) from error

    @staticmethod
    def _read(restored, answer):
        try:
            return restored(answer)
        except exception.InvalidRecord as error:
            raise exception.InspectorFailed(reason=error) from error


# What an inspector says of a request that cannot be.
_OURS = (exception.InvalidWindow.__name__, exception.InvalidRecord.__name__)


def _restored_all(records):
    if not isinstance(records, list):
        raise exception.InvalidRecord(reason='the answer is no list')
    return [PlannedMaintenance.restored(record) for record in records]
