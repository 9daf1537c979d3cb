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


"""The processes of the soak, and what is done to them."""

import contextlib
import json
import os
import queue
import random
import signal
import sys
import threading
import time
import uuid as uuid_lib

from nova_vmhealth import configuration
from nova_vmhealth.notifications import listener
from tests.integration import clients
from tests.integration import processes
from tests.integration import services
from tests.soak import hypervisor
from tests.soak import record

SPECS = {'vmhealth:heartbeat': 'true'}
# What is still on its way after an outage is no story's business.
CALM_S = 2.0
START_S = 60

_NOVA_CONF = """\
[DEFAULT]
host = vmhealth-soak
state_path = %(folder)s
transport_url = %(url)s
[notifications]
notification_format = versioned
[oslo_messaging_notifications]
driver = messagingv2
[oslo_messaging_rabbit]
# What the broker has confirmed outlives its end.
amqp_durable_queues = true
[oslo_concurrency]
lock_path = %(folder)s/lock
[vmhealth]
planned_grace_s = 3
io_error_quiet_s = 5
reconcile_interval_s = 10
"""


class Process:
    """A process that answers commands; its start is not waited for."""

    def __init__(self, module, arguments, log):
        self._process = processes.Process(
            [sys.executable, '-m', module, *arguments], log, pipes=True,
            cwd=clients.REPOSITORY)
        self.pid = self._process.pid
        self._answers = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self._answers.put(json.loads(line))

    @property
    def ready(self):
        """Whether it has said that it is; ask until it is."""
        assert self._process.running, self._process.logged()[-3000:]
        with contextlib.suppress(queue.Empty):
            return self._answers.get(block=False) == 'ready'
        return False

    def do(self, command, **arguments):
        """Have a command done; its answer."""
        self._process.stdin.write(
            json.dumps(dict(arguments, do=command)) + '\n')
        return self._answers.get(timeout=START_S)

    def resident_kib(self):
        with open('/proc/%d/status' % self.pid) as f:
            return next(int(line.split()[1]) for line in f
                        if line.startswith('VmRSS:'))

    def kill(self):
        self._process.stop(signal.SIGKILL)

    def stop(self):
        self._process.stop()


class World:
    """Guests, driver, broker and listener.

    :param folder: for all that they write
    :param count: of guests
    :param seed: of everything that is random
    :param say: called with a text on how it goes
    """

    def __init__(self, folder, count, seed, say):
        self._folder = folder
        self._random = random.Random(seed)
        self.choice, self.choices = self._random.choice, self._random.choices
        self.between = self._random.uniform
        self.outages = record.Outages(time.time)
        self.tally = record.Tally(say)
        self.guests = {}
        self.driver = None
        self._operations = 0
        self._closing = False
        self._events = queue.SimpleQueue()
        for number in range(1, count + 1):
            uuid = str(uuid_lib.UUID(int=self._random.getrandbits(128),
                                     version=4))
            self.guests[uuid] = record.Guest(
                uuid, 'instance-%08x' % number, number, self.outages,
                self.tally)

    # -- its processes -------------------------------------------------------

    def start(self, stack):
        """Start all of it.

        :param stack: contextlib.ExitStack that ends it
        """
        os.makedirs(self._path('guests'))
        self._write_guests()
        self.broker = services.Broker(self._path('mq'))
        stack.callback(self.broker.stop)
        with open(self._path('nova.conf'), 'w') as f:
            f.write(_NOVA_CONF % {'folder': self._folder,
                                  'url': self.broker.url})
        self.listener = listener.Listener(
            configuration.load([self._path('nova.conf')]), self._events.put,
            host_callback=self._events.put)
        self.listener.start()
        stack.callback(self.listener.stop)
        self._hypervisor = Process(
            'tests.soak.hypervisor', [self._folder], self._path('guests.log'))
        stack.callback(self._hypervisor.stop)
        processes.wait_for(lambda: self._hypervisor.ready, START_S, 'guests')
        self.start_driver()
        stack.callback(lambda: self.driver.stop())
        processes.wait_for(lambda: self.driver.ready, START_S, 'driver')

    def start_driver(self):
        """Begin to start the driver's process."""
        self._write_guests()
        self.driver = Process(
            'tests.soak.driver', ['--config-file', self._path('nova.conf'),
                                  '--folder', self._folder],
            self._path('driver.log'))

    def libvirtd(self, command):
        """Have it go ``away`` or come ``back``."""
        self._hypervisor.do(command)

    def _path(self, name):
        return os.path.join(self._folder, name)

    def _write_guests(self):
        with open(self._path(hypervisor.GUESTS_FILE), 'w') as f:
            json.dump([{'uuid': guest.uuid, 'name': guest.name,
                        'number': guest.number, 'vm_state': guest.vm_state,
                        'extra_specs': SPECS}
                       for guest in self.guests.values()], f)

    # -- from the stories ----------------------------------------------------

    def change(self, guest, **changes):
        """See ``Hypervisor.do_change``."""
        return self._hypervisor.do('change', uuid=guest.uuid, **changes)

    def calm(self):
        """Say whether everything is up and nothing is about to go down."""
        return not self._closing and self.outages.calm_for() > CALM_S

    @contextlib.contextmanager
    def operation(self, guest, name, vm_state):
        """Nova does something to a guest; the driver is not killed then."""
        with self.undisturbed():
            self.driver.do('begin', uuid=guest.uuid, operation=name)
            yield
            self.driver.do('end', uuid=guest.uuid, operation=name,
                           vm_state=vm_state)
            guest.vm_state = vm_state

    @contextlib.contextmanager
    def undisturbed(self):
        """Nothing goes down meanwhile."""
        self._operations += 1
        try:
            yield
        finally:
            self._operations -= 1

    # -- from those who break things -----------------------------------------

    def close(self):
        """Begin nothing more that must not be disturbed."""
        self._closing = True

    def closed(self):
        """Say whether nothing is on that must not be disturbed."""
        return not self._operations

    def open(self):
        self._closing = False

    # -- from the loop -------------------------------------------------------

    def take_events(self):
        """Judge what the listener has heard."""
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get(block=False)
                if isinstance(event, listener.ReceivedHostEvent):
                    self.tally.host_events += 1
                else:
                    self.guests[event.uuid].take(event)
