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

"""An inspector in a process of its own, with Nova's API left out.

Run with the arguments of nova-vmhealth-inspector. Each host has four
instances, of two projects.
"""

import warnings

from nova_vmhealth.cmd import inspector
from nova_vmhealth.inspector import nova_api
from nova_vmhealth.notifications import identity

PROJECTS = ('blue', 'red')


def servers_of(_api, host):
    return [identity.InstanceIdentity(
                uuid=f'0b5e8a4c-3a4e-4f0e-9f53-{number:012d}',
                name=f'vm-{number}', tenant_id=PROJECTS[number % 2])
            for number in range(4)]


if __name__ == '__main__':
    # oslo.messaging's dependencies import it where it is installed.
    warnings.filterwarnings('ignore', message=r'\s*Eventlet is deprecated')
    nova_api.NovaApi.servers_of = servers_of
    inspector.run()
