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


"""The lab of tools/lab, as tests talk to it."""

import os
import re
import signal
import subprocess

from tests.integration import clients
from tests.integration import processes

FOLDER = os.environ.get('NOVA_VMHEALTH_LAB_DIR', '/var/lib/nova-vmhealth-lab')
_TOOLS = os.path.join(clients.REPOSITORY, 'tools', 'lab')
# what tools/lab/second calls its host
SECOND = 'second.lab'
NETLESS = ('--nic', 'none', '--wait')


def tool(name, *arguments):
    """Run a program of tools/lab."""
    subprocess.run([os.path.join(_TOOLS, name), *arguments], check=True)


def sh(function, *arguments):
    """Run a function of tools/lab/env."""
    subprocess.run(
        ['bash', '-euc', '. "$0"; "$@"', os.path.join(_TOOLS, 'env'),
         function, *arguments], check=True)


def pid(name):
    """The process of one of the lab's daemons."""
    with open(os.path.join(FOLDER, 'run', name + '.pid')) as f:
        return int(f.read().split()[0])


def kill(name):
    """End one of the lab's daemons without a goodbye."""
    os.kill(pid(name), signal.SIGKILL)


def start_inspector(number, config, clouds=None):
    """Start an inspector beside those that run already.

    :param config: path of a configuration file of its own
    :param clouds: path of a clouds.yaml instead of the lab's
    """
    command = ['start_inspector', str(number), '--config-file', str(config)]
    if clouds:
        command.insert(0, 'OS_CLIENT_CONFIG_FILE=%s' % clouds)
    sh('eval', *command)


def port(offset):
    """A port of the lab, which keeps the first one; it must be up."""
    with open(os.path.join(FOLDER, 'state', 'port')) as f:
        return int(f.read()) + offset


def is_up():
    try:
        with open(os.path.join(FOLDER, 'run', 'compute.pid')) as f:
            return os.path.exists('/proc/' + f.read().split()[0])
    except FileNotFoundError:
        return False


def openstack(*arguments, fails=False):
    """What the command line client prints; its complaint if it must fail."""
    # Nothing of the caller's own cloud.
    env = {name: value for name, value in os.environ.items()
           if not name.startswith('OS_')}
    env.update(
        OS_CLIENT_CONFIG_FILE=os.path.join(FOLDER, 'clouds.yaml'),
        OS_CLOUD='vmhealth-lab', OS_COMPUTE_API_VERSION='2.96',
        no_proxy='127.0.0.1')
    done = subprocess.run(
        [os.path.join(FOLDER, 'venv-control', 'bin', 'openstack'),
         *arguments],
        capture_output=True, text=True, timeout=300, env=env)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout.strip()


def show(server, field):
    """A field of a server."""
    return openstack('server', 'show', server, '-f', 'value', '-c', field)


def console_log(uuid):
    """What a guest of the first host has written to its console."""
    with open(os.path.join(FOLDER, 'instances', uuid, 'console.log'),
              errors='replace') as f:
        return f.read()


# as the demo's, which "up" removes
_FILLER = os.path.join(FOLDER, 'instances', 'filler')


def fill():
    """Leave no room in the file system of the first host's instances."""
    subprocess.run(['dd', 'if=/dev/zero', 'of=' + _FILLER, 'bs=64k'],
                   stderr=subprocess.DEVNULL)


def empty():
    """Make room again."""
    if os.path.exists(_FILLER):
        os.unlink(_FILLER)


class Compute:
    """One of the lab's two hosts: its nova-compute and its libvirtd.

    :param log: its log below the lab's folder
    :param libvirt: the folder of its libvirtd
    """

    def __init__(self, log='compute', libvirt='lv'):
        self._log = os.path.join(FOLDER, 'log', log + '.log')
        self._uri = 'qemu+unix:///system?socket=%s/%s/run/libvirt-sock' % (
            FOLDER, libvirt)

    def logged(self):
        with open(self._log) as f:
            return f.read()

    def times(self, uuid, text):
        """When its log said that of an instance, seconds since the epoch."""
        return [clients.epoch(when + '+00:00') for when in re.findall(
            r'^(\S+ \S+) .*\[instance: %s\] %s' % (uuid, re.escape(text)),
            self.logged(), re.MULTILINE)]

    def established(self, uuid):
        """When the heartbeat of an instance was established."""
        return self.times(uuid, 'heartbeat established')

    def wait_beating(self, uuid, times=1):
        processes.wait_for(
            lambda: len(self.established(uuid)) >= times, clients.BOOT_S,
            'heartbeat')

    def virsh(self, *arguments):
        """What virsh prints, behind Nova's back."""
        return subprocess.run(
            ['virsh', '-c', self._uri, *arguments], check=True, text=True,
            capture_output=True).stdout.strip()

    def console(self, uuid):
        """Open the console of a guest for commands; its descriptor."""
        return clients.open_console(self.virsh('ttyconsole', uuid))


class Log:
    """What one of the lab's daemons logs from now on."""

    def __init__(self, name):
        self._path = os.path.join(FOLDER, 'log', name + '.log')
        self._from = (os.path.getsize(self._path)
                      if os.path.exists(self._path) else 0)

    def text(self):
        try:
            with open(self._path, errors='replace') as f:
                f.seek(self._from)
                return f.read()
        except FileNotFoundError:
            return ''

    def found(self, pattern):
        return re.findall(pattern, self.text())

    def wait(self, text, seconds):
        """Until a line has the text; later waits begin behind it."""
        processes.wait_for(lambda: text in self.text(), seconds,
                           '%r in %s' % (text, self._path))
        self._from += len(self.text().partition(text)[0].encode()) + 1
