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

"""A process that observes until it is killed, and one that begins it anew.

The first has everything loaded and forks the others: each is the driver's
monitor with all that is behind it, connected to libvirt's own test driver, and
takes in one observation after the other. A number on a line of its own in the
file ``acknowledged`` says that this one was written down. ``start`` on stdin
begins with the number after it and is answered by the id of the process.
"""

import argparse
import itertools
import json
import os
import sys
import time

# first: it settles how Nova does threads, before any other part of Nova
from tests.integration import driver_host

import libvirt  # noqa: H306
from nova.virt import virtapi
from oslo_log import log as logging

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.virt import driver
from tests.integration import nova_objects

CONF = driver_host.CONF
INSTANCES = 5
ANSWER_S = 30
# as long as it takes to send one, or the broker would lag ever farther behind
PAUSE_S = 0.003


class Driver(driver.HealthLibvirtDriver):
    """The driver without what init_host() wants of a real hypervisor."""

    def __init__(self, conductor):
        super().__init__(virtapi.VirtAPI())
        # Not Nova's wrapper: they have to be there before the monitor looks.
        self.connection = libvirt.open('test:///default')
        for instance in conductor.instances.values():
            self.connection.createXML(nova_objects.domain_xml(instance))
        self.vmhealth_monitor = self._new_monitor(CONF.host)
        self._host.initialize()
        self._host.get_connection()
        self.vmhealth_monitor.start()


def observation(number, uuids):
    """The fact of a number: each makes one event.

    An error of a disk with a name of its own, and then its end.
    """
    step, which = divmod(number, len(uuids))
    disk, ends = divmod(step, 2)
    return Observation(Kind.RECOVERED if ends else Kind.FAULT, uuids[which],
                       time.time(), Cause.IO_ERROR, 'disk%d' % disk)


def observe(conductor, first, acknowledged):
    """Observe until the process is killed."""
    # With a lock of its own: under eventlet oslo.log's is a byte in a pipe,
    # and who is killed in the middle of a line takes that of all others along.
    logging.setup(CONF, 'nova')
    monitor = Driver(conductor).vmhealth_monitor
    uuids = sorted(conductor.instances)
    for number in itertools.count(first):
        monitor.observe(observation(number, uuids))
        # What came before this call is on disk with it.
        if monitor._worker.call(lambda: True, ANSWER_S):
            os.write(acknowledged, b'%d\n' % number)
        time.sleep(PAUSE_S)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--config-file', required=True)
    parser.add_argument('--acknowledged', required=True)
    args = parser.parse_args()
    answers = nova_objects.begin(args.config_file)
    conductor = nova_objects.StandInConductor()
    for number in range(1, INSTANCES + 1):
        instance = nova_objects.instance(CONF.host, number, {}, {}, 64)
        conductor.instances[instance.uuid] = instance
    conductor.install()
    acknowledged = os.open(args.acknowledged,
                           os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    print(json.dumps(sorted(conductor.instances)), file=answers, flush=True)
    for line in sys.stdin:
        command, *number = line.split()
        # What was forked is killed: no thread runs here, and none is missed.
        pid = os.fork() if command == 'start' else _end(int(number[0]))
        if not pid and command == 'start':
            observe(conductor, int(number[0]), acknowledged)
        print(json.dumps(pid), file=answers, flush=True)


def _end(pid):
    """Kill one, and wait until it is gone."""
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return 0


if __name__ == '__main__':
    main()
