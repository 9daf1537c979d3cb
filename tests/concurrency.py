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

"""The concurrency mode of a process that stands in for nova-compute.

Nova 31 and 32 have eventlet alone. Nova 33 and 34 have both modes, and in
these tests Nova's own variable OS_NOVA_DISABLE_EVENTLET_PATCHING chooses:
``true`` for native threads, ``false`` for eventlet, unset for what the
nova-compute of that release does by itself.
"""

import importlib.metadata
import os

VARIABLE = 'OS_NOVA_DISABLE_EVENTLET_PATCHING'
FIRST_WITH_BOTH = 33
FIRST_NATIVE = 34


def release():
    """The installed Nova's major version; None where there is no Nova."""
    try:
        version = importlib.metadata.version('nova')
    except importlib.metadata.PackageNotFoundError:
        return None
    return int(version.split('.')[0])


def is_native():
    """Whether this process is to run native threads."""
    chosen = os.environ.get(VARIABLE, '').lower()
    if not chosen:
        return release() >= FIRST_NATIVE
    return chosen in ('1', 'true', 'yes')


def settle():
    """Do what nova-compute's entry point does, before any other import.

    :raises RuntimeError: native threads asked of a release without them
    """
    native = is_native()
    if native and release() < FIRST_WITH_BOTH:
        raise RuntimeError('nova-compute %d has no native threads; unset %s'
                           % (release(), VARIABLE))
    # Explicit from here on, for the child processes, and as Nova's own test
    # base asks again with another default.
    os.environ[VARIABLE] = 'true' if native else 'false'
    # The import alone patches in Nova 31; from Nova 32 on it has a function,
    # which reads the variable.
    from nova import monkey_patch
    if hasattr(monkey_patch, 'patch'):
        monkey_patch.patch()
