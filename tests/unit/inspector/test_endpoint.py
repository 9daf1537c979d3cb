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

"""What comes over the bus: beacons in order, calls on threads of their own."""

import threading

from oslo_config import cfg
import oslo_messaging
import pytest

from nova_vmhealth.core.beacons import Beacon
from nova_vmhealth.core.beacons import InspectorBeacon
from nova_vmhealth import exception
from nova_vmhealth.inspector import endpoint
from nova_vmhealth.inspector import inbox
from nova_vmhealth.inspector.loop import Sync

BEACON = Beacon('compute-1', 'a', 1, 500, 1.0)
INSPECTOR = InspectorBeacon('one', 'b', 1, 500)


class Reports:
    """Answers with what it was asked; or fails."""

    error = None

    def __getattr__(self, name):
        def answer(*arguments):
            if self.error:
                raise self.error
            return [name, *arguments]
        return answer


@pytest.fixture
def served():
    box = inbox.Inbox()
    return endpoint.Endpoint(box, Reports(), Reports()), box


def taken(box):
    return [box.take() for _ in range(len(box))]


def test_beacons_and_records(served):
    end, box = served
    end.host_beacon({}, BEACON.record())
    assert not box._wake.is_set()
    end.inspector_beacon({}, INSPECTOR.record())
    assert box._wake.is_set()
    end.sync({}, 'one', {'mark/a': {}})
    assert taken(box) == [BEACON, INSPECTOR, Sync('one', {'mark/a': {}})]


@pytest.mark.parametrize('record', [None, 7, {}, {'host': 'compute-1'}])
def test_what_is_no_beacon_is_counted(served, record):
    end, box = served
    end.host_beacon({}, record)
    end.inspector_beacon({}, record)
    assert end.unreadable == 2
    assert taken(box) == []


@pytest.mark.parametrize('method, arguments, asked', [
    ('report_fault', {'host': 'a', 'reason': 'fan', 'force_down': True,
                      'reporter': 'me'},
     ['report_fault', 'a', 'fan', True, 'me']),
    ('clear_fault', {'host': 'a', 'reporter': 'me'},
     ['clear_fault', 'a', 'me']),
    ('show', {'host': 'a'}, ['show', 'a']),
    ('set_window', {'window': {}}, ['set', {}]),
    ('unset_windows', {'host': 'a'}, ['unset', 'a', None]),
    ('unset_windows', {'window_id': 'x'}, ['unset', None, 'x']),
    ('list_windows', {}, ['list', None]),
])
def test_calls(served, method, arguments, asked):
    end, _ = served
    assert getattr(end, method)({}, **arguments) == asked


def test_what_a_caller_did_wrong_is_no_trouble_of_ours(served):
    end, _ = served
    end._reports.error = exception.InvalidReport(reason='no host')
    with pytest.raises(oslo_messaging.ExpectedException):
        end.show({}, 'a')
    end._reports.error = ValueError('a defect')
    with pytest.raises(ValueError):
        end.show({}, 'a')


class Incoming:
    """A message as oslo.messaging's drivers have it."""

    def __init__(self, number, msg_id=None):
        self.msg_id = msg_id
        self.number = number


def test_beacons_are_handled_in_order_and_calls_do_not_hold_them_up():
    conf = cfg.ConfigOpts()
    conf([])
    server = endpoint.new_server(
        oslo_messaging.get_rpc_transport(conf, 'fake://'), 'one', object())
    done, go = [], threading.Event()
    called = threading.Event()

    def process(incoming):
        if incoming[0].msg_id:
            go.wait(10)
            called.set()
        done.append((incoming[0].number, threading.current_thread().name))
    server._process_incoming = process
    endpoint.start(server)
    try:
        server._on_incoming([Incoming(1, msg_id='x')])
        for number in (2, 3, 4):
            server._on_incoming([Incoming(number)])
        here = threading.current_thread().name
        assert done == [(2, here), (3, here), (4, here)]
        go.set()
        assert called.wait(10)
    finally:
        server.stop()
        server.wait()
    assert done[3][0] == 1 and done[3][1] != here
