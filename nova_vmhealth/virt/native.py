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


"""Modules as they are outside of eventlet.

The heartbeat needs a native thread in both of Nova's modes. Where eventlet has
patched the process (nova-compute 31 to 33 by default), ``threading`` makes
greenthreads and ``select`` has no epoll; eventlet keeps the unpatched modules.
"""

import importlib
import sys


def original(name):
    """Import a module of the standard library, unpatched.

    Call it when the service is up, not at import: eventlet may patch later.

    :param name: the module's name
    """
    # Not imported here: nova-compute 34 in threading mode forbids eventlet.
    patcher = sys.modules.get('eventlet.patcher')
    if patcher is not None and patcher.is_monkey_patched('thread'):
        return patcher.original(name)
    return importlib.import_module(name)
