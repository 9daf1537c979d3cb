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

Standard library only, Python 3.6 or newer. The modules of this directory
that it imports are shipped as one file, which ``nova_vmhealth.guest.bundle``
makes: copy it into any guest. It talks version 1 of the heartbeat protocol
(JSON lines) over the virtio-serial port ``org.openstack.vmhealth.0``. An audit
is an executable whose exit status is the health of one thing: 0 healthy, 1
degraded, 2 unhealthy. Audits run on threads of their own, because an answer
to the host must never wait for one.
"""

import argparse
import logging
import os
import signal
import sys
import time

from nova_vmhealth.guest.auditor import Auditor
from nova_vmhealth.guest import audits
from nova_vmhealth.guest.board import Board
from nova_vmhealth.guest.health import Complaint
from nova_vmhealth.guest.health import HEALTH_BY_STATUS
from nova_vmhealth.guest.health import LOG
from nova_vmhealth.guest.health import start_thread
from nova_vmhealth.guest.health import worst
from nova_vmhealth.guest.notices import Notices
from nova_vmhealth.guest.port import CHANNEL
from nova_vmhealth.guest.port import find_port
from nova_vmhealth.guest.port import Port
from nova_vmhealth.guest.port import Waker
from nova_vmhealth.guest.service import Agent
from nova_vmhealth.guest.systemd import take_notifier
from nova_vmhealth.guest.watchdog import Grace
from nova_vmhealth.guest.watchdog import Watchdog

DEFAULT_AUDITS_DIR = '/etc/vmhealth-guest/audits.d'
DEFAULT_NOTICES_DIR = '/etc/vmhealth-guest/notices.d'
# The exit status of --once that is no health: the audits are not known.
NO_AUDITS = 3
# A device's timeout, seconds: short enough to be of use, and long enough for
# a loop that comes by every second on a busy guest.
MIN_WATCHDOG_SECONDS, MAX_WATCHDOG_SECONDS = 5, 3600


def read_boot_id():
    """Return the kernel's id of this boot, empty if it tells none."""
    try:
        with open('/proc/sys/kernel/random/boot_id') as boot_id:
            return boot_id.read().strip()
    except OSError:
        return ''


def say(text):
    """Print a line; what standard output cannot encode is escaped."""
    encoding = sys.stdout.encoding or 'ascii'
    print(text.encode(encoding, 'backslashreplace').decode(encoding))


def run_once(find):
    """Run audits one after the other, print what they say.

    :param find: returns the list of Audits that there are
    :returns: the exit status that stands for the worst of them, or NO_AUDITS
    """
    try:
        found = find()
    except OSError as error:
        LOG.error('the audits cannot be listed: %s', error)
        return NO_AUDITS
    results = [audits.run_audit(audit) for audit in found]
    for result in results:
        say('%-10s %s: %s' % (result.health, result.name, result.message))
    return HEALTH_BY_STATUS.index(worst(r.health for r in results))


def seconds(text):
    """Return an option's text as seconds; for argparse.

    :raises ValueError: it is no number within the bounds
    """
    value = float(text)
    if not audits.MIN_SECONDS <= value <= audits.MAX_SECONDS:
        raise ValueError(text)
    return value


def watchdog_seconds(text):
    """Return an option's text as a device's timeout; for argparse.

    :raises ValueError: it is no number within the bounds
    """
    value = int(text)
    if not MIN_WATCHDOG_SECONDS <= value <= MAX_WATCHDOG_SECONDS:
        raise ValueError(text)
    return value


def names(text):
    """Return an option's text as a list of names; for argparse."""
    return [name.strip() for name in text.split(',') if name.strip()]


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
    parser.add_argument('--notices-dir', metavar='DIR',
                        default=DEFAULT_NOTICES_DIR,
                        help='programs to run before and after what Nova '
                             'does to the guest (default: %(default)s)')
    add_watchdog_options(parser)
    parser.add_argument('--once', action='store_true',
                        help='run the audits once, print the results and '
                             'exit with the worst; talk to no host')
    parser.add_argument('--verbose', action='store_true',
                        help='say on standard error what happens')
    return parser.parse_args(argv)


def add_watchdog_options(parser):
    """Add the options that belong to --watchdog."""
    parser.add_argument('--watchdog', metavar='DEVICE',
                        help='pet this watchdog while the audits are well; '
                             'it resets the guest when they are not')
    parser.add_argument('--watchdog-audits', type=names, default=[],
                        metavar='NAME,...',
                        help='only these audits matter to it (default: all)')
    parser.add_argument('--watchdog-grace', type=seconds, default=60.0,
                        metavar='S',
                        help='seconds an audit may be unhealthy before it is '
                             'left alone (default: %(default)g)')
    parser.add_argument('--watchdog-timeout', type=watchdog_seconds,
                        default=60, metavar='S',
                        help='seconds from the last pet to the reset, if the '
                             'device can be told (default: %(default)d)')


def make_keepers(options, environ):
    """Return what the loop has to tell that it is alive."""
    keepers = []
    notifier = take_notifier(environ)
    if notifier is not None:
        keepers.append(notifier)
    if options.watchdog:
        keepers.append(Watchdog(
            options.watchdog, options.watchdog_timeout,
            Grace(options.watchdog_audits, options.watchdog_grace)))
    return keepers


def main(argv=None):
    """Run the agent; return the exit status."""
    options = parse_args(argv)
    logging.basicConfig(
        format='vmhealth-guest: %(message)s',
        level=logging.DEBUG if options.verbose else logging.WARNING)

    complain = Complaint()

    def find():
        return audits.discover(options.audits_dir, options.interval,
                               options.timeout, complain)

    if options.once:
        return run_once(find)
    waker = Waker()
    board = Board(waker.wake)
    notices = Notices(options.notices_dir, waker.wake)
    # The first introduction already tells whether notices are wanted.
    notices.look()
    agent = Agent(lambda: Port(options.port or find_port()), waker, board,
                  notices, make_keepers(options, os.environ), read_boot_id())
    signal.signal(signal.SIGTERM, agent.stop)
    signal.signal(signal.SIGINT, agent.stop)
    board.looked(time.monotonic())
    start_thread(Auditor(find, board, also=notices.look).run)
    agent.run()
    return 0


if __name__ == '__main__':
    sys.exit(main())
