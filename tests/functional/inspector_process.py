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

"""An inspector with a broker of its own, and hosts that beat in its process.

``python -m tests.functional.inspector_process CONFIG HOST [HOST ...]``: the
transport is oslo.messaging's within the process, so that it hears its hosts
and itself and nobody else. A line on standard input is ``die HOST``, ``beat
HOST`` or ``quit``; each is answered by ``ok``.
"""

import sys
import threading
import time
import uuid

from oslo_log import log as logging

from nova_vmhealth import broker
from nova_vmhealth.conf import inspector as options
from nova_vmhealth import configuration
from nova_vmhealth.core import beacons
from nova_vmhealth.inspector import service
from nova_vmhealth import rpcapi

INTERVAL_MS = 100


def load(path):
    def register(conf):
        options.register_opts(conf)
        logging.register_options(conf)
    conf = configuration.load([path], register)
    options.validate(conf)
    logging.setup(conf, 'inspector')
    return conf


def send(conf, beating):
    """Send the beacons of all that beat, for ever."""
    api = rpcapi.InspectorAPI(broker.rpc_transport(conf))
    incarnation, sequence = uuid.uuid4().hex, 0
    while True:
        sequence += 1
        for host in list(beating):
            api.host_beacon(beacons.Beacon(
                host, incarnation, sequence, INTERVAL_MS,
                time.time()).record())
        time.sleep(INTERVAL_MS / 1000)


def main():
    path, *hosts = sys.argv[1:]
    conf = load(path)
    inspector = service.Inspector(conf)
    inspector.start()
    beating = set(hosts)
    threading.Thread(target=send, args=(conf, beating), daemon=True).start()
    for line in sys.stdin:
        command, *host = line.split()
        if command == 'quit':
            break
        (beating.discard if command == 'die' else beating.add)(*host)
        print('ok', flush=True)
    inspector.stop()
    print('ok', flush=True)


if __name__ == '__main__':
    main()
