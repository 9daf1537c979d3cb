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


"""Fixtures of the integration tests: the real parts, once a session."""

import itertools
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from tests.integration import clients
from tests.integration import lab as lab_lib
from tests.integration import services

_KERNEL_ARGUMENTS = 'console=ttyS0 quiet '


_FIGURES = pytest.StashKey()


def pytest_configure(config):
    config.stash[_FIGURES] = []


def pytest_collection_modifyitems(items):
    """Guests boot under emulation, on machines that do other things too."""
    for item in items:
        if (item.path.parent == pathlib.Path(__file__).parent
                and not item.get_closest_marker('timeout')):
            item.add_marker(pytest.mark.timeout(300))
    # The lab is brought up once, and not beside what measures.
    items.sort(key=lambda item: 'lab' in getattr(item, 'fixturenames', ()))


def pytest_terminal_summary(terminalreporter, config):
    """Show what was measured; nothing of it is asserted closely."""
    if config.stash[_FIGURES]:
        terminalreporter.section('integration')
        for line in config.stash[_FIGURES]:
            terminalreporter.write_line(line)


@pytest.fixture
def measured(request):
    """A function that notes a figure, in seconds, for the end of the run."""
    def note(what, seconds):
        request.config.stash[_FIGURES].append(
            '%9.1f ms  %s' % (seconds * 1000, what))
    return note


@pytest.fixture(scope='session')
def folder(request):
    """Everything that the tests generate; its path is short for sockets.

    It stays after a failure, for the logs in it.
    """
    path = tempfile.mkdtemp(prefix='vmhealth-')
    os.chmod(path, 0o755)          # QEMU runs as a user of its own
    yield path
    if request.session.testsfailed:
        request.config.stash[_FIGURES].append('logs: ' + path)
    else:
        shutil.rmtree(path)


@pytest.fixture(scope='session')
def machine(require):
    """The machine has what real guests and a real broker take."""
    lacks = services.missing()
    require(not lacks, 'integration: this machine lacks ' + lacks)


@pytest.fixture(scope='session')
def kept(folder):
    """What takes long to make; VMHEALTH_TEST_CACHE keeps it between runs."""
    path = os.environ.get('VMHEALTH_TEST_CACHE')
    return path or os.path.join(folder, 'kept')


@pytest.fixture(scope='session')
def guest_folder(machine, kept):
    """The test guest's kernel, initial ramdisk and disk."""
    path = os.path.join(kept, 'guest')
    subprocess.run([os.path.join(clients.REPOSITORY, 'tools', 'lab',
                                 'mkimage'), path], check=True)
    return path


@pytest.fixture(scope='session')
def libvirtd(machine, folder, kept):
    service = services.Libvirtd(os.path.join(folder, 'lv'),
                                os.path.join(kept, 'capabilities'))
    yield service
    service.stop()


@pytest.fixture(scope='session')
def broker(machine, folder):
    service = services.Broker(os.path.join(folder, 'mq'))
    yield service
    service.stop()


@pytest.fixture(scope='session')
def listener(broker, folder):
    process = clients.Listener(os.path.join(folder, 'listener.log'),
                               broker.url)
    yield process
    process.stop()


@pytest.fixture(scope='session')
def driver(libvirtd, broker, guest_folder, folder):
    process = clients.DriverProcess(os.path.join(folder, 'nova'), libvirtd,
                                    broker, guest_folder)
    yield process
    process.stop()


@pytest.fixture(scope='session')
def lab(machine, require):
    """The lab, up: its folder. It is left as it was found."""
    installed = os.path.exists(os.path.join(lab_lib.FOLDER, 'venv-nova'))
    require(installed or os.environ.get('NOVA_VMHEALTH_REQUIRE_ALL'),
            'integration: no lab in %s; run tools/lab/up' % lab_lib.FOLDER)
    was_up = lab_lib.is_up()
    lab_lib.tool('up')
    yield lab_lib.FOLDER
    if not was_up:
        lab_lib.tool('down')


@pytest.fixture
def lab_bus(lab, tmp_path):
    """What a listener hears of the lab's instances."""
    url = 'rabbit://guest:guest@127.0.0.1:%d/' % lab_lib.port(6)
    listener = clients.Listener(tmp_path / 'listener.log', url)
    yield listener
    listener.stop()


@pytest.fixture
def delete_later(lab):
    """A function that has a server of the lab deleted after the test."""
    servers = []
    yield servers.append
    for server in servers:
        lab_lib.openstack('server', 'delete', '--wait', server)


@pytest.fixture(scope='session')
def _numbers():
    return itertools.count(1)


@pytest.fixture
def boot(driver, libvirtd, listener, _numbers):
    """A function that boots a guest: boot('vmh.agent=python', {specs}).

    The guests end with the test.
    """
    guests = []

    def start(arguments='vmh.agent=python', extra_specs=None, **opted):
        guest = clients.Guest(
            driver, libvirtd, next(_numbers), _KERNEL_ARGUMENTS + arguments,
            extra_specs=extra_specs or {}, **opted)
        guests.append(guest)
        guest.wait_for('GUEST-UP')
        if 'agent=none' not in arguments:
            guest.wait_for('AGENT-UP')
        guest.wait_unexpected()
        return guest

    yield start
    for guest in guests:
        guest.do('destroy')
