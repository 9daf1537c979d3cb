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


"""What Nova expects against what libvirt has, with Nova's own database."""

import time
import types
from unittest import mock

from nova.tests.fixtures import libvirt as fakelibvirt

from tests.functional import test_driver

LOOKS = 3
NO_REASON = 0


class TestReconciliation(test_driver.HealthDriverTestBase):

    GRACE_S = 0.0
    OPTIONS = types.MappingProxyType({'reconcile_interval_s': 1.0})

    def setUp(self):
        # Nova's fixture lacks the call.
        self.looks = 0
        patched = mock.patch.object(
            fakelibvirt.Connection, 'getAllDomainStats',
            lambda _connection, *groups: self.states(*groups), create=True)
        patched.start()
        self.addCleanup(patched.stop)
        super().setUp()

    def states(self, _groups, _flags):
        self.looks += 1
        return [(domain, {'state.state': domain.info()[0],
                          'state.reason': NO_REASON})
                for domain in self.domains()]

    def domains(self):
        return self.driver._host.get_connection().listAllDomains(
            fakelibvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
            | fakelibvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE)

    def wait_for_looks(self):
        enough = self.looks + LOOKS
        end = time.monotonic() + 30
        while self.looks < enough:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)

    def test_a_stop_that_nobody_saw_is_told_once(self):
        server = self.server()
        domain, = self.domains()
        domain._state = fakelibvirt.VIR_DOMAIN_SHUTOFF      # and no event
        (told,) = self.wait_for_health()
        data = told['payload']['nova_object.data']
        self.assertEqual('not_running', data['cause'])
        self.assertEqual('reconciliation', data['details']['found_by'])
        self.wait_for_looks()
        self.assertEqual(1, len(self.wait_for_health()))
        domain._state = fakelibvirt.VIR_DOMAIN_RUNNING
        _, told = self.wait_for_health(2)
        self.assertEqual('cleared',
                         told['payload']['nova_object.data']['transition'])
        self.assertEqual(server['id'], data['uuid'])

    def test_what_nova_stopped_or_deleted_is_not(self):
        stopped, deleted, runs = self.server(), self.server(), self.server()
        self.api.post_server_action(stopped['id'], {'os-stop': None})
        self._wait_for_state_change(stopped, 'SHUTOFF')
        self._delete_server(deleted)
        self.wait_for_looks()
        self.assert_told_nothing(runs)
