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

"""nova-compute says that it lives: a ``host.beacon`` at a steady pace.

It goes to all inspectors by the broker's fanout exchange, which keeps nothing:
a beacon that nobody hears is gone. One that cannot be sent is not sent later.
"""

import threading
import time

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_vmhealth import broker
from nova_vmhealth.core import beacons
from nova_vmhealth.notifications import throttle
from nova_vmhealth import rpcapi

LOG = logging.getLogger(__name__)

LOG_PERIOD_S = 60


class BeaconSender:
    """Sends beacons on a thread of its own.

    The thread comes from whatever ``threading`` Nova left in place, as the
    sender's of notifications does. The connection is one of its own: it is
    thrown away when it fails, and the next beacon makes a new one, so that a
    broker that is back is reached with the first of them.

    :param connect: gives an oslo.messaging transport for RPC
    :param host: name of the compute service
    :param interval_ms: milliseconds; 0: send none
    :param monotonic: clock, seconds
    :ivar sent: how many the broker took
    :ivar failed: how many it did not
    """

    def __init__(self, connect, host, interval_ms, monotonic=time.monotonic):
        self.sent = 0
        self.failed = 0
        self._connect = connect
        self._host = host
        self._interval_ms = interval_ms
        self._windows = str
        self._monotonic = monotonic
        self._incarnation = uuidutils.generate_uuid(dashed=False)
        self._sequence = 0
        self._transport = None
        self._api = None
        self._stopping = threading.Event()
        self._thread = None
        self._may_log = throttle.Throttle(LOG_PERIOD_S)

    def start(self, windows):
        """Begin; returns at once.

        :param windows: gives the digest of the maintenance windows that the
            host knows
        """
        self._windows = windows
        if not self._interval_ms:
            return
        self._thread = threading.Thread(
            target=self._run, name='vmhealth-beacon', daemon=True)
        self._thread.start()

    def stop(self, timeout_s):
        """Say that nova-compute leaves on purpose, then end.

        :param timeout_s: longest wait, seconds
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self):
        due = self._monotonic()
        while not self._stopping.is_set():
            self.send()
            now = self._monotonic()
            # What was missed is not made up for: it would say nothing new.
            due = max(due + self._interval_ms / 1000, now)
            self._stopping.wait(due - now)
        self.send(leaving=True)
        self._close()

    def send(self, leaving=False):
        """Send one beacon.

        :param leaving: whether it is the last one
        :returns: whether the broker took it
        """
        self._sequence += 1
        beacon = beacons.Beacon(
            self._host, self._incarnation, self._sequence, self._interval_ms,
            time.time(), leaving, self._windows())
        try:
            if self._api is None:
                self._transport = self._connect()
                self._api = rpcapi.InspectorAPI(self._transport)
            self._api.host_beacon(beacon.record())
        # amqp, kombu and oslo.messaging have errors of their own, and none may
        # end the thread.
        except Exception as error:
            self.failed += 1
            if self._may_log.ready():
                LOG.warning('The message broker takes no beacons, so that '
                            'inspectors may miss this host: %s', error)
            self._close()
            return False
        self.sent += 1
        return True

    def _close(self):
        transport, self._transport, self._api = self._transport, None, None
        if transport is None:
            return
        try:
            transport.cleanup()
        # A connection that is broken may fail in any way when it is closed.
        except Exception as error:
            LOG.debug('The connection for beacons was not closed: %s', error)


def sender(conf, host, interval_ms):
    """Make the sender of a nova-compute.

    :param conf: its oslo.config ConfigOpts
    :param host: as for BeaconSender, and so is what follows
    """
    return BeaconSender(lambda: broker.rpc_transport(conf), host, interval_ms)
