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

"""What all tests share."""

import os

import pytest

from tests import concurrency

# What touches no Nova: programs of their own, in a guest or at a consumer's,
# some of which could not even run where eventlet has patched the process; and
# the broker's outage. The lab is that of the newest Nova.
ONCE = (
    'tests/unit/cmd/test_listen.py', 'tests/unit/conformance',
    'tests/unit/guest', 'tests/unit/cmd/test_inspector.py',
    'tests/unit/inspector', 'tests/functional/test_conformance.py',
    'tests/functional/test_inspectors.py',
    'tests/integration/test_host_status.py',
    'tests/integration/test_inspectors.py',
    'tests/integration/test_live_migration.py',
    'tests/integration/test_nova_compute.py',
    'tests/integration/test_outage.py',
)

# Set by tools/test, and so in CI: there nothing may be skipped for want of a
# part, or a whole room of tests would be silently empty.
REQUIRE_ALL = bool(os.environ.get('NOVA_VMHEALTH_REQUIRE_ALL'))


def pytest_addoption(parser):
    """Options of our own."""
    parser.addoption(
        '--nova-suite-whole', action='store_true',
        help="all of Nova's libvirt driver tests, not the selection")


def pytest_report_header(config):
    """Say which rule and which mode hold in this run."""
    lines = ['missing real parts: %s' % (
        'a failure' if REQUIRE_ALL else 'a skip')]
    if concurrency.release() is not None:
        lines.append('Nova %d, %s' % (
            concurrency.release(),
            'native threads' if concurrency.is_native() else 'eventlet'))
    return lines


# xdist may not be there, and its hook is then nobody's.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """As many as there are CPUs; none under eventlet.

    There a worker's own threads, which talk to the first process, would be
    patched away from under it.
    """
    patched = (concurrency.release() is not None
               and not concurrency.is_native())
    return 0 if patched else os.cpu_count()


def pytest_collection_modifyitems(items):
    """Mark what is the same whatever the release of Nova."""
    for item in items:
        if item.nodeid.startswith(ONCE):
            item.add_marker(pytest.mark.once)


@pytest.fixture(scope='session')
def require():
    """A function that skips the test, or in CI fails it, for want of a part.

    Call it with what must be true of this machine, and with the words for
    what is missing: ``require(os.geteuid() == 0, 'needs root')``.
    """
    def _require(present, lacking):
        if present:
            return
        if REQUIRE_ALL:
            pytest.fail('required here: %s' % lacking, pytrace=False)
        pytest.skip(lacking)

    return _require
