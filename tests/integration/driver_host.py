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


"""A process that holds the driver as nova-compute does, for the tests.

It runs in the mount namespace of the private libvirtd, where the heartbeat's
sockets are. One JSON object a line on stdin is a command, one a line on
stdout is its answer: ``{"do": "pause", "uuid": "..."}`` calls
:meth:`DriverHost.do_pause`.
"""

import argparse
import contextlib
import copy
import glob
import inspect
import json
import os
import shutil
import socket
import subprocess
import time
import traceback
from unittest import mock

from tests import concurrency

concurrency.settle()

from nova.compute import provider_tree  # noqa: E402
import nova.conf  # noqa: E402
from nova import objects  # noqa: E402
import nova.privsep  # noqa: E402
from nova.virt import driver as virt_driver  # noqa: E402
from nova.virt import images  # noqa: E402
from nova.virt.libvirt import blockinfo  # noqa: E402
from nova.virt.libvirt import driver as stock  # noqa: E402
from nova.virt import virtapi  # noqa: E402
from oslo_utils import importutils  # noqa: E402
from oslo_utils import uuidutils  # noqa: E402

from nova_vmhealth.virt import reporting  # noqa: E402
from tests import commands  # noqa: E402
from tests.integration import lifecycle_commands  # noqa: E402
from tests.integration import nova_objects  # noqa: E402

CONF = nova.conf.CONF
HEALTH_DRIVER = 'nova_vmhealth.virt.driver.HealthLibvirtDriver'
MEMORY_MB = 256
# Room for the guest's kernel, initial ramdisk and a few MiB of disk.
FOLDER_SIZE = '96m'


class _NoEvents(virtapi.VirtAPI):
    """The driver waits for events of networks only, and there are none."""

    @contextlib.contextmanager
    def wait_for_instance_event(self, *args, **kwargs):
        yield


class DriverHost(lifecycle_commands.LifecycleCommands):
    """The driver, its instances, and one method for each command."""

    def __init__(self, driver_class, guest_folder):
        self._guest_folder = guest_folder
        self._conductor = nova_objects.StandInConductor()
        self._conductor.install()
        self._images = {}
        self._metas = {}
        self._lifecycle = []
        self._read_back()
        # the tests wait for each time that a heartbeat is established
        reporting.ESTABLISHED_EVERY_S = 0.0
        images.fetch = self._fetch
        images.fetch_to_raw = self._fetch
        self._driver = importutils.import_class(driver_class)(_NoEvents())
        self._driver.init_host(CONF.host)
        self._driver.register_event_listener(self._on_event)

    def _fetch(self, context, image_href, path, trusted_certs=None):
        shutil.copyfile(
            os.path.join(self._guest_folder, self._images[image_href]), path)

    def _on_event(self, event):
        self._lifecycle.append([event.uuid, event.get_name()])

    def _instance(self, uuid):
        return self._conductor.instances[uuid]

    def _folder(self, uuid):
        return os.path.join(CONF.instances_path, uuid)

    # What Nova's database is to nova-compute, which may be killed.

    def _record(self, uuid):
        return self._folder(uuid) + '.json'

    def _write_down(self, instance):
        with open(self._record(instance.uuid), 'w') as f:
            json.dump([each.obj_to_primitive() for each in
                       (instance, self._metas[instance.uuid])], f)

    def _read_back(self):
        for name in glob.glob(self._record('*')):
            with open(name) as f:
                instance, meta = (
                    objects.base.NovaObject.obj_from_primitive(
                        each, nova_objects.context()) for each in json.load(f))
            self._know(instance, meta)

    def _know(self, instance, meta):
        self._images.update({instance.image_ref: 'disk.raw',
                             instance.kernel_id: 'vmlinuz',
                             instance.ramdisk_id: 'initrd.gz'})
        self._conductor.instances[instance.uuid] = instance
        self._metas[instance.uuid] = meta

    def _call(self, method, uuid, **kwargs):
        """Call a driver's method with what this release of Nova wants."""
        supply = {'context': nova_objects.context(),
                  'instance': self._instance(uuid),
                  'network_info': [], 'block_device_info': None,
                  'share_info': objects.ShareMappingList(objects=[])}
        supply.update(kwargs)
        bound = getattr(self._driver, method)
        wanted = inspect.signature(bound).parameters
        return bound(**{k: v for k, v in supply.items() if k in wanted})

    def _make(self, number, extra_specs, image_properties, command_line):
        instance = nova_objects.instance(
            CONF.host, number, extra_specs, image_properties, MEMORY_MB)
        # Nova's ImageMeta drops the properties that it does not know, so
        # those of ours travel in system_metadata alone
        known = {k: v for k, v in image_properties.items()
                 if not k.startswith('hw_vmhealth_')}
        self._know(instance, nova_objects.image_meta(
            instance, command_line, known))
        instance.system_metadata.update(
            {'image_os_command_line': command_line})
        return instance

    def do_spawn(self, number, command_line, extra_specs=None,
                 image_properties=None):
        """Boot one guest in a folder of limited size; where its console is.

        The folder is mounted in this namespace alone and goes with it. The
        console's log lies outside, or a full disk would silence the guest.
        """
        instance = self._make(number, extra_specs or {},
                              image_properties or {}, command_line)
        folder = self._folder(instance.uuid)
        log = folder + '.console'
        os.makedirs(folder)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'mode=755,size='
                        + FOLDER_SIZE, 'vmhealth-test', folder], check=True)
        open(log, 'w').close()
        os.symlink(log, os.path.join(folder, 'console.log'))
        self._write_down(instance)
        try:
            self._spawn(instance.uuid)
        except BaseException:
            self.do_forget(instance.uuid)
            raise
        return {'uuid': instance.uuid, 'name': instance.name,
                'console_log': log}

    def do_forget(self, uuid):
        """Take the instance's folder away."""
        folder = self._folder(uuid)
        subprocess.run(['umount', '-l', folder], check=True)
        shutil.rmtree(folder)
        os.unlink(self._record(uuid))
        del self._conductor.instances[uuid]

    def do_destroy(self, uuid):
        self._call('destroy', uuid, destroy_disks=False)
        self.do_forget(uuid)

    def do_pause(self, uuid):
        self._call('pause', uuid)
        self._instance(uuid).vm_state = 'paused'

    def do_unpause(self, uuid):
        self._call('unpause', uuid)
        self._instance(uuid).vm_state = 'active'

    def do_suspend(self, uuid):
        self._call('suspend', uuid)
        self._instance(uuid).vm_state = 'suspended'

    def do_resume(self, uuid):
        self._call('resume', uuid)
        self._instance(uuid).vm_state = 'active'

    def do_reboot(self, uuid):
        self._call('reboot', uuid, reboot_type='HARD')

    def do_power_off(self, uuid):
        self._call('power_off', uuid)
        self._instance(uuid).vm_state = 'stopped'

    def do_power_on(self, uuid):
        self._call('power_on', uuid)
        self._instance(uuid).vm_state = 'active'

    def do_fill(self, uuid):
        """Leave the guest's disk no room to grow."""
        with open(os.path.join(self._folder(uuid), 'ballast'), 'wb') as f:
            try:
                while True:
                    f.write(bytes(65536))
                    f.flush()
            except OSError:
                pass     # full, as wanted

    def do_free(self, uuid):
        os.unlink(os.path.join(self._folder(uuid), 'ballast'))

    def do_diagnostics(self, uuid):
        return self._call('get_diagnostics', uuid)

    def do_lifecycle(self, uuid):
        """Names of the lifecycle events that reached Nova's listener."""
        return [name for known, name in self._lifecycle if known == uuid]

    def do_conductor_calls(self):
        return list(self._conductor.calls)

    def do_statistics(self):
        return self._driver.vmhealth_monitor.statistics()

    def do_unwatch(self, uuid):
        """Leave the guest's channel to somebody else."""
        self._driver.vmhealth_monitor._heartbeat.unwatch(uuid)

    def do_drop_channel(self, uuid):
        """End the connection to the guest's channel, as QEMU might."""
        watched = self._driver.vmhealth_monitor._heartbeat._watched[uuid]
        watched.socket.shutdown(socket.SHUT_RDWR)

    def do_resident_kib(self):
        with open('/proc/self/status') as f:
            return next(int(line.split()[1]) for line in f
                        if line.startswith('VmRSS:'))

    def do_traits(self):
        """Traits of the compute node's provider, as Nova reports them."""
        tree = provider_tree.ProviderTree()
        tree.new_root(CONF.host, uuidutils.generate_uuid())
        self._driver.update_provider_tree(tree, CONF.host)
        return sorted(tree.data(CONF.host).traits)

    def do_both_xml(self, number, extra_specs=None, image_properties=None):
        """One instance's XML by stock Nova and by the driver under test."""
        instance = self._make(number, extra_specs or {},
                              image_properties or {}, 'quiet')
        meta = self._metas[instance.uuid]
        plain = stock.LibvirtDriver(_NoEvents())
        plain.init_host(CONF.host)
        # the XML says when it was made, to the second
        clock = mock.Mock(wraps=time)
        clock.time.return_value = time.time()
        result = {}
        for name, driver in (('stock', plain), ('ours', self._driver)):
            # a copy for each: Nova notes in the instance what it chose
            own = copy.deepcopy(instance)
            disk_info = blockinfo.get_disk_info('qemu', own, meta)
            with mock.patch.object(virt_driver, 'time', clock):
                result[name] = driver._get_guest_xml(
                    nova_objects.context(), own, [], disk_info, meta)
        del self._conductor.instances[instance.uuid]
        return result

    def do_quit(self):
        """What nova-compute does when it stops."""
        self._driver.cleanup_host(CONF.host)

    def answer(self, command):
        """Do one command; an error is an answer too, named with its text."""
        method = getattr(self, 'do_' + command.pop('do'))
        try:
            return {'result': method(**command)}
        # the tests ask for errors of every class by name
        except Exception as error:
            traceback.print_exc()
            return {'error': type(error).__name__, 'message': str(error)}


def main(host_class=DriverHost):
    parser = argparse.ArgumentParser()
    parser.add_argument('--config-file', required=True)
    parser.add_argument('--guest', required=True)
    parser.add_argument('--driver', default=HEALTH_DRIVER)
    args = parser.parse_args()
    answers = nova_objects.begin(args.config_file)
    nova.conf.neutron.register_dynamic_opts(CONF)
    # root already: no helper process, which would ask for sudo
    nova.privsep.sys_admin_pctxt.set_client_mode(False)
    host = host_class(args.driver, args.guest)
    print(json.dumps({'result': 'ready'}), file=answers, flush=True)
    for line in commands.lines():
        command = json.loads(line)
        last = command['do'] == 'quit'
        print(json.dumps(host.answer(command)), file=answers, flush=True)
        if last:
            break


if __name__ == '__main__':
    main()
