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


"""The reference guest agent: answers the host's challenges, runs audits.

One file, standard library only, Python 3.6 or newer: copy it into any guest.
It talks version 1 of the heartbeat protocol (JSON lines) over the
virtio-serial port ``org.openstack.vmhealth.0``. An audit is an executable
whose exit status is the health of one thing: 0 healthy, 1 degraded, 2
unhealthy. Audits run on threads of their own, because an answer to the host
must never wait for one.
"""

import argparse
import collections
import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time

NAME = 'vmhealth-guest/1.0'
CHANNEL = 'org.openstack.vmhealth.0'
VERSION = 1
DEFAULT_AUDITS_DIR = '/etc/vmhealth-guest/audits.d'

HEALTHY, DEGRADED, UNHEALTHY = 'healthy', 'degraded', 'unhealthy'
# Exit status to health; the order is also the order of severity.
HEALTH_BY_STATUS = (HEALTHY, DEGRADED, UNHEALTHY)
# The exit status of --once that is no health: the audits are not known.
NO_AUDITS = 3

# The protocol's limit for a line from the guest.
MAX_LINE = 4096
# The host's lines have at most 1,024 bytes: a longer one is noise.
MAX_HOST_LINE = 1024
# The host tells at most 16 audit names apart, and 16 always fit in a line.
MAX_AUDITS = 16
# What is kept of an audit's output: more than any message that is sent.
MAX_OUTPUT = 1024
# Characters of a message; the later ones are tried when a line gets too long.
MESSAGE_LIMITS = (256, 64, 0)
# Unsent lines that are kept while the host does not read. Old answers are
# worth nothing to it, so the oldest ones go first.
MAX_UNSENT = 8

# Seconds between looks at a port without a host client. The kernel reports
# such a port as hung up all the time, so there is nothing to poll for.
RECONNECT_SECONDS = 0.25
REOPEN_SECONDS = 1.0
# Seconds between looks into the audit directory.
SCAN_SECONDS = 1.0
# Seconds for the farewell to leave when the agent is told to stop.
FAREWELL_SECONDS = 0.5
# Bounds for an audit's interval and timeout, in seconds.
MIN_SECONDS, MAX_SECONDS = 0.1, 86400.0

AUDIT_NAME = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z')
# An audit's own settings stand in its first 2 KiB: '# vmhealth-interval: 5'.
HEADER_BYTES = 2048
HEADER = re.compile(
    br'^#[ \t]*vmhealth-(interval|timeout):[ \t]*([0-9]{1,6}(?:\.[0-9]{1,3})?)'
    br'[ \t]*\r?$', re.MULTILINE)

LOG = logging.getLogger('vmhealth-guest')

Audit = collections.namedtuple('Audit', 'name path interval timeout')
Result = collections.namedtuple('Result', 'name health message')
# health is None while it is not known: an audit has not ended even once.
Snapshot = collections.namedtuple('Snapshot', 'health results')


class Complaint:
    """A warning that is said again only when its text has changed."""

    def __init__(self):
        self._said = ''

    def __call__(self, text):
        """Say what is wrong; an empty text: nothing is any more."""
        if text and text != self._said:
            LOG.warning('%s', text)
        self._said = text


def clean_text(data, limit):
    """Return bytes or text as one printable line of at most limit chars."""
    if isinstance(data, bytes):
        data = data.decode('utf-8', 'replace')
    printable = ''.join(c if c.isprintable() else ' ' for c in data)
    return ' '.join(printable.split())[:limit]


def worst(healths):
    """Return the most severe of some healths, healthy when there are none."""
    return max(healths, key=HEALTH_BY_STATUS.index, default=HEALTHY)


def encode(message, snapshot=None):
    """Return a message as a line of at most MAX_LINE bytes.

    :param message: a dict of what the protocol asks for
    :param snapshot: the Snapshot to tell with it; messages of audits are
        shortened, and left out at last, where the line gets too long
    """
    for limit in MESSAGE_LIMITS:
        fields = dict(message, **_health_fields(snapshot, limit))
        text = json.dumps(fields, separators=(',', ':'), ensure_ascii=False)
        line = text.encode('utf-8', 'replace') + b'\n'
        if len(line) <= MAX_LINE:
            break
    return line


def _health_fields(snapshot, limit):
    if snapshot is None:
        return {}
    fields = {}
    if snapshot.health is not None:
        fields['health'] = snapshot.health
    if snapshot.results:
        fields['audits'] = [
            {'name': r.name, 'health': r.health,
             'message': clean_text(r.message, limit)}
            for r in snapshot.results]
    return fields


class LineReader:
    """Cuts bytes into lines; drops a line that is longer than the host's."""

    def __init__(self):
        self._buffer = b''
        self._skipping = False

    def feed(self, data):
        """Take bytes; return the list of lines that they complete."""
        *lines, self._buffer = (self._buffer + data).split(b'\n')
        if self._skipping and lines:
            lines, self._skipping = lines[1:], False
        if len(self._buffer) > MAX_HOST_LINE:
            self._skipping = True
        if self._skipping:
            self._buffer = b''
        return [line for line in lines if len(line) <= MAX_HOST_LINE]


class Conversation:
    """What to say to one host client; bytes in, lines out, no I/O."""

    def __init__(self, audit_names=(), boot_id=''):
        self._reader = LineReader()
        self._audit_names = list(audit_names)
        self._boot_id = boot_id
        self._last_sequence = -1
        self._told = None
        self._complain = Complaint()

    def init(self):
        """Return the line that introduces the agent."""
        return encode({'type': 'init', 'version': VERSION, 'agent': NAME,
                       'boot_id': self._boot_id,
                       'audits': self._audit_names})

    def receive(self, data, snapshot):
        """Take bytes from the host; return the lines that answer them."""
        replies = []
        for line in self._reader.feed(data):
            replies += self._answer(line, snapshot)
        return replies

    def _answer(self, line, snapshot):
        try:
            message = json.loads(line.decode('utf-8'))
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            return []
        if message.get('type') == 'challenge':
            return self._answer_challenge(message, snapshot)
        if message.get('type') == 'nack':
            self._complain('the host refused a line: '
                           + clean_text(str(message.get('reason')), 200))
        return []

    def _answer_challenge(self, message, snapshot):
        sequence, nonce = message.get('sequence'), message.get('nonce')
        if type(sequence) is not int or not isinstance(nonce, str):
            return []
        replies = [encode({'type': 'challenge_response', 'sequence': sequence,
                           'nonce': nonce}, snapshot)]
        # A host that counts anew is another one than before (nova-compute
        # was restarted so fast that no hang-up was seen): say who we are.
        if sequence <= self._last_sequence:
            replies.append(self.init())
        self._last_sequence = sequence
        self._told = self._essence(snapshot)
        return replies

    def report(self, snapshot):
        """Return the lines that tell a change of health, mostly none.

        Nothing is told before the first challenge: its answer carries all.
        """
        essence = self._essence(snapshot)
        if self._told is None or essence == self._told:
            return []
        self._told = essence
        if snapshot.health is None:
            return []
        return [encode({'type': 'report'}, snapshot)]

    @staticmethod
    def _essence(snapshot):
        return snapshot.health, [(r.name, r.health) for r in snapshot.results]

    @staticmethod
    def exit(reason):
        """Return the line that says that the agent stops on purpose."""
        return encode({'type': 'exit', 'reason': reason})


def read_settings(path, interval, timeout):
    """Return (interval, timeout) of an audit, in seconds, from its header.

    :raises OSError: the audit cannot be read
    """
    settings = {b'interval': interval, b'timeout': timeout}
    with open(path, 'rb') as audit:
        settings.update(HEADER.findall(audit.read(HEADER_BYTES)))
    return tuple(min(max(float(settings[key]), MIN_SECONDS), MAX_SECONDS)
                 for key in (b'interval', b'timeout'))


def discover(directory, interval, timeout, complain):
    """Return the audits in a directory, by name, at most MAX_AUDITS.

    :param interval: seconds between two runs of an audit that says nothing
    :param timeout: seconds that a run may take, likewise
    :param complain: called with what is wrong with them, mostly ''
    :raises OSError: the directory exists and cannot be read
    """
    try:
        names = sorted(filter(AUDIT_NAME.match, os.listdir(directory)))
    except FileNotFoundError:
        return []
    paths = [(name, os.path.join(directory, name)) for name in names]
    chosen = [(name, path) for name, path in paths
              if os.path.isfile(path) and os.access(path, os.X_OK)]
    audits, problems = [], []
    for name, path in chosen[:MAX_AUDITS]:
        settings = interval, timeout
        try:
            settings = read_settings(path, interval, timeout)
        except OSError as error:
            problems.append('settings cannot be read: %s' % error)
        audits.append(Audit(name, path, *settings))
    complain('; '.join(problems))
    return audits


def run_audit(audit):
    """Run an audit once and return its Result.

    Takes no longer than the timeout, unless the kernel cannot start or kill
    a process, as on a dead disk.
    """
    try:
        process = subprocess.Popen(
            [audit.path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, cwd='/', start_new_session=True)
    except OSError as error:
        return Result(audit.name, UNHEALTHY,
                      'cannot be run: %s' % error.strerror)
    deadline = time.monotonic() + audit.timeout
    with process.stdout:
        output = _read_output(process, deadline)
    try:
        process.wait(max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return Result(audit.name, UNHEALTHY, timeout_message(audit))
    return Result(audit.name, *judge(process.returncode, output))


def _read_output(process, deadline):
    """Return the head of the output; the rest is read and thrown away."""
    output = b''
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return output
        if select.select([process.stdout], [], [], min(left, 0.1))[0]:
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:
                return output
            output = (output + chunk)[:MAX_OUTPUT]
        elif process.poll() is not None:
            return output  # a child that it left behind holds the pipe


def timeout_message(audit):
    return 'timed out after %g s' % audit.timeout


def judge(status, output):
    """Return (health, message) for an exit status and the output."""
    message = clean_text(output.partition(b'\n')[0], MESSAGE_LIMITS[0])
    if status < 0:
        return UNHEALTHY, 'ended by signal %d' % -status
    if status >= len(HEALTH_BY_STATUS):
        return UNHEALTHY, ('exit status %d: %s' % (status, message)).rstrip(
            ': ')
    return HEALTH_BY_STATUS[status], message


class Board:
    """The latest results, shared by the audits' threads and the talk.

    :param wake: called without arguments, on any thread, after a change
    """

    def __init__(self, wake):
        self._wake = wake
        self._lock = threading.Lock()
        self._results = collections.OrderedDict()
        self._running = {}
        self._names = None

    def begin(self, audit, now):
        """Note that an audit starts; False if its last run still goes on."""
        with self._lock:
            if audit.name in self._running:
                return False
            self._running[audit.name] = (now + audit.timeout, audit)
            return True

    def finish(self, result):
        """Take the result of a run that was begun."""
        with self._lock:
            self._running.pop(result.name, None)
            self._results[result.name] = result
        self._wake()

    def keep(self, names):
        """Say which audits there are.

        One that is gone stays as a healthy one while there is room: the
        host clears a fault only when told so, and may be away right now.
        """
        with self._lock:
            self._names = set(names)
            gone = [n for n in self._results if n not in self._names]
            for name in gone:
                self._results[name] = Result(name, HEALTHY, 'audit removed')
            for name in gone[:max(0, len(self._results) - MAX_AUDITS)]:
                del self._results[name]

    def snapshot(self, now):
        """Return the Snapshot at a time of the monotonic clock, in seconds.

        An audit that is overdue is unhealthy even while its thread still
        hangs in starting or killing it, as it does on a dead disk.
        """
        with self._lock:
            results = dict(self._results)
            for name, (deadline, audit) in self._running.items():
                if now >= deadline and name in (self._names or ()):
                    results[name] = Result(name, UNHEALTHY,
                                           timeout_message(audit))
            complete = self._names is not None and self._names <= set(results)
        results = tuple(results[name] for name in sorted(results))
        health = worst(result.health for result in results)
        if health == HEALTHY and not complete:
            health = None
        return Snapshot(health, results)

    def next_deadline(self, now):
        """Return when the next running audit gets overdue, None if never."""
        with self._lock:
            deadlines = [d for d, _ in self._running.values() if d > now]
        return min(deadlines, default=None)


def start_thread(function, *args):
    """Run a function on a thread that does not keep the process alive."""
    threading.Thread(target=function, args=args, daemon=True).start()


class Auditor:
    """Starts each audit of a directory when it is due.

    :param find: returns the list of Audits that there are
    :param board: the Board that gets the results
    :param start: runs a function with its arguments in the background
    """

    def __init__(self, find, board, start=start_thread):
        self._find = find
        self._board = board
        self._start = start
        self._complain = Complaint()
        self._audits = []
        self._due = {}

    def run(self):
        """Start audits for ever; meant for a thread of its own."""
        while True:
            time.sleep(self.step(time.monotonic()))

    def step(self, now):
        """Start what is due; return the seconds until the next look."""
        try:
            self._audits = self._find()
            self._complain('')
        except OSError as error:
            self._complain('the audits cannot be listed: %s' % error)
        names = [audit.name for audit in self._audits]
        self._due = {name: self._due.get(name, now) for name in names}
        for audit in self._audits:
            if now >= self._due[audit.name] and self._board.begin(audit, now):
                self._due[audit.name] = now + audit.interval
                self._start(self._run_one, audit)
        self._board.keep(names)
        soonest = min(self._due.values(), default=now + SCAN_SECONDS)
        return min(max(soonest - now, MIN_SECONDS), SCAN_SECONDS)

    def _run_one(self, audit):
        result = run_audit(audit)
        LOG.debug('audit %s: %s %s', *result)
        self._board.finish(result)


def find_port():
    """Return the path of our virtio-serial port.

    :raises FileNotFoundError: this guest has none
    """
    path = '/dev/virtio-ports/' + CHANNEL  # a link that udev makes
    if os.path.exists(path):
        return path
    ports = '/sys/class/virtio-ports'
    for port in os.listdir(ports):
        with open(os.path.join(ports, port, 'name')) as name:
            if name.read().strip() == CHANNEL:
                return '/dev/' + port
    raise FileNotFoundError(2, 'no virtio-serial port', CHANNEL)


class Port:
    """The open port: non-blocking reads and writes of whole lines."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        self.unsent = collections.deque(maxlen=MAX_UNSENT)
        self._rest = b''

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        os.close(self.fd)

    def read(self):
        """Return what arrived, b'' for nothing, None if no host listens."""
        try:
            # An empty read is how the kernel says that no client has the
            # host's end open: no end of file, a client may come any time.
            return os.read(self.fd, MAX_LINE) or None
        except BlockingIOError:
            return b''

    def flush(self):
        """Write what the kernel takes; return True when all is written."""
        while self._rest or self.unsent:
            line = self._rest or self.unsent.popleft()
            try:
                written = os.write(self.fd, line)
            except BlockingIOError:
                written = 0
            self._rest = line[written:]
            if self._rest:
                return False
        return True

    def forget(self):
        """Drop unsent lines: they were meant for a client that is gone."""
        self.unsent.clear()
        self._rest = b''


class Agent:
    """Joins port, conversation and board; runs until it is told to stop."""

    def __init__(self, open_port, read_boot_id=lambda: ''):
        self._open_port = open_port
        self._read_boot_id = read_boot_id
        self._wake_fd, self._waker = os.pipe()
        os.set_blocking(self._wake_fd, False)
        os.set_blocking(self._waker, False)
        self._stopping = False
        self._complain = Complaint()
        self.board = Board(self.wake)

    def wake(self):
        """End the agent's wait; may be called on any thread."""
        try:
            os.write(self._waker, b'.')
        except BlockingIOError:
            pass  # the pipe is full of wake-ups already

    def stop(self, *signal_and_frame):
        """Make run() say farewell and return; serves as signal handler."""
        self._stopping = True
        self.wake()

    def run(self):
        """Serve the port, opening it again after any error."""
        while not self._stopping:
            try:
                with self._open_port() as port:
                    self._serve(port)
            except OSError as error:
                self._complain('waiting for the port: %s' % error)
                self._wait(REOPEN_SECONDS)

    def _serve(self, port):
        conversation = None
        while not self._stopping:
            data = port.read()
            if data is None:
                conversation = None
                port.forget()
                self._wait(RECONNECT_SECONDS)
                continue
            snapshot = self.board.snapshot(time.monotonic())
            if conversation is None:
                LOG.info('a host client is connected')
                self._complain('')
                conversation = self._introduce(port, snapshot)
            port.unsent += conversation.receive(data, snapshot)
            port.unsent += conversation.report(snapshot)
            written = port.flush()
            if not data:
                self._wait(self._seconds_to_deadline(), port.fd, written)
        if conversation is not None:
            self._say_farewell(port)

    def _introduce(self, port, snapshot):
        conversation = Conversation([r.name for r in snapshot.results],
                                    self._read_boot_id())
        port.unsent.append(conversation.init())
        return conversation

    def _seconds_to_deadline(self):
        now = time.monotonic()
        deadline = self.board.next_deadline(now)
        return None if deadline is None else max(0, deadline - now)

    def _wait(self, seconds, fd=None, written=True):
        """Sleep until a wake-up, input, room for output, or seconds pass."""
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        if fd is not None:
            poller.register(
                fd, select.POLLIN | (0 if written else select.POLLOUT))
        # Rounded up: a wait cut short to 0 ms would spin.
        poller.poll(None if seconds is None else int(seconds * 1000) + 1)
        try:
            os.read(self._wake_fd, 4096)
        except BlockingIOError:
            pass  # it was not a wake-up

    def _say_farewell(self, port):
        port.unsent.append(Conversation.exit('terminated'))
        deadline = time.monotonic() + FAREWELL_SECONDS
        while not port.flush():
            if time.monotonic() >= deadline:
                return
            time.sleep(0.01)


def read_boot_id():
    """Return the kernel's id of this boot, empty if it tells none."""
    try:
        with open('/proc/sys/kernel/random/boot_id') as boot_id:
            return boot_id.read().strip()
    except OSError:
        return ''


def run_once(find):
    """Run audits one after the other, print what they say.

    :param find: returns the list of Audits that there are
    :returns: the exit status that stands for the worst of them, or NO_AUDITS
    """
    try:
        audits = find()
    except OSError as error:
        LOG.error('the audits cannot be listed: %s', error)
        return NO_AUDITS
    results = [run_audit(audit) for audit in audits]
    for result in results:
        print('%-10s %s: %s' % (result.health, result.name, result.message))
    return HEALTH_BY_STATUS.index(worst(r.health for r in results))


def seconds(text):
    """Return an option's text as seconds; for argparse.

    :raises ValueError: it is no number within the bounds
    """
    value = float(text)
    if not MIN_SECONDS <= value <= MAX_SECONDS:
        raise ValueError(text)
    return value


def parse_args(argv):
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog='vmhealth-guest',
        description='Answers the host\'s heartbeat challenges and tells it '
                    'the results of audits.',
        epilog='An audit is an executable: exit status 0 is healthy, 1 '
               'degraded, anything else unhealthy; its first line of output '
               'is the message. Lines such as "# vmhealth-interval: 5" and '
               '"# vmhealth-timeout: 3" in its head go before the options.')
    parser.add_argument('--port', metavar='DEVICE',
                        help='the port (default: the one named %s)' % CHANNEL)
    parser.add_argument('--audits-dir', metavar='DIR',
                        default=DEFAULT_AUDITS_DIR,
                        help='the audits (default: %(default)s)')
    parser.add_argument('--interval', type=seconds, default=10.0, metavar='S',
                        help='seconds between two runs of an audit '
                             '(default: %(default)g)')
    parser.add_argument('--timeout', type=seconds, default=5.0, metavar='S',
                        help='seconds a run may take (default: %(default)g)')
    parser.add_argument('--once', action='store_true',
                        help='run the audits once, print the results and '
                             'exit with the worst; talk to no host')
    parser.add_argument('--verbose', action='store_true',
                        help='say on standard error what happens')
    return parser.parse_args(argv)


def main(argv=None):
    """Run the agent; return the exit status."""
    options = parse_args(argv)
    logging.basicConfig(
        format='vmhealth-guest: %(message)s',
        level=logging.DEBUG if options.verbose else logging.WARNING)

    complain = Complaint()

    def find():
        return discover(options.audits_dir, options.interval, options.timeout,
                        complain)

    if options.once:
        return run_once(find)
    agent = Agent(lambda: Port(options.port or find_port()), read_boot_id)
    signal.signal(signal.SIGTERM, agent.stop)
    signal.signal(signal.SIGINT, agent.stop)
    start_thread(Auditor(find, agent.board).run)
    agent.run()
    return 0


if __name__ == '__main__':
    sys.exit(main())
