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

"""The pvpanic device, without which a guest's panic is invisible.

Nova up to 34 has no class for libvirt's <panic> element.
"""

from nova.objects import fields
from nova.virt.libvirt import config as vconfig

# Only what libvirt offers for the architecture: the ISA device needs an ISA
# bus, pvpanic-pci came with libvirt 9.1, and POWER and s390x bring their own.
_MODELS = {
    fields.Architecture.I686: 'isa',
    fields.Architecture.X86_64: 'isa',
    fields.Architecture.AARCH64: 'pvpanic',
    fields.Architecture.PPC64: 'pseries',
    fields.Architecture.PPC64LE: 'pseries',
    fields.Architecture.S390X: 's390',
}


class LibvirtConfigGuestPanic(vconfig.LibvirtConfigGuestDevice):
    """libvirt's <panic model='...'/> device."""

    def __init__(self, model=None, **kwargs):
        super().__init__(root_name='panic', **kwargs)
        self.model = model

    def format_dom(self):
        """Return the element as nova.virt.libvirt.config expects it."""
        dev = super().format_dom()
        if self.model:
            dev.set('model', self.model)
        return dev


def build(architecture):
    """Build the panic device for a guest.

    :param architecture: the guest's, one of nova.objects.fields.Architecture;
        for one that is not known here libvirt chooses the model
    """
    return LibvirtConfigGuestPanic(_MODELS.get(architecture))
