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

"""Sends the beacons of one host, or of many, without any nova-compute.

``python -m tests.integration.beacon_sender URL HOST [HOST ...]``, until it is
killed; with ``--goodbye`` it says so at SIGTERM.
"""

import argparse
import signal
import sys
import time
import uuid

from nova_vmhealth import broker
from nova_vmhealth import configuration
from nova_vmhealth.core import beacons
from nova_vmhealth import rpcapi


class BeaconSender:
    """Sends a beacon of each of its hosts at a time.

    :param url: of the broker
    :param hosts: names
    :param interval_ms: that the beacons say
    """

    def __init__(self, url, hosts, interval_ms=500):
        self.interval_ms = interval_ms
        self._url = url
        self._hosts = hosts
        self._connect()
        self._incarnation = uuid.uuid4().hex
        self._sequence = 0

    def _connect(self):
        self._transport = broker.rpc_transport(
            configuration.load([]), self._url)
        self._api = rpcapi.InspectorAPI(self._transport)

    def send(self, leaving=False, windows=''):
        """Send one of each; when the last was sent, seconds."""
        self._sequence += 1
        try:
            self._send_all(leaving, windows)
        except Exception:
            # As nova-compute does: the next makes a new connection.
            self._transport.cleanup()
            self._connect()
            raise
        return time.time()

    def _send_all(self, leaving, windows):
        for host in self._hosts:
            self._api.host_beacon(beacons.Beacon(
                host, self._incarnation, self._sequence, self.interval_ms,
                time.time(), leaving, windows).record())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('url')
    parser.add_argument('host', nargs='+')
    parser.add_argument('--interval-ms', type=int, default=500)
    parser.add_argument('--goodbye', action='store_true')
    arguments = parser.parse_args()
    if arguments.goodbye:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    sender = BeaconSender(arguments.url, arguments.host,
                          arguments.interval_ms)
    try:
        while True:
            due = time.monotonic() + arguments.interval_ms / 1000
            try:
                print('%.6f' % sender.send(), flush=True)
            except Exception as error:      # the broker is away for now
                print('not sent:', error, flush=True)
            time.sleep(max(0, due - time.monotonic()))
    finally:
        if arguments.goodbye:
            sender.send(leaving=True)


if __name__ == '__main__':
    main()
