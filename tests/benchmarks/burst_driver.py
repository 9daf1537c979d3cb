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


"""The process of the burst: the driver, and libvirt's event loop gone mad.

The Host is Nova's with our callbacks, and connected to libvirt's own test
driver: the domains are real objects of libvirt's binding, and there is no
QEMU. One thread, as libvirt's would, calls the I/O error callback again and
again; everything behind it is real up to the broker.
"""

import argparse
import itertools
import json
import time

from tests import concurrency

concurrency.settle()

import libvirt  # noqa: E402
import nova.conf  # noqa: E402
from nova.virt import virtapi  # noqa: E402

from nova_vmhealth.virt import collector  # noqa: E402
from nova_vmhealth.virt import driver  # noqa: E402
from nova_vmhealth.virt import host as health_host  # noqa: E402
from nova_vmhealth.virt import libvirt_events  # noqa: E402
from nova_vmhealth.virt import native  # noqa: E402
from tests import commands  # noqa: E402
from tests.integration import nova_objects  # noqa: E402

CONF = nova.conf.CONF
ALIAS = 'virtio-disk0'
REPORT = 2          # virDomainEventIOErrorAction
DRAIN_S = 60
SAMPLE_S = 0.02


class Driver(driver.HealthLibvirtDriver):
    """The driver without what init_host() wants of a real hypervisor."""

    def __init__(self):
        super().__init__(virtapi.VirtAPI())
        self._conductor = nova_objects.StandInConductor()
        self._conductor.install()
        self.vmhealth_monitor = self._new_monitor(CONF.host)
        self._host.initialize()
        self.connection = self._host.get_connection()
        self.vmhealth_monitor.start()
        collector.spare()

    def domains(self, count):
        """Make instances that the driver knows, and their domains."""
        # Not Nova's wrapper, which is no part of a callback.
        connection = libvirt.open('test:///default')
        for number in range(1, count + 1):
            instance = nova_objects.instance(CONF.host, number, {}, {}, 64)
            # as Nova and libvirt would have it, for whoever compares them
            self._conductor.instances[instance.uuid] = instance
            self.vmhealth_monitor._cache.put(instance)
            yield connection.createXML(nova_objects.domain_xml(instance))


class Loop:
    """libvirt's event loop: one call after the other, each timed.

    What C does before each callback is done too: it asks for Python's lock,
    which others may hold. A callback that does nothing takes turns with ours;
    what that takes is the floor.

    :ivar held: seconds that each of our callbacks held the loop
    :ivar inside: that part of them which was spent in the callback
    :ivar floor: seconds that those held it that do nothing
    """

    def __init__(self, host, domains, count):
        # In eventlet mode sleep() would be the greenthreads' own.
        self._time = native.original('time')
        self._threading = native.original('threading')
        self._host = host
        self._domains = domains
        self._count = count
        self._callback = health_host._callback(libvirt_events.io_error_reason)
        self.held = []
        self.inside = []
        self.floor = []
        self.done = False

    def start(self):
        """Begin with it, on a native thread."""
        self._threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        domains = itertools.islice(itertools.cycle(self._domains), self._count)
        for domain in domains:
            waited, inside = self._call(self._callback, domain)
            self.held.append(waited + inside)
            self.inside.append(inside)
            self.floor.append(sum(self._call(_nothing, domain)))
        self.done = True

    def _call(self, callback, domain):
        began = time.perf_counter()
        self._time.sleep(0)     # lets go of Python's lock, and waits for it
        entered = time.perf_counter()
        callback(None, domain, '/disks/0', ALIAS, REPORT, 'eio', self._host)
        return entered - began, time.perf_counter() - entered


def _nothing(_conn, _dom, *_args):
    pass


def resident_kib():
    with open('/proc/self/status') as f:
        return next(int(line.split()[1]) for line in f
                    if line.startswith('VmRSS:'))


def burst(host, count, domains):
    """Let the burst in; what it took, once all of it is sent."""
    monitor = host.vmhealth_monitor
    loop = Loop(host._host, domains, count)
    before = peak = resident_kib()
    began = time.monotonic()
    loop.start()
    while time.monotonic() < began + DRAIN_S:
        peak = max(peak, resident_kib())
        counts = monitor.statistics()
        if loop.done and not (counts['observations_waiting']
                              or counts['notifications_waiting']):
            break
        time.sleep(SAMPLE_S)
    assert loop.done
    return {'held': loop.held, 'inside': loop.inside, 'floor': loop.floor,
            'grown_mib': (peak - before) / 1024,
            'seconds': time.monotonic() - began,
            'dropped': monitor.statistics()['observations_dropped']}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--config-file', required=True)
    parser.add_argument('--instances', type=int, required=True)
    parser.add_argument('--events', type=int, required=True)
    args = parser.parse_args()
    answers = nova_objects.begin(args.config_file)
    host = Driver()
    domains = list(host.domains(args.instances + 1))
    print(json.dumps(domains[0].UUIDString()), file=answers, flush=True)
    for line in commands.lines():
        # One event first: what the first one loads is no part of the burst.
        found = burst(host, args.events, domains[1:]) \
            if line == 'burst\n' else burst(host, 1, domains[:1])
        print(json.dumps(found), file=answers, flush=True)
    host.vmhealth_monitor.stop()


if __name__ == '__main__':
    main()
