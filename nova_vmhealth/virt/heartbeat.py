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


"""The heartbeats of all guests of this host, on one native thread.

A turn of the loop waits for sockets until the next slot of the wheel, reads
what guests wrote, and only then judges and challenges those whose slot has
come. When the loop itself came late, nobody is blamed for it.
"""

import collections
import logging as levels
import math
import secrets
import select
import time

from oslo_log import log as logging

from nova_vmhealth.core import outcomes
from nova_vmhealth.core.session import Session
from nova_vmhealth.core.vocabulary import HeartbeatStatus
from nova_vmhealth.notifications.throttle import Throttle
from nova_vmhealth.virt.guest_channel import connect_unix
from nova_vmhealth.virt.guest_channel import GuestChannel
from nova_vmhealth.virt.heartbeat_observations import observations_of
from nova_vmhealth.virt import native
from nova_vmhealth.virt.wheel import SLOT_S
from nova_vmhealth.virt.wheel import Wheel

LOG = logging.getLogger(__name__)

# The loop wakes at least this often, seconds, while it watches anybody: a
# stall of the host shows only as a wake-up that came late.
TICK_S = 0.1
# What happens for every guest or for none, and could fill a log, seconds.
LOG_EVERY_S = 60.0
# Spreads guests evenly over the slots of an interval, however many there are.
_GOLDEN = 0.6180339887498949


def _new_nonce():
    return secrets.token_hex(16)


class HeartbeatMonitor:
    """Watches guests and tells what their heartbeats say.

    :param deliver: called on the heartbeat's thread with one Observation; has
        to be quick
    :param monotonic: the clock of all deadlines
    :param wall: seconds since the epoch, for what is told
    :param connect: called with a path, returns a connected non-blocking
        socket or raises OSError; None connects to the unix socket
    :param log: called on the heartbeat's thread with a level and a text. In
        eventlet mode it must not log there: its locks belong to greenthreads
    :param recover_beats: valid answers in a row that end a loss
    """

    def __init__(self, deliver, *, monotonic=time.monotonic, wall=time.time,
                 connect=None, log=LOG.log, recover_beats=2):
        self._deliver = deliver
        self._monotonic = monotonic
        self._wall = wall
        self._log = log
        self._recover_beats = recover_beats
        self._threading = native.original('threading')
        self._sockets = native.original('socket')
        self._connect = connect or (
            lambda path: connect_unix(path, self._sockets))
        self._poll = native.original('select').epoll()
        self._wheel = Wheel()
        # What other threads ask for, and a byte that ends the loop's wait.
        self._commands = collections.deque()
        self._waker, self._woken = self._sockets.socketpair()
        for end in (self._waker, self._woken):
            end.setblocking(False)
        self._poll.register(self._woken, select.POLLIN)
        # By uuid as others see them; by uuid and by fd as the loop has them.
        self._watched = {}
        self._channels = {}
        self._by_fd = {}
        self._begun = 0
        self._wake_by = math.inf
        self.voided = 0
        self._voids_untold = 0
        self._void_throttle = Throttle(LOG_EVERY_S, monotonic)
        self._error_throttle = Throttle(LOG_EVERY_S, monotonic)
        self._stopping = self._threading.Event()
        self._thread = None

    # -- called by other threads; all return at once -------------------------

    def start(self):
        """Start the thread."""
        self._thread = self._threading.Thread(
            target=self._run, name='vmhealth-heartbeat', daemon=True)
        self._thread.start()

    def stop(self, timeout_s):
        """Stop the thread and close every channel.

        :param timeout_s: longest wait for the thread, seconds
        :returns: whether it has ended
        """
        self._stopping.set()
        self._wake()
        if self._thread is None:
            self._close()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def watch(self, instance_uuid, path, policy, established=False):
        """Begin with a guest, anew if it is watched already.

        :param instance_uuid: the instance
        :param path: of the unix socket of its heartbeat channel
        :param policy: nova_vmhealth.core.policy.Policy
        :param established: whether it is known to have answered before, so
            that silence is a loss at once
        """
        self._begun += 1
        interval_s = policy.interval_ms / 1000
        phase = self._begun * _GOLDEN % 1 * interval_s // SLOT_S * SLOT_S
        session = Session(policy, _new_nonce, self._monotonic(),
                          established=established, phase=phase,
                          recover_beats=self._recover_beats)
        channel = GuestChannel(instance_uuid, path, session, interval_s,
                               self._connect)
        self._watched[instance_uuid] = (channel, policy)
        self._ask(self._attach, channel)

    def unwatch(self, instance_uuid):
        """Let go of a guest; nothing happens when it is not watched."""
        self._watched.pop(instance_uuid, None)
        self._ask(self._detach, instance_uuid)

    def hold(self, instance_uuid):
        """Challenge and judge a guest no more until :meth:`release`.

        It does not nest, and nothing happens when it is not watched.
        """
        self._ask(self._set_held, instance_uuid, True)

    def release(self, instance_uuid):
        """Go on with a guest that :meth:`hold` stopped, if it did."""
        self._ask(self._set_held, instance_uuid, False)

    def status(self, instance_uuid):
        """Return what is known of a guest's heartbeat.

        :returns: HeartbeatStatus, None when the guest is not watched
        """
        channel, policy = self._watched.get(instance_uuid, (None, None))
        if channel is None:
            return None
        return HeartbeatStatus(
            interval_ms=policy.interval_ms, timeout_ms=policy.timeout_ms,
            misses_allowed=policy.misses, misses=channel.session.misses,
            established=channel.session.established,
            last_seen_at=self._last_seen_at(channel.session))

    def _ask(self, command, *arguments):
        self._commands.append((command, arguments))
        self._wake()

    def _wake(self):
        try:
            self._waker.send(b'\0')
        except OSError:
            # Full: it will wake anyway. Closed: nobody is there to wake.
            pass

    def _last_seen_at(self, session):
        answered_at = session.last_answer_at
        if answered_at is None:
            return None
        return self._wall() - (self._monotonic() - answered_at)

    # -- the loop ------------------------------------------------------------

    def _run(self):
        while not self._stopping.is_set():
            try:
                self._run_once(self._wait_s())
            except Exception as error:
                # A defect, or no memory: the other guests' heartbeats must go
                # on. The pause keeps a lasting one from eating a processor.
                self._complain('the heartbeat loop failed', error)
                self._stopping.wait(1.0)
        self._close()

    def _wait_s(self):
        if self._wake_by == math.inf:
            return None
        return max(0.0, self._wake_by - self._monotonic())

    def _run_once(self, timeout):
        """Take one turn.

        :param timeout: longest wait for sockets, seconds; None for any time
        """
        events = self._poll.poll(timeout, len(self._by_fd) + 1)
        now = self._monotonic()
        late = now - self._wake_by
        while self._commands:
            command, arguments = self._commands.popleft()
            command(*arguments, now)
        for fd, mask in events:
            if fd == self._woken.fileno():
                self._drain()
            elif fd in self._by_fd:
                self._guard(self._serve, self._by_fd[fd], mask, now)
        if late > SLOT_S:
            self._void_rounds(late, now)
        for channel in self._wheel.due(now):
            self._guard(self._tick, channel, now)
        self._wake_by = (min(self._wheel.next_at(), now + TICK_S)
                         if self._channels else math.inf)

    def _drain(self):
        try:
            self._woken.recv(4096)
        except BlockingIOError:
            pass

    def _guard(self, step, channel, *arguments):
        """Take a step for one guest so that its failure is only its own."""
        try:
            step(channel, *arguments)
        except Exception as error:
            # A defect of ours that this guest has met: the others' heartbeats
            # must go on, and its own cannot.
            self._detach(channel.instance_uuid, self._monotonic())
            if self._watched.get(channel.instance_uuid, (None,))[0] is channel:
                del self._watched[channel.instance_uuid]
            self._log(levels.ERROR, '[instance: %s] the heartbeat is given up '
                      'because of an internal error: %r'
                      % (channel.instance_uuid, error))

    def _void_rounds(self, late, now):
        """Judge nobody for what the loop was too late to hear."""
        voided = 0
        for channel in self._channels.values():
            if late > channel.interval_s / 2:
                channel.session.void_round(now)
                voided += 1
        self.voided += voided
        self._voids_untold += voided
        if self._voids_untold and self._void_throttle.ready():
            self._log(levels.WARNING, 'the heartbeat loop came %d ms late: '
                      '%d rounds were not judged since the last such message'
                      % (late * 1000, self._voids_untold))
            self._voids_untold = 0

    # -- one guest -----------------------------------------------------------

    def _attach(self, channel, now):
        self._detach(channel.instance_uuid, now)
        self._channels[channel.instance_uuid] = channel
        self._guard(self._tick, channel, now)

    def _detach(self, instance_uuid, now):
        channel = self._channels.pop(instance_uuid, None)
        if channel is not None:
            self._wheel.cancel(channel)
            self._forget_socket(channel)
            channel.close()

    def _set_held(self, instance_uuid, held, now):
        channel = self._channels.get(instance_uuid)
        if channel is None or channel.held is held:
            return
        channel.held = held
        if held:
            channel.session.hold(now)
        else:
            channel.session.release(now)
        self._guard(self._settle, channel, now)

    def _serve(self, channel, mask, now):
        """Do what epoll says that a guest's socket is ready for."""
        if mask & select.POLLOUT:
            channel.unblock()
        # A hang-up is told even of a guest that is not read from for now.
        if mask & ~select.POLLOUT:
            fd = channel.socket.fileno()
            found, error = channel.read(now)
            if channel.socket is None:
                self._by_fd.pop(fd)
            self._tell(channel, found, now)
            self._tell_error(channel, error)
        self._settle(channel, now)

    def _tick(self, channel, now):
        """Do what is due for a guest."""
        if channel.wants_open(now):
            self._tell_error(channel, channel.open(now))
        self._tell(channel, channel.session.handle_timer(now), now)
        self._settle(channel, now)

    def _settle(self, channel, now):
        """Write what there is, then wait for the right things."""
        fd = channel.socket.fileno() if channel.socket else None
        error = channel.write(now)
        if channel.socket is None:
            self._by_fd.pop(fd, None)
            self._tell_error(channel, error)
        else:
            mask = channel.wanted_mask(now)
            if fd not in self._by_fd:
                self._by_fd[fd] = channel
                self._poll.register(fd, mask)
            elif mask != channel.mask:
                self._poll.modify(fd, mask)
            channel.mask = mask
        self._wheel.schedule(channel, channel.next_deadline(now))

    def _forget_socket(self, channel):
        if channel.socket is not None:
            self._by_fd.pop(channel.socket.fileno(), None)

    # -- telling -------------------------------------------------------------

    def _tell(self, channel, found, now):
        for outcome in found:
            if isinstance(outcome, outcomes.Complaint):
                self._log(levels.WARNING, '[instance: %s] its guest misuses '
                          'the heartbeat channel: %s'
                          % (channel.instance_uuid, outcome.reason))
                continue
            for observation in observations_of(
                    channel.instance_uuid, outcome, now, self._wall(),
                    channel.session.policy,
                    self._last_seen_at(channel.session)):
                self._deliver_safely(observation)

    def _deliver_safely(self, observation):
        try:
            self._deliver(observation)
        except Exception as error:
            # Whatever the receiver's defect is, guests are still to be heard.
            self._complain('an observation could not be delivered', error)

    def _tell_error(self, channel, error):
        if error:
            self._log(levels.WARNING, '[instance: %s] no heartbeat channel at '
                      '%s, trying again: %s'
                      % (channel.instance_uuid, channel.path, error))

    def _complain(self, what, error):
        if self._error_throttle.ready():
            self._log(levels.ERROR, '%s: %r' % (what, error))

    def _close(self):
        for uuid in list(self._channels):
            self._detach(uuid, self._monotonic())
        self._poll.close()
        self._waker.close()
        self._woken.close()
