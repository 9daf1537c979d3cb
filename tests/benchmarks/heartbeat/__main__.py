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


"""Run the benchmark: see README.rst beside this file."""

import argparse
import sys
import tempfile

from tests.benchmarks.heartbeat import processes
from tests.benchmarks.heartbeat import scenarios
from tests.benchmarks.heartbeat import watch


def arguments():
    names = list(scenarios.SCENARIOS)
    parser = argparse.ArgumentParser(
        prog='python -m tests.benchmarks.heartbeat',
        description='What the heartbeat costs and how late it tells.')
    parser.add_argument('scenario', nargs='*', metavar='scenario',
                        help='of %s; all when there is none'
                        % ', '.join(names))
    parser.add_argument('--guests', type=int,
                        help='how many, in place of a scenario\'s own number')
    parser.add_argument('--seconds', type=float,
                        help='how long to measure, in place of its own time')
    parser.add_argument('--answers', choices=('plain', 'full'),
                        default='plain', help='the protocol\'s least answer, '
                        'or the one with health and two audits')
    parser.add_argument('--no-orjson', action='store_true',
                        help='as where orjson is not installed')
    parser.add_argument('--eventlet', action='store_true',
                        help='in a process that eventlet has patched')
    options = parser.parse_args()
    unknown = set(options.scenario) - set(names)
    if unknown:
        parser.error('no such scenario: ' + ', '.join(sorted(unknown)))
    return options


def say(text):
    print('  ... ' + text, file=sys.stderr, flush=True)


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(prefix='vmhealth-') as folder:
        processes.compile_programs(folder)
        run = watch.Run(
            folder, say, options.guests, options.seconds, options.answers,
            {'eventlet': options.eventlet, 'no_orjson': options.no_orjson})
        for name in options.scenario or scenarios.SCENARIOS:
            scenario = scenarios.SCENARIOS[name]
            print('%s: %s' % (name, scenario.__doc__.splitlines()[0]),
                  flush=True)
            scenario(run)


if __name__ == '__main__':
    main()
