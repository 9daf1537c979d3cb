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

"""Handing over once, trying again, and oslo.messaging's own fake bus."""

import dataclasses
import threading

from oslo_config import cfg
import oslo_messaging
import pytest

from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import delivery
from nova_vmhealth.notifications import listener
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import publisher
from tests.unit.notifications import examples
from tests.unit.notifications import host_examples

HANDLED = oslo_messaging.NotificationResult.HANDLED
REQUEUE = oslo_messaging.NotificationResult.REQUEUE
PATIENCE_S = 30


def configuration(*files):
    conf = cfg.ConfigOpts()
    conf(args=[], project='nova', default_config_files=files,
         default_config_dirs=[])
    return conf


def new_listener(callback, **options):
    options = {'transport_url': 'fake://', 'backoff_s': 0} | options
    return listener.Listener(configuration(), callback, **options)


def event(sequence=1, **changes):
    return dataclasses.replace(
        examples.LOST, sequence=sequence,
        event_id=f'0b5e8a4c-3a4e-4f0e-9f53-{sequence:012d}', **changes)


def primitive(health_event):
    return payload.payload_of(health_event, examples.IDENTITY, None)


def take(subject, message):
    return subject.take(
        {}, examples.PUBLISHER_ID, 'instance.health', message,
        {'message_id': 'id', 'timestamp': '2026-03-02 08:15:34.001000'})


def test_hands_over_a_typed_event(monkeypatch):
    monkeypatch.setattr(listener.time, 'time', lambda: examples.BEGIN + 9)
    got = []
    subject = new_listener(got.append)
    assert take(subject, primitive(event())) is HANDLED
    assert got[0].cause is v.Cause.HEARTBEAT_LOST
    assert got[0].publisher_id == examples.PUBLISHER_ID
    assert got[0].timestamp == '2026-03-02 08:15:34.001000'
    assert got[0].received_at == examples.BEGIN + 9
    assert subject.handled == 1


def test_hands_over_an_event_once():
    got = []
    subject = new_listener(got.append)
    for sequence in (1, 2, 1, 1, 2):
        assert take(subject, primitive(event(sequence))) is HANDLED
    assert [each.sequence for each in got] == [1, 2]
    assert (subject.handled, subject.duplicates) == (2, 3)


def test_forgets_ids_from_long_ago(monkeypatch):
    monkeypatch.setattr(listener, 'REMEMBERED_IDS', 2)
    got = []
    subject = new_listener(got.append)
    for sequence in (1, 2, 3, 3, 1):
        take(subject, primitive(event(sequence)))
    assert [each.sequence for each in got] == [1, 2, 3, 1]


def test_filters():
    got = []
    subject = new_listener(got.append, filter=listener.EventFilter(
        cause=frozenset([v.Cause.IO_ERROR])))
    for each in (event(1), event(2, cause=v.Cause.IO_ERROR)):
        assert take(subject, primitive(each)) is HANDLED
    assert [each.sequence for each in got] == [2]
    assert subject.handled == 1


def test_says_once_what_it_cannot_read(caplog):
    got = []
    subject = new_listener(got.append)
    for message in (None, {'nova_object.name': 'InstancePayload'}, 'x'):
        assert take(subject, message) is HANDLED
    assert take(subject, primitive(event())) is HANDLED
    assert (subject.unreadable, len(got)) == (3, 1)
    assert len(caplog.records) == 1
    assert examples.PUBLISHER_ID in caplog.text


HOST_SAMPLE = host_examples.HOST_SAMPLES['host-health-many_guests_lost-raised']


def take_host(subject, message=None):
    return subject.take(
        {}, examples.PUBLISHER_ID, 'host.health',
        message or payload.host_payload_of(*HOST_SAMPLE),
        {'message_id': 'id', 'timestamp': '2026-03-02 08:15:35.202000'})


def test_hands_over_a_hosts_event_apart():
    instances, hosts = [], []
    subject = new_listener(instances.append, host_callback=hosts.append)
    assert take_host(subject) is HANDLED
    assert take(subject, primitive(event())) is HANDLED
    assert take_host(subject) is HANDLED
    assert [each.cause for each in instances] == [v.Cause.HEARTBEAT_LOST]
    assert [each.cause for each in hosts] == [v.HostCause.MANY_GUESTS_LOST]
    assert hosts[0].timestamp == '2026-03-02 08:15:35.202000'
    assert (subject.handled, subject.duplicates) == (2, 1)


def take_maintenance(subject):
    return subject.take(
        {}, host_examples.MAINTENANCE_ID, 'instance.maintenance',
        payload.maintenance_payload_of(host_examples.ANNOUNCED),
        {'message_id': 'id', 'timestamp': '2026-03-02 08:15:35.319000'})


def test_hands_over_maintenance_apart():
    got = []
    subject = new_listener(
        None, host_callback=None, maintenance_callback=got.append)
    for _ in range(2):
        assert take_maintenance(subject) is HANDLED
    [event] = got
    assert event.stage is v.MaintenanceStage.ANNOUNCED
    assert event.publisher_id == host_examples.MAINTENANCE_ID
    assert event.timestamp == '2026-03-02 08:15:35.319000'
    assert (subject.handled, subject.duplicates) == (1, 1)


def test_what_two_tell_of_a_host_is_told_once():
    """Inspectors that are of one mind give the same id."""
    got = []
    subject = new_listener(None, host_callback=got.append)
    message = payload.host_payload_of(
        *host_examples.HOST_SAMPLES['host-health-host_down-raised'])
    for name in ('one', 'two'):
        subject.take({}, f'nova-vmhealth-inspector:{name}', 'host.health',
                     message, {})
    assert [each.publisher_id for each in got] == [
        'nova-vmhealth-inspector:one']


def test_each_has_a_filter_of_its_own():
    instances, hosts, maintenance = [], [], []
    subject = new_listener(
        instances.append, host_callback=hosts.append,
        maintenance_callback=maintenance.append,
        filter=listener.EventFilter(host=frozenset(['elsewhere'])),
        host_filter=listener.HostEventFilter(host=frozenset(['compute-1'])),
        maintenance_filter=listener.MaintenanceFilter(
            project=frozenset(['other'])))
    take(subject, primitive(event()))
    take_host(subject)
    take_maintenance(subject)
    assert (len(instances), len(hosts), len(maintenance)) == (0, 1, 0)


def test_a_hosts_event_is_tried_again_too():
    calls = []

    def callback(received):
        calls.append(received.host)
        raise RuntimeError('not now')

    subject = new_listener(print, host_callback=callback, attempts=2)
    assert take_host(subject) is HANDLED
    assert calls == ['compute-1'] * 2
    assert subject.given_up == 1


class Failing:
    """A callback that fails some times, then works."""

    def __init__(self, failures):
        self.failures = failures
        self.calls = []

    def __call__(self, received):
        self.calls.append(received.sequence)
        if self.failures:
            self.failures -= 1
            raise RuntimeError('not now')


@pytest.mark.parametrize('failures, calls, handled, given_up', [
    (0, 1, 1, 0),
    (1, 2, 1, 0),
    (2, 3, 1, 0),
    (3, 3, 0, 1),
    (99, 3, 0, 1),
])
def test_tries_again_and_gives_up(failures, calls, handled, given_up):
    callback = Failing(failures)
    subject = new_listener(callback, attempts=3)
    assert take(subject, primitive(event())) is HANDLED
    assert callback.calls == [1] * calls
    assert (subject.handled, subject.given_up) == (handled, given_up)


def test_what_was_given_up_may_come_again():
    callback = Failing(1)
    subject = new_listener(callback, attempts=1)
    take(subject, primitive(event()))
    take(subject, primitive(event()))
    assert (subject.given_up, subject.handled) == (1, 1)


def test_leaves_events_to_the_queue_once_closed():
    got = []
    subject = new_listener(got.append)
    subject.close()
    assert take(subject, primitive(event())) is REQUEUE
    assert not got


class Pauses:
    """Stands for the event that ends pauses; notes how long they may be."""

    def __init__(self):
        self.over = False
        self.asked = []

    def set(self):
        self.over = True

    def wait(self, timeout):
        if not self.over:
            self.asked.append(timeout)


def test_a_closed_listener_does_not_spin(monkeypatch):
    server = Server(lambda: None)
    subject = listener_with(server, monkeypatch)
    subject._stopping = Pauses()
    subject.close()
    for _ in range(3):
        take(subject, primitive(event()))
    assert subject._stopping.asked == [listener.RETURN_PAUSE_S] * 3
    subject.stop()
    take(subject, primitive(event()))
    assert len(subject._stopping.asked) == 3


PREFETCH = 'rabbit_qos_prefetch_count'


@pytest.mark.parametrize('text, query, expected', [
    ('', '', 100),
    ('[oslo_messaging_rabbit]', '', 100),
    (f'[oslo_messaging_rabbit]\n{PREFETCH} = 7', '', 7),
    (f'[oslo_messaging_rabbit]\n{PREFETCH} = 0', '', 0),
    ('', f'?{PREFETCH}=5', 5),
    (f'[oslo_messaging_rabbit]\n{PREFETCH} = 7', f'?{PREFETCH}=5', 5),
])
def test_a_slow_callback_fills_no_memory(text, query, expected, tmp_path):
    path = tmp_path / 'consumer.conf'
    path.write_text(text)
    subject = listener.Listener(
        configuration(str(path)), print,
        transport_url=f'rabbit://user:password@broker:5672/{query}')
    # What oslo.messaging's driver for RabbitMQ has made of it.
    assert subject._transport._driver.prefetch_size == expected


def test_a_consumer_may_have_a_default_of_its_own():
    conf = configuration()
    listener.Listener(conf, print, transport_url='fake://')
    conf.set_default(PREFETCH, 9, group='oslo_messaging_rabbit')
    listener.Listener(conf, print, transport_url='fake://')
    assert conf.oslo_messaging_rabbit[PREFETCH] == 9


def test_a_stop_ends_the_attempts_and_loses_nothing():
    def callback(received):
        subject.close()
        raise RuntimeError('not now')

    # A wait of this length would be noticed.
    subject = new_listener(callback, attempts=2, backoff_s=3600)
    assert take(subject, primitive(event())) is REQUEUE
    assert subject.given_up == 0


def test_pool_is_of_the_machine_and_stable(monkeypatch):
    monkeypatch.setattr(listener.socket, 'gethostname', lambda: 'consumer-1')
    assert new_listener(print).pool == 'nova-vmhealth-consumer-1'
    assert new_listener(print, pool='other').pool == 'other'


def bus(callback, count, **options):
    """Give a listener on a bus in this process, and what sends to it."""
    done = threading.Event()
    got = []

    def collect(received):
        callback(received)
        got.append(received)
        if len(got) == count:
            done.set()

    subject = new_listener(collect, **options)
    notifier = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(
            configuration_for('nova'), url='fake://'),
        publisher_id=examples.PUBLISHER_ID, driver='messagingv2',
        topics=['versioned_notifications'])
    return subject, notifier, got, done


def configuration_for(exchange):
    conf = configuration()
    oslo_messaging.get_notification_transport(conf, url='fake://')
    conf.set_override('control_exchange', exchange)
    return conf


@pytest.mark.parametrize('priority', ['info', 'severity'])
def test_from_publisher_to_callback(priority):
    subject, notifier, got, done = bus(lambda received: None, 3)
    sender = publisher.Publisher(
        delivery.Delivery(notifier, lambda user, project: {}),
        priority=priority)
    subject.start()
    try:
        sender.start()
        for sequence, severity in enumerate(v.Severity, 1):
            sender.submit(
                event(sequence, severity=severity), examples.IDENTITY,
                examples.HEARTBEAT)
        sender.commit({})
        assert done.wait(PATIENCE_S)
    finally:
        sender.stop(PATIENCE_S)
        subject.stop()
    # unlike a broker's pool, the fake driver has a queue for each priority
    assert sorted(each.sequence for each in got) == [1, 2, 3]
    assert {each.publisher_id for each in got} == {examples.PUBLISHER_ID}
    assert got[0].heartbeat == examples.HEARTBEAT


def test_other_events_on_the_topic_are_none_of_ours():
    subject, notifier, got, done = bus(lambda received: None, 1)
    subject.start()
    try:
        notifier.info({}, 'instance.update', {'nova_object.name': 'x'})
        notifier.info({}, 'instance.healthy', primitive(event(1)))
        notifier.info({}, 'instance.health', primitive(event(2)))
        assert done.wait(PATIENCE_S)
    finally:
        subject.stop()
    assert [each.sequence for each in got] == [2]
    assert subject.unreadable == 0


@pytest.mark.parametrize('event_type, make, argument', [
    ('host.health', lambda: payload.host_payload_of(*HOST_SAMPLE),
     'host_callback'),
    ('instance.maintenance',
     lambda: payload.maintenance_payload_of(host_examples.ANNOUNCED),
     'maintenance_callback'),
])
def test_other_types_reach_only_who_asks_for_them(event_type, make, argument):
    others = []
    subject, notifier, got, done = bus(lambda received: None, 1)
    asking, _, _, asked = bus(
        lambda received: None, 1, pool='other', **{argument: others.append})
    subject.start()
    asking.start()
    try:
        notifier.info({}, event_type, make())
        notifier.info({}, 'instance.health', primitive(event(2)))
        assert done.wait(PATIENCE_S)
        assert asked.wait(PATIENCE_S)
    finally:
        subject.stop()
        asking.stop()
    assert [each.sequence for each in got] == [2]
    assert subject.unreadable == 0
    assert len(others) == 1


def test_events_of_instances_may_be_left_alone():
    got, done = [], threading.Event()

    def take_one(received):
        got.append(received)
        done.set()

    subject = new_listener(None, maintenance_callback=take_one)
    _, notifier, _, _ = bus(lambda received: None, 1)
    subject.start()
    try:
        notifier.info({}, 'instance.health', primitive(event(1)))
        notifier.info({}, 'instance.maintenance',
                      payload.maintenance_payload_of(host_examples.ANNOUNCED))
        assert done.wait(PATIENCE_S)
    finally:
        subject.stop()
    assert [each.stage for each in got] == [v.MaintenanceStage.ANNOUNCED]
    assert (subject.handled, subject.unreadable, subject.given_up) == (1, 0, 0)


def test_events_wait_for_the_callback_in_order():
    running = []

    def callback(received):
        running.append(received.sequence)
        assert running[-1] == len(running)

    subject, notifier, got, done = bus(callback, 50)
    subject.start()
    try:
        for sequence in range(1, 51):
            notifier.info({}, 'instance.health', primitive(event(sequence)))
        assert done.wait(PATIENCE_S)
    finally:
        subject.stop()
    assert [each.sequence for each in got] == list(range(1, 51))


class Server:
    """Stands for oslo.messaging's; a function is its first connection."""

    def __init__(self, start):
        self._start = start
        self.stopped = threading.Event()

    def start(self, override_pool_size):
        self.workers = override_pool_size
        self._start()

    def stop(self):
        self.stopped.set()

    def wait(self):
        assert self.stopped.is_set()


def listener_with(server, monkeypatch):
    monkeypatch.setattr(
        oslo_messaging, 'get_notification_listener',
        lambda *args, **options: server)
    return new_listener(print)


def test_one_worker_or_events_change_places(monkeypatch):
    server = Server(lambda: None)
    listener_with(server, monkeypatch).start(PATIENCE_S)
    assert server.workers == 1


def test_a_broker_that_refuses(monkeypatch):
    def refuse():
        raise ConnectionRefusedError('go away')

    subject = listener_with(Server(refuse), monkeypatch)
    with pytest.raises(listener.BrokerUnreachable, match='go away'):
        subject.start(PATIENCE_S)


def test_a_broker_that_does_not_answer_in_time(monkeypatch):
    answer = threading.Event()
    server = Server(lambda: answer.wait(PATIENCE_S))
    subject = listener_with(server, monkeypatch)
    with pytest.raises(listener.BrokerUnreachable, match='within 0 s'):
        subject.start(0)
    # a connection that comes later is not used
    answer.set()
    assert server.stopped.wait(PATIENCE_S)
