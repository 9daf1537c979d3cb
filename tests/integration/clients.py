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


"""What a test talks to: the driver's process, a guest's console, the bus."""

import datetime
import json
import os
import queue
import sys
import threading
import time
import tty

from tests.integration import processes

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
_PYTHONPATH = {'PYTHONPATH': REPOSITORY}
# A guest under emulation, with a neighbour and a busy machine.
BOOT_S = 90
GRACE_S = 3

_NOVA_CONF = """\
[DEFAULT]
host = vmhealth-test
my_ip = 127.0.0.1
state_path = {folder}
instances_path = {folder}/instances
transport_url = {broker.url}
[libvirt]
virt_type = qemu
connection_uri = {libvirtd.uri}
images_type = raw
[notifications]
notification_format = versioned
[oslo_messaging_notifications]
driver = messagingv2
[oslo_concurrency]
lock_path = {folder}/lock
[vnc]
enabled = false
[vmhealth]
# a test's faults follow its guest's start closely
planned_grace_s = {grace}
# nothing is done and nobody waited for unless a guest asks for it
allowed_actions = reset,pause
max_actions = 2
# as long as the grace: an operation within the delay is still seen at its
# end; and time for a test to do something within it, on a busy machine too
action_delay_s = {grace}
# not more than the delay, which must show whether it is the host
mass_loss_window_s = {grace}
notice_timeout_ms = 3000
# what is over is told at once
host_fault_quiet_s = 0
"""


def epoch(text):
    """Seconds since the epoch of a time that the listener prints."""
    return datetime.datetime.fromisoformat(
        text.replace('Z', '+00:00')).timestamp()


class Refused(Exception):
    """The driver's process answered with an error.

    :ivar kind: the name of the error's class
    """

    def __init__(self, kind, message):
        super().__init__('%s: %s' % (kind, message))
        self.kind = kind


class DriverProcess:
    """The process of ``driver_host.py`` in libvirtd's mount namespace."""

    def __init__(self, folder, libvirtd, broker, guest_folder,
                 module='tests.integration.driver_host'):
        os.makedirs(os.path.join(folder, 'instances'), exist_ok=True)
        config = os.path.join(folder, 'nova.conf')
        with open(config, 'w') as f:
            f.write(_NOVA_CONF.format(folder=folder, broker=broker,
                                      libvirtd=libvirtd, grace=GRACE_S))
        self._process = processes.Process(
            ['nsenter', '-m', '-t', str(libvirtd.pid), sys.executable, '-m',
             module, '--config-file', config, '--guest', guest_folder],
            os.path.join(folder, 'driver.log'), pipes=True,
            env=dict(_PYTHONPATH, PYTHONSAFEPATH='1'))
        self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        assert line, 'the driver ended:\n' + self.logged()[-3000:]
        answer = json.loads(line)
        if 'error' in answer:
            raise Refused(answer['error'], answer['message'])
        return answer['result']

    def do(self, command, *uuid, **arguments):
        """Have ``DriverHost.do_<command>`` done; its result.

        :raises Refused: when it raised
        """
        if uuid:
            arguments['uuid'] = uuid[0]
        json.dump(dict(arguments, do=command), self._process.stdin)
        self._process.stdin.write('\n')
        self._process.stdin.flush()
        return self._answer()

    @property
    def running(self):
        return self._process.running

    def logged(self):
        return self._process.logged()

    def stop(self):
        try:
            if self.running:
                self.do('quit')
        finally:
            self._process.stop()


class Guest:
    """One guest, by its console: what it says, and commands to it."""

    def __init__(self, driver, libvirtd, number, command_line, **opted):
        self._driver = driver
        self._libvirtd = libvirtd
        made = driver.do('spawn', number=number, command_line=command_line,
                         **opted)
        self._spawned = time.monotonic()
        self.uuid, self.name = made['uuid'], made['name']
        self._log = made['console_log']
        self.attach()

    def attach(self):
        """Take its console, anew after every start of the domain."""
        path = self._libvirtd.virsh('ttyconsole', self.name).strip()
        self._tty = open_console(path)

    def wait_unexpected(self):
        """Until what happens to it is no side effect of its start."""
        # a second more, for what is still on its way to the driver
        time.sleep(max(0, self._spawned + GRACE_S + 1 - time.monotonic()))

    def established(self):
        """How often its heartbeat was established."""
        return self._driver.logged().count(
            '[instance: %s] heartbeat established' % self.uuid)

    def wait_beating(self, times=1):
        """Until its heartbeat was established so many times."""
        processes.wait_for(lambda: self.established() >= times, BOOT_S,
                           'heartbeat of ' + self.name)

    def do(self, command, **arguments):
        """Drive the instance by Nova's driver: pause, reboot, destroy..."""
        return self._driver.do(command, self.uuid, **arguments)

    def virsh(self, command, *arguments):
        """Something that Nova did not plan."""
        return self._libvirtd.virsh(command, self.name, *arguments)

    def console(self):
        with open(self._log, errors='replace') as f:
            return f.read()

    def wait_for(self, text, seconds=BOOT_S, after=0):
        """Until the console shows the text; wall clock time of it."""
        def shown():
            return text in self.console()[after:]
        end = time.monotonic() + seconds
        while not shown():
            assert time.monotonic() < end, 'no %r from the guest:\n%s' % (
                text, self.console()[-2000:])
            time.sleep(0.005)
        return time.time()

    def tell(self, command, done=True, seconds=30):
        """Give the guest a command; wall clock time of its ``DONE``.

        :param done: False where the command takes that answer with it; then
            the time of the command
        """
        after = len(self.console())
        now = time.time()
        os.write(self._tty, command.encode() + b'\n')
        if done:
            return self.wait_for('DONE ' + command, seconds, after)
        return now


def open_console(path):
    """Open a guest's pseudo terminal for commands; its descriptor."""
    console = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(console)
    threading.Thread(target=_drain, args=(console,), daemon=True).start()
    return console


def _drain(console):
    """Read what the log has already, so that the guest never blocks."""
    try:
        while os.read(console, 4096):
            pass
    except OSError:
        pass         # the domain has ended
    os.close(console)


class Listener:
    """``nova-vmhealth listen`` in another process, and what it prints.

    :param arguments: more of them, such as a ``--config-file``
    """

    def __init__(self, log, url, *arguments):
        self._process = processes.Process(
            [sys.executable, '-m', 'nova_vmhealth.cmd.main', 'listen',
             '--json', '--transport-url', url, *arguments], log, pipes=True,
            env=_PYTHONPATH, cwd=REPOSITORY)
        self._lines = queue.Queue()
        self._events = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def events(self, uuid):
        """Every event of the instance until now; a host's name none."""
        return [event for event in self._all() if event.get('uuid') == uuid]

    def events_of(self, host):
        """Every event of the instances of a host until now."""
        return [event for event in self._of_type('instance.health')
                if event['host'] == host]

    def host_events(self, cause):
        """Every event of the host itself with a cause until now."""
        return [event for event in self._of_type('host.health')
                if event['cause'] == cause]

    def maintenance_events(self, project):
        """Every event of maintenance that a project was told until now."""
        return [event for event in self._of_type('instance.maintenance')
                if event['tenant_id'] == project]

    def _of_type(self, event_type):
        return [event for event in self._all()
                if event['event_type'] == event_type]

    def _all(self):
        while not self._lines.empty():
            self._events.append(self._lines.get())
        return self._events

    def wait_for(self, uuid, cause, transition='raised', seconds=20,
                 every=0.05):
        """The first such event.

        :raises AssertionError: with all that came instead
        """
        def found():
            return next((e for e in self.events(uuid)
                         if (e['cause'], e['transition'])
                         == (cause, transition)), None)
        try:
            return processes.wait_for(found, seconds, 'event', every)
        except AssertionError:
            raise AssertionError('no %s %s in %s s, but %s' % (
                cause, transition, seconds,
                [(e['cause'], e['transition'])
                 for e in self.events(uuid)])) from None

    @property
    def running(self):
        return self._process.running

    def stop(self):
        self._process.stop()
