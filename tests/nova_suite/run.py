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

"""Runs Nova's own libvirt tests with our driver and host in place.

HealthLibvirtDriver must be a perfect substitute for LibvirtDriver, and Nova's
tests of the latter say what that means. They are part of the installed nova.
The classes are put in place by rebinding the names in Nova's modules before
the tests are imported.

What fails with our classes is run again with Nova's own, in the same way on
the same machine: only a failure that stock Nova does not have counts. A thread
of ours that lives on after its driver was stopped is a failure of the test.

    python -m tests.nova_suite.run [--whole] [--workers N] [--match REGEX]
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
WORKER = 'tests.nova_suite.worker'
SHOWN_LINES = 15


class WorkerDied(Exception):
    """A worker ended without a result; the text is the end of its output."""


class Workers:
    """Several processes, each with its share of the tests."""

    def __init__(self, folder, classes, count, options=()):
        self.classes = classes
        self.started = [
            self._start(pathlib.Path(folder), index, count, options)
            for index in range(count)]

    def _start(self, folder, index, count, options):
        name = '%s-%d' % (self.classes, index)
        result, log = folder / (name + '.json'), folder / (name + '.log')
        with open(log, 'w') as output:
            process = subprocess.Popen(
                [sys.executable, '-m', WORKER, self.classes, str(result),
                 '--share', '%d/%d' % (index, count), *options],
                cwd=ROOT, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True)
        return process, result, log

    def results(self, deadline):
        """Wait for all and return their results.

        :param deadline: time.monotonic() in seconds when patience ends
        :raises WorkerDied: one crashed, or was not done in time
        """
        try:
            return [self._result(deadline, *one) for one in self.started]
        finally:
            for process, _, _ in self.started:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    @staticmethod
    def _result(deadline, process, result, log):
        try:
            process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            why = 'was not done in time'
        else:
            if result.exists():
                return json.loads(result.read_text())
            why = 'ended with %d' % process.returncode
        tail = log.read_text(errors='replace').splitlines()[-SHOWN_LINES:]
        raise WorkerDied('a worker %s:\n%s' % (why, '\n'.join(tail)))


def run_tests(classes, workers, options, deadline):
    """Run tests with 'ours' or 'stock' classes; return one merged result.

    :returns: a dict: run (number of tests), skipped (number), failed (a dict
        from the id of a test to its traceback), left_over (a dict from the id
        of a test to the names of our threads that outlived it)
    """
    merged = {'run': 0, 'skipped': 0, 'failed': {}, 'left_over': {}}
    with tempfile.TemporaryDirectory(prefix='nova-suite-') as folder:
        for result in Workers(folder, classes, workers, options).results(
                deadline):
            for key, value in result.items():
                if isinstance(value, dict):
                    merged[key].update(value)
                else:
                    merged[key] += value
    return merged


def compare(whole=False, match=None, workers=2, patience_s=1800, say=print):
    """Run the tests with our classes and judge the failures by stock Nova.

    :param whole: all tests of both modules, not the selection
    :param match: only tests whose id matches this regular expression
    :param workers: number of processes
    :param patience_s: seconds until all is given up
    :param say: is called with each line of the report
    :returns: the ids of the tests that only we fail
    """
    begun = time.monotonic()
    options = (['--whole'] if whole else []) + (
        ['--match', match] if match else [])
    ours = run_tests('ours', workers, options, begun + patience_s)
    stock_failed = {}
    if ours['failed']:
        stock_failed = run_tests(
            'stock', 1, ['--id', *sorted(ours['failed'])],
            begun + patience_s)['failed']
    new = {name: trace for name, trace in ours['failed'].items()
           if name not in stock_failed}
    for name, trace in sorted(new.items()):
        say('NEW FAILURE %s\n%s' % (name, trace))
    for name, threads in sorted(ours['left_over'].items()):
        say('THREADS LEFT %s: %s' % (name, ', '.join(threads)))
    for name in sorted(stock_failed):
        say('fails with stock Nova too: %s' % name)
    bad = sorted({*new, *ours['left_over']})
    say("Nova's own tests with our driver: %d run, %d skipped, %d fail with "
        'stock Nova too, %d are ours, %.0f s' % (
            ours['run'], ours['skipped'], len(stock_failed), len(bad),
            time.monotonic() - begun))
    if not ours['run']:
        bad.append('no test matched')
    return bad


def main():
    parser = argparse.ArgumentParser(
        description="Run Nova's own libvirt tests with our driver.")
    parser.add_argument('--whole', action='store_true',
                        help='all of test_driver, not the selection')
    parser.add_argument('--match', metavar='REGEX',
                        help='only tests whose id matches')
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1,
                        metavar='N', help='processes (default: %(default)s)')
    args = parser.parse_args()
    try:
        return bool(compare(args.whole, args.match, args.workers))
    except WorkerDied as error:
        return str(error)


if __name__ == '__main__':
    sys.exit(main())
