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


"""The driver's process of the benchmark: fires libvirt's callbacks by itself.

A real event's time at the callback cannot be known outside, so the callbacks
that the driver registers with libvirt are called here as libvirt would, from a
native thread, with a stand-in for the domain.
"""

from concurrent import futures
import time

# first: it settles how Nova does threads, before any other part of Nova
from tests.integration import driver_host

from nova import rpc  # noqa: H306

from nova_vmhealth.virt import host as health_host
from nova_vmhealth.virt import libvirt_events
from tests.integration import nova_objects

WATCHDOG_NONE = 0       # virDomainEventWatchdogAction


class _Domain:
    def __init__(self, uuid):
        self._uuid = uuid

    def UUIDString(self):
        return self._uuid


class EventDriver(driver_host.DriverHost):
    """Commands of the benchmark on top of those of the tests."""

    def __init__(self, *args):
        super().__init__(*args)
        self._thread = futures.ThreadPoolExecutor(1)
        self._notifier = rpc.get_versioned_notifier('floor:benchmark')
        self._watchdog = health_host._callback(libvirt_events.watchdog)

    def do_instances(self, count):
        """Make instances that the driver has at hand, as after a spawn."""
        uuids = []
        for number in range(count):
            instance = self._make(number + 1, {}, {}, '')
            self._driver.vmhealth_monitor._cache.put(instance)
            uuids.append(instance.uuid)
        return uuids

    def do_fire(self, uuid):
        """The watchdog of an instance expires."""
        self._thread.submit(self._watchdog, None, _Domain(uuid),
                            WATCHDOG_NONE, self._driver._host).result()

    def do_floor(self, number):
        """One bare notification of eight fields, from such a thread."""
        payload = {'number': number, 'cause': 'watchdog_expired',
                   'uuid': 'a' * 36, 'host': 'vmhealth-test',
                   'health': 'unhealthy', 'severity': 'critical',
                   'transition': 'raised', 'occurred_at': time.time()}
        self._thread.submit(self._notifier.info, nova_objects.context(),
                            'benchmark.floor', payload).result()


if __name__ == '__main__':
    driver_host.main(EventDriver)
