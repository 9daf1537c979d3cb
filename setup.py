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

"""Build steps that pyproject.toml has no words for: the .pth file."""

import os
import pathlib

from pbr import packaging
import setuptools
from setuptools.command import build_py

# Python runs this line at every start: it must be quick and must not fail, not
# even where a half-removed package left it behind. Nova itself is not imported
# here, because nova-compute patches the standard library before it imports
# anything else.
PTH_NAME = 'nova_vmhealth.pth'
PTH_LINE = (
    "import sys; exec('try:\\n import nova_vmhealth._finder as finder\\n"
    " finder.install()\\nexcept Exception:\\n pass')\n"
)

# The same number as in setup.cfg.
FALLBACK_VERSION = '0.1.0'


class BuildWithPth(build_py.build_py):
    """Put the .pth file where it ends up at the top of site-packages."""

    def run(self):
        super().run()
        if self.editable_mode:
            # setuptools points this at what becomes the editable wheel.
            root = self.get_finalized_command('install').install_lib
        else:
            root = self.build_lib
        self.mkpath(root)
        pathlib.Path(root, PTH_NAME).write_text(PTH_LINE)

    def get_outputs(self, include_bytecode=1):
        outputs = super().get_outputs(include_bytecode)
        if self.editable_mode:
            return outputs
        return [*outputs, os.path.join(self.build_lib, PTH_NAME)]


class DistributionWithPth(setuptools.Distribution):
    """Knows the command above, since pbr drops the argument cmdclass."""

    def get_command_class(self, command):
        if command == 'build_py':
            return BuildWithPth
        return super().get_command_class(command)


def set_fallback_version():
    """Let a plain tree build, one without git or without a commit."""
    try:
        packaging.get_version('nova-vmhealth', FALLBACK_VERSION)
    except Exception:
        # pbr raises a bare Exception where it finds no version at all.
        os.environ['PBR_VERSION'] = FALLBACK_VERSION


set_fallback_version()
setuptools.setup(pbr=True, distclass=DistributionWithPth)
