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

"""Fills the lab's cloud; every command is idempotent.

``catalogue``: keystone's endpoints and the service role, before the other
services start. ``content FOLDER``: images and flavors, from the guest's
files. ``wait-compute BEGAN PID [HOST]``: until nova-compute, process PID, has
said that it is up after BEGAN (ISO 8601, or empty). ``enable HOST`` and
``disable HOST``: whether servers may come. ``remove-servers``: all.
"""

import os
import sys
import time

import openstack

PORT = int(os.environ.get('NOVA_VMHEALTH_LAB_PORT', 15000))

ENDPOINTS = (
    ('placement', 'placement', PORT + 1, ''),
    ('glance', 'image', PORT + 2, ''),
    ('neutron', 'network', PORT + 3, ''),
    ('nova', 'compute', PORT + 4, '/v2.1'),
)

KERNEL_COMMAND_LINE = 'console=ttyS0 quiet'

# image name -> which agent its guest runs
IMAGES = {
    'vmhealth-guest': 'python',
    'vmhealth-guest-sh': 'sh',
    'vmhealth-guest-no-agent': 'none',
}

WATCHED = {
    'vmhealth:heartbeat': 'true',
    'vmhealth:panic_device': 'true',
    'hw:watchdog_action': 'none',
}

FLAVORS = {
    'plain': {},
    'vmhealth': WATCHED,
    'vmhealth-fast': {
        **WATCHED,
        'vmhealth:interval_ms': '200',
        'vmhealth:timeout_ms': '200',
        'vmhealth:misses': '2',
    },
}

# MiB. The guest unpacks a Python interpreter into its memory.
GUEST_RAM = 256


def catalogue(cloud):
    identity = cloud.identity
    for name, kind, port, path in ENDPOINTS:
        service = next(identity.services(type=kind), None)
        service = service or identity.create_service(name=name, type=kind)
        have = {e.interface for e in identity.endpoints(
            service_id=service.id)}
        for interface in {'public', 'internal', 'admin'} - have:
            identity.create_endpoint(
                service_id=service.id, interface=interface,
                url='http://127.0.0.1:%d%s' % (port, path),
                region_id='RegionOne')
    identity.assign_project_role_to_user(
        identity.find_project('admin'), identity.find_user('admin'),
        identity.find_role('service'))


def content(cloud, folder):
    kernel = _image(cloud, folder, 'vmhealth-kernel', 'vmlinuz', 'aki')
    ramdisk = _image(cloud, folder, 'vmhealth-ramdisk', 'initrd.gz', 'ari')
    for name, agent in IMAGES.items():
        _image(cloud, folder, name, 'disk.raw', 'ami',
               kernel_id=kernel.id, ramdisk_id=ramdisk.id,
               os_command_line='%s vmh.agent=%s' % (
                   KERNEL_COMMAND_LINE, agent))
    for name, extra_specs in FLAVORS.items():
        _flavor(cloud, name, extra_specs)


def _image(cloud, folder, name, file_name, kind, **properties):
    """Upload a file, in the place of an older image of that name."""
    for old in cloud.image.images(name=name):
        cloud.image.delete_image(old)
    return cloud.create_image(
        name, filename=os.path.join(folder, file_name), disk_format=kind,
        container_format=kind, visibility='public', wait=True, **properties)


def _flavor(cloud, name, extra_specs):
    old = cloud.compute.find_flavor(name)
    if old is not None:
        cloud.compute.delete_flavor(old)
    # No size of its own for the disk: the instances' file system is less
    # than the one GiB that a flavor's disk has at least.
    flavor = cloud.compute.create_flavor(
        name=name, ram=GUEST_RAM, vcpus=1, disk=0)
    if extra_specs:
        cloud.compute.create_flavor_extra_specs(flavor, extra_specs)


def wait_compute(cloud, began, pid, host='', patience_s=120):
    """Wait for a sign of life of this very nova-compute."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if not os.path.exists('/proc/' + pid):
            sys.exit('nova-compute has ended')
        for service in _computes(cloud, host):
            seen = service.updated_at or ''
            # Nova has no other word for one that an inspector has forced down.
            is_up = service.state == 'up' or service.is_forced_down
            if is_up and seen and seen > began:
                return
        time.sleep(0.5)
    sys.exit('nova-compute does not report in %d s' % patience_s)


def _computes(cloud, host):
    """Give the services of a host; by default the one with nova-compute."""
    return [service for service in cloud.compute.services(
                binary='nova-compute')
            if (service.host == host if host
                else service.host != os.environ['HOST_2'])]


def enable(cloud, host):
    for service in _computes(cloud, host):
        cloud.compute.enable_service(service)


def disable(cloud, host):
    for service in _computes(cloud, host):
        cloud.compute.disable_service(
            service, disabled_reason='tools/lab/second down')


def remove_servers(cloud):
    servers = list(cloud.compute.servers())
    for server in servers:
        cloud.compute.delete_server(server)
    for server in servers:
        cloud.compute.wait_for_delete(server, interval=0.5, wait=60)


COMMANDS = {
    'catalogue': catalogue,
    'content': content,
    'wait-compute': wait_compute,
    'enable': enable,
    'disable': disable,
    'remove-servers': remove_servers,
}

if __name__ == '__main__':
    COMMANDS[sys.argv[1]](openstack.connect(), *sys.argv[2:])
