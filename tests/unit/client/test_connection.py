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

"""Calls that end, one way or the other."""

import oslo_messaging
import pytest

from nova_vmhealth.client import connection
from nova_vmhealth.client import limit
from nova_vmhealth import exception
from tests.unit.client.bus import Bus


@pytest.fixture
def bus():
    return Bus()


def fail(error):
    def call():
        raise error
    return call


def test_gives_the_answer_and_closes(bus):
    with connection.Connection(bus.transport) as subject:
        assert subject.ask(1.0, lambda: 'yes') == 'yes'
        assert not bus.driver.closed
        assert subject.broker == 'rabbit://broker:5672/cell1'
    assert bus.driver.closed


def test_nobody_answers(bus):
    subject = connection.Connection(bus.transport)
    with pytest.raises(oslo_messaging.MessagingTimeout):
        subject.ask(1.0, fail(oslo_messaging.MessagingTimeout('x')))


@pytest.mark.parametrize('error, kind, text', [
    (oslo_messaging.RemoteError('InvalidWindow', 'no\nTraceback', []),
     'InvalidWindow', 'no'),
    (oslo_messaging.RemoteError('A_Remote', '\x1b[31mx', []), 'A', '[31mx'),
    (oslo_messaging.RemoteError('A', '', []), 'A', ''),
    (oslo_messaging.RemoteError('A', 'x' * 1000, []), 'A', 'x' * 255),
    (ValueError('no'), 'ValueError', 'no')])
def test_it_failed_there(bus, error, kind, text):
    subject = connection.Connection(bus.transport)
    with pytest.raises(connection.Failed) as raised:
        subject.ask(1.0, fail(error))
    assert (raised.value.kind, raised.value.text) == (kind, text)
    assert len(str(raised.value)) <= 255


@pytest.mark.parametrize('error', [
    oslo_messaging.MessageDeliveryFailure('gone'), limit.GivenUp('gone')])
def test_the_broker_is_gone(bus, error):
    subject = connection.Connection(bus.transport)
    with pytest.raises(exception.BrokerUnreachable, match='cell1.*gone'):
        subject.ask(1.0, fail(error))


def test_an_end_that_fails_is_an_end(bus, monkeypatch):
    monkeypatch.setattr(bus.transport, 'cleanup', fail(OSError('no')))
    connection.Connection(bus.transport).close()
