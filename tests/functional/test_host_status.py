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

"""The host's own faults, with Nova's API, database, placement and RPC."""

import time
import types
from unittest import mock

from nova import rpc
from oslo_messaging._drivers import impl_fake

from nova_vmhealth import rpcapi
from nova_vmhealth.virt import libvirt_events
from tests.functional import test_driver

PAUSE = 1                   # of libvirt's I/O error actions
SUSPENDED, RESUMED = 3, 4
SUSPENDED_IOERROR, UNPAUSED = 2, 0
DISABLED_TRAIT = 'COMPUTE_STATUS_DISABLED'
# A machine that runs many tests at once answers late.
ANSWER_S = 30.0


class HostStatusTestBase(test_driver.HealthDriverTestBase):
    """A host whose service record nova-compute has read."""

    GRACE_S = 0.0
    OPTIONS = types.MappingProxyType(
        {'storage_fault_instances': 2, 'host_fault_quiet_s': 0.0})

    def setUp(self):
        super().setUp()
        self.standing = self.driver.vmhealth_monitor._standing
        # The service is new, and its record was written after its start.
        self.wait_until(lambda: self.standing.status.value == 'UP')

    def wait_until(self, is_so):
        end = time.monotonic() + ANSWER_S
        while not is_so():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

    def service(self):
        service, = self.admin_api.get_services(
            binary='nova-compute', host='compute1')
        return service

    def record(self):
        """(status, reason, forced down) as the API has them."""
        service = self.service()
        return (service['status'], service['disabled_reason'],
                service['forced_down'])

    def host_status(self, server):
        return self.admin_api.get_server(server['id'])['host_status']

    def wait_for_host(self, count=1):
        """The data of so many host.health."""
        return [told['payload']['nova_object.data'] for told in
                self.notifier.wait_for_versioned_notifications(
                    'host.health', n_events=count, timeout=ANSWER_S)]

    def io_error(self, server):
        self.libvirt_says(server, libvirt_events.io_error_reason,
                          '/dev/vg/volume', 'virtio-disk0', PAUSE, 'enospc')

    def traits(self):
        return self._get_provider_traits(self.compute_rp_uuids['compute1'])


class TestHostFault(HostStatusTestBase):

    def test_disables_the_service_tells_each_guest_and_is_undone(self):
        servers = [self.server(), self.server()]
        for server in servers:
            self.io_error(server)
        raised, = self.wait_for_host()
        # Whoever hears of it finds the API say the same.
        self.assertEqual('MAINTENANCE', self.host_status(servers[0]))
        self.assertEqual(
            ('disabled', 'vmhealth: storage_fault (lvm:vg): I/O errors of 2 '
                         'instances', False), self.record())
        self.wait_until(lambda: DISABLED_TRAIT in self.traits())
        self.assertEqual(
            ('raised', 'storage_fault', 'lvm:vg', 'MAINTENANCE', 'disable'),
            (raised['transition'], raised['cause'], raised['subject'],
             raised['status'], raised['action']))
        data = [told['payload']['nova_object.data']
                for told in self.wait_for_health(4)]
        self.assertEqual({server['id'] for server in servers},
                         {each['uuid'] for each in data
                          if each['cause'] == 'host_fault'})
        for each in data[2:]:
            self.assertEqual('storage_fault', each['subject'])
            self.assertEqual('MAINTENANCE', each['host_status'])
            self.assertEqual(raised['event_id'],
                             each['details']['host_event'])

        self.libvirt_says(servers[0], libvirt_events.lifecycle, RESUMED,
                          UNPAUSED)
        _, cleared = self.wait_for_host(2)
        self.assertEqual('UP', self.host_status(servers[0]))
        self.assertEqual(('enabled', None, False), self.record())
        self.assertEqual(('cleared', 'storage_fault', 'UP'),
                         (cleared['transition'], cleared['cause'],
                          cleared['status']))
        self.wait_until(lambda: DISABLED_TRAIT not in self.traits())

    def test_an_operators_disable_survives_it(self):
        servers = [self.server(), self.server()]
        service = self.service()
        self.admin_api.put_service(service['id'], {
            'status': 'disabled', 'disabled_reason': 'new fans'})
        self.wait_until(lambda: self.standing.is_planned(time.time()))
        theirs = ('disabled', 'new fans', False)
        for server in servers:
            self.io_error(server)
        raised, = self.wait_for_host()
        self.assertEqual((True, 'MAINTENANCE'),
                         (raised['suppressed'], raised['status']))
        self.assertEqual(theirs, self.record())
        for server in servers:
            self.libvirt_says(server, libvirt_events.lifecycle, RESUMED,
                              UNPAUSED)
        self.wait_for_host(2)
        self.assertEqual(theirs, self.record())


class TestReported(HostStatusTestBase):

    def test_a_report_from_the_bus_forces_down_until_it_is_cleared(self):
        compute = rpcapi.ComputeAPI(rpc.TRANSPORT)
        shown = compute.report_fault('compute1', 'smoke', True, 'a test',
                                     timeout_s=ANSWER_S)
        self.assertEqual('reported_fault', shown['conditions'][0]['cause'])
        self.wait_for_host()
        self.assertEqual(
            ('disabled', 'vmhealth: reported_fault: smoke', True),
            self.record())
        self.assertEqual('DOWN', compute.show(
            'compute1', timeout_s=ANSWER_S)['status'])
        shown = compute.clear_fault('compute1', 'a test', timeout_s=ANSWER_S)
        self.assertEqual(['reported_fault'], shown['cleared'])
        _, cleared = self.wait_for_host(2)
        self.assertEqual('a test', cleared['details']['cleared_by'])
        self.assertEqual(('enabled', None, False), self.record())


class TestOperator(HostStatusTestBase):

    def test_what_is_told_under_an_operators_disable_is_planned(self):
        server = self.server()
        service = self.service()
        self.admin_api.put_service(service['id'], {
            'status': 'disabled', 'disabled_reason': 'new fans'})
        self.wait_until(lambda: self.standing.is_planned(time.time()))
        self.libvirt_says(server, libvirt_events.watchdog,
                          test_driver.WATCHDOG_NONE)
        told, = self.wait_for_health()
        data = told['payload']['nova_object.data']
        self.assertEqual((True, 'MAINTENANCE'),
                         (data['suppressed'], data['host_status']))
        self.admin_api.put_service(service['id'], {'status': 'enabled'})
        self.wait_until(lambda: not self.standing.is_planned(time.time()))
        self.assertEqual('UP', self.standing.status.value)


class TestDiagnostics(HostStatusTestBase):

    def diagnostics(self, server, microversion):
        self.admin_api.microversion = microversion
        return self.admin_api.get_server_diagnostics(server['id'])

    def ours(self, found):
        return {name: value for name, value in found.items()
                if name.startswith('vmhealth')}

    def test_show_how_an_instance_is(self):
        server = self.server()
        self.libvirt_says(server, libvirt_events.watchdog,
                          test_driver.WATCHDOG_NONE)
        self.wait_for_health()
        found = self.diagnostics(server, '2.1')
        self.assertIn('memory', found)          # libvirt's own are there
        ours = self.ours(found)
        self.assertEqual(
            {'vmhealth_health', 'vmhealth_conditions', 'vmhealth_heartbeat',
             'vmhealth_last_event', 'vmhealth_host_status'}, set(ours))
        self.assertEqual('unhealthy', ours['vmhealth_health'])
        self.assertIn('watchdog_expired', ours['vmhealth_conditions'])
        self.assertIn('1: watchdog_expired raised',
                      ours['vmhealth_last_event'])
        self.assertEqual('not watched', ours['vmhealth_heartbeat'])
        self.assertEqual('UP', ours['vmhealth_host_status'])

    def test_leave_the_standard_form_alone(self):
        server = self.server()
        found = self.diagnostics(server, '2.48')
        self.assertIn('cpu_details', found)
        self.assertEqual({}, self.ours(found))

    def test_do_without_a_worker_that_does_not_answer(self):
        server = self.server()
        self.driver.vmhealth_monitor._worker.call = (
            lambda function, timeout_s: None)
        found = self.diagnostics(server, '2.1')
        self.assertIn('memory', found)
        self.assertEqual({}, self.ours(found))


class TestBeacons(HostStatusTestBase):

    CAST_AS_CALL = False
    OPTIONS = types.MappingProxyType({'beacon_interval_ms': 50})

    def host_beacon(self, ctxt, beacon):
        """What an inspector's endpoint has."""
        self.heard.append(beacon)

    def setUp(self):
        self.heard = []
        # The end of one connection drops the messages of all others.
        patched = mock.patch.object(impl_fake.FakeDriver, 'cleanup')
        patched.start()
        self.addCleanup(patched.stop)
        super().setUp()
        endpoint = types.SimpleNamespace(host_beacon=self.host_beacon)
        server = rpc.get_server(rpcapi.inspector_target('inspector1'),
                                [endpoint])
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)

    def test_say_that_nova_compute_lives_and_that_it_leaves(self):
        self.wait_until(lambda: len(self.heard) >= 3)
        self.assertEqual(
            {('compute1', False, '')},
            {(each['host'], each['leaving'], each['windows'])
             for each in self.heard})
        self.driver.vmhealth_monitor.stop()
        self.wait_until(lambda: any(each['leaving'] for each in self.heard))
        # Each message is taken by a thread of its own, in no order.
        last = max(self.heard, key=lambda each: each['sequence'])
        self.assertTrue(last['leaving'])
