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

import importlib.util
import os

import pytest

if importlib.util.find_spec('nova') is not None:
    # As nova-compute's entry point does, before anything imports eventlet:
    # these tests run in native-thread mode, Nova 34's default.
    os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', 'true')
    from nova import monkey_patch
    monkey_patch.patch(backend='threading')

# Set by tools/test, and so in CI: there nothing may be skipped for want of a
# part, or a whole room of tests would be silently empty.
REQUIRE_ALL = bool(os.environ.get('NOVA_VMHEALTH_REQUIRE_ALL'))


def pytest_addoption(parser):
    """Options of our own."""
    parser.addoption(
        '--nova-suite-whole', action='store_true',
        help="all of Nova's libvirt driver tests, not the selection")


def pytest_report_header(config):
    """Say which of the two rules holds in this run."""
    return 'missing real parts: %s' % (
        'a failure' if REQUIRE_ALL else 'a skip')


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
