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

"""Speak to the other inspectors and to the hosts, on a thread of its own.

A broker that is away or hangs holds up this thread and nobody else. Of what is
not sent yet the latest is kept: a beacon that comes late says nothing.
"""

import threading

from oslo_log import log as logging

from nova_vmhealth.notifications import throttle
from nova_vmhealth import rpcapi

LOG = logging.getLogger(__name__)

_LOG_PERIOD_S = 60.0
# Hosts whose windows wait to be sent: each is named once, and no cell has so
# many.
_MAX_HOSTS = 10000


class Voice:
    """Sends without waiting for anybody.

    Its connection is thrown away when it fails, and the next beacon makes a
    new one: a broker that is back is reached with the first of them.

    :param connect: gives an oslo.messaging transport for RPC
    :param name: of this inspector
    """

    def __init__(self, connect, name):
        self._connect = connect
        self._name = name
        self._transport = None
        self._inspectors = None
        self._hosts = None
        self._changed = threading.Condition()
        self._beacon = None
        self._records = {}
        self._windows = {}
        self._stopping = False
        self._thread = None
        self._may_log = throttle.Throttle(_LOG_PERIOD_S)

    def start(self):
        """Start the thread."""
        self._thread = threading.Thread(
            target=self._run, name='vmhealth-voice', daemon=True)
        self._thread.start()

    def stop(self, timeout_s):
        """Send what waits, then end.

        :param timeout_s: longest wait for that, seconds
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def beacon(self, record):
        """Send an own beacon, before all else.

        :param record: of a core.beacons.InspectorBeacon
        """
        with self._changed:
            self._beacon = record
            self._changed.notify()

    def sync(self, records):
        """Tell the other inspectors what was written down.

        :param records: of core.replica.Replica
        """
        if records:
            with self._changed:
                self._records.update(records)
                self._changed.notify()

    def set_windows(self, host, windows):
        """Tell a host its windows.

        :param windows: list of records of core.maintenance.Window
        """
        with self._changed:
            if len(self._windows) < _MAX_HOSTS:
                self._windows[host] = windows
                self._changed.notify()

    def _run(self):
        while True:
            with self._changed:
                send = self._next()
                if send is None and self._stopping:
                    break
                if send is None:
                    self._changed.wait()
                    continue
            self._try(send)
        self._close()

    def _try(self, send):
        try:
            if self._transport is None:
                self._transport = self._connect()
                self._inspectors = rpcapi.InspectorAPI(self._transport)
                self._hosts = rpcapi.ComputeAPI(self._transport)
            send()
        # oslo.messaging, kombu, amqp and the socket below them each have
        # errors of their own, and none may end the thread.
        except Exception as error:
            if self._may_log.ready():
                LOG.error('The message broker takes nothing from this '
                          'inspector: %s', error)
            self._close()

    def _close(self):
        transport, self._transport = self._transport, None
        if transport is None:
            return
        try:
            transport.cleanup()
        # A connection that is broken may fail in any way when it is closed.
        except Exception as error:
            LOG.debug('The connection was not closed: %s', error)

    def _next(self):
        """Take out what is to be sent next; with the lock held."""
        if self._beacon is not None:
            beacon, self._beacon = self._beacon, None
            return lambda: self._inspectors.inspector_beacon(beacon)
        if self._records:
            records, self._records = self._records, {}
            return lambda: self._inspectors.sync(self._name, records)
        if self._windows:
            host, windows = self._windows.popitem()
            return lambda: self._hosts.set_windows(host, windows)
        return None
