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

"""Makes ``nova.virt.vmhealth`` importable, wherever Nova is installed.

Nova imports ``'nova.virt.' + compute_driver`` and extends no path, so that
``compute_driver = vmhealth.HealthLibvirtDriver`` needs a module of that name.
A file of ours in the folder nova/virt would be found only where Nova lies in
the same site-packages. The .pth file beside this package calls
:func:`install` at the start of every Python interpreter instead.

Nothing here may import Nova, or anything that costs time, before somebody asks
for the driver: nova-compute patches the standard library first of all.
"""

import sys

MODULE = 'nova.virt.vmhealth'


class DriverLoader:
    """Fills the module with the one name that Nova looks up in it."""

    @staticmethod
    def create_module(spec):
        """Return None: Python's own kind of module will do."""

    @staticmethod
    def exec_module(module):
        """Import the driver, and all of Nova that it needs, into ``module``.

        :param module: the new module ``nova.virt.vmhealth``
        :raises ImportError: where Nova or libvirt is missing
        """
        from nova_vmhealth.virt import driver

        module.HealthLibvirtDriver = driver.HealthLibvirtDriver


class DriverFinder:
    """A finder for sys.meta_path that answers for one module only."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Return a spec for ``nova.virt.vmhealth``, None for all else."""
        if name != MODULE:
            return None
        from importlib import machinery

        return machinery.ModuleSpec(name, DriverLoader, origin=__file__)


def install():
    """Add the finder after all others, once."""
    if DriverFinder not in sys.meta_path:
        sys.meta_path.append(DriverFinder)
