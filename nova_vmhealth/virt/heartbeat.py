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


"""The heartbeats of all guests of this host, for the rest of the driver."""

import collections
import logging
import math
import time

from nova_vmhealth.core import audits
from nova_vmhealth.core.session import Session
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import HeartbeatStatus
from nova_vmhealth.virt import guest_channel
from nova_vmhealth.virt import heartbeat_loop
from nova_vmhealth.virt import native
from nova_vmhealth.virt import unix_socket
from nova_vmhealth.virt.wheel import SLOT_S

_LOG = logging.getLogger(__name__).log
# Spreads guests evenly over the slots of an interval, however many there are.
_GOLDEN = 0.6180339887498949


class Notice:
    """A notice under way to a guest; the heartbeat's thread fills it in.

    :ivar acked: the guest is ready
    :ivar over: no answer will come any more
    """

    __slots__ = ('acked', 'over')

    def __init__(self):
        self.acked = False
        self.over = False


class HeartbeatMonitor:
    """Watches guests and tells what their heartbeats say.

    All methods return at once, but for :meth:`stop`, and may be called on any
    thread.

    :param deliver: called on the heartbeat's thread with one Observation; has
        to be quick
    :param monotonic: the clock of all deadlines
    :param wall: seconds since the epoch, for what is told
    :param connect: called with a path, returns a connected non-blocking
        socket or raises OSError; None connects to the unix socket
    :param second_way: called on the heartbeat's thread with instance, path and
        reason, when the socket was out of reach for a while for a reason that
        libvirt may get around; has to be quick. What it leads to is given to
        :meth:`offer`
    :param log: called on the heartbeat's thread with a level and a text. In
        eventlet mode it must not log there: its locks belong to greenthreads
    :param recover_beats: valid answers in a row that end a loss
    """

    def __init__(self, deliver, *, monotonic=time.monotonic, wall=time.time,
                 connect=None, second_way=None,
                 log=_LOG, recover_beats=2):
        sockets = native.original('socket')
        self._monotonic = monotonic
        self._recover_beats = recover_beats
        self._new_nonce = heartbeat_loop.nonces().__next__
        self._loop = heartbeat_loop.HeartbeatLoop(
            deliver, monotonic=monotonic, wall=wall,
            connect=connect or (
                lambda path: unix_socket.connect(path, sockets)),
            second_way=second_way, log=log, given_up=self._given_up)
        # By uuid, as those who ask see them: the loop comes after.
        self._watched = {}
        self._begun = 0
        self._count = 0
        self._count_from = -math.inf

    def start(self):
        """Start the thread."""
        self._loop.start()

    def stop(self, timeout_s):
        """Stop the thread and close every channel.

        :param timeout_s: longest wait for the thread, seconds
        :returns: whether it has ended
        """
        return self._loop.stop(timeout_s)

    # -- which guests --------------------------------------------------------

    def watch(self, instance_uuid, path, policy, guest=Guest.WAITING,
              said=audits.NOTHING_SAID):
        """Begin with a guest, anew if it is watched already.

        :param instance_uuid: the instance
        :param path: of the unix socket of its heartbeat channel
        :param policy: nova_vmhealth.core.policy.Policy
        :param guest: how it stood when it was watched before, and so begins:
            the silence of one that was beating is a loss
        :param said: what it said then that is not well, audit -> Health
        """
        self._begun += 1
        interval_s = policy.interval_ms / 1000
        phase = self._begun * _GOLDEN % 1 * interval_s // SLOT_S * SLOT_S
        session = Session(policy, self._new_nonce, self._monotonic(),
                          guest=guest, said=said, phase=phase,
                          recover_beats=self._recover_beats)
        channel = guest_channel.GuestChannel(instance_uuid, path, session)
        self._watched[instance_uuid] = channel
        self._loop.ask(self._loop.attach, channel)

    def unwatch(self, instance_uuid):
        """Let go of a guest; nothing happens when it is not watched."""
        self._watched.pop(instance_uuid, None)
        self._loop.ask(self._loop.detach, instance_uuid)

    def hold(self, instance_uuid):
        """Challenge and judge a guest no more until :meth:`release`.

        It does not nest, and nothing happens when it is not watched.
        """
        self._loop.ask(self._loop.set_held, instance_uuid, True)

    def release(self, instance_uuid):
        """Go on with a guest that :meth:`hold` stopped, if it did."""
        self._loop.ask(self._loop.set_held, instance_uuid, False)

    def _given_up(self, channel):
        """Called on the heartbeat's thread."""
        if self._watched.get(channel.instance_uuid) is channel:
            del self._watched[channel.instance_uuid]

    # -- their channels ------------------------------------------------------

    def offer(self, instance_uuid, connection):
        """Give a connection to a guest whose socket is out of reach.

        :param connection: a connected socket that does not block; closed at
            once where it is not needed (any more)
        """
        self._loop.ask(self._loop.adopt, instance_uuid, connection)

    def port_closed(self, instance_uuid):
        """Take note that a guest closed its port: its agent is gone.

        Its silence is no loss until it answers again.
        """
        self._loop.ask(self._loop.port_closed, instance_uuid)

    # -- what they are told --------------------------------------------------

    def notice(self, instance_uuid, operation, timeout_ms):
        """Tell a guest what Nova is about to do to it.

        :param operation: a fixed name
        :param timeout_ms: how long the caller waits, milliseconds
        :returns: a :class:`Notice` to look at; None when the guest did not
            ask for notices or cannot be reached
        """
        channel = self._watched.get(instance_uuid)
        if channel is None or channel.socket is None \
                or not channel.session.notices.declared:
            return None
        notice = Notice()
        self._loop.ask(self._loop.send_notice, instance_uuid, operation,
                       timeout_ms, notice)
        return notice

    def notice_later(self, instance_uuid, operation):
        """Tell a guest what Nova has done to it, as soon as it listens.

        It is told if it asks for notices within a minute, and is not waited
        for.

        :param operation: a fixed name
        """
        self._loop.ask(self._loop.send_notice, instance_uuid, operation, 0,
                       None)

    def is_lost(self, instance_uuid):
        """Say whether a guest is lost, however it fares at the moment."""
        channel = self._watched.get(instance_uuid)
        return channel is not None and channel.session.guest is Guest.LOST

    # -- what is known of them -----------------------------------------------

    def status(self, instance_uuid):
        """Return what is known of a guest's heartbeat.

        :returns: HeartbeatStatus, None when the guest is not watched
        """
        channel = self._watched.get(instance_uuid)
        if channel is None:
            return None
        session, policy = channel.session, channel.session.policy
        return HeartbeatStatus(
            interval_ms=policy.interval_ms, timeout_ms=policy.timeout_ms,
            misses_allowed=policy.misses, misses=session.misses,
            established=session.established,
            last_seen_at=self._loop.last_seen_at(session))

    @property
    def voided(self):
        """How often a guest's round was not judged, for a stall of ours."""
        return self._loop.voided

    @property
    def count(self):
        """How many guests are watched and have answered before.

        Counted at most once a second, for those who ask at every loss.
        """
        now = self._monotonic()
        if now >= self._count_from:
            self._count_from = now + 1.0
            self._count = sum(channel.session.established
                              for channel in list(self._watched.values()))
        return self._count

    def statistics(self):
        """Return how many guests are how, and what was counted so far.

        :returns: a dict of numbers: ``watched``, ``held``, ``waiting`` (for a
            channel), ``connected_socket``, ``connected_libvirt`` and
            ``established``, ``lost``, ``exited`` are guests at this moment;
            ``challenges``, ``reads`` (of what guests wrote),
            ``refused_lines`` and ``voided_rounds`` only grow
        """
        channels = list(self._watched.values())
        ways = collections.Counter(
            channel.way for channel in channels if channel.socket is not None)
        guests = collections.Counter(
            channel.session.guest for channel in channels)
        counts = collections.Counter(self._loop.retired)
        for channel in channels:
            counts.update(channel.session.counts())
        return {
            'watched': len(channels),
            'held': sum(channel.held for channel in channels),
            'waiting': len(channels) - sum(ways.values()),
            'connected_socket': ways[guest_channel.SOCKET],
            'connected_libvirt': ways[guest_channel.LIBVIRT],
            'established': sum(
                channel.session.established for channel in channels),
            'lost': guests[Guest.LOST],
            'exited': guests[Guest.EXITED],
            'challenges': counts['challenges'],
            'reads': self._loop.reads,
            'refused_lines': counts['refused_lines'],
            'voided_rounds': self._loop.voided,
        }
