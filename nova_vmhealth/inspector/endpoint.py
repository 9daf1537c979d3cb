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

"""The inspector's side of rpcapi.InspectorAPI.

Beacons are handled where they are read, one after the other: there may be
thousands a second, which leave no time to hand each to a thread, and their
order says something. Calls, which may have to wait for Nova's API, go to
threads of oslo.messaging's.
"""

from oslo_log import log as logging
import oslo_messaging
from oslo_messaging.rpc import server as rpc_server

from nova_vmhealth.core.beacons import Beacon
from nova_vmhealth.core.beacons import InspectorBeacon
from nova_vmhealth import exception
from nova_vmhealth.inspector.loop import Sync
from nova_vmhealth.notifications import throttle
from nova_vmhealth import rpcapi

LOG = logging.getLogger(__name__)

# Calls that are answered at a time: each may wait for Nova's API.
_CALLS = 16
_LOG_PERIOD_S = 60.0

# What a caller did wrong, or is told of: no trace in the log.
_expected = oslo_messaging.expected_exceptions(exception.VMHealthError)


class Endpoint:
    """What others may call; the arguments are those of rpcapi.InspectorAPI.

    :param inbox: nova_vmhealth.inspector.inbox.Inbox
    :param reports: nova_vmhealth.inspector.reports.Reports
    :param windows: nova_vmhealth.inspector.reports.WindowCalls
    """

    target = oslo_messaging.Target(version=rpcapi.INSPECTOR_VERSION)

    def __init__(self, inbox, reports, windows):
        self._inbox = inbox
        self._reports = reports
        self._windows = windows
        self.unreadable = 0
        self._may_log = throttle.Throttle(_LOG_PERIOD_S)

    # told to all of them; quick

    def host_beacon(self, ctxt, beacon):
        """Take in a host's beacon."""
        try:
            self._inbox.arrive(Beacon.restored(beacon))
        except exception.InvalidRecord as error:
            self._ignore('beacon', error)

    def inspector_beacon(self, ctxt, beacon):
        """Take in an inspector's beacon, which may be an own one."""
        try:
            # Somebody may be waiting for just this.
            self._inbox.put(InspectorBeacon.restored(beacon))
        except exception.InvalidRecord as error:
            self._ignore("inspector's beacon", error)

    def sync(self, ctxt, sender, records):
        """Take in what another inspector knows."""
        self._inbox.put(Sync(sender, records))

    def _ignore(self, what, error):
        self.unreadable += 1
        if self._may_log.ready():
            LOG.warning('A %(what)s is ignored, %(count)d so far: %(error)s',
                        {'what': what, 'count': self.unreadable,
                         'error': error})

    # asked of any one

    @_expected
    def report_fault(self, ctxt, host, reason, force_down, reporter):
        return self._reports.report_fault(host, reason, force_down, reporter)

    @_expected
    def clear_fault(self, ctxt, host, reporter):
        return self._reports.clear_fault(host, reporter)

    @_expected
    def show(self, ctxt, host):
        return self._reports.show(host)

    @_expected
    def set_window(self, ctxt, window):
        return self._windows.set(window)

    @_expected
    def unset_windows(self, ctxt, host=None, window_id=None):
        return self._windows.unset(host, window_id)

    @_expected
    def list_windows(self, ctxt, host=None):
        return self._windows.list(host)


class Server(rpc_server.RPCServer):
    """Handles what nobody waits for where it is read, in order."""

    # Holds on oslo.messaging 14 to 18: called on the thread that reads, with a
    # list of one message; those that want an answer have a msg_id.
    def _on_incoming(self, incoming):
        if incoming[0].msg_id:
            super()._on_incoming(incoming)
        else:
            self._process_incoming(incoming)


def new_server(transport, name, endpoint):
    """Make the server; it connects when it is started.

    :param transport: oslo.messaging's for RPC, of its own
    :param name: of this inspector
    :param endpoint: Endpoint
    """
    return oslo_messaging.get_rpc_server(
        transport, rpcapi.inspector_target(name), [endpoint],
        executor='threading', server_cls=Server,
        access_policy=oslo_messaging.DefaultRPCAccessPolicy)


def start(server):
    """Start the server; waits for the broker as long as it takes."""
    server.start(override_pool_size=_CALLS)
