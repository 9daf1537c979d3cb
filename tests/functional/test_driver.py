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

"""The driver in Nova's own in-process services, over a fake libvirt.

What only the whole of Nova can show: the XML that its own code makes, its
API's answers, placement's traits, and what reaches the notifier.
"""

import os
import sys
import threading
import time
import types
from unittest import mock
import urllib.request
import warnings

import fixtures
from nova import context as nova_context
from nova import objects
from nova.tests.functional.libvirt import base
from nova.virt import driver as virt_driver
from nova.virt.libvirt import blockinfo
from nova.virt.libvirt import driver as libvirt_driver
import prometheus_client
import sqlalchemy.exc

from nova_vmhealth.core import protocol
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.virt import driver
from nova_vmhealth.virt import host
from nova_vmhealth.virt import libvirt_events
from nova_vmhealth.virt import native
from nova_vmhealth.virt import steering
from tests import concurrency

WATCHDOG_NONE = 0
STARTED, STOPPED, BOOTED, DESTROYED = 2, 5, 0, 1


class HealthDriverTestBase(base.ServersTestBase):
    """One compute service with our driver."""

    api_major_version = 'v2.1'
    microversion = 'latest'
    NUMBER_OF_CELLS = 1
    GRACE_S = 60.0
    NOTIFICATION_FORMAT = 'both'
    # of [vmhealth]
    OPTIONS = types.MappingProxyType({})

    def setUp(self):
        # Nova's fixtures look for it in a source tree, a wheel puts it here.
        self.flags(api_paste_config=os.path.join(
            sys.prefix, 'etc', 'nova', 'api-paste.ini'), group='wsgi')
        # Nothing is known of the instances of another test.
        self.flags(state_path=self.useFixture(fixtures.TempDir()).path)
        if concurrency.is_native() and concurrency.release() == 33:
            self.skipTest("Nova 33's own test base is for eventlet: its "
                          'threads would share one connection to SQLite')
        super().setUp()
        # Nova's fixture makes errors of them, and a newer SQLAlchemy than
        # the one Nova was released with has more.
        warnings.simplefilter('ignore', sqlalchemy.exc.SADeprecationWarning)
        self.flags(compute_driver='vmhealth.HealthLibvirtDriver')
        self.flags(notification_format=self.NOTIFICATION_FORMAT,
                   group='notifications')
        # Nova's fixtures are quick: without this every fault would still be
        # within the grace that follows the spawn.
        self.flags(group='vmhealth', **{
            'planned_grace_s': self.GRACE_S,
            # Each would wait for an answer, see CAST_AS_CALL.
            'beacon_interval_ms': 0, **self.OPTIONS})
        self.start_compute()
        self.driver = self.computes['compute1'].driver
        self.addCleanup(self._stop_threads)
        if not concurrency.is_native():
            self._dispatch_events()

    def _clear_attrs(self):
        # Nova deletes every public attribute; pytest wants its own back.
        name = self._testMethodName
        method = self.__dict__[name]
        super()._clear_attrs()
        setattr(self, name, method)

    def _dispatch_events(self):
        """Start the greenthread that Nova's fixture leaves out."""
        host = self.driver._host
        if hasattr(host, '_init_events_pipe'):       # Nova 31 and 32
            host._init_events_pipe()
        else:
            host = host._event_handler
        # Forbidden where Nova runs native threads.
        import eventlet
        self.addCleanup(eventlet.spawn(host._dispatch_thread).kill)

    def _stop_threads(self):
        self.driver.vmhealth_monitor.stop()

    def flavor(self, **extra_specs):
        return self._create_flavor(extra_spec={
            key.replace('__', ':'): value
            for key, value in extra_specs.items()})

    def server(self, flavor_id=None, **kwargs):
        return self._create_server(flavor_id=flavor_id, networks='none',
                                   **kwargs)

    def libvirt_says(self, server, translate, *arguments):
        """Let an event in the way HealthHost's callback does."""
        self.driver._host.queue_event(host.ObservationEvent(
            translate(server['id'], time.time(), *arguments)))

    def heartbeat_is_lost(self, server):
        """Let a loss in the way the heartbeat's thread does."""
        self.driver.vmhealth_monitor._deliver(Observation(
            Kind.FAULT, server['id'], time.time(), Cause.HEARTBEAT_LOST))

    def wait_for_health(self, count=1):
        return self.notifier.wait_for_versioned_notifications(
            'instance.health', n_events=count, timeout=30.0)

    def assert_told_nothing(self, server):
        """Nothing was told before a fault that is always told."""
        self.libvirt_says(server, libvirt_events.watchdog, WATCHDOG_NONE)
        self.assertEqual(
            ['watchdog_expired'],
            [told['payload']['nova_object.data']['cause']
             for told in self.wait_for_health()])


class TestGuestXML(HealthDriverTestBase):

    def test_opted_in_guest_has_the_channel_and_the_panic_device(self):
        server = self.server(self.flavor(vmhealth__heartbeat='true',
                                         vmhealth__panic_device='yes'))
        self.assertIn('name="%s"' % protocol.CHANNEL_NAME,
                      self.generated_xml(server))
        self.assertIn('<panic model="isa"/>', self.generated_xml(server))

    def test_plain_guest_is_stock_to_the_byte(self):
        server = self.server()
        stock = self.generated_xml(server, stock=True)
        self.assertIn('2026-09-21 14:13:20</nova:creationTime>', stock)
        self.assertEqual(stock, self.generated_xml(server))

    def test_opting_in_changes_nothing_else(self):
        server = self.server(self.flavor(vmhealth__heartbeat='true'))
        ours = self.generated_xml(server).splitlines()
        stock = self.generated_xml(server, stock=True).splitlines()
        added = [line.strip() for line in ours if line not in stock]
        self.assertEqual(1, len([line for line in added
                                 if protocol.CHANNEL_NAME in line
                                 and line.startswith('<target')]))
        self.assertEqual([], [line for line in stock if line not in ours])

    def generated_xml(self, server, stock=False):
        """The XML that Nova makes for a server, by our class or its own."""
        context = nova_context.get_admin_context()
        instance = objects.Instance.get_by_uuid(context, server['id'])
        self.driver.__class__ = (libvirt_driver.LibvirtDriver if stock
                                 else driver.HealthLibvirtDriver)
        # The XML has the time of its making in it, to the second.
        clock = mock.Mock(wraps=time)
        clock.time.return_value = 1790000000.0
        try:
            with mock.patch.object(virt_driver, 'time', clock):
                return self.driver._get_guest_xml(
                    context, instance, [], blockinfo.get_disk_info(
                        'kvm', instance, instance.image_meta),
                    instance.image_meta)
        finally:
            self.driver.__class__ = driver.HealthLibvirtDriver


class TestOptingIn(HealthDriverTestBase):

    def assert_refused(self, key, value):
        flavor_id = self.flavor()
        response = self.admin_api.api_post(
            '/flavors/%s/os-extra_specs' % flavor_id,
            {'extra_specs': {key: value}}, check_response_status=[400])
        self.assertIn(key, response.body['badRequest']['message'])

    def test_api_refuses_a_bad_value_by_its_key(self):
        self.assert_refused('vmhealth:interval_ms', 'abc')
        self.assert_refused('vmhealth:heartbeat', 'perhaps')
        self.assert_refused('vmhealth:misses', '0')
        self.assert_refused('vmhealth:events', 'io_error,nonsense')

    def test_api_refuses_an_unknown_key(self):
        self.assert_refused('vmhealth:intervall_ms', '100')

    def test_bad_image_property_fails_the_spawn_by_its_name(self):
        image = self.glance.create(None, {
            'name': 'bad', 'status': 'active', 'container_format': 'raw',
            'disk_format': 'raw', 'size': 1, 'min_disk': 0, 'min_ram': 0,
            'properties': {'hw_vmhealth_interval_ms': 'abc'}})
        server = self.server(image_uuid=image['id'], expected_state='ERROR')
        self.assertIn('hw_vmhealth_interval_ms', server['fault']['message'])

    def test_compute_node_has_the_trait(self):
        traits = self._get_provider_traits(self.compute_rp_uuids['compute1'])
        self.assertIn(driver.TRAIT, traits)


class TestUnplanned(HealthDriverTestBase):

    GRACE_S = 0.0

    def test_a_stop_behind_novas_back_is_a_fault(self):
        server = self.server()
        self.libvirt_says(server, libvirt_events.lifecycle, STOPPED, DESTROYED)
        (told,) = self.wait_for_health()
        self.assertEqual('stopped_unexpectedly',
                         told['payload']['nova_object.data']['cause'])


class TestEvents(HealthDriverTestBase):

    def test_watchdog_reaches_the_notifier_with_the_instances_project(self):
        server = self.server()
        self.libvirt_says(server, libvirt_events.watchdog, WATCHDOG_NONE)
        (told,) = self.wait_for_health()
        payload = told['payload']
        self.assertEqual('InstanceHealthPayload', payload['nova_object.name'])
        data = payload['nova_object.data']
        self.assertEqual(server['id'], data['uuid'])
        self.assertEqual(server['tenant_id'], data['tenant_id'])
        self.assertEqual('watchdog_expired', data['cause'])
        self.assertEqual('raised', data['transition'])
        self.assertEqual('compute1', data['host'])
        self.assertEqual('nova-compute:compute1', told['publisher_id'])

    def test_novas_own_stop_is_no_fault(self):
        server = self.server()
        self.api.post_server_action(server['id'], {'os-stop': None})
        self.libvirt_says(server, libvirt_events.lifecycle, STOPPED, DESTROYED)
        self._wait_for_state_change(server, 'SHUTOFF')
        self.assert_told_nothing(server)

    def test_deleting_a_server_tells_nothing(self):
        server = self.server()
        self._delete_server(server)
        self.libvirt_says(server, libvirt_events.lifecycle, STOPPED, DESTROYED)
        self.assert_told_nothing(server)


class TestActions(HealthDriverTestBase):

    GRACE_S = 0.0
    OPTIONS = types.MappingProxyType(
        {'allowed_actions': ['reset'], 'action_delay_s': 0.0,
         'mass_loss_guests': 0})

    def lose(self, action):
        """Tell of a guest that hangs; the details of what is told then."""
        server = self.server(self.flavor(vmhealth__heartbeat='true',
                                         vmhealth__action=action))
        self.libvirt_says(server, libvirt_events.lifecycle, STARTED, BOOTED)
        # Its session, which nobody answers, would take its time.
        with mock.patch.object(steering.Steering, 'is_lost',
                               return_value=True):
            self.heartbeat_is_lost(server)
            told = self.wait_for_health(1 if action != 'reset' else 2)
        return [each['payload']['nova_object.data'] for each in told]

    def test_a_lost_guest_is_reset_and_that_is_told(self):
        with mock.patch('nova.tests.fixtures.libvirt.Domain.reset') as reset:
            raised, updated = self.lose('reset')
        reset.assert_called_once_with(0)
        self.assertEqual({'action': 'reset', 'action_state': 'pending'},
                         raised['details'])
        self.assertEqual('updated', updated['transition'])
        self.assertEqual({'action': 'reset', 'action_state': 'done'},
                         updated['details'])

    def test_what_the_operator_does_not_allow_is_not_done(self):
        with mock.patch('nova.tests.fixtures.libvirt.Domain.destroy') as stop:
            raised, = self.lose('poweroff')
            stop.assert_not_called()
        self.assertEqual({}, raised['details'])


class TestManyLost(HealthDriverTestBase):

    GRACE_S = 0.0
    OPTIONS = types.MappingProxyType({'mass_loss_guests': 2})

    def test_the_host_is_suspected_and_named(self):
        for server in (self.server(), self.server()):
            self.heartbeat_is_lost(server)
        host_told, = self.notifier.wait_for_versioned_notifications(
            'host.health', timeout=30.0)
        _, last, *_ = self.wait_for_health(2)
        host_data = host_told['payload']['nova_object.data']
        self.assertEqual('many_guests_lost', host_data['cause'])
        self.assertEqual('compute1', host_data['host'])
        self.assertEqual(
            host_data['event_id'],
            last['payload']['nova_object.data']['details']['host_event'])


class TestNotices(HealthDriverTestBase):

    OPTIONS = types.MappingProxyType({'notice_timeout_ms': 5000})

    def test_the_guest_is_told_before_novas_reboot(self):
        server = self.server(self.flavor(vmhealth__heartbeat='true'))
        monitor = self.driver.vmhealth_monitor
        self.libvirt_says(server, libvirt_events.lifecycle, STARTED, BOOTED)
        with mock.patch.object(monitor._steering, 'is_running',
                               return_value=True), \
                mock.patch.object(monitor._heartbeat, 'notice') as notice:
            notice.return_value.acked = True
            self._reboot_server(server, hard=True)
        notice.assert_called_once_with(server['id'], 'reboot', 5000)


class TestSecondWay(HealthDriverTestBase):

    def test_a_socket_out_of_reach_leads_to_libvirts_stream(self):
        server = self.server()
        monitor = self.driver.vmhealth_monitor
        asked, done = [], threading.Event()

        def open_stream(uuid):
            asked.append(uuid)
            done.set()
            raise OSError('there is none here')
        with mock.patch.object(monitor._trouble, '_open_stream', open_stream):
            monitor._ask_for_second_way(server['id'], '/path', 'EACCES')
            self.assertTrue(done.wait(30))
        self.assertEqual([server['id']], asked)


class TestMetrics(HealthDriverTestBase):

    OPTIONS = types.MappingProxyType({'metrics_port': 9177})

    def setUp(self):
        # Whatever port is free: ours may be somebody's on this machine.
        serve = prometheus_client.start_http_server
        self.servers = {}

        def serve_anywhere(port, address, registry):
            started = serve(0, address, registry)
            self.servers[port] = started[0].server_port
            return started

        patcher = mock.patch.object(
            prometheus_client, 'start_http_server', serve_anywhere)
        patcher.start()
        self.addCleanup(patcher.stop)
        super().setUp()

    def test_served_while_the_service_is_up(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = 'http://127.0.0.1:%d/metrics' % self.servers[9177]
        with opener.open(url) as answer:
            self.assertIn(b'vmhealth_guests_watched 0.0\n', answer.read())
        self.driver.vmhealth_monitor.stop()
        self.assertRaises(OSError, opener.open, url)


class TestService(HealthDriverTestBase):

    # Nova's own tests make calls of all casts.
    CAST_AS_CALL = False
    OPTIONS = types.MappingProxyType({'beacon_interval_ms': 500})

    def test_stopping_the_service_leaves_no_thread(self):
        ours = [thread for thread in {
                    *threading.enumerate(),
                    *native.original('threading').enumerate()}
                if thread.name.startswith('vmhealth-')]
        self.assertEqual(
            ['vmhealth-beacon', 'vmhealth-conductor', 'vmhealth-heartbeat',
             'vmhealth-libvirt', 'vmhealth-looks', 'vmhealth-openings',
             'vmhealth-record', 'vmhealth-sender', 'vmhealth-states',
             'vmhealth-worker'],
            # This one ends by itself, sooner or later.
            sorted({thread.name for thread in ours} - {'vmhealth-answers'}))
        self.computes['compute1'].stop()
        for thread in ours:
            # Nova's tests give its own shutdown no time: it goes on behind.
            thread.join(30)
        self.assertEqual([], [t.name for t in ours if t.is_alive()])


class TestUnversioned(HealthDriverTestBase):

    NOTIFICATION_FORMAT = 'unversioned'

    def test_says_loudly_which_option_keeps_notifications_in(self):
        self.assertIn('No instance.health notification will be sent: '
                      '[notifications]notification_format',
                      self.stdlog.logger.output)
