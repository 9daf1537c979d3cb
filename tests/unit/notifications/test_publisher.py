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

"""Events go out in order; trouble on the bus stays with the sender."""

import dataclasses
import logging
import threading

import pytest

from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import publisher
from tests.unit.notifications import examples

PATIENCE_S = 30


class Notifier:
    """Keeps what an oslo_messaging.Notifier would send."""

    def __init__(self):
        self.calls = []

    def info(self, ctxt, event_type, payload):
        self.calls.append(('info', ctxt, event_type, payload))

    def warn(self, ctxt, event_type, payload):
        self.calls.append(('warn', ctxt, event_type, payload))

    def error(self, ctxt, event_type, payload):
        self.calls.append(('error', ctxt, event_type, payload))

    @property
    def sequences(self):
        return [each[3]['nova_object.data']['sequence']
                for each in self.calls]


class StuckNotifier(Notifier):
    """Does not come back until it is told to: a broker that is away."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()
        self.release = threading.Event()

    def info(self, ctxt, event_type, payload):
        self.entered.set()
        assert self.release.wait(PATIENCE_S)
        super().info(ctxt, event_type, payload)


def context(identity):
    return {'project_id': identity.tenant_id}


def event(sequence=1, **changes):
    return dataclasses.replace(examples.LOST, sequence=sequence, **changes)


def submit(subject, *events):
    return [subject.submit(each, examples.IDENTITY, None) for each in events]


def send_all(subject):
    while subject.send_one():
        pass


def test_sends_the_payload_in_the_context_of_the_project():
    notifier = Notifier()
    subject = publisher.Publisher(notifier, context)
    assert subject.submit(
        examples.LOST, examples.IDENTITY, examples.HEARTBEAT) is True
    assert subject.send_one()
    assert notifier.calls == [(
        'info', {'project_id': examples.IDENTITY.tenant_id},
        'instance.health', payload.payload_of(
            examples.LOST, examples.IDENTITY, examples.HEARTBEAT))]
    assert (subject.sent, subject.depth) == (1, 0)
    assert not subject.send_one()


def test_sends_a_hosts_event_in_a_context_of_no_project():
    notifier = Notifier()
    subject = publisher.Publisher(notifier, context, priority='severity')
    sample = examples.HOST_SAMPLES['host-health-many_guests_lost-raised']
    assert subject.submit_host(*sample) is True
    assert subject.depth == 1
    send_all(subject)
    assert notifier.calls == [(
        'error', {'project_id': None}, 'host.health',
        payload.host_payload_of(*sample))]
    assert subject.sent == 1


def test_hosts_and_instances_keep_their_order():
    notifier = Notifier()
    subject = publisher.Publisher(notifier, context, max_queue=3)
    submit(subject, event(1))
    subject.submit_host(examples.HOST_LOST, 'compute-1', {})
    submit(subject, event(2))
    assert not subject.submit_host(examples.HOST_CLEARED, 'compute-1', {})
    assert subject.dropped == 1
    send_all(subject)
    assert [each[2] for each in notifier.calls] == [
        'instance.health', 'host.health', 'instance.health']


def test_a_hosts_event_that_cannot_be_sent_is_named(caplog):
    subject = publisher.Publisher(Notifier(), context)
    subject.submit_host(
        dataclasses.replace(examples.HOST_LOST, detected_at=float('nan')),
        'compute-1', {})
    send_all(subject)
    assert subject.failed == 1
    assert 'of host compute-1 was not sent' in caplog.text


@pytest.mark.parametrize('priority, severity, transition, method', [
    ('info', v.Severity.CRITICAL, v.Transition.RAISED, 'info'),
    ('info', v.Severity.WARNING, v.Transition.RAISED, 'info'),
    ('severity', v.Severity.CRITICAL, v.Transition.RAISED, 'error'),
    ('severity', v.Severity.CRITICAL, v.Transition.CLEARED, 'error'),
    ('severity', v.Severity.WARNING, v.Transition.RAISED, 'warn'),
    ('severity', v.Severity.INFO, v.Transition.RAISED, 'info'),
])
def test_priority(priority, severity, transition, method):
    notifier = Notifier()
    subject = publisher.Publisher(notifier, context, priority=priority)
    submit(subject, event(severity=severity, transition=transition))
    send_all(subject)
    assert [each[0] for each in notifier.calls] == [method]


@pytest.mark.parametrize('priority', ['error', 'INFO', '', None])
def test_refuses_another_priority(priority):
    with pytest.raises(ValueError, match='priority'):
        publisher.Publisher(Notifier(), context, priority=priority)


def test_a_full_queue_drops_the_newest_and_counts(caplog):
    notifier = Notifier()
    subject = publisher.Publisher(notifier, context, max_queue=2)
    assert submit(subject, *map(event, range(1, 6))) == [
        True, True, False, False, False]
    assert (subject.dropped, subject.depth) == (3, 2)
    # three drops within the minute, one line
    assert [each.levelno for each in caplog.records] == [logging.ERROR]
    send_all(subject)
    assert submit(subject, event(6)) == [True]
    send_all(subject)
    assert notifier.sequences == [1, 2, 6]


def broken_context(identity):
    raise RuntimeError('no context')


class BrokenNotifier(Notifier):
    def info(self, ctxt, event_type, payload):
        if payload['nova_object.data']['sequence'] < 3:
            raise RuntimeError('no broker')
        super().info(ctxt, event_type, payload)


@pytest.mark.parametrize('notifier, new_context, bad, sent', [
    (BrokenNotifier(), context, [event(1), event(2)], [3]),
    (Notifier(), context, [event(1, occurred_at=float('nan'))], [3]),
    (Notifier(), broken_context, [event(1), event(2)], []),
])
def test_a_failing_send_fails_alone(
        notifier, new_context, bad, sent, caplog):
    subject = publisher.Publisher(notifier, new_context)
    submit(subject, *bad, event(3))
    send_all(subject)
    assert notifier.sequences == sent
    assert subject.sent == len(sent)
    assert subject.failed == len(bad) + 1 - len(sent)
    # told once a minute at most, with what was wrong
    [record] = caplog.records
    assert record.exc_info
    assert examples.LOST.instance_uuid in record.getMessage()


def test_the_thread_sends_in_order_and_stop_waits_for_it():
    notifier = Notifier()
    subject = publisher.Publisher(notifier, context)
    submit(subject, event(1))
    subject.start()
    submit(subject, *map(event, range(2, 101)))
    subject.stop(PATIENCE_S)
    assert notifier.sequences == list(range(1, 101))
    assert (subject.sent, subject.dropped) == (100, 0)
    assert not [each for each in threading.enumerate()
                if each.name == 'vmhealth-sender']


def test_the_thread_survives_failures():
    notifier = BrokenNotifier()
    subject = publisher.Publisher(notifier, context)
    subject.start()
    submit(subject, event(1), event(2), event(3))
    subject.stop(PATIENCE_S)
    assert notifier.sequences == [3]


def test_a_stuck_broker_holds_up_nobody_else(caplog):
    notifier = StuckNotifier()
    subject = publisher.Publisher(notifier, context, max_queue=2)
    subject.start()
    submit(subject, event(1))
    assert notifier.entered.wait(PATIENCE_S)
    [sender] = [each for each in threading.enumerate()
                if each.name == 'vmhealth-sender']
    assert submit(subject, event(2), event(3), event(4)) == [
        True, True, False]
    subject.stop(0)
    assert subject.dropped == 3
    assert '2 health events were not sent' in caplog.text
    notifier.release.set()
    sender.join(PATIENCE_S)
    assert not sender.is_alive()
    # what was given up stays so
    assert notifier.sequences == [1]


def test_nothing_is_taken_after_the_stop():
    subject = publisher.Publisher(Notifier(), context)
    subject.start()
    subject.stop(PATIENCE_S)
    assert submit(subject, event(1)) == [False]
    assert (subject.dropped, subject.depth) == (1, 0)


def test_stop_without_start():
    subject = publisher.Publisher(Notifier(), context)
    submit(subject, event(1))
    subject.stop(PATIENCE_S)
    assert (subject.dropped, subject.depth) == (1, 0)
