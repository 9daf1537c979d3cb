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


"""What the driver needs around it: a libvirtd and a broker, both private."""

import contextlib
import glob
import os
import shutil
import signal
import subprocess

from tests.integration import processes

_PRIVATE_LIBVIRTD = os.path.join(
    os.path.dirname(__file__), '..', '..', 'tools', 'lab', 'private-libvirtd')
_ERLANG = ('-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +A 8 '
           '+sbwt none')


class Libvirtd:
    """A libvirtd with folders of its own, in a mount namespace of its own.

    :param capabilities: a folder to keep what libvirt finds out about QEMU
        from run to run, which takes it half a minute; it checks by itself
        whether that is still true. None for no such folder.
    """

    def __init__(self, folder, capabilities=None):
        self.folder = folder
        self._kept = capabilities
        self._found = os.path.join(folder, 'cache', 'qemu', 'capabilities')
        if capabilities and os.path.exists(capabilities):
            shutil.copytree(capabilities, self._found)
        self.uri = 'qemu+unix:///system?socket=' + os.path.join(
            folder, 'run', 'libvirt-sock')
        self._run(['unshare', '-m', os.path.abspath(_PRIVATE_LIBVIRTD),
                   folder])
        # its folders are mounted there, whether it runs or not
        self._namespace = os.open('/proc/%d/ns/mnt' % self.pid, os.O_RDONLY)

    def _run(self, command):
        self._process = processes.Process(command, self.folder + '.log')
        self.pid = self._process.pid
        with contextlib.ExitStack() as if_it_fails:
            if_it_fails.callback(self._process.stop)
            self._process.wait_for(
                lambda: not self._virsh('version').returncode, 30,
                'libvirtd')
            if_it_fails.pop_all()

    @property
    def running(self):
        return self._process.running

    def kill(self):
        """No goodbye to anyone; the guests run on."""
        self._process.stop(signal.SIGKILL)

    def start(self):
        """Start it again where it was killed, to find its guests."""
        self._run(['nsenter', '--mount=/proc/%d/fd/%d'
                   % (os.getpid(), self._namespace),
                   'libvirtd', '-p', os.path.join(self.folder, 'pid'),
                   '--timeout', '0'])

    def qemu_pid(self, name):
        """The process of a guest, libvirtd or not."""
        with open(os.path.join(self.folder, 'run', 'qemu', name + '.pid')) \
                as f:
            return int(f.read())

    def _virsh(self, *arguments):
        return subprocess.run(['virsh', '-c', self.uri, *arguments],
                              capture_output=True, text=True)

    def virsh(self, *arguments):
        """What virsh prints, behind Nova's back."""
        done = self._virsh(*arguments)
        assert not done.returncode, done.stderr
        return done.stdout

    def qemu_log(self, name):
        with open(os.path.join(self.folder, 'log', 'qemu', name + '.log'),
                  errors='replace') as f:
            return f.read()

    def stop(self):
        """End the guests that are left, then libvirtd; the mounts go too."""
        for name in self._virsh('list', '--name').stdout.split():
            self._virsh('destroy', name)
        self._process.stop()
        os.close(self._namespace)
        if self._kept:
            shutil.copytree(self._found, self._kept, dirs_exist_ok=True)


class Broker:
    """A RabbitMQ with its own epmd, on ports of its own."""

    def __init__(self, folder):
        self._folder = folder
        for name in ('home', 'mnesia', 'log'):
            os.makedirs(os.path.join(folder, name))
        self.port, self._dist, epmd = (
            processes.free_port() for _ in range(3))
        self.url = 'rabbit://guest:guest@127.0.0.1:%d/' % self.port
        with open(os.path.join(folder, 'rabbitmq.conf'), 'w') as f:
            f.write('listeners.tcp.1 = 127.0.0.1:%d\n' % self.port)
        self._env = {'ERL_EPMD_PORT': str(epmd),
                     'ERL_EPMD_ADDRESS': '127.0.0.1'}
        # before the broker, which would leave one behind
        self._epmd = processes.Process(
            ['epmd'], os.path.join(folder, 'epmd.log'), env=self._env)
        with contextlib.ExitStack() as if_it_fails:
            if_it_fails.callback(self._epmd.stop)
            self._epmd.wait_for(
                lambda: processes.listens(epmd), 10, 'epmd')
            self.start()
            if_it_fails.pop_all()

    def start(self):
        """Start it again where it was killed."""
        path = self._path
        env = dict(self._env, HOME=path('home'),
                   RABBITMQ_NODENAME='vmhealth-test@localhost',
                   RABBITMQ_CONFIG_FILE=path('rabbitmq.conf'),
                   RABBITMQ_CONF_ENV_FILE='/dev/null',
                   RABBITMQ_MNESIA_BASE=path('mnesia'),
                   RABBITMQ_LOG_BASE=path('log'),
                   RABBITMQ_PID_FILE=path('pid'),
                   RABBITMQ_ENABLED_PLUGINS_FILE=path('plugins'),
                   RABBITMQ_DIST_PORT=str(self._dist),
                   RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=_ERLANG)
        self._process = processes.Process(
            [_rabbitmq_server()], path('server.log'), env=env, cwd=path(''))
        with contextlib.ExitStack() as if_it_fails:
            if_it_fails.callback(self._process.stop)
            self._process.wait_for(
                lambda: processes.listens(self.port), 60, 'RabbitMQ')
            if_it_fails.pop_all()

    def _path(self, name):
        return os.path.join(self._folder, name)

    def kill(self):
        """As a machine that loses power: no goodbye to anyone."""
        self._process.stop(signal.SIGKILL)
        processes.wait_for(
            lambda: not processes.listens(self.port), 10, 'end of RabbitMQ')

    def stop(self):
        self._process.stop()
        self._epmd.stop()


def _rabbitmq_server():
    """The server without the wrapper that wants a user of its own."""
    found = glob.glob('/usr/lib/rabbitmq/bin/rabbitmq-server')
    return found[0] if found else 'rabbitmq-server'


def missing():
    """What of the machine's software is not there, as one text or ''."""
    programs = ('libvirtd', 'virsh', 'qemu-system-x86_64', 'epmd',
                'rabbitmq-server', 'unshare', 'nsenter', 'busybox', 'cpio',
                'cc')
    lacks = [name for name in programs if not shutil.which(name)]
    if os.geteuid() != 0:
        lacks.append('root')
    return ', '.join(lacks)
