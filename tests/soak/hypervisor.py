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


"""The process of all guests, and of what stands in for libvirtd.

    python -m tests.soak.hypervisor FOLDER

FOLDER/guests.json has the guests: uuid and domain name. One JSON object a line
on stdin is a command, one a line on stdout its answer. Drivers connect to
FOLDER/libvirt.sock: they are sent events, one JSON object a line, and get the
states of all domains for each line that they send. Drivers come and go, guests
stay; ``away`` and ``back`` are libvirtd's end and return.
"""

import contextlib
import json
import os
import selectors
import socket
import sys

from tests.soak import guest as guest_lib

LIBVIRT_SOCKET = 'libvirt.sock'
GUESTS_FILE = 'guests.json'
SOCKETS = os.path.join('guests', '%s.%s.sock')
CHANNEL = 'org.openstack.vmhealth.0'


class Hypervisor:
    """One thread: commands, guests' sockets and drivers."""

    def __init__(self, folder):
        self._path = os.path.join(folder, LIBVIRT_SOCKET)
        self._selector = selectors.DefaultSelector()
        self._listening = None
        self._drivers = {}
        with open(os.path.join(folder, GUESTS_FILE)) as f:
            self._guests = {
                each['uuid']: guest_lib.Guest(
                    each['uuid'],
                    os.path.join(folder, SOCKETS % (CHANNEL, each['name'])),
                    self._selector)
                for each in json.load(f)}
        self.do_back()

    # -- commands ------------------------------------------------------------

    def do_away(self):
        """libvirtd ends; QEMU does not."""
        self._selector.unregister(self._listening)
        self._listening.close()
        os.unlink(self._path)
        for driver in list(self._drivers):
            self._drop(driver)

    def do_back(self):
        self._listening = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._listening.bind(self._path)
        self._listening.listen(8)
        self._selector.register(self._listening, selectors.EVENT_READ,
                                self._accept)

    def do_change(self, uuid, state=None, mode=None, events=(), audits=None,
                  exits=False):
        """Something happens to a guest.

        :param state: its domain's state and reason
        :param mode: how it behaves from now on
        :param events: pairs of a translator's name in libvirt_events and its
            arguments; told after the change
        :param audits: what it reports
        :param exits: whether its agent ends, and says so
        :returns: whether a driver was there to be told
        """
        guest = self._guests[uuid]
        heard = bool(self._drivers)
        if state is not None:
            guest.state = state
        if mode is not None:
            guest.become(mode)
        if audits is not None:
            guest.report(audits)
        if exits:
            heard = guest.exit()
        for name, arguments in events:
            self._tell({'uuid': uuid, 'event': name, 'arguments': arguments})
        return heard

    # -- drivers -------------------------------------------------------------

    def _accept(self):
        driver = self._listening.accept()[0]
        self._drivers[driver] = driver.makefile('rwb')
        self._selector.register(driver, selectors.EVENT_READ,
                                lambda: self._asked(driver))

    def _asked(self, driver):
        # It writes one line and waits.
        try:
            line = self._drivers[driver].readline()
        except OSError:
            line = b''
        if not line:
            self._drop(driver)
            return
        self._send(driver, {'domains': [
            [guest.uuid, *guest.state] for guest in self._guests.values()]})

    def _tell(self, event):
        for driver in list(self._drivers):
            self._send(driver, event)

    def _send(self, driver, message):
        try:
            self._drivers[driver].write(json.dumps(message).encode() + b'\n')
            self._drivers[driver].flush()
        except OSError:
            self._drop(driver)

    def _drop(self, driver):
        self._selector.unregister(driver)
        with contextlib.suppress(OSError):
            self._drivers.pop(driver).close()
        driver.close()

    # -- the loop ------------------------------------------------------------

    def run(self):
        """Until the end of stdin."""
        # its buffer must be empty whenever the selector is asked
        commands = b''
        self._selector.register(0, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    # an event before it may have closed this one
                    if key.fileobj.fileno() >= 0:
                        key.data()
                    continue
                data = os.read(0, guest_lib.READ_SIZE)
                if not data:
                    return
                *lines, commands = (commands + data).split(b'\n')
                for line in lines:
                    self._do(json.loads(line))

    def _do(self, command):
        answer = getattr(self, 'do_' + command.pop('do'))(**command)
        print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    running = Hypervisor(sys.argv[1])
    print('"ready"', flush=True)
    running.run()
