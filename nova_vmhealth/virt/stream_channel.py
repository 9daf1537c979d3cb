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

"""The second way to a guest's channel: a stream through libvirt.

libvirtd has the permission on the socket, and sees the path, that nova-compute
may lack. A thread carries bytes between each stream and one end of a pair of
sockets; the heartbeat has the other end and knows no difference. The thread
runs only where a guest needs it.
"""

import errno
import logging as levels
import math
import select
import time

from nova.virt.libvirt import host
from oslo_log import log as logging

from nova_vmhealth.core import protocol
from nova_vmhealth.notifications.throttle import Throttle
from nova_vmhealth.virt.mailbox import Mailbox
from nova_vmhealth.virt import native

LOG = logging.getLogger(__name__)

# virStreamFlags and virStreamEventType, part of libvirt's stable ABI.
_NONBLOCK = 1
_READABLE, _ERROR, _HANGUP = 1, 4, 8
_ANY_EVENT = _READABLE | _ERROR | _HANGUP
# What a non-blocking stream returns in place of bytes that are not there yet.
_WOULD_BLOCK = -2
# Bytes sent to a guest that has said nothing since. libvirtd keeps what the
# guest does not read, without a bound of its own: only the end of the stream
# frees it. This is room for some 150 challenges, more than misses that an
# owner is allowed by default, so that a guest is lost before.
WINDOW = 16384
# One read: what the heartbeat takes in one turn.
READ_SIZE = 65536
# Reads of one stream before it is the others' turn.
READS = 4
# libvirtd tries for 3 s to connect to a socket that is not there, with the
# domain locked, and then gives a stream that is dead (virFDStreamConnectUNIX).
# What takes this long, seconds, is taken for that, and then libvirtd is not
# asked again about the guest for a minute.
DEAD_AFTER_S = 2.5
DEAD_FOR_S = 60.0
# Nova logs and notifies each time that it finds libvirt away: all guests
# together ask it this seldom, seconds.
AWAY_FOR_S = 5.0
# How often the end of a stream is told: a guest that floods has its stream
# opened and ended again and again.
LOG_EVERY_S = 60.0


class _Relay:
    """One stream, and our end of the pair; only the thread touches it."""

    __slots__ = ('instance_uuid', 'stream', 'pair', 'window')

    def __init__(self, instance_uuid, stream, pair):
        self.instance_uuid = instance_uuid
        self.stream = stream
        self.pair = pair
        self.window = WINDOW


class StreamChannels:
    """Opens guests' channels through libvirt.

    :param get_connection: returns Nova's connection to libvirt, wrapped by
        eventlet or not (nova.virt.libvirt.host.Host.get_connection)
    :param log: called on a native thread with a level and a text; see
        nova_vmhealth.virt.heartbeat
    :param monotonic: clock, seconds
    """

    def __init__(self, get_connection, log=LOG.log, monotonic=time.monotonic):
        self._get_connection = get_connection
        self._log = log
        self._monotonic = monotonic
        self._threading = native.original('threading')
        self._sockets = native.original('socket')
        self._poll = native.original('select').epoll()
        self._mailbox = Mailbox(self._poll)
        self._relays = {}       # by fd of our end
        # monotonic seconds, and by uuid
        self._away_until = -math.inf
        self._dead_until = {}
        self._ends_untold = 0
        self._log_throttle = Throttle(LOG_EVERY_S)
        self._stopping = self._threading.Event()
        self._thread = None

    # -- called by one other thread, which may wait for libvirt --------------

    def open(self, instance_uuid):
        """Open the heartbeat channel of a guest through libvirt.

        :param instance_uuid: the instance; its domain must be running
        :returns: a connected non-blocking socket. The guest is at its other
            end until the stream ends or the socket is closed
        :raises libvirtError: no such domain or channel, or somebody else has
            a stream to it (virDomainOpenChannel)
        :raises OSError: libvirt is away, or does not find the socket either,
            or this process is out of file descriptors
        """
        stream = self._open_stream(instance_uuid)
        try:
            ours, theirs = self._sockets.socketpair()
        except OSError:
            stream.abort()
            raise
        for end in (ours, theirs):
            end.setblocking(False)
        self._start()
        self._mailbox.put(self._adopt, _Relay(instance_uuid, stream, ours))
        return theirs

    def _open_stream(self, instance_uuid):
        began = self._monotonic()
        self._dead_until = {uuid: until for uuid, until
                            in self._dead_until.items() if until > began}
        if instance_uuid not in self._dead_until:
            connection = self._connection(began)
            domain = connection.lookupByUUIDString(instance_uuid)
            stream = connection.newStream(_NONBLOCK)
            domain.openChannel(protocol.CHANNEL_NAME, stream, 0)
            # Under eventlet it comes wrapped for greenthreads, and what
            # follows happens on a native thread.
            stream = getattr(stream, '_obj', stream)
            ended = self._monotonic()
            if ended - began < DEAD_AFTER_S:
                return stream
            stream.abort()
            self._dead_until[instance_uuid] = ended + DEAD_FOR_S
        raise FileNotFoundError(
            errno.ENOENT, 'libvirtd does not find the socket either')

    def _connection(self, now):
        if now >= self._away_until:
            try:
                return self._get_connection()
            except Exception:
                # Nova's own HypervisorUnavailable, or what it met on the way
                # to it: Nova has told of it.
                self._away_until = now + AWAY_FOR_S
        raise ConnectionError('libvirt is away')

    def close(self, timeout_s=5.0):
        """End every stream and the thread.

        :param timeout_s: longest wait for the thread, seconds: a libvirtd
            that hangs may hold it
        """
        self._stopping.set()
        self._mailbox.wake()
        if self._thread is None:
            self._close()
        else:
            self._thread.join(timeout_s)

    def _start(self):
        if self._thread is None:
            self._thread = self._threading.Thread(
                target=self._run, name='vmhealth-streams', daemon=True)
            self._thread.start()

    # -- called by any thread, libvirt's event thread among them -------------

    def _on_stream(self, stream, _events, relay):
        """Called on libvirt's event thread, which has better things to do.

        It comes again and again until the stream is read: not any more.
        """
        try:
            stream.eventUpdateCallback(0)
        except host.libvirt.libvirtError:
            return          # the thread has just ended this stream
        self._mailbox.put(self._receive, relay)

    # -- the thread ----------------------------------------------------------

    def _run(self):
        while not self._stopping.is_set():
            try:
                self._run_once(None)
            except Exception as error:
                # A defect, or no memory: the other guests' streams must go
                # on. The pause keeps a lasting one from eating a processor.
                self._log(levels.ERROR, 'the thread of the libvirt streams '
                          'failed: %r' % error)
                self._stopping.wait(1.0)
        self._close()

    def _run_once(self, timeout):
        """Take one turn.

        :param timeout: longest wait for sockets, seconds; None for any time
        """
        for fd, _mask in self._poll.poll(timeout, len(self._relays) + 1):
            if fd == self._mailbox.fileno():
                self._mailbox.drain()
            elif fd in self._relays:
                self._guard(self._send, self._relays[fd])
        # Those that come meanwhile have their turn in the next one.
        for _ in range(len(self._mailbox)):
            command, arguments = self._mailbox.take()
            self._guard(command, *arguments)

    def _guard(self, step, relay, *arguments):
        """Take a step for one guest; what fails ends that guest's stream."""
        if relay.pair.fileno() < 0:
            return          # it has ended
        try:
            reason = step(relay, *arguments)
        except (host.libvirt.libvirtError, OSError) as error:
            reason = str(error)
        if reason is not None:
            self._end(relay, reason)

    def _adopt(self, relay):
        self._relays[relay.pair.fileno()] = relay
        self._poll.register(relay.pair, select.POLLIN)
        relay.stream.eventAddCallback(_ANY_EVENT, self._on_stream, relay)

    def _receive(self, relay):
        """Carry what the guest said; why the stream is over if it is."""
        for _ in range(READS):
            data = relay.stream.recv(READ_SIZE)
            if data == _WOULD_BLOCK:
                relay.stream.eventUpdateCallback(_ANY_EVENT)
                break
            if not data:
                return 'libvirt closed it'
            try:
                size = relay.pair.send(data)
            except BlockingIOError:
                size = 0
            if size < len(data):
                # To leave it unread would only move it into our own memory:
                # the binding takes everything that libvirtd sends.
                return 'the guest sends more than the heartbeat reads'
            relay.window = WINDOW
        else:
            self._mailbox.put(self._receive, relay)
        return None

    def _send(self, relay):
        """Carry what the heartbeat said; why the stream is over if it is.

        '' is a reason that is not told: the heartbeat closed its end, or the
        guest is silent, which is the heartbeat's to judge.
        """
        if not relay.window:
            return ''
        data = relay.pair.recv(relay.window)
        if not data:
            return ''
        if relay.stream.send(data) != len(data):
            return 'libvirt takes no more'
        relay.window -= len(data)
        return None

    def _end(self, relay, reason):
        """Let go of a stream; the heartbeat sees the end of its socket."""
        if self._relays.pop(relay.pair.fileno(), None):
            self._poll.unregister(relay.pair)
        try:
            # Unread bytes would make of the end an error, and take with them
            # what the guest said last.
            relay.pair.recv(READ_SIZE)
        except OSError:
            pass        # there are none
        relay.pair.close()
        for step in (relay.stream.eventRemoveCallback, relay.stream.abort):
            try:
                step()
            except host.libvirt.libvirtError:
                pass        # there is nothing left to end
        if not reason:
            return
        self._ends_untold += 1
        if self._log_throttle.ready():
            self._log(levels.WARNING, '[instance: %s] the libvirt stream of '
                      'its heartbeat channel ended: %s; %d ended since the '
                      'last such message'
                      % (relay.instance_uuid, reason, self._ends_untold))
            self._ends_untold = 0

    def _close(self):
        while self._mailbox:
            command, arguments = self._mailbox.take()
            if command == self._adopt:
                self._end(arguments[0], '')
        for relay in list(self._relays.values()):
            self._end(relay, '')
        self._poll.close()
        self._mailbox.close()
