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

"""What whoever reaches the broker may ask, and what is made of it."""

import threading
import types
import uuid

import pytest

from nova_vmhealth.core import host_page
from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth.core import host_standing
from nova_vmhealth.core import maintenance
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth import exception
from nova_vmhealth import rpcapi
from nova_vmhealth.virt import answers

WINDOW = {'id': str(uuid.uuid4()), 'host': 'compute1', 'starts_at': 40.0,
          'ends_at': None, 'reason': 'new fans', 'source': 'operator',
          'created_at': 1.0}
CONDITION = {'cause': 'reported_fault', 'subject': '', 'since': 5.0,
             'reason': 'smoke', 'action': 'disable'}


class World:
    """The host's faults, the worker, and a clock that sleeping moves.

    :ivar busy_s: the service record follows after so long
    :ivar answers_at: when a look at it is answered
    """

    def __init__(self, monkeypatch):
        self.now, self.busy_s = 100.0, 0.0
        self.answers_at, self.looks = 0.0, 0
        self.calls, self.conditions = [], []
        self.broken = False
        self.standing = host_standing.HostStanding()
        monkeypatch.setattr(answers, 'time', types.SimpleNamespace(
            monotonic=lambda: self.now, sleep=self.sleep))
        healths = {'a': Health.HEALTHY, 'b': Health.UNHEALTHY,
                   'c': Health.HEALTHY}
        self.endpoint = answers.Answers(
            'compute1', self, self.standing, healths.get, lambda: 'abc',
            self.call)

    def sleep(self, seconds):
        self.now += seconds

    # the worker's

    def call(self, function, timeout_s):
        assert timeout_s == answers.ANSWER_S
        if self.broken:
            return None
        try:
            return function()
        except Exception:
            return None         # and a trace in the log

    # the faults'

    def look(self):
        self.looks += 1
        return 0

    @property
    def answers(self):
        return int(self.now >= self.answers_at)

    def report(self, *arguments):
        self.calls.append(('report', *arguments))
        self.conditions = [CONDITION]

    def clear(self, reporter):
        self.calls.append(('clear', reporter))
        self.conditions = []
        return [HostCause.REPORTED_FAULT, HostCause.MEMORY_FAILURE]

    def set_windows(self, records):
        self.standing.windows = tuple(
            map(maintenance.Window.restored, records))

    def view(self):
        return self.conditions

    @property
    def waits(self):
        waits = self.now < 100.0 + self.busy_s
        self.standing.record = ServiceRecord(not waits, None, False)
        return waits


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def test_shows_all_that_is_known(world):
    world.conditions = [CONDITION]
    world.standing.record = ServiceRecord(True, 'vmhealth: x', True)
    world.set_windows([WINDOW])
    assert world.endpoint.show({}) == {
        'host': 'compute1', 'status': 'DOWN', 'disabled': True,
        'disabled_reason': 'vmhealth: x', 'forced_down': True,
        'conditions': [CONDITION], 'windows': [WINDOW],
        'instances': {'healthy': 2, 'unhealthy': 1}}


@pytest.mark.parametrize('answers_at, seen_at', [
    (0.0, 100.0), (100.1, 100.1), (200.0, 100.5)])
def test_reads_the_record_anew(world, answers_at, seen_at):
    world.answers_at = answers_at
    world.endpoint.show({})
    assert world.looks == 1
    assert world.now == pytest.approx(seen_at, abs=0.02)


def test_and_what_is_not(world):
    shown = world.endpoint.show({})
    assert (shown['status'], shown['disabled'], shown['disabled_reason'],
            shown['forced_down']) == ('UNKNOWN', None, None, None)


@pytest.mark.parametrize('force_down, forced', [
    (False, False), (True, True),
    # Nothing else forces a host down.
    ('false', False), ('yes', False), (1, False), (None, False),
])
def test_a_report(world, force_down, forced):
    shown = world.endpoint.report_fault({}, 'smoke', force_down, 'me')
    assert world.calls == [('report', 'smoke', forced, 'me')]
    assert shown['conditions'] == [CONDITION]


@pytest.mark.parametrize('said, text', [
    ('smoke', 'smoke'), ('', ''), ('  two\nlines\t', 'two lines'),
    ('\x1b[31mred\x1b[0m \u202eesrever', '[31mred[0m esrever'),
    ('x' * 10_000, 'x' * 255), (None, 'None'), (7, '7'),
    (['a', '\n'], "['a', '\\n']"),
])
def test_texts_are_cleaned_and_cut(world, said, text):
    world.endpoint.report_fault({}, said, False, said)
    world.endpoint.clear_fault({}, said)
    assert world.calls == [('report', text, False, text), ('clear', text)]


def test_the_log_says_who_reports_what(world, caplog):
    world.endpoint.report_fault({}, 'smoke\n%s', True, 'me')
    world.endpoint.clear_fault({}, 'you')
    assert [record.getMessage() for record in caplog.records] == [
        'me reports a fault of this host: smoke %s, to be forced down',
        'you says that this host is well']


def test_an_end_says_what_has_ended(world):
    world.conditions = [CONDITION]
    shown = world.endpoint.clear_fault({}, 'me')
    assert shown['cleared'] == ['reported_fault', 'memory_failure']
    assert (shown['host'], shown['conditions']) == ('compute1', [])


@pytest.mark.parametrize('busy_s, status, waited_s', [
    (0.0, 'MAINTENANCE', 0.0), (0.03, 'MAINTENANCE', 0.03),
    (60.0, 'UP', host_page.SETTLE_S),
])
def test_the_answer_waits_for_the_record_but_not_for_ever(
        world, busy_s, status, waited_s):
    world.busy_s = busy_s
    shown = world.endpoint.report_fault({}, 'smoke', False, 'me')
    assert shown['status'] == status
    assert world.now - 100.0 == pytest.approx(waited_s, abs=0.02)


@pytest.mark.parametrize('method, arguments', [
    ('show', ()), ('report_fault', ('smoke', False, 'me')),
    ('clear_fault', ('me',)), ('set_windows', ([],)),
])
def test_a_worker_that_does_not_answer_is_an_error(world, method, arguments):
    world.broken = True
    with pytest.raises(exception.VMHealthError) as caught:
        getattr(world.endpoint, method)({}, *arguments)
    assert 'compute1' in str(caught.value)


def test_windows_are_taken_in(world):
    assert world.endpoint.set_windows({}, [WINDOW]) is None
    assert [each.record() for each in world.standing.windows] == [WINDOW]


@pytest.mark.parametrize('windows', [
    [{}], [{**WINDOW, 'ends_at': 1.0}], [{**WINDOW, 'host': ''}], ['x'],
])
def test_bad_ones_are_not_and_nobody_else_suffers(world, windows, caplog):
    world.endpoint.set_windows({}, [WINDOW])
    world.endpoint.set_windows({}, windows)
    assert len(world.standing.windows) == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith('Maintenance windows from the bus are not used: ')


def test_what_may_be_asked_is_what_the_contract_says():
    def public(kind):
        return {name for name, value in vars(kind).items()
                if isinstance(value, types.FunctionType)
                and not name.startswith('_')}

    assert public(answers.Answers) == public(rpcapi.ComputeAPI)
    assert answers.Answers.target.version == rpcapi.COMPUTE_VERSION


# -- the server --------------------------------------------------------------

class Bus:
    """Nova's RPC; its server waits for the broker if the test wants that."""

    def __init__(self, monkeypatch):
        self.targets, self.endpoints = [], []
        self.starting, self.stopped = threading.Event(), threading.Event()
        self.broker = threading.Event()
        self.broker.set()
        monkeypatch.setattr(answers.rpc, 'TRANSPORT', 'a transport')
        monkeypatch.setattr(answers.rpc, 'get_server', self.get_server)

    def get_server(self, target, endpoints):
        self.targets.append(target)
        self.endpoints += endpoints
        return self

    def start(self):
        self.starting.set()
        assert self.broker.wait(30)

    def stop(self):
        assert self.broker.is_set()
        self.stopped.set()


@pytest.fixture
def bus(monkeypatch):
    return Bus(monkeypatch)


@pytest.fixture
def server():
    return answers.Server('compute1', 'an endpoint')


def test_listens_where_clients_call(bus, server):
    server.start()
    assert bus.starting.wait(30)
    server._thread.join(30)
    assert not bus.stopped.is_set()
    assert bus.targets == [rpcapi.compute_target('compute1')]
    assert bus.endpoints == ['an endpoint']
    server.stop(30)
    assert bus.stopped.wait(30)
    server.stop(30)         # that costs nothing


def test_a_broker_that_is_away_holds_nobody_up(bus, server):
    bus.broker.clear()
    server.start()          # comes back
    assert bus.starting.wait(30)
    server.stop(0.0)        # does so too
    assert not bus.stopped.is_set()
    bus.broker.set()        # Nobody is to listen any more.
    assert bus.stopped.wait(30)


def test_without_a_bus_nobody_listens(bus, server, monkeypatch):
    monkeypatch.setattr(answers.rpc, 'TRANSPORT', None)
    server.start()
    server.stop(30)
    assert bus.targets == []
    assert not bus.stopped.is_set()


def test_one_that_was_never_started_can_be_stopped(server):
    server.stop(30)
