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

"""What the demo looks through: console, bus, QEMU's events, Nova's log.

Each of them reads on a thread of its own and keeps lines with the time at
which it saw them; ``wait`` gives the first one that fits.
"""

import collections
import datetime
import json
import os
import re
import subprocess
import threading
import time
import tty


class TimedOut(Exception):
    """What was waited for did not come."""


class Lines:
    """Lines with their times, appended by one thread, awaited by another."""

    def __init__(self, name):
        self.name = name
        self._items = []
        self._changed = threading.Condition()

    def add(self, item):
        with self._changed:
            self._items.append((time.time(), item))
            self._changed.notify_all()

    def mark(self):
        """Give a position; wait(after=position) ignores what came before."""
        with self._changed:
            return len(self._items)

    def wait(self, fits, timeout_s, after=0, what=''):
        """Give (time seen, item) of the first item that fits.

        :param fits: takes an item, gives a truth value
        :raises TimedOut: none in timeout_s seconds
        """
        end = time.monotonic() + timeout_s
        with self._changed:
            position = after
            while True:
                for seen, item in self._items[position:]:
                    if fits(item):
                        return seen, item
                position = max(position, len(self._items))
                left = end - time.monotonic()
                if left <= 0:
                    raise TimedOut('%s: no %s within %d s' % (
                        self.name, what or 'such line', timeout_s))
                self._changed.wait(left)


class Reader:
    """A program whose output is read line by line.

    :param name: for messages, the log below lab/log that takes its standard
        error, and the pid file below lab/run that "down" knows
    :param lab: the lab's folder
    :param command: argument list
    :param parse: makes an item of a line, or None for lines to skip
    """

    def __init__(self, name, lab, command, parse):
        self.lines = Lines(name)
        self._parse = parse
        with open(os.path.join(lab, 'log', name + '.log'), 'a') as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors,
                stdin=subprocess.DEVNULL, text=True, start_new_session=True)
        self._pid_file = os.path.join(lab, 'run', name + '.pid')
        with open(self._pid_file, 'w') as pid_file:
            pid_file.write('%d %s\n' % (
                self._process.pid, _start_time(self._process.pid)))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            item = self._parse(line)
            if item is not None:
                self.lines.add(item)

    def stop(self):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.unlink(self._pid_file)


def _start_time(pid):
    """Give what tells a process from a later one with the same pid."""
    with open('/proc/%d/stat' % pid) as stat:
        return stat.read().rpartition(')')[2].split()[19]


def bus_listener(lab, program, transport_url):
    """Start ``nova-vmhealth listen --json``; items are dicts."""
    return Reader(
        'listener', lab,
        [program, 'listen', '--transport-url', transport_url, '--json',
         '--pool', 'vmhealth-demo'],
        _json_or_none)


def _json_or_none(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


# as virsh prints it: event WATCHDOG at 1700000000.123456 for domain 'x': {}
_QEMU_EVENT = re.compile(r"event (\S+) at ([0-9.]+) for domain '?([^':]+)'?")


def qemu_events(lab):
    """Start reading QEMU's own events; items are (event, time, domain).

    QEMU puts the time on an event when it happens, so this is when the fault
    was, by the same clock, before libvirt or we knew of it.
    """
    return Reader(
        'qemu-events', lab,
        # Without stdbuf, virsh keeps its lines back until it ends.
        ['stdbuf', '-oL', 'virsh', 'qemu-monitor-event', '--loop'],
        _qemu_event_or_none)


def _qemu_event_or_none(line):
    found = _QEMU_EVENT.search(line)
    return found and (found[1], float(found[2]), found[3])


class LogFile:
    """A file that another program appends to."""

    def __init__(self, name, path, from_end=True):
        self.name = name
        self._path = path
        self._position = 0
        self._pending = collections.deque()
        if from_end and os.path.exists(path):
            self._position = os.path.getsize(path)

    def wait(self, pattern, timeout_s):
        """Give the match of the first line where pattern is found.

        :raises TimedOut: none in timeout_s seconds
        """
        pattern = re.compile(pattern)
        end = time.monotonic() + timeout_s
        while True:
            self._pending.extend(self._new_lines())
            while self._pending:
                found = pattern.search(self._pending.popleft())
                if found:
                    return found
            if time.monotonic() > end:
                raise TimedOut('%s: no "%s" within %d s' % (
                    self.name, pattern.pattern, timeout_s))
            time.sleep(0.05)

    def _new_lines(self):
        try:
            with open(self._path, 'rb') as log:
                log.seek(self._position)
                data = log.read()
        except FileNotFoundError:
            return []
        whole = data[:data.rfind(b'\n') + 1]
        self._position += len(whole)
        return whole.decode('utf-8', 'replace').splitlines()


class Console:
    """A guest's serial console.

    :param path: the pseudo terminal that QEMU made for it
    """

    def __init__(self, path):
        self.lines = Lines('guest console')
        self._terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._terminal)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        rest = b''
        while True:
            try:
                data = os.read(self._terminal, 4096)
            except OSError:
                data = b''
            if not data:
                # QEMU has ended, and its end of the terminal with it.
                os.close(self._terminal)
                return
            *lines, rest = (rest + data).split(b'\n')
            for line in lines:
                self.lines.add(line.decode('utf-8', 'replace').strip())

    def tell(self, command):
        """Give the guest a command; return the time just before."""
        now = time.time()
        os.write(self._terminal, command.encode() + b'\n')
        return now

    def order(self, command, timeout_s=30):
        """Give a command; return the time at which the guest had done it."""
        mark = self.lines.mark()
        self.tell(command)
        return self.done(command, timeout_s, mark)

    def done(self, command, timeout_s=30, after=0):
        done = 'DONE ' + command
        return self.lines.wait(
            lambda line: line.endswith(done), timeout_s, after, done)[0]


def seconds_of(text):
    """Read ISO 8601, in UTC unless it says otherwise."""
    when = datetime.datetime.fromisoformat(text.replace('Z', '+00:00'))
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.timezone.utc)
    return when.timestamp()
