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

"""The way through libvirt: bytes carried both ways, and every end of it.

The thread's one step is called by the test; libvirt's event thread is
:meth:`Stream.say`.
"""

import types

from nova.virt.libvirt import host as nova_host
import pytest

from nova_vmhealth.virt import stream_channel

UUID = '6f70656e-7374-6163-6b20-6865616c7468'
CHANNEL = 'org.openstack.vmhealth.0'
READABLE = 1


class LibvirtError(Exception):
    pass


class Stream:
    """libvirt's binding of a non-blocking stream.

    :ivar sent: what the guest got
    :ivar steps: what was done to end it, in order
    """

    def __init__(self):
        self.incoming = []
        self.sent = b''
        self.accepts = None
        self.error = None
        self.steps = []
        self._events = 0
        self._callback = None

    def eventAddCallback(self, events, callback, opaque):
        if self.error:
            raise self.error
        self._events, self._callback = events, (callback, opaque)
        self._call()

    def eventUpdateCallback(self, events):
        if self._callback is None:
            raise LibvirtError('no stream callback registered')
        self._events = events
        self._call()

    def eventRemoveCallback(self):
        self.steps.append('remove')
        self._callback = None
        if self.error:
            raise self.error

    def abort(self):
        self.steps.append('abort')
        if self.error:
            raise self.error

    def _call(self):
        if self._callback and self._events & READABLE and (
                self.incoming or self.error):
            callback, opaque = self._callback
            callback(self, READABLE, opaque)

    def say(self, *data):
        """The guest says something, and the event thread tells of it."""
        self.incoming += data
        self._call()

    def fail(self, error):
        self.error = error
        self._call()

    def recv(self, size):
        if self.error:
            raise self.error
        if not self.incoming:
            return -2
        data = self.incoming.pop(0)
        assert len(data) <= size
        return data

    def send(self, data):
        if self.error:
            raise self.error
        size = len(data) if self.accepts is None else self.accepts
        self.sent += data[:size]
        return size


class Libvirt:
    """Connection and domain in one.

    :ivar streams: those made so far
    """

    def __init__(self, wrap=lambda stream: stream):
        self.streams = []
        self.opened = []
        self.refusal = None
        self.takes = lambda: None
        self._wrap = wrap

    def lookupByUUIDString(self, uuid):
        self.looked_up = uuid
        return self

    def newStream(self, flags):
        assert flags == 1       # VIR_STREAM_NONBLOCK
        self.streams.append(Stream())
        return self._wrap(self.streams[-1])

    def openChannel(self, name, stream, flags):
        if self.refusal:
            raise self.refusal
        self.takes()
        self.opened.append((name, stream, flags))


class Way:
    """StreamChannels without its thread, and one guest's two ends."""

    def __init__(self, monkeypatch, **libvirt):
        monkeypatch.setattr(nova_host, 'libvirt', types.SimpleNamespace(
            libvirtError=LibvirtError))
        monkeypatch.setattr(stream_channel.StreamChannels, '_start',
                            lambda self: None)
        self.libvirt = Libvirt(**libvirt)
        self.logged = []
        self.now = 50.0
        self.channels = stream_channel.StreamChannels(
            lambda: self.libvirt,
            lambda _level, text: self.logged.append(text), lambda: self.now)
        self.sockets = []

    def open(self):
        ours = self.channels.open(UUID)
        self.sockets.append(ours)
        self.step()
        return ours, self.libvirt.streams[-1]

    def step(self, times=1):
        for _ in range(times):
            self.channels._run_once(0)

    def has_ended(self, ours):
        """Whether the heartbeat sees the end of its socket."""
        try:
            while ours.recv(1 << 20):
                pass
        except BlockingIOError:
            return False
        return not self.channels._relays


@pytest.fixture
def way(monkeypatch):
    made = Way(monkeypatch)
    yield made
    made.channels.close()
    for ours in made.sockets:
        ours.close()


def test_carries_both_ways(way):
    ours, stream = way.open()
    assert way.libvirt.opened == [(CHANNEL, stream, 0)]
    assert way.libvirt.looked_up == UUID
    ours.send(b'challenge\n')
    way.step()
    assert stream.sent == b'challenge\n'
    stream.say(b'ans', b'wer\n')
    way.step()
    assert ours.recv(100) == b'answer\n'
    stream.say(b'more\n')
    way.step()
    assert ours.recv(100) == b'more\n'


def test_the_event_thread_only_asks(way):
    """It is not called again for what the thread has yet to read."""
    ours, stream = way.open()
    stream.say(b'one')
    stream.say(b'two')
    assert len(way.channels._mailbox) == 1
    with pytest.raises(BlockingIOError):
        ours.recv(100)
    way.step()
    assert ours.recv(100) == b'onetwo'


def test_what_is_there_before_the_thread_listens(way):
    ours = way.channels.open(UUID)
    way.sockets.append(ours)
    way.libvirt.streams[0].incoming = [b'early']
    way.step(2)
    assert ours.recv(100) == b'early'


def test_streams_wrapped_for_greenthreads(monkeypatch):
    way = Way(monkeypatch, wrap=lambda stream: types.SimpleNamespace(
        _obj=stream))
    ours, stream = way.open()
    ours.send(b'challenge\n')
    way.step()
    assert stream.sent == b'challenge\n'
    way.channels.close()
    ours.close()


def test_the_heartbeat_closes_its_end(way):
    ours, stream = way.open()
    ours.close()
    way.step()
    assert stream.steps == ['remove', 'abort']
    assert not way.channels._relays
    assert not way.logged


@pytest.mark.parametrize('end', [
    lambda ours, stream: stream.say(b''),
    lambda ours, stream: stream.fail(LibvirtError('domain is gone')),
    lambda ours, stream: (setattr(stream, 'error', LibvirtError('gone')),
                          ours.send(b'x')),
    lambda ours, stream: (setattr(stream, 'accepts', 0), ours.send(b'x')),
    lambda ours, stream: (setattr(stream, 'accepts', -2), ours.send(b'x')),
], ids=['end of stream', 'recv fails', 'send fails', 'short', 'would block'])
def test_the_stream_ends(way, end):
    ours, stream = way.open()
    end(ours, stream)
    way.step(2)
    assert way.has_ended(ours)
    assert stream.steps == ['remove', 'abort']
    assert len(way.logged) == 1 and UUID in way.logged[0]


def test_a_stream_that_cannot_be_listened_to(way):
    ours = way.channels.open(UUID)
    way.sockets.append(ours)
    way.libvirt.streams[0].error = LibvirtError('no event loop')
    way.step()
    assert way.has_ended(ours)


def test_late_calls_of_an_ended_stream(way):
    ours, stream = way.open()
    callback, relay = stream._callback
    ours.close()
    way.step()
    callback(stream, READABLE, relay)
    assert not way.channels._mailbox
    way.channels._mailbox.put(way.channels._receive, relay)
    way.step()
    assert stream.steps == ['remove', 'abort']


def test_a_guest_that_floods_fills_one_buffer(way):
    ours, stream = way.open()
    stream.say(*[bytes(stream_channel.READ_SIZE)] * 100)
    way.step(100)
    assert way.has_ended(ours)
    assert len(stream.incoming) > 90
    assert 'sends more' in way.logged[0]


def test_a_guest_that_floods_lets_others_have_their_turn(way):
    ours, stream = way.open()
    stream.say(*[b'x'] * 100)
    way.step()
    assert len(stream.incoming) == 100 - stream_channel.READS
    way.step(100)
    assert ours.recv(1000) == b'x' * 100


def test_a_silent_guest_gets_no_more_than_a_window(way):
    """libvirtd would keep it all, without a bound."""
    ours, stream = way.open()
    for _ in range(stream_channel.WINDOW // 128):
        ours.send(b'x' * 128)
        way.step()
    assert not way.has_ended(ours)
    ours.send(b'x')
    way.step()
    assert way.has_ended(ours)
    assert len(stream.sent) == stream_channel.WINDOW
    assert not way.logged


def test_a_guest_that_speaks_gets_a_new_window(way):
    ours, stream = way.open()
    for _ in range(4 * stream_channel.WINDOW // 1024):
        ours.send(b'x' * 1024)
        way.step()
        stream.say(b'y')
        way.step()
    assert not way.has_ended(ours)
    assert len(stream.sent) == 4 * stream_channel.WINDOW


def test_ends_are_told_once_in_a_while(way):
    for _ in range(3):
        ours, stream = way.open()
        stream.say(b'')
        way.step(2)
    assert len(way.logged) == 1


def test_one_guests_end_is_not_the_others(way):
    first, first_stream = way.open()
    second, second_stream = way.open()
    first_stream.fail(LibvirtError('gone'))
    second_stream.say(b'beat')
    way.step(2)
    assert second.recv(100) == b'beat'


def test_libvirt_refuses(way):
    way.libvirt.refusal = LibvirtError('Active channel stream exists')
    with pytest.raises(LibvirtError):
        way.open()
    assert not way.channels._mailbox


def test_libvirt_is_away(way):
    """However many guests ask, Nova is asked seldom."""
    asked = []

    def fail():
        asked.append(way.now)
        raise RuntimeError('HypervisorUnavailable')

    connect, way.channels._get_connection = way.channels._get_connection, fail
    for _ in range(100):
        with pytest.raises(OSError, match='libvirt is away'):
            way.open()
        way.now += 0.125
    assert asked == [50.0, 55.0, 60.0]
    way.channels._get_connection = connect
    way.now += stream_channel.AWAY_FOR_S
    way.open()


def test_a_socket_that_libvirtd_does_not_find_either(way):
    """It tries for 3 s, holding up the domain: not again at once."""
    def take():
        way.now += 3.0

    way.libvirt.takes = take
    for _ in range(3):
        with pytest.raises(FileNotFoundError, match='does not find'):
            way.open()
    assert [stream.steps for stream in way.libvirt.streams] == [['abort']]
    way.libvirt.takes = lambda: None
    way.now += stream_channel.DEAD_FOR_S
    ours, stream = way.open()
    stream.say(b'beat')
    way.step()
    assert ours.recv(100) == b'beat'
    assert not way.channels._dead_until


def test_no_file_descriptors_left(way, monkeypatch):
    def socketpair():
        raise OSError(24, 'Too many open files')

    monkeypatch.setattr(way.channels, '_sockets',
                        types.SimpleNamespace(socketpair=socketpair))
    with pytest.raises(OSError):
        way.open()
    assert way.libvirt.streams[0].steps == ['abort']


def test_close_ends_what_is_open_and_what_is_about_to(way):
    ours, stream = way.open()
    late = way.channels.open(UUID)
    way.sockets.append(late)
    way.channels.close()
    assert ours.recv(1) == late.recv(1) == b''
    assert [s.steps for s in way.libvirt.streams] == [['remove', 'abort']] * 2


def test_the_thread(monkeypatch):
    start = stream_channel.StreamChannels._start
    way = Way(monkeypatch)
    monkeypatch.setattr(stream_channel.StreamChannels, '_start', start)
    way.libvirt.takes = lambda: way.libvirt.streams[0].say(b'beat')
    ours = way.channels.open(UUID)
    ours.setblocking(True)
    ours.settimeout(30)
    assert ours.recv(100) == b'beat'
    way.channels.close(30)
    assert not way.channels._thread.is_alive()
    assert ours.recv(1) == b''
    ours.close()


def test_close_without_any_stream(way):
    way.channels.close()
    assert way.channels._thread is None
