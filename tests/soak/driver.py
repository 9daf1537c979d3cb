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


"""The process that holds the driver: all of it but what needs a hypervisor.

    python -m tests.soak.driver --config-file FILE --folder FOLDER

One JSON object a line on stdin is a command, one a line on stdout its answer.
"""

import argparse
import contextlib
import json
import os

from tests import concurrency

concurrency.settle()

import nova.conf  # noqa: E402
from nova import exception as nova_exception  # noqa: E402
from nova.virt import virtapi  # noqa: E402

from nova_vmhealth.virt import channel  # noqa: E402
from nova_vmhealth.virt import driver  # noqa: E402
from tests import commands  # noqa: E402
from tests.integration import nova_objects  # noqa: E402
from tests.soak import hypervisor  # noqa: E402
from tests.soak import libvirt_stand_in  # noqa: E402

CONF = nova.conf.CONF
MEMORY_MB = 64


class Driver(driver.HealthLibvirtDriver):
    """The driver; its libvirt and nova-conductor are stand-ins."""

    def __init__(self, folder):
        super().__init__(virtapi.VirtAPI())
        self._host.__class__ = libvirt_stand_in.StandInHost
        self._host.folder = folder
        channel._SOCKET_PATH = os.path.join(folder, hypervisor.SOCKETS)
        self._conductor = nova_objects.StandInConductor()
        self._conductor.install()
        with open(os.path.join(folder, hypervisor.GUESTS_FILE)) as f:
            for each in json.load(f):
                self._make(each)
        # as init_host() does, without what it wants of a real hypervisor
        self.register_event_listener(lambda _event: None)
        self.vmhealth_monitor = self._new_monitor(CONF.host)
        self._host.initialize()
        # libvirtd may be away just now
        with contextlib.suppress(nova_exception.HypervisorUnavailable):
            self._host.get_connection()
        self.vmhealth_monitor.start()

    def _make(self, guest):
        instance = nova_objects.instance(
            CONF.host, guest['number'], guest['extra_specs'], {}, MEMORY_MB)
        instance.uuid = guest['uuid']
        instance.vm_state = guest['vm_state']
        instance.obj_reset_changes(recursive=True)
        self._conductor.instances[instance.uuid] = instance

    def do_begin(self, uuid, operation):
        """Nova begins with what changes an instance."""
        instance = self._conductor.instances[uuid]
        instance.task_state = operation
        self.vmhealth_monitor.begin(instance, operation)

    def do_end(self, uuid, operation, vm_state):
        """Nova is done with it, and writes down what came of it."""
        instance = self._conductor.instances[uuid]
        self.vmhealth_monitor.end(instance, operation, True)
        instance.task_state = None
        instance.vm_state = vm_state

    def do_statistics(self):
        return self.vmhealth_monitor.statistics()

    def do_quit(self):
        self.vmhealth_monitor.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--config-file', required=True)
    parser.add_argument('--folder', required=True)
    args = parser.parse_args()
    answers = nova_objects.begin(args.config_file)
    held = Driver(args.folder)
    print('"ready"', file=answers, flush=True)
    for line in commands.lines():
        command = json.loads(line)
        name = command.pop('do')
        answer = getattr(held, 'do_' + name)(**command)
        print(json.dumps(answer), file=answers, flush=True)
        if name == 'quit':
            break


if __name__ == '__main__':
    main()
