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



"""Commands of ``driver_host.py``: what Nova does to an instance in its life.

Each calls the driver's methods as nova-compute's manager does, in its order.
"""

import os
import time

import nova.conf
from nova.network import model

CONF = nova.conf.CONF
VOLUME = '5f0c7b46-6f4e-4f3b-9d1c-2b8f0a3c9e71'
MAC = '52:54:00:12:34:56'


class _Images:
    """Glance: takes a snapshot, and its time for that.

    :param path: the upload lasts until there is such a file; None for none
    """

    def __init__(self, path):
        self._path = path

    def get(self, context, image_id):
        return {'name': 'snapshot'}

    def update(self, context, image_id, metadata, image_file=None,
               **_options):
        if image_file is not None and self._path:
            open(self._path + '.begun', 'w').close()
            while not os.path.exists(self._path):
                time.sleep(0.05)


def _volume(path):
    """A volume that is a file, as one of a cluster file system is."""
    return {'driver_volume_type': 'gpfs', 'serial': VOLUME,
            'data': {'device_path': path, 'volume_id': VOLUME,
                     'access_mode': 'rw', 'qos_specs': None}}


def _interface():
    network = model.Network(id=VOLUME, bridge='none', label='net',
                            subnets=[], mtu=1500)
    return model.VIF(id=VOLUME, address=MAC, network=network,
                     type=model.VIF_TYPE_TAP, devname='tapvmhealth0',
                     details={model.VIF_DETAILS_TAP_MAC_ADDRESS: MAC},
                     vnic_type=model.VNIC_TYPE_NORMAL, active=True)


class LifecycleCommands:
    """A part of DriverHost."""

    def do_soft_reboot(self, uuid, seconds):
        """Ask the guest to shut down, for so long; then reboot it hard."""
        CONF.set_override('wait_soft_reboot_seconds', seconds, 'libvirt')
        self._call('reboot', uuid, reboot_type='SOFT')

    def do_rescue(self, uuid):
        self._instance(uuid).vm_state = 'rescued'
        self._call('rescue', uuid, image_meta=self._metas[uuid],
                   rescue_password='')

    def do_unrescue(self, uuid):
        self._call('unrescue', uuid)
        self._instance(uuid).vm_state = 'active'

    def do_crash_dump(self, uuid):
        self._call('trigger_crash_dump', uuid)

    def do_snapshot(self, uuid, live=True, until=None):
        """Take a snapshot; its upload lasts until there is such a file."""
        self._driver._image_api = _Images(until)
        CONF.set_override('disable_libvirt_livesnapshot', not live,
                          'workarounds')
        self._call('snapshot', uuid, image_id=uuid,
                   update_task_state=lambda **_states: None)

    def do_quiesce(self, uuid):
        self._call('quiesce', uuid, image_meta=self._instance(uuid).image_meta)

    def do_unquiesce(self, uuid):
        self._call('unquiesce', uuid,
                   image_meta=self._instance(uuid).image_meta)

    def _volume_file(self, uuid, number):
        path = os.path.join(self._folder(uuid), 'volume%d' % number)
        with open(path, 'wb') as f:
            f.truncate(1 << 20)
        return path

    def do_volumes(self, uuid):
        """Attach a volume, put another in its place, extend and detach."""
        first, second = (_volume(self._volume_file(uuid, number))
                         for number in (1, 2))
        self._call('attach_volume', uuid, connection_info=first,
                   mountpoint='/dev/vdb', disk_bus='virtio')
        self._call('swap_volume', uuid, old_connection_info=first,
                   new_connection_info=second, mountpoint='/dev/vdb',
                   resize_to=0)
        # a file is extended by whoever keeps it
        self._driver._extend_volume = lambda *_of_it: 2 << 20
        self._call('extend_volume', uuid, connection_info=second,
                   requested_size=2 << 20)
        self._call('detach_volume', uuid, connection_info=second,
                   mountpoint='/dev/vdb')

    def do_interface(self, uuid):
        """Attach a network interface, and detach it."""
        vif = _interface()
        self._call('attach_interface', uuid, vif=vif,
                   image_meta=self._instance(uuid).image_meta)
        self._call('detach_interface', uuid, vif=vif)

    def do_rebuild(self, uuid):
        """Destroy and spawn: libvirt's driver has no rebuild of its own."""
        self._call('destroy', uuid, destroy_disks=False)
        self._spawn(uuid)

    def do_shelve(self, uuid):
        """Power off, take a snapshot, and take it off this host."""
        self._call('power_off', uuid)
        self.do_snapshot(uuid)
        self._call('power_off', uuid)
        self._call('destroy', uuid, destroy_disks=False)
        instance = self._instance(uuid)
        instance.host = instance.node = None
        instance.vm_state = 'shelved_offloaded'

    def do_unshelve(self, uuid):
        instance = self._instance(uuid)
        instance.host = instance.node = CONF.host
        instance.vm_state = 'active'
        self._spawn(uuid)

    def do_destroy_evacuated(self, uuid):
        """What a host does at its start with those that left it."""
        instance = self._instance(uuid)
        instance.host = instance.node = 'elsewhere'
        self._call('destroy', uuid, destroy_disks=False)

    def _spawn(self, uuid):
        self._call('spawn', uuid, injected_files=[],
                   image_meta=self._metas[uuid], admin_password=None,
                   allocations={})
