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

"""What monitors and people report of a host that does not answer itself.

On threads of the RPC server, each of which may wait for Nova's API.
"""

import dataclasses
import time

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_vmhealth.core.beacons import MAX_HOST
from nova_vmhealth.core import host_record
from nova_vmhealth.core.host_record import Owner
from nova_vmhealth.core.marks import Told
from nova_vmhealth.core import protocol
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth import exception

LOG = logging.getLogger(__name__)

# Longest wait for the host's lock, seconds; who has it waits for Nova's API.
_LOCK_S = 15.0
_PAUSE_S = 0.1
# A line for people.
_MAX_TEXT = 255


class Reports:
    """Answers calls about hosts.

    :param footing: nova_vmhealth.inspector.footing.Footing
    :param api: nova_vmhealth.inspector.nova_api.NovaApi
    :param herald: nova_vmhealth.inspector.herald.Herald
    :param windows: WindowCalls
    """

    def __init__(self, footing, api, herald, windows):
        self._footing = footing
        self._api = api
        self._herald = herald
        self._windows = windows

    def report_fault(self, host, reason, force_down, reporter):
        """Raise ``reported_fault`` of a host, and act on it.

        :returns: as :meth:`show`
        :raises nova_vmhealth.exception.VMHealthError: it is not done, or not
            all of it; see each of them
        """
        reason = protocol.clean_text(str(reason), _MAX_TEXT)
        reporter = protocol.clean_text(str(reporter), _MAX_TEXT)
        _check(host)
        with self._hold(host):
            service = self._service_of(host)
            situation = self._footing.look(host)
            listing = self._herald.begin_list(host)
            service, action = self._act(service, reason, bool(force_down))
            told = self._told(situation, service, reason, action, reporter)
            self._herald.raise_(
                situation, HostCause.REPORTED_FAULT, told,
                service.record.status, listing)
            LOG.warning('Host %(host)s: %(reporter)s reports %(reason)s; '
                        '%(action)s', {'host': host, 'reporter': reporter,
                                       'reason': reason,
                                       'action': action.value})
        return self._shown(host, service)

    def clear_fault(self, host, reporter):
        """End all that inspectors told of a host, and undo what they did.

        :returns: as :meth:`show`, with ``cleared``
        :raises nova_vmhealth.exception.VMHealthError: it is not done, or not
            all of it; see each of them
        """
        reporter = protocol.clean_text(str(reporter), _MAX_TEXT)
        _check(host)
        with self._hold(host):
            service = self._service_of(host)
            situation = self._footing.look(host)
            service = self._undo(situation, service)
            cleared = dict(situation.mark.conditions)
            for cause, told in cleared.items():
                self._herald.end(host, cause, told, service.record.status)
            LOG.warning('Host %(host)s: %(reporter)s says that it is well; '
                        'it ends %(causes)s',
                        {'host': host, 'reporter': reporter,
                         'causes': ', '.join(cleared) or 'nothing'})
        return {**self._shown(host, service),
                'cleared': [cause.value for cause in cleared]}

    def show(self, host):
        """Say what is known of a host; see rpcapi.InspectorAPI.show."""
        _check(host)
        try:
            service = self._api.service_of(host)
        except exception.NovaFailed as error:
            LOG.warning('Host %(host)s: %(error)s',
                        {'host': host, 'error': error})
            service = None
        return self._shown(host, service)

    # -- the parts -----------------------------------------------------------

    def _hold(self, host):
        until = time.monotonic() + _LOCK_S
        while True:
            held = self._footing.hold(host)
            if held is not None:
                return held
            if time.monotonic() >= until:
                raise exception.Busy(host=host)
            time.sleep(_PAUSE_S)

    def _service_of(self, host):
        service = self._api.service_of(host)
        if service is None:
            raise exception.InvalidReport(
                reason=f'Nova knows no compute service on host {host}')
        return service

    def _act(self, service, reason, force_down):
        """Do what is to be done to the record.

        :returns: Service as it is then, and a HostAction
        """
        record, host = service.record, service.host
        if force_down:
            if not record.forced_down:
                self._footing.do(
                    lambda desk: desk.begin_forcing(host, reported=True))
                service = self._api.change(service, forced_down=True)
                self._footing.do(lambda desk: desk.end_forcing(host))
            return service, HostAction.FORCE_DOWN
        # Nova would enable its own on the next connect to libvirt.
        if record.owner not in (Owner.NOBODY, Owner.NOVA, Owner.INSPECTOR):
            return service, HostAction.NONE
        text = host_record.reason_text(
            host_record.INSPECTOR_PREFIX,
            f'{HostCause.REPORTED_FAULT.value}: {reason}')
        if record.reason != text:
            service = self._api.change(service, status='disabled',
                                       disabled_reason=text)
        return service, HostAction.DISABLE

    @staticmethod
    def _told(situation, service, reason, action, reporter):
        known = situation.told(HostCause.REPORTED_FAULT)
        told = Told(
            event_id=known.event_id if known else uuidutils.generate_uuid(),
            since=known.since if known else situation.at, reason=reason,
            action=action, details={'reporter': reporter},
            suppressed=(situation.in_window
                        or service.record.owner is Owner.OPERATOR),
            listed=False)
        if known is None:
            return told
        # Those that heard of it need not hear once more.
        return dataclasses.replace(told, listed=known.listed,
                                   instances=known.instances)

    def _undo(self, situation, service):
        host = service.host
        if situation.forcing is not None:
            if service.record.forced_down:
                service = self._api.change(service, forced_down=False)
            self._footing.do(lambda desk: desk.unforced(host))
        if service.record.owner is Owner.INSPECTOR:
            service = self._api.change(service, status='enabled')
        return service

    def _shown(self, host, service):
        situation = self._footing.look(host)
        record = service and service.record
        return {
            'host': host,
            'status': (record.status if record
                       else HostStatus.UNKNOWN).value,
            'disabled': record and record.disabled,
            'disabled_reason': record and record.reason,
            'forced_down': record and record.forced_down,
            'conditions': [
                {'cause': cause.value, 'subject': '', 'since': told.since,
                 'reason': told.reason, 'action': told.action.value}
                for cause, told in situation.mark.conditions.items()],
            'windows': self._windows.list(host),
            'last_beacon_at': situation.last_beacon_at}


class WindowCalls:
    """Answers calls about maintenance windows.

    :param keeper: nova_vmhealth.inspector.maintenance.MaintenanceKeeper, for
        the loop only
    :param on_loop: as for Footing
    :param wall: clock, seconds since the epoch
    """

    def __init__(self, keeper, on_loop, wall=time.time):
        self._keeper = keeper
        self._on_loop = on_loop
        self._wall = wall

    def set(self, window):
        """See MaintenanceKeeper."""
        return self._on_loop(lambda: self._keeper.set(window, self._wall()))

    def unset(self, host, window_id):
        """See MaintenanceKeeper."""
        return self._on_loop(
            lambda: self._keeper.unset(host, window_id, self._wall()))

    def list(self, host):
        """See MaintenanceKeeper."""
        return self._on_loop(lambda: self._keeper.list(host, self._wall()))

    def begin(self, window):
        """See MaintenanceKeeper."""
        return self._on_loop(lambda: self._keeper.begin(window, self._wall()))

    def end(self, window_id):
        """See MaintenanceKeeper."""
        return self._on_loop(lambda: self._keeper.end(window_id, self._wall()))


def _check(host):
    if (not isinstance(host, str) or not 0 < len(host) <= MAX_HOST
            or not host.isprintable()):
        raise exception.InvalidReport(
            reason=f'{host!r:.80} is no name of a host')
