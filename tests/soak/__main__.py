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


"""Run the soak: python -m tests.soak --help."""

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import time

from tests.soak import run


def say(text):
    print('%s %s' % (time.strftime('%H:%M:%S'), text), flush=True)


def arguments():
    parser = argparse.ArgumentParser(
        prog='python -m tests.soak',
        description='Guests at the level of their sockets, random faults, '
        'and restarts of everything; a tally at the end. The exit status says '
        'whether anything was wrong. It needs RabbitMQ.')
    parser.add_argument('--minutes', type=float, default=60)
    parser.add_argument('--guests', type=int, default=200)
    parser.add_argument('--restart-every', type=float, default=60,
                        metavar='SECONDS', help='on average; 0 for never')
    parser.add_argument('--seed', type=int, default=int(time.time()),
                        help='the same stories in the same order')
    return parser.parse_args()


def main():
    options = arguments()
    # What it has started ends with it.
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(1))
    folder = tempfile.mkdtemp(prefix='vmhealth-')
    logging.basicConfig(filename=os.path.join(folder, 'listener.log'))
    say('seed %d, logs in %s' % (options.seed, folder))
    soak = run.Soak(folder, options.guests, options.minutes * 60,
                    options.restart_every, options.seed, say)
    print('\n'.join(soak.run()))
    if soak.world.tally.problems:
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == '__main__':
    main()
