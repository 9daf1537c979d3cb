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

"""Listening in on libvirt's events without getting into Nova's way."""

import threading
import types

from nova.virt import event as virtevent
from nova.virt.libvirt import host as nova_host
import pytest

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import host
from nova_vmhealth.virt import libvirt_events

UUID = '6f70656e-7374-6163-6b20-6865616c7468'
STOPPED, CRASHED = 5, 2


class Domain:
    def UUIDString(self):
        return UUID


class Connection:
    """Takes subscriptions as libvirt's binding does: one of a kind."""

    def __init__(self, refuse=()):
        self.callbacks = {}
        self.refuse = refuse

    def domainEventRegisterAny(self, _dom, event_id, callback, opaque):
        if event_id in self.refuse or event_id in self.callbacks:
            raise LibvirtError('event callback already tracked')
        self.callbacks[event_id] = (callback, opaque)


class LibvirtError(Exception):
    pass


@pytest.fixture
def libvirt(monkeypatch):
    """A binding older than CHANNEL_LIFECYCLE."""
    names = [s.event_id for s in libvirt_events.SUBSCRIPTIONS
             if not s.event_id.endswith('CHANNEL_LIFECYCLE')]
    fake = types.SimpleNamespace(
        libvirtError=LibvirtError,
        VIR_DOMAIN_EVENT_STOPPED=STOPPED, VIR_DOMAIN_EVENT_STARTED=2,
        VIR_DOMAIN_EVENT_SUSPENDED=3, VIR_DOMAIN_EVENT_RESUMED=4,
        **{name: number for number, name in enumerate(names)})
    monkeypatch.setattr(nova_host, 'libvirt', fake)
    return fake


@pytest.fixture
def watching():
    """A HealthHost whose queue is a list."""
    health_host = host.HealthHost.__new__(host.HealthHost)
    queued = []
    health_host._event_handler = types.SimpleNamespace(
        _queue_event=queued.append)
    health_host._queue_event = queued.append        # Nova 31 and 32
    return health_host, queued


def test_subscribes_to_all_that_the_binding_has(libvirt, watching):
    connection = Connection()
    watching[0]._subscribe(connection)
    assert set(connection.callbacks) == set(
        range(len(libvirt_events.SUBSCRIPTIONS) - 1))


def test_a_refused_event_leaves_the_others(libvirt, watching, caplog):
    connection = Connection(refuse={libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG})
    watching[0]._subscribe(connection)
    assert len(connection.callbacks) == len(libvirt_events.SUBSCRIPTIONS) - 2
    assert 'refuses VIR_DOMAIN_EVENT_ID_WATCHDOG' in caplog.text


def test_the_callback_queues_an_observation(libvirt, watching):
    connection = Connection()
    watching[0]._subscribe(connection)
    callback, opaque = connection.callbacks[
        libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON]
    callback(connection, Domain(), '/disk', 'virtio-disk0', 1, 'enospc',
             opaque)
    (event,) = watching[1]
    assert event.observation.cause is Cause.IO_ERROR
    assert event.uuid == UUID


def test_nova_hears_of_the_lifecycle_as_before(libvirt, watching):
    health_host, queued = watching
    host._lifecycle_callback(None, Domain(), STOPPED, CRASHED, health_host)
    ours, novas = queued
    assert ours.observation.kind is Kind.STOPPED
    assert ours.observation.details == {'reason': 'crashed'}
    assert type(novas) is virtevent.LifecycleEvent
    assert novas.transition == virtevent.EVENT_LIFECYCLE_STOPPED


def test_an_event_while_nova_registers_is_told_once(libvirt, watching):
    health_host, queued = watching
    health_host._event_lifecycle_callback = host._lifecycle_callback
    host._lifecycle_callback(None, Domain(), STOPPED, CRASHED, health_host)
    assert len(queued) == 2


def test_nova_hears_of_it_even_if_we_fail(libvirt, watching, monkeypatch):
    def fail(*_args):
        raise RuntimeError('a defect of ours')
    monkeypatch.setattr(host, '_tell_lifecycle', fail)
    health_host, queued = watching
    with pytest.raises(RuntimeError):
        host._lifecycle_callback(None, Domain(), STOPPED, 0, health_host)
    (novas,) = queued
    assert type(novas) is virtevent.LifecycleEvent


@pytest.mark.parametrize('initialized, ours', [(True, True), (False, False)])
def test_our_callback_stands_in_while_nova_registers_its_own(
        libvirt, watching, monkeypatch, initialized, ours):
    registered = []

    def connect(self):
        registered.append(self._event_lifecycle_callback)
        return Connection()
    monkeypatch.setattr(nova_host.Host, '_get_new_connection', connect)
    health_host, queued = watching
    health_host._initialized = initialized
    connection = health_host._get_new_connection()
    assert (registered == [host._lifecycle_callback]) is ours
    assert bool(connection.callbacks) is ours
    # whoever made Nova reconnect
    assert [event.item.up for event in queued] == [True] * ours
    assert health_host._event_lifecycle_callback is \
        nova_host.Host._event_lifecycle_callback


def test_our_events_never_touch_a_delayed_stop():
    """Nova 31 and 32 cancel a pending STOPPED for any event of its guest."""
    health_host = host.HealthHost.__new__(host.HealthHost)
    emitted = []
    health_host._lifecycle_event_handler = emitted.append
    health_host._events_delayed = None          # Nova's code would look at it
    event = host.ObservationEvent(libvirt_events.reboot(UUID, 1.0))
    health_host._event_emit_delayed(event)
    assert emitted == [event]


@pytest.mark.parametrize('number, reason', [
    (0, 'error'), (1, 'eof'), (2, 'keepalive'), (3, 'client'), (9, '9')])
def test_the_end_of_the_connection_is_told_after_nova_knows(
        watching, number, reason):
    health_host, queued = watching
    health_host._close_callback('conn', number, None)
    novas, ours = queued
    assert novas == {'conn': 'conn', 'reason': number}
    assert isinstance(ours, virtevent.InstanceEvent)
    assert (ours.item.up, ours.item.reason) == (False, reason)


def test_even_if_nova_fails(watching, monkeypatch):
    def fail(*_args):
        raise RuntimeError('a defect of theirs')
    monkeypatch.setattr(nova_host.Host, '_close_callback', fail)
    health_host, queued = watching
    with pytest.raises(RuntimeError):
        health_host._close_callback('conn', 1, None)
    assert [event.item.up for event in queued] == [False]


def test_tries_to_connect_as_nova_would_and_keeps_nothing():
    health_host = host.HealthHost.__new__(host.HealthHost)
    health_host._uri, health_host._read_only = 'qemu:///system', False
    calls = []
    health_host._connect = lambda *how: types.SimpleNamespace(
        close=lambda: calls.append(how))
    health_host.try_to_connect()
    assert calls == [('qemu:///system', False)]


class Handler:
    pass


@pytest.mark.parametrize('native', [True, False])
def test_a_thread_that_sees_the_connection_end_does_not_wait_for_itself(
        watching, monkeypatch, native):
    """libvirt calls back on the thread whose call fails with it."""
    monkeypatch.setattr(nova_host, '_ThreadingLibvirtEventHandler',
                        Handler if native else (), raising=False)
    health_host, _ = watching
    health_host._event_handler = Handler()
    health_host._wrapped_conn_lock = lock = threading.Lock()
    health_host.mend_lock()
    with health_host._wrapped_conn_lock:
        # eventlet's own lock says 1
        assert bool(health_host._wrapped_conn_lock.acquire(
            blocking=False)) is native
    # under eventlet Nova's own stays
    assert (health_host._wrapped_conn_lock is lock) is not native
