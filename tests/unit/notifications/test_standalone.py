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

"""A publisher without Nova: what it sends is as Nova's notifier has it."""

import threading

from oslo_context import context
import pytest

from nova_vmhealth import configuration
from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import database
from nova_vmhealth.notifications import delivery
from nova_vmhealth.notifications import listener
from nova_vmhealth.notifications import standalone
from tests.unit.notifications import examples
from tests.unit.notifications import host_examples

PATIENCE_S = 30


@pytest.fixture
def new(tmp_path):
    """Make a publisher as a configuration file and arguments say."""
    made = []

    def start(text='', **arguments):
        path = tmp_path / 'inspector.conf'
        path.write_text(text)
        made.append(standalone.new_publisher(
            configuration.load([str(path)]), examples.INSPECTOR_ID,
            str(tmp_path), **arguments))
        made[-1].start()
        return made[-1]
    yield start
    for each in made:
        each.stop(PATIENCE_S)


class Transport:
    """Stands in for a transport of the messaging drivers."""

    def __init__(self):
        self.calls = []

    def _send_notification(self, target, ctxt, message, version, retry):
        self.calls.append((target.topic, ctxt, message, version))

    def cleanup(self):
        pass


@pytest.fixture
def transport(monkeypatch):
    made = Transport()
    monkeypatch.setattr(delivery, '_own_transport', lambda like: made)
    return made


def tell(subject):
    """Tell one event of each type."""
    subject.submit(examples.ON_BEHALF, examples.IDENTITY, None)
    subject.submit_host(
        *host_examples.HOST_SAMPLES['host-health-host_down-raised'])
    subject.submit_maintenance(host_examples.ANNOUNCED)
    subject.commit({})
    return subject


@pytest.mark.parametrize('text, arguments, topics, version', [
    ('', {}, ['versioned_notifications.info'], 2.0),
    ('[notifications]\nversioned_notifications_topics = a,b', {},
     ['a.info', 'b.info'], 2.0),
    ('[notifications]\nversioned_notifications_topics = a,b',
     {'topics': ['c']}, ['c.info'], 2.0),
    # what the operator has chosen for nova-compute
    ('[oslo_messaging_notifications]\ndriver = messaging', {},
     ['versioned_notifications.info'], 1.0),
    ('[oslo_messaging_notifications]\ndriver = noop', {}, [], None),
    # what is critical, and what is told of maintenance
    ('[vmhealth]\nnotification_priority = severity', {},
     ['versioned_notifications.error', 'versioned_notifications.info'], 2.0),
])
def test_where_it_goes(new, transport, text, arguments, topics, version):
    tell(new(text, transport_url='fake://', **arguments)).stop(PATIENCE_S)
    assert sorted({call[0] for call in transport.calls}) == topics
    assert all(call[3] == version for call in transport.calls)


def test_what_the_messages_are(new, transport):
    tell(new(transport_url='fake://')).stop(PATIENCE_S)
    assert [(message['event_type'], message['publisher_id'],
             ctxt['project_id'], ctxt['user_id'])
            for _, ctxt, message, _ in transport.calls] == [
        ('instance.health', examples.INSPECTOR_ID,
         examples.IDENTITY.tenant_id, examples.IDENTITY.user_id),
        ('host.health', examples.INSPECTOR_ID, None, None),
        ('instance.maintenance', host_examples.MAINTENANCE_ID,
         host_examples.ANNOUNCED.project_id, None)]


def test_a_context_is_like_novas():
    found = standalone.request_context('user', 'project')
    for name in ('user', 'user_id'):
        assert found[name] == 'user'
    for name in ('project', 'project_id', 'tenant'):
        assert found[name] == 'project'
    assert found['is_admin'] is False
    assert found['auth_token'] is None
    assert found['request_id'].startswith('req-')


def test_it_leaves_the_context_of_its_thread_alone():
    before = context.get_current()
    standalone.request_context('user', 'project')
    assert context.get_current() is before


def test_the_options_are_nova_computes(new, tmp_path):
    subject = new('[vmhealth]\noutbox_max_events = 1000\noutbox_max_mib = 16\n'
                  'outbox_fsync = true', transport_url='fake://')
    assert subject._outbox._max_events == 1000
    assert subject._outbox._max_bytes == 16 * 1024 * 1024
    assert subject._outbox._database._fsync is True


def test_its_file_is_nobody_elses(new, tmp_path):
    """An inspector may have the name and the state_path of nova-compute."""
    subject = new(transport_url='fake://')
    subject.commit({'page': 'text'})
    own = database.path_of(str(tmp_path), examples.INSPECTOR_ID)
    assert subject.statistics()['notifications_on_disk'] == 1
    assert [str(path) for path in (tmp_path / 'vmhealth').glob('*.sqlite')
            ] == [own]
    assert own != database.path_of(str(tmp_path), 'controller-1')


def test_a_listener_gets_it_as_it_gets_nova_computes(new):
    """By oslo.messaging's own bus within one process."""
    got, done = [], threading.Event()

    def take(event):
        got.append(event)
        if len(got) == 3:
            done.set()

    conf = configuration.load([])
    source = listener.Listener(
        conf, take, transport_url='fake://', host_callback=take,
        maintenance_callback=take)
    source.start()
    try:
        # not stopped before all is there: the fake bus ends with it
        tell(new(transport_url='fake://'))
        assert done.wait(PATIENCE_S)
    finally:
        source.stop()
    instance, host, maintenance = got
    assert (instance.cause, instance.sequence) == (v.Cause.HOST_FAULT, 0)
    assert (host.cause, host.status) == (
        v.HostCause.HOST_DOWN, v.HostStatus.DOWN)
    assert host.publisher_id == examples.INSPECTOR_ID
    assert maintenance.stage is v.MaintenanceStage.ANNOUNCED
    assert maintenance.publisher_id == host_examples.MAINTENANCE_ID
