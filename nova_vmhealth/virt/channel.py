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

"""The heartbeat's virtio-serial channel in the guest XML, and its path."""

from nova.virt.libvirt import config as vconfig

from nova_vmhealth.core import protocol

# Where libvirt's QEMU driver keeps its channel sockets and may label them;
# Nova puts the QEMU guest agent's there too. An explicit path is kept in the
# migratable XML, libvirt's automatic one is not.
_SOCKET_PATH = '/var/lib/libvirt/qemu/%s.%s.sock'


def socket_path(domain_name):
    """Return the path of the host's end of the channel.

    :param domain_name: the libvirt domain's name (Nova's instance.name)
    """
    return _SOCKET_PATH % (protocol.CHANNEL_NAME, domain_name)


def build(domain_name):
    """Build the channel device of one guest.

    :param domain_name: the libvirt domain's name (Nova's instance.name)
    :returns: nova.virt.libvirt.config.LibvirtConfigGuestChannel
    """
    channel = vconfig.LibvirtConfigGuestChannel()
    channel.type = 'unix'
    channel.target_name = protocol.CHANNEL_NAME
    channel.source_path = socket_path(domain_name)
    return channel
