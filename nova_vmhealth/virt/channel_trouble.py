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

"""What is done about a guest's channel that does not work as it should."""

import dataclasses
import threading

from oslo_log import log as logging

from nova_vmhealth.virt import channel
from nova_vmhealth.virt import socket_probe

LOG = logging.getLogger(__name__)

# Guests that are new come in numbers; one look serves all of them.
PROBE_DELAY_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Unreachable:
    """The heartbeat cannot reach a guest's socket, and libvirt may.

    :ivar occurred_at: wall clock, seconds since the epoch
    :ivar path: of the socket
    :ivar reason: why it cannot be reached
    """

    instance_uuid: str
    occurred_at: float
    path: str
    reason: str


class ChannelTrouble:
    """Gets around a socket that cannot be reached; explains a silent one.

    Called on the worker; the jobs run on a background thread.

    :param submit: Background.submit
    :param open_stream: StreamChannels.open; None where the operator does not
        want libvirt's streams
    :param offer: HeartbeatMonitor.offer
    :param probe: socket_probe.occupied
    """

    def __init__(self, submit, open_stream, offer,
                 probe=socket_probe.occupied):
        self._submit = submit
        self._open_stream = open_stream
        self._offer = offer
        self._probe = probe
        # uuid -> how the last attempt at libvirt's stream ended, as logged
        self._told = {}
        # path -> uuid of guests that were never heard; the worker puts, the
        # job takes
        self._unheard = {}
        self._lock = threading.Lock()

    def unreachable(self, trouble):
        """Try libvirt's stream in the socket's place.

        :param trouble: Unreachable
        """
        if self._open_stream is not None:
            self._submit(
                f'opening the channel of instance {trouble.instance_uuid}',
                lambda: self._open(trouble))

    def unheard(self, uuid, domain_name):
        """Look who else may hold the socket of a guest that is silent.

        :param uuid: the instance
        :param domain_name: the libvirt domain's name
        """
        with self._lock:
            self._unheard[channel.socket_path(domain_name)] = uuid
        self._submit('looking for who holds the channels', self._look,
                     PROBE_DELAY_S)

    def forget(self, uuid):
        """Drop an instance that left this host."""
        self._told.pop(uuid, None)

    def _open(self, trouble):
        uuid = trouble.instance_uuid
        try:
            stream = self._open_stream(uuid)
        except Exception as error:
            # libvirt's errors, and whatever a stream in the middle of its
            # domain's end meets. Not raised: the heartbeat asks again.
            if self._is_news(uuid, str(error)):
                LOG.warning('[instance: %(uuid)s] libvirt gives no stream to '
                            'the channel either: %(error)s',
                            {'uuid': uuid, 'error': error})
            return
        if self._is_news(uuid, 'open'):
            LOG.info('[instance: %(uuid)s] the heartbeat takes a stream of '
                     'libvirt, its socket cannot be reached: %(reason)s',
                     {'uuid': uuid, 'reason': trouble.reason})
        self._offer(uuid, stream)

    def _is_news(self, uuid, outcome):
        """Remember how an attempt ended; whether the last ended otherwise."""
        last, self._told[uuid] = self._told.get(uuid), outcome
        return outcome != last

    def _look(self):
        with self._lock:
            unheard, self._unheard = self._unheard, {}
        for path in self._probe(unheard):
            LOG.warning('[instance: %(uuid)s] another program of this host '
                        'holds %(path)s, so its guest is not heard. End that '
                        'program (ss -xp shows it); the heartbeat then '
                        'begins by itself.',
                        {'uuid': unheard[path], 'path': path})
