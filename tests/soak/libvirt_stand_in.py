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


"""A connection to the hypervisor's process, with libvirt's methods.

Nova's Host opens it in place of libvirt's own, so that everything from its
reconnecting to our callbacks is as it is in nova-compute.
"""

import json
import os

import libvirt

from nova_vmhealth.virt import host
from nova_vmhealth.virt import native
from tests.soak import hypervisor

ANSWER_S = 10
CLOSED_EOF = 1          # virConnectCloseReason
EVENT_IDS = {'lifecycle': libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
             'reboot': libvirt.VIR_DOMAIN_EVENT_ID_REBOOT,
             'watchdog': libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG,
             'io_error_reason': libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON}


def _lacking(name):
    """Make the error for a method that libvirt has and a stand-in lacks."""
    if name.startswith('_'):
        return AttributeError(name)
    return libvirt.libvirtError('a stand-in has no ' + name)


class Domain:
    """What the driver asks of a domain; the rest it cannot have."""

    def __init__(self, uuid):
        self._uuid = uuid

    def UUIDString(self):
        return self._uuid

    def diskErrors(self, _flags):
        return {}

    def __getattr__(self, name):
        raise _lacking(name)


class Connection:
    """A connection; its thread is libvirt's event loop, a native one.

    :param folder: of the hypervisor
    :raises libvirtError: nobody listens there
    """

    def __init__(self, folder):
        socket, threading, self._queue = map(
            native.original, ('socket', 'threading', 'queue'))
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(
                os.path.join(folder, hypervisor.LIBVIRT_SOCKET))
        except OSError as error:
            self._socket.close()
            raise libvirt.libvirtError(str(error)) from error
        self._shut_down = lambda: self._socket.shutdown(socket.SHUT_RDWR)
        self._stream = self._socket.makefile('rwb')
        self._asking = threading.Lock()
        self._answers = self._queue.Queue()
        self._callbacks = {}
        self._closed = None
        threading.Thread(target=self._run, name='libvirt',
                         daemon=True).start()

    # -- libvirt's methods ---------------------------------------------------

    def domainEventRegisterAny(self, _dom, event_id, callback, opaque):
        self._callbacks[event_id] = callback, opaque

    def registerCloseCallback(self, callback, opaque):
        self._closed = callback, opaque

    def getLibVersion(self):
        return 9000000

    def getAllDomainStats(self, _stats, _flags):
        with self._asking:
            try:
                self._stream.write(b'{}\n')
                self._stream.flush()
                domains = self._answers.get(timeout=ANSWER_S)
            except (OSError, ValueError, self._queue.Empty):
                domains = None
        if domains is None:
            raise libvirt.libvirtError('the connection is closed')
        return [(Domain(uuid), {'state.state': state, 'state.reason': reason})
                for uuid, state, reason in domains]

    def domainListGetStats(self, domains, stats, flags):
        wanted = {domain.UUIDString() for domain in domains}
        return [(domain, found)
                for domain, found in self.getAllDomainStats(stats, flags)
                if domain.UUIDString() in wanted]

    def listAllDomains(self, _flags):
        # Nova looks for their shared mounts at its start.
        return []

    def lookupByUUIDString(self, uuid):
        return Domain(uuid)

    def close(self):
        self._closed = None
        self._shut_down()

    def __getattr__(self, name):
        raise _lacking(name)

    # -- its thread ----------------------------------------------------------

    def _run(self):
        try:
            for line in self._stream:
                self._take(json.loads(line))
        except OSError:
            pass
        self._answers.put(None)
        if self._closed is not None:
            callback, opaque = self._closed
            callback(self, CLOSED_EOF, opaque)

    def _take(self, message):
        if 'domains' in message:
            self._answers.put(message['domains'])
            return
        found = self._callbacks.get(EVENT_IDS[message['event']])
        if found is not None:
            callback, opaque = found
            callback(self, Domain(message['uuid']), *message['arguments'],
                     opaque)


class StandInHost(host.HealthHost):
    """HealthHost that connects to the hypervisor's process.

    :cvar folder: of the hypervisor
    """

    folder = None

    def _connect(self, _uri, _read_only):
        return Connection(self.folder)
