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

"""What goes to the bus is what Notifier would send, and a failure is seen."""

import dataclasses
import json

from oslo_config import cfg
import oslo_messaging
from oslo_messaging.notify import notifier as notifier_lib
import pytest

from nova_vmhealth.notifications import delivery
from nova_vmhealth.notifications import outbox

ROW = outbox.Row(
    event_id='0b5e8a4c-3a4e-4f0e-9f53-6b1d8b1a7f01',
    event_type='instance.health', about='178b0921', cause='io_error',
    subject='', transition='raised', priority='warn', project_id='project',
    user_id='user', payload=json.dumps({'data': [1, None, 'ä']}),
    noted_at=0.0)


class Context:
    """What a service's request context has."""

    def __init__(self, user, project):
        self.values = {'user_id': user, 'project_id': project}

    def to_dict(self):
        return self.values


class RedactedContext(Context):
    """One that has a secret, and a way to be without."""

    def redacted_copy(self):
        return Context(*self.values.values())

    def to_dict(self):
        return dict(self.values, auth_token='secret')


class Serializer(oslo_messaging.NoOpSerializer):
    def serialize_context(self, context):
        return context.to_dict()


class Broken(Exception):
    pass


class Transport:
    """Stands in for a transport of the messaging drivers."""

    def __init__(self):
        self.calls = []
        self.cleaned = 0
        self.error = None
        self.fail_at = None

    def _send_notification(self, target, ctxt, message, version, retry=None):
        if self.error and self.fail_at in (None, target.topic):
            raise self.error
        message['_context_of_the_transport'] = 1
        self.calls.append((target.topic, ctxt, message, version, retry))

    def cleanup(self):
        self.cleaned += 1
        raise Broken('and the cleanup too')


@pytest.fixture
def transport(monkeypatch):
    made = Transport()
    monkeypatch.setattr(delivery, '_own_transport', lambda like: made)
    return made


def conf():
    made = cfg.ConfigOpts()
    made([])
    return made


def notifier(driver='messagingv2', topics=('versioned',), url='fake://'):
    return oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(conf(), url=url),
        publisher_id='nova-compute:c', driver=driver, topics=list(topics),
        serializer=Serializer())


@pytest.mark.parametrize('driver, version', [
    ('messaging', 1.0), ('messagingv2', 2.0)])
@pytest.mark.parametrize('context', [Context, RedactedContext])
def test_sends_what_the_notifier_would(
        transport, monkeypatch, driver, version, context):
    of_notifier = notifier(driver)
    theirs = Transport()
    [extension] = of_notifier._driver_mgr
    monkeypatch.setattr(extension.obj, 'transport', theirs)
    of_notifier.prepare(retry=7).warn(
        RedactedContext('user', 'project'), ROW.event_type,
        json.loads(ROW.payload))
    delivery.Delivery(of_notifier.prepare(), context).send(ROW)
    [expected], [found] = theirs.calls, transport.calls
    assert found[:2] == expected[:2]
    assert found[1] == {'user_id': 'user', 'project_id': 'project'}
    assert found[3:] == (version, 0)
    # the same whenever it is sent
    assert found[2].pop('message_id') == ROW.event_id
    assert expected[2].pop('message_id')
    assert found[2].pop('timestamp')[:10] == expected[2].pop('timestamp')[:10]
    assert found[2] == expected[2]


def test_every_topic_gets_a_message_of_its_own(transport):
    subject = delivery.Delivery(notifier(topics=('a', 'b')), Context)
    subject.send(ROW)
    assert [call[0] for call in transport.calls] == ['a.warn', 'b.warn']
    assert transport.calls[0][2] is not transport.calls[1][2]


@pytest.mark.parametrize('fail_at, sent', [(None, []), ('b.warn', ['a.warn'])])
def test_what_the_transport_raises_is_raised(transport, fail_at, sent):
    subject = delivery.Delivery(notifier(topics=('a', 'b')), Context)
    transport.error, transport.fail_at = Broken('no broker'), fail_at
    with pytest.raises(Broken, match='no broker'):
        subject.send(ROW)
    assert [call[0] for call in transport.calls] == sent
    # nothing is left that would be made good by the next attempt
    assert transport.cleaned == 1
    transport.error = None
    subject.send(ROW)
    assert len(transport.calls) == len(sent) + 2
    subject.close()
    subject.close()
    assert transport.cleaned == 2


@pytest.mark.parametrize('event_type, publisher_id', [
    ('instance.health', 'nova-compute:c'),
    ('host.health', 'nova-compute:c'),
    # tenants read it
    ('instance.maintenance', 'nova-compute'),
])
def test_tenants_do_not_read_who_sends(transport, event_type, publisher_id):
    row = dataclasses.replace(ROW, event_type=event_type)
    delivery.Delivery(notifier(), Context).send(row)
    [(_, _, message, _, _)] = transport.calls
    assert message['publisher_id'] == publisher_id


class Nosy(notifier_lib.Driver):
    """A driver that is no bus."""

    def __init__(self, error=None):
        self.calls = []
        self.error = error

    def notify(self, context, message, priority, retry):
        self.calls.append((context, message['event_type'], priority, retry))
        if self.error:
            raise self.error


def with_driver(of_notifier, driver):
    """Put a driver before those that a notifier has."""
    class Extension:
        obj = driver
    of_notifier._driver_mgr = [Extension, *of_notifier._driver_mgr]
    return of_notifier


def test_other_drivers_hear_of_it_once_the_bus_has_it(transport):
    nosy = Nosy()
    subject = delivery.Delivery(with_driver(notifier(), nosy), Context)
    transport.error = Broken()
    for _ in range(3):
        with pytest.raises(Broken):
            subject.send(ROW)
    assert nosy.calls == []
    transport.error = None
    subject.send(ROW)
    assert nosy.calls == [({'user_id': 'user', 'project_id': 'project'},
                           'instance.health', 'WARN', -1)]


@pytest.mark.parametrize('driver', ['noop', 'log', 'test'])
def test_drivers_that_are_no_bus(transport, driver):
    delivery.Delivery(notifier(driver), Context).send(ROW)
    assert transport.calls == []


def test_without_any_driver_there_is_nothing_to_send(transport):
    of_notifier = notifier('nosuchdriver')
    delivery.Delivery(of_notifier, Context).send(ROW)
    assert transport.calls == []


def failing(*_arguments):
    raise Broken('made of nothing')


class FailingSerializer(Serializer):
    def serialize_context(self, context):
        raise Broken('made of nothing')


class OddSerializer(Serializer):
    def serialize_context(self, context):
        return {'what': object()}


def test_a_payload_that_is_no_json(transport):
    row = dataclasses.replace(ROW, payload='{"half":')
    with pytest.raises(delivery.BadEvent):
        delivery.Delivery(notifier(), Context).send(row)


def test_a_context_that_cannot_be_made_is_no_fault_of_the_event(transport):
    with pytest.raises(Broken, match='made of nothing'):
        delivery.Delivery(notifier(), failing).send(ROW)


def test_a_serializer_that_fails_is_no_fault_of_the_event(transport):
    of_notifier = notifier()
    of_notifier._serializer = FailingSerializer()
    with pytest.raises(Broken, match='made of nothing'):
        delivery.Delivery(of_notifier, Context).send(ROW)


def test_a_message_that_cannot_be_sent_as_json(transport):
    of_notifier = notifier()
    of_notifier._serializer = OddSerializer()
    transport.error = TypeError('no json')
    with pytest.raises(delivery.BadEvent):
        delivery.Delivery(of_notifier, Context).send(ROW)
    assert transport.calls == []


class Recorder:
    """Not of oslo.messaging, as fixtures of Nova's are."""

    def __init__(self):
        self.calls = []

    def warn(self, context, event_type, payload):
        self.calls.append((context.to_dict(), event_type, payload))


def test_something_else_that_notifies():
    recorder = Recorder()
    delivery.Delivery(recorder, Context).send(ROW)
    assert recorder.calls == [(
        {'user_id': 'user', 'project_id': 'project'}, 'instance.health',
        {'data': [1, None, 'ä']})]


def rabbit_options(url, **configured):
    made = conf()
    transport = oslo_messaging.get_notification_transport(made, url=url)
    for name, value in configured.items():
        made.set_override(name, value, group='oslo_messaging_rabbit')
    own = delivery._own_transport(transport)
    options = own._driver._connection_pool.conf.oslo_messaging_rabbit
    return own, options


RABBIT = 'rabbit://u:p@one:1,u:p@two:2/virtual'


@pytest.mark.parametrize('url, configured, threshold', [
    (RABBIT, {}, 10),
    (RABBIT, {'heartbeat_timeout_threshold': 120}, 10),
    # without any, an attempt would never end
    (RABBIT, {'heartbeat_timeout_threshold': 0}, 10),
    (RABBIT, {'heartbeat_timeout_threshold': 4}, 4),
    (RABBIT + '?heartbeat_timeout_threshold=30', {}, 30),
    (RABBIT + '?amqp_durable_queues=true', {}, 10),
])
def test_a_silent_broker_is_noticed_in_time(url, configured, threshold):
    own, options = rabbit_options(url, **configured)
    assert options.heartbeat_timeout_threshold == threshold
    assert options.amqp_durable_queues == ('durable' in url)
    assert str(own._driver._url).startswith(RABBIT)


def test_the_transport_is_one_of_its_own():
    theirs = oslo_messaging.get_notification_transport(conf(), url='fake://')
    own = delivery._own_transport(theirs)
    assert own is not theirs
    assert own._driver is not theirs._driver


def test_a_broker_that_is_not_there_at_the_first_connection():
    """Nobody listens on port 1."""
    subject = delivery.Delivery(
        notifier(url='rabbit://u:p@127.0.0.1:1/'), Context)
    for _ in range(2):
        with pytest.raises(Exception) as caught:
            subject.send(ROW)
        assert not isinstance(caught.value, delivery.BadEvent)
