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


"""The loop of all heartbeats of this host, on one native thread.

A turn waits for sockets until the next slot of the wheel, reads what guests
wrote, and only then judges and challenges those whose slot has come. When the
loop itself came late, nobody is blamed for it.
"""

import collections
import math
import os
import select

from nova_vmhealth.core.session import QUIET
from nova_vmhealth.virt import guest_channel
from nova_vmhealth.virt.guest_channel import READ_SIZE
from nova_vmhealth.virt.heartbeat_teller import Teller
from nova_vmhealth.virt.mailbox import Mailbox
from nova_vmhealth.virt import native
from nova_vmhealth.virt.wheel import SLOT_S
from nova_vmhealth.virt.wheel import Wheel

# The loop wakes at least this often, seconds, while it watches anybody: a
# stall of the host shows only as a wake-up that came late.
TICK_S = 0.1
# epoll tells of this many sockets at a time, and in a turn this many times:
# all guests of a slot, many times over.
_MOST_EVENTS = 1024
_MOST_POLLS = 16
_READABLE = select.EPOLLIN
# epoll counts in milliseconds.
_MILLISECOND_S = 0.001
# After a turn with this many guests in it the loop looks at nobody before the
# next slot: so many answers come one by one, and cost less when they are read
# together.
_CROWD = 10
# Nonces are made for this many challenges at a time: a call of the kernel's
# generator costs as much as the challenge itself.
_NONCES = 256
_NONCE_DIGITS = 32


def nonces():
    """Yield fresh random nonces, 128 bits each in hexadecimal digits."""
    while True:
        digits = os.urandom(_NONCES * _NONCE_DIGITS // 2).hex()
        for begin in range(0, len(digits), _NONCE_DIGITS):
            yield digits[begin:begin + _NONCE_DIGITS]


class HeartbeatLoop:
    """Guests' channels, and the thread that serves them.

    Only :meth:`ask`, :meth:`wake`, :meth:`start`, :meth:`stop` and reading
    the counters are for other threads.

    :param deliver: called with one Observation; has to be quick
    :param monotonic: the clock of all deadlines
    :param wall: seconds since the epoch, for what is told
    :param connect: called with a path, returns a connected non-blocking
        socket or raises OSError
    :param second_way: called with instance, path and reason when the socket
        cannot be reached; has to be quick. None for no other way
    :param log: called with a level and a text. In eventlet mode it must not
        log there: its locks belong to greenthreads
    :param given_up: called with a channel that is served no more
    """

    def __init__(self, deliver, *, monotonic, wall, connect, second_way, log,
                 given_up):
        self._teller = Teller(deliver, monotonic, wall, log)
        self.last_seen_at = self._teller.last_seen_at
        self._monotonic = monotonic
        self._connect = connect
        self._second_way = second_way
        self._given_up = given_up
        self._threading = native.original('threading')
        self._sleep = native.original('time').sleep
        self._poll = native.original('select').epoll()
        self._wheel = Wheel(monotonic())
        self._mailbox = Mailbox(self._poll)
        self.channels = {}
        # By file descriptor: a list, as they are small numbers.
        self._by_fd = [None] * (self._mailbox.fileno() + 1)
        self._wake_by = math.inf
        self._crowded = False
        self.voided = 0
        self.reads = 0
        # What the sessions that are gone have counted.
        self.retired = collections.Counter()
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
        self._mailbox.wake()
        if self._thread is None:
            self._close()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def ask(self, command, *arguments):
        """Have a method of the loop called, with the time as last argument."""
        self._mailbox.put(command, *arguments)

    # -- the loop ------------------------------------------------------------

    def _run(self):
        while not self._stopping.is_set():
            try:
                self.run_once(self._wait_s())
            except Exception as error:
                # A defect, or no memory: the other guests' heartbeats must go
                # on. The pause keeps a lasting one from eating a processor.
                self._teller.failed('the heartbeat loop failed', error)
                self._stopping.wait(1.0)
        self._close()

    def _wait_s(self):
        if self._wake_by == math.inf:
            return None
        return max(0.0, self._wake_by - self._monotonic())

    def run_once(self, timeout):
        """Take one turn.

        :param timeout: longest wait for sockets, seconds; None for any time
        """
        events = self._poll.poll(self._rest(timeout), _MOST_EVENTS)
        now = self._monotonic()
        late = now - self._wake_by
        while self._mailbox:
            command, arguments = self._mailbox.take()
            command(*arguments, now)
        self.reads += len(events)
        greedy = self._read(events, now)
        for _ in range(_MOST_POLLS):
            if len(events) < _MOST_EVENTS:
                break
            events = self._poll.poll(0, _MOST_EVENTS)
            self.reads += len(events)
            greedy += self._read(events, now)
        if late > SLOT_S:
            self._void_rounds(late, now)
        due = self._wheel.due(now)
        self._attend(due, now)
        self._read(greedy, now, patient=False)
        self._crowded = len(events) + len(due) >= _CROWD
        self._wake_by = (min(self._wheel.next_at(), now + TICK_S)
                         if self.channels else math.inf)
        if self._mailbox:       # the byte that tells so may be taken already
            self._wake_by = now

    def _rest(self, timeout):
        """Sleep where epoll should not wait; return how long it should.

        :param timeout: seconds, None for any time
        """
        if timeout is None:
            return None
        nap = 0
        if timeout < _MILLISECOND_S:
            nap = timeout       # epoll would make a whole one of it
        elif self._crowded:
            nap = min(timeout, SLOT_S)
        if nap > 0:
            self._sleep(nap)
        return max(0, timeout - nap - _MILLISECOND_S)

    def _read(self, events, now, patient=True):
        """Take in what guests wrote, once from each.

        The way of a beat that changes nothing is short: there are thousands
        of them a second.

        :param patient: whether to leave guests that have sent too much for
            later, as nobody else should wait for their lines
        :returns: the events of those that are left
        """
        by_fd = self._by_fd
        left = []
        for fd, mask in events:
            channel = by_fd[fd]
            if channel is None:
                self._drain(fd)
                continue
            if channel.greedy and patient:
                left.append((fd, mask))
                continue
            data = b''
            try:
                data = channel.socket.recv(READ_SIZE)
                if not data:
                    raise ConnectionResetError(
                        'the other end closed the connection')
                found = channel.session.receive(data, now)
                if found is QUIET and mask == _READABLE:
                    continue
            except BlockingIOError:
                found = QUIET       # it is ready for writing, or so it seemed
            except Exception as error:
                self._fail(channel, error, now)
                continue
            if mask & select.EPOLLOUT:
                channel.unblock()
            if mask != _READABLE or len(data) == READ_SIZE:
                channel.mask = 0    # epoll is to look again
            self._guard(self._take, channel, found, now)
        return left

    def _attend(self, channels, now):
        """Judge and challenge those whose slot has come.

        The challenges of calm guests go out at the end, one right after the
        other: losses are told first, and whoever answers is woken once for
        many of them.
        """
        calm, lines = [], []
        wake_ms = slot = guests = None
        for channel in channels:
            session = channel.session
            try:
                line = session.next_challenge(now)
            except Exception as error:
                self._give_up(channel, error)
                continue
            if line is None:
                self._guard(self._tick, channel, now)
                continue
            if session.wake_ms is not wake_ms:
                wake_ms = session.wake_ms
                slot = self._wheel.slot_at(wake_ms)
                guests = slot.guests
            guests.append(channel)
            channel.slot = slot
            calm.append(channel)
            lines.append(line)
        for channel, line in zip(calm, lines, strict=True):
            try:
                size = channel.socket.send(line)
            except BlockingIOError:
                size = 0
            except Exception as error:
                self._fail(channel, error, now)
                continue
            if size < len(line):
                channel.cut_short(line, size)
                self._guard(self._settle, channel, now)

    def _drain(self, fd):
        # If not that, it is a guest that was let go of in this turn.
        if fd == self._mailbox.fileno():
            self._mailbox.drain()

    def _guard(self, step, channel, *arguments):
        """Take a step for one guest so that its failure is only its own."""
        try:
            step(channel, *arguments)
        except Exception as error:
            self._give_up(channel, error)

    def _fail(self, channel, error, now):
        """Do what follows from an error with a guest's socket."""
        if isinstance(error, OSError):
            self._guard(self._end, channel, error, now)
        else:
            self._give_up(channel, error)

    def _give_up(self, channel, error):
        """Let go of a guest that has met a defect of ours.

        The others' heartbeats must go on, and its own cannot.
        """
        self.detach(channel.instance_uuid, self._monotonic())
        self._given_up(channel)
        self._teller.given_up(channel, error)

    def _void_rounds(self, late, now):
        """Judge nobody for what the loop was too late to hear."""
        voided = 0
        for channel in self.channels.values():
            policy = channel.session.policy
            if late * 2000 > min(policy.interval_ms, policy.timeout_ms):
                channel.session.void_round(now)
                voided += 1
        self.voided += voided
        self._teller.voided(voided, late)

    # -- what other threads ask for ------------------------------------------

    def attach(self, channel, now):
        """Begin with a guest, in the place of what there was of it."""
        before = self.channels.get(channel.instance_uuid)
        if before is not None:
            channel.session.notices.inherit(before.session.notices)
        self.detach(channel.instance_uuid, now)
        self.channels[channel.instance_uuid] = channel
        self._guard(self._tick, channel, now)

    def detach(self, instance_uuid, now):
        """Let go of a guest."""
        channel = self.channels.pop(instance_uuid, None)
        if channel is not None:
            self._wheel.cancel(channel)
            self._forget_socket(channel)
            channel.close()
            channel.end_notice()
            self.retired.update(channel.session.counts())

    def set_held(self, instance_uuid, held, now):
        """Hold a guest's heartbeat, or release it."""
        channel = self.channels.get(instance_uuid)
        if channel is None or channel.held is held:
            return
        channel.held = held
        if held:
            channel.session.hold(now)
        else:
            channel.session.release(now)
        self._guard(self._settle, channel, now)

    def adopt(self, instance_uuid, connection, now):
        """Use a connection that somebody else has made, if it is needed."""
        channel = self.channels.get(instance_uuid)
        if channel is None or channel.socket is not None:
            connection.close()
            return
        self._guard(self._begin, channel, connection, guest_channel.LIBVIRT,
                    now)
        if self.channels.get(instance_uuid) is channel:
            self._guard(self._settle, channel, now)

    def port_closed(self, instance_uuid, now):
        """Take note that a guest has closed its end."""
        channel = self.channels.get(instance_uuid)
        if channel is not None:
            channel.session.port_closed()

    def send_notice(self, instance_uuid, operation, timeout_ms, notice, now):
        """Tell a guest what Nova does to it.

        :param notice: the Notice to fill in; None when nobody waits
        """
        channel = self.channels.get(instance_uuid)
        if channel is None:
            if notice is not None:
                notice.over = True
            return
        number = channel.session.notice(operation, timeout_ms, now)
        if notice is not None:
            channel.await_notice(notice, number)
        self._guard(self._settle, channel, now)

    # -- one guest -----------------------------------------------------------

    def _begin(self, channel, connection, way, now):
        channel.adopt(connection, way, now)
        fd = connection.fileno()
        self._by_fd.extend([None] * (fd + 1 - len(self._by_fd)))
        self._by_fd[fd] = channel
        channel.mask = channel.wanted_mask()
        self._poll.register(fd, channel.mask)

    def _open(self, channel, now):
        try:
            connection = self._connect(channel.path)
        except OSError as error:
            self._teller.unreachable(channel, channel.failed(error, now))
            if self._second_way and channel.wants_second_way(error, now):
                self._second_way(channel.instance_uuid, channel.path,
                                 channel.error or str(error))
        else:
            self._begin(channel, connection, guest_channel.SOCKET, now)

    def _end(self, channel, error, now):
        """The connection is over."""
        self._forget_socket(channel)
        self._teller.unreachable(channel, channel.lost(error, now))
        channel.end_notice()
        self._wheel.schedule(channel, channel.next_deadline(now))

    def _take(self, channel, found, now):
        """Do what follows from bytes of a guest, or from room for more."""
        if found:
            self._teller.outcomes(channel, found, now)
        channel.look_at_flow(now)
        channel.greedy = channel.paused
        self._settle(channel, now)

    def _tick(self, channel, now):
        """Do what is due for a guest."""
        if channel.socket is None and channel.wants_open(now):
            self._open(channel, now)
        found = channel.session.handle_timer(now)
        if found:
            self._teller.outcomes(channel, found, now)
        if channel.paused:
            channel.look_at_flow(now)
        self._settle(channel, now)

    def _settle(self, channel, now):
        """Write what there is, then wait for the right things."""
        if channel.socket is not None:
            try:
                channel.write()
            except OSError as error:
                self._end(channel, error, now)
                return
            mask = channel.wanted_mask()
            if mask != channel.mask:
                self._poll.modify(channel.socket.fileno(), mask)
                channel.mask = mask
        self._wheel.schedule(channel, channel.next_deadline(now))

    def _forget_socket(self, channel):
        if channel.socket is not None:
            self._by_fd[channel.socket.fileno()] = None

    def _close(self):
        for uuid in list(self.channels):
            self.detach(uuid, self._monotonic())
        self._poll.close()
        self._mailbox.close()
