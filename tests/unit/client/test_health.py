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

"""Who is asked, in which order, and what a caller is told."""

import socket

import oslo_messaging
import pytest

from nova_vmhealth import broker
from nova_vmhealth import client
from nova_vmhealth.client import health as health_module
from nova_vmhealth.client import limit
from nova_vmhealth import exception
from nova_vmhealth import rpcapi
from tests.unit.client import bus as bus_module
from tests.unit.client.bus import ANSWER
from tests.unit.client.bus import Bus

COMPUTE, INSPECTOR = rpcapi.COMPUTE_TOPIC, rpcapi.INSPECTOR_TOPIC
OF_INSPECTOR = {
    'host': 'compute-1', 'status': 'DOWN', 'disabled': False,
    'disabled_reason': None, 'forced_down': True, 'conditions': [],
    'windows': [], 'last_beacon_at': 17.0,
}

CALLS = {
    'report_fault': lambda health: health.report_host_fault(
        'compute-1', 'fire'),
    'clear_fault': lambda health: health.clear_host_fault('compute-1'),
    'show': lambda health: health.show_host('compute-1'),
}


def connected(bus, reporter='me@monitor:zabbix'):
    return client.HealthClient(bus.transport, reporter)


@pytest.mark.parametrize('method', ['report_fault', 'show'])
def test_nova_compute_answers(method):
    bus = Bus(ANSWER, OF_INSPECTOR)
    view = CALLS[method](connected(bus))
    assert (view.answered_by, view.status) == ('nova-compute', 'UP')
    assert bus.asked == [(COMPUTE, method)]


@pytest.mark.parametrize('method', ['report_fault', 'show'])
def test_an_inspector_answers_for_it(method):
    bus = Bus(None, OF_INSPECTOR)
    view = CALLS[method](connected(bus))
    assert (view.answered_by, view.status) == ('inspector', 'DOWN')
    assert bus.asked == [(COMPUTE, method), (INSPECTOR, method)]


def test_the_report_that_is_sent():
    bus = Bus(None, OF_INSPECTOR)
    connected(bus).report_host_fault('compute-1', 'PSU failed', True)
    told = {'reason': 'PSU failed', 'force_down': True,
            'reporter': 'me@monitor:zabbix'}
    assert bus.driver.calls == [
        (COMPUTE, 'compute-1', 'report_fault', told),
        (INSPECTOR, None, 'report_fault', {'host': 'compute-1', **told})]


@pytest.mark.parametrize('reason, told', [
    ('a\r\n\x1b[31mb', 'a  [31mb'), ('x' * 300, 'x' * 255)])
def test_a_reason_is_made_printable_and_cut(reason, told):
    bus = Bus(ANSWER)
    connected(bus, reason).report_host_fault('compute-1', reason)
    arguments = bus.driver.calls[0][3]
    assert (arguments['reason'], arguments['reporter']) == (told, told)
    assert arguments['force_down'] is False


@pytest.mark.parametrize('host, reason', [
    ('compute-1', ''), ('compute-1', ' \n\x00'), ('', 'fire'),
    ('a\nb', 'fire'), ('x' * 231, 'fire'), ('\u20ac' * 80, 'fire'),
    ('\ud800', 'fire')])
def test_what_cannot_be_reported(host, reason):
    bus = Bus(ANSWER)
    with pytest.raises(exception.InvalidReport):
        connected(bus).report_host_fault(host, reason)
    assert bus.asked == []


@pytest.mark.parametrize('compute, inspector, answered_by, status, cleared', [
    ({**ANSWER, 'status': 'DOWN', 'cleared': ['reported_fault']},
     {**OF_INSPECTOR, 'status': 'UP', 'forced_down': False,
      'cleared': ['host_down', 'reported_fault']},
     'nova-compute', 'UP', ('reported_fault', 'host_down')),
    ({**ANSWER, 'cleared': ['reported_fault']}, None,
     'nova-compute', 'UP', ('reported_fault',)),
    (None, {**OF_INSPECTOR, 'cleared': ['host_down']},
     'inspector', 'DOWN', ('host_down',)),
])
def test_both_clear(compute, inspector, answered_by, status, cleared):
    bus = Bus(compute, inspector)
    view = connected(bus).clear_host_fault('compute-1')
    assert (view.answered_by, view.cleared) == (answered_by, cleared)
    # the record as it was last
    assert (view.status, view.forced_down) == (status, status == 'DOWN')
    assert bool(view.instances) is (compute is not None)
    assert bus.asked == [(COMPUTE, 'clear_fault')] + (
        [(INSPECTOR, 'clear_fault')] if inspector else [])


@pytest.mark.parametrize('compute, inspector, failed', [
    (ValueError('no'), {**OF_INSPECTOR, 'cleared': []}, 'nova-compute'),
    ({**ANSWER, 'cleared': []}, ValueError('no'), 'inspector'),
])
def test_one_of_the_two_fails_to_clear(compute, inspector, failed):
    bus = Bus(compute, inspector)
    with pytest.raises(exception.HostCallFailed, match=failed):
        connected(bus).clear_host_fault('compute-1')
    assert bus.asked[0] == (COMPUTE, 'clear_fault')
    assert bus.driver.questions == 1


@pytest.mark.parametrize('method', CALLS)
def test_nobody_answers(method):
    bus = Bus()
    with pytest.raises(exception.HostUnreachable) as raised:
        CALLS[method](connected(bus))
    said = str(raised.value)
    for word in ('compute-1', 'nova-compute', 'nova-vmhealth-inspector',
                 'rabbit://broker:5672/cell1'):
        assert word in said
    assert 'secret' not in said


@pytest.mark.parametrize('method', ['report_fault', 'clear_fault'])
def test_nothing_lies_there_for_an_inspector_to_come(method):
    bus = Bus()
    with pytest.raises(exception.HostUnreachable):
        CALLS[method](connected(bus))
    assert bus.asked == [(COMPUTE, method)]
    assert bus.driver.questions == 1


class ValueError_Remote(ValueError):
    """As oslo.messaging makes it of Python's own at the other end."""


@pytest.mark.parametrize('method', CALLS)
@pytest.mark.parametrize('error, said', [
    (oslo_messaging.RemoteError('HostNotFound', 'no such host', 'Traceback'),
     'HostNotFound: no such host'),
    (ValueError_Remote('no\x1b[2J\nTraceback (most recent call last)\n...'),
     'ValueError: no[2J'),
    (TimeoutError('its own'), 'TimeoutError: its own'),
])
def test_the_other_end_fails(method, error, said):
    with pytest.raises(exception.HostCallFailed) as raised:
        CALLS[method](connected(Bus(error)))
    assert str(raised.value) == (
        'The nova-compute that answers for host compute-1 failed: ' + said)


@pytest.mark.parametrize('method', CALLS)
def test_the_broker_fails(method):
    bus = Bus(oslo_messaging.MessageDeliveryFailure('gone'),
              oslo_messaging.MessageDeliveryFailure('gone'))
    with pytest.raises(exception.BrokerUnreachable, match='cell1.*gone'):
        CALLS[method](connected(bus))
    assert len(bus.asked) == 1


def test_the_broker_hangs(monkeypatch):
    allowed = []

    def give_up(seconds, function):
        allowed.append(seconds)
        raise limit.GivenUp('no answer within 7 s')

    bus = Bus(ANSWER)
    health = connected(bus)
    monkeypatch.setattr(limit, 'within', give_up)
    with pytest.raises(exception.BrokerUnreachable, match='within 7 s'):
        health.show_host('compute-1')
    health.close()
    assert rpcapi.COMPUTE_ANSWER_S < allowed[0]


def test_how_long_an_answer_is_waited_for():
    bus = Bus(None, OF_INSPECTOR)
    connected(bus).show_host('compute-1')
    # Sent once more where the connection was broken; and an inspector has to
    # give a sign of life, which oslo.messaging wants in whole seconds.
    assert bus.driver.patience == [(1.0, None, 1), (30.0, 2, 1)]


def test_no_broker():
    bus = Bus(ANSWER)

    def refuse(retry):
        raise ConnectionRefusedError('refused')

    bus.driver._get_connection = refuse
    with pytest.raises(exception.BrokerUnreachable, match='cell1.*refused'):
        connected(bus)


def test_it_is_closed_at_the_end():
    bus = Bus(ANSWER)
    with pytest.raises(ZeroDivisionError):
        with connected(bus) as health:
            assert health.show_host('compute-1').host == 'compute-1'
            assert not bus.driver.closed
            raise ZeroDivisionError
    assert bus.driver.closed


def test_whatever_closing_says():
    bus = Bus(ANSWER)

    def fail():
        raise OSError('gone')

    bus.driver.cleanup = fail
    connected(bus).close()


@pytest.mark.parametrize('url, text, used', [
    (bus_module.URL, None, bus_module.URL),
    (None, f'[DEFAULT]\ntransport_url={bus_module.URL}', bus_module.URL),
    ('rabbit://other/', f'[DEFAULT]\ntransport_url={bus_module.URL}',
     'rabbit://other/'),
])
def test_connect(url, text, used, tmp_path, monkeypatch):
    urls = []
    bus = Bus(ANSWER)

    def rpc_transport(conf, transport_url):
        urls.append(transport_url)
        return bus.transport

    monkeypatch.setattr(broker, 'rpc_transport', rpc_transport)
    files = []
    if text:
        files.append(tmp_path / 'nova.conf')
        files[0].write_text(text)
    with client.connect(url, files, reporter='zabbix') as health:
        health.report_host_fault('compute-1', 'fire')
    assert urls == [used]
    assert bus.driver.calls[0][3]['reporter'] == 'zabbix'


def test_connect_to_none():
    with pytest.raises(exception.BrokerUnreachable, match='transport_url'):
        client.connect()


def test_default_reporter(monkeypatch):
    monkeypatch.setenv('LOGNAME', 'zabbix')
    monkeypatch.setattr(health_module.sys, 'argv', ['/usr/lib/alert.py', 'x'])
    assert health_module.default_reporter() == (
        f'zabbix@{socket.gethostname()}:alert.py')


@pytest.mark.parametrize('argv', [[''], ['-c'], []])
def test_default_reporter_of_nobody(argv, monkeypatch):
    def no_user():
        raise KeyError('getpwuid(): uid not found')

    monkeypatch.setattr(health_module.getpass, 'getuser', no_user)
    monkeypatch.setattr(health_module.os, 'getuid', lambda: 4711)
    monkeypatch.setattr(health_module.sys, 'argv', argv)
    user, _, program = health_module.default_reporter().rpartition(':')
    assert user == f'4711@{socket.gethostname()}'
    assert program in ('python', '-c')
