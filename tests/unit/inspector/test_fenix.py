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

import datetime
import time
import types
import uuid

from oslo_config import cfg
import oslo_messaging
import pytest

from nova_vmhealth import configuration
from nova_vmhealth import exception
from nova_vmhealth.inspector import fenix

PATIENCE_S = 20
NOW = 1_700_000_000.0
HOST = 'overcloud-novacompute-0.opnfvlf.org'
SESSION = '76e55df8-1c51-11e8-9928-0242ac110002'
BEGUN = {'project_id': 'ead0dbcaf3564cbbb04842e3e54960e3', 'host': HOST,
         'state': 'IN_MAINTENANCE', 'session_id': SESSION}
ENDED = {**BEGUN, 'state': 'MAINTENANCE_COMPLETE'}
HANDLED = oslo_messaging.NotificationResult.HANDLED
REQUEUE = oslo_messaging.NotificationResult.REQUEUE


def timestamp(seconds):
    """As oslo.messaging writes it."""
    return str(datetime.datetime.fromtimestamp(
        seconds, datetime.timezone.utc).replace(tzinfo=None))


class Keeper:
    def __init__(self):
        self.windows = {}
        self.ended = []
        self.failure = None

    def begin(self, window):
        if self.failure is not None:
            raise self.failure
        self.windows[window.id] = window

    def end(self, window_id):
        if self.failure is not None:
            raise self.failure
        self.ended.append(window_id)
        return window_id in self.windows


@pytest.fixture
def keeper():
    return Keeper()


@pytest.fixture
def listener(keeper):
    options = types.SimpleNamespace(
        fenix_topics=['notifications'], fenix_exchange='openstack',
        fenix_transport_url='fake:///', fenix_pool='inspectors',
        fenix_max_hours=24.0)
    listener = fenix.FenixListener(
        configuration.load([]), options, keeper.begin, keeper.end,
        wall_clock=lambda: NOW)
    # So that nothing waits before it gives a message back.
    listener._stopping.wait = lambda seconds: None
    return listener


def take(listener, payload, at=NOW - 2):
    return listener.take({'some': 'context'}, 'fenix', 'maintenance.host',
                         payload, {'timestamp': timestamp(at)})


# -- what it reads ------------------------------------------------------------

def test_reads_what_fenix_says():
    word = fenix.read(BEGUN)
    assert word == (word.window_id, HOST, SESSION, True)
    uuid.UUID(word.window_id)
    assert fenix.read(ENDED) == (word.window_id, HOST, SESSION, False)


@pytest.mark.parametrize('given', [{'host': 'other'}, {'session_id': 'x'}])
def test_each_session_of_a_host_has_a_window(given):
    assert fenix.read({**BEGUN, **given}).window_id \
        != fenix.read(BEGUN).window_id


def test_takes_what_a_later_release_says_besides():
    assert fenix.read({**BEGUN, 'service': 'fenix'}) == fenix.read(BEGUN)
    assert fenix.read({**BEGUN, 'state': 'HOST_ADDED'}) is None


@pytest.mark.parametrize('payload', [
    None, [], 'x', {},
    *({**BEGUN, name: value}
      for name in ('host', 'state', 'session_id')
      for value in (None, '', 7, ['x'], 'a\nb', '\ud800', 'x' * 256)),
])
def test_refuses_what_fenix_cannot_have_said(payload):
    with pytest.raises(exception.InvalidPayload):
        fenix.read(payload)


@pytest.mark.parametrize('text, seconds', [
    ('2023-11-14 22:13:19.500000', NOW - 0.5),
    ('2023-11-14T22:13:19', NOW - 1),
    ('2023-11-14T23:13:19+01:00', NOW - 1),
    # One to come, or none.
    ('2023-11-14 22:13:21', NOW), ('', NOW), ('x', NOW), (None, NOW),
    (7, NOW)])
def test_reads_when_it_was_sent(text, seconds):
    assert fenix.sent_at(text, NOW) == seconds


# -- what follows -------------------------------------------------------------

def test_opens_a_window_with_a_bound(listener, keeper):
    assert take(listener, BEGUN) == HANDLED
    window, = keeper.windows.values()
    assert (window.host, window.source) == (HOST, 'fenix')
    assert (window.starts_at, window.ends_at, window.created_at) == (
        NOW - 2, NOW - 2 + 24 * 3600, NOW)
    assert SESSION in window.reason
    assert HOST not in window.reason


def test_ends_it(listener, keeper):
    take(listener, BEGUN)
    assert take(listener, ENDED) == HANDLED
    assert keeper.ended == list(keeper.windows)


def test_an_end_that_overtook_its_begin_comes_again(listener, keeper):
    assert take(listener, ENDED) == REQUEUE
    take(listener, BEGUN)
    assert take(listener, ENDED) == HANDLED


def test_an_end_without_a_begin_is_given_up(listener, keeper):
    assert take(listener, ENDED, NOW - fenix.PATIENCE_S + 1) == REQUEUE
    assert take(listener, ENDED, NOW - fenix.PATIENCE_S) == HANDLED


def test_what_was_said_long_ago_opens_nothing(listener, keeper):
    assert take(listener, BEGUN, NOW - 24 * 3600) == HANDLED
    assert keeper.windows == {}
    assert take(listener, BEGUN, NOW - 23 * 3600) == HANDLED
    assert keeper.windows


def test_other_states_are_left_alone(listener, keeper):
    assert take(listener, {**BEGUN, 'state': 'HOST_REMOVED'}) == HANDLED
    assert (keeper.windows, keeper.ended) == ({}, [])


def test_malformed_payloads_are_logged_once_in_a_while(listener, caplog):
    for _ in range(50):
        assert take(listener, {'host': 'x' * 10000}) == HANDLED
    assert listener.unreadable == 50
    assert len(caplog.records) == 1
    assert len(caplog.text) < 500


def test_a_window_that_is_refused_does_not_come_again(listener, keeper):
    keeper.failure = exception.InvalidWindow(reason='too many')
    assert take(listener, BEGUN) == HANDLED


def test_what_the_inspector_cannot_take_now_comes_again(listener, keeper):
    keeper.failure = RuntimeError('busy')
    assert take(listener, BEGUN) == REQUEUE
    assert take(listener, BEGUN, NOW - fenix.PATIENCE_S) == HANDLED


def test_one_that_stops_leaves_it_to_others(listener, keeper):
    listener._stopping.set()
    assert take(listener, BEGUN) == REQUEUE
    assert keeper.windows == {}


def wait_for(ready):
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_listens_to_a_notifier_like_that_of_fenix(listener, keeper):
    """On oslo.messaging's own bus within the process."""
    conf = cfg.ConfigOpts()
    conf([])
    # As Fenix has it: no exchange of its own, and no envelope.
    notifier = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(conf, url='fake:///'),
        'maintenance.host', driver='messaging', topics=['notifications'],
    ).prepare(publisher_id='fenix')
    listener._wall_clock = time.time
    listener.start()
    try:
        wait_for(lambda: listener._started)
        notifier.info({'some': 'context'}, 'maintenance.scheduled', ENDED)
        notifier.info({'some': 'context'}, 'maintenance.host', BEGUN)
        wait_for(lambda: keeper.windows)
        notifier.info({'some': 'context'}, 'maintenance.host', ENDED)
        wait_for(lambda: keeper.ended)
    finally:
        listener.stop()
    window, = keeper.windows.values()
    assert window.host == HOST
    assert 0 <= time.time() - window.starts_at < PATIENCE_S
    assert keeper.ended == [window.id]


def test_stops_before_it_was_started(listener):
    listener.stop()
