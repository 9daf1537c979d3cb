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

"""One process of the Nova suite: runs its share, writes a JSON result.

    python -m tests.nova_suite.worker ours|stock RESULT.json ...
"""

import argparse
import functools
import inspect
import json
import re
import sys
import threading
import unittest

from tests import concurrency

# It patches the standard library where Nova runs under eventlet, so it comes
# before anything of Nova's.
concurrency.settle()

import nova.test  # noqa: E402
import nova.tests.unit  # noqa: E402, F401

HOST_TESTS = 'nova.tests.unit.virt.libvirt.test_host'
DRIVER_TESTS = 'nova.tests.unit.virt.libvirt.test_driver'
THREAD_PREFIX = 'vmhealth-'

# What every instance goes through besides the methods that we override.
ALWAYS = ('init_host', 'lifecycle', 'event', 'get_guest_config', 'traits',
          'public_api')


def put_in_place():
    """Make Nova's modules hand out our classes; return the two."""
    from nova.virt import libvirt
    from nova.virt.libvirt import driver
    from nova.virt.libvirt import host

    from nova_vmhealth.virt import driver as health_driver
    from nova_vmhealth.virt import host as health_host

    keep_own_name(driver, 'LibvirtDriver')
    show_static_methods(health_driver.HealthLibvirtDriver)
    show_static_methods(health_host.HealthHost)
    driver.LibvirtDriver = health_driver.HealthLibvirtDriver
    libvirt.LibvirtDriver = health_driver.HealthLibvirtDriver
    host.Host = health_host.HealthHost
    return driver.LibvirtDriver, host.Host


def keep_own_name(module, name):
    """Let a class's ``super(name, self)`` find the class itself.

    Nova 31 and 32 have it in ``LibvirtDriver.__init__``: with the name bound
    to our subclass it would call itself without end. Its code asks for
    another name afterwards, in the same module: tests replace others there.
    """
    cls = getattr(module, name)
    own = '_stock_' + name
    setattr(module, own, cls)
    init = cls.__init__
    init.__code__ = init.__code__.replace(co_names=tuple(
        own if used == name else used for used in init.__code__.co_names))


def show_static_methods(cls):
    """Put inherited static and class methods into the class's own dict.

    Nova's tests replace them by fixtures.MonkeyPatch, which looks for their
    kind nowhere else and would make plain methods of them.
    """
    for base in cls.__mro__[1:-1]:
        for name, value in vars(base).items():
            if (isinstance(value, (staticmethod, classmethod))
                    and name not in vars(cls)):
                setattr(cls, name, value)


def words_of(*classes):
    """Names of the inherited methods that the classes override.

    A test of Nova's is named after the method it tests, so these words find
    the tests that our code takes part in.
    """
    words = set(ALWAYS)
    for cls in classes:
        for name, value in vars(cls).items():
            if inspect.isfunction(value) and any(
                    name in vars(base) for base in cls.__mro__[1:-1]):
                words.add(name.strip('_'))
    return words - {'init'}


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def load(names):
    """Return the tests below the names, always in the same order."""
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    return sorted(flatten(suite), key=lambda test: test.id())


def select(tests, words):
    """Keep all tests of the host, and of the driver those with our words."""
    pattern = re.compile('|'.join(sorted(words)))
    return [test for test in tests
            if not test.id().startswith(DRIVER_TESTS)
            or pattern.search(test.id()[len(DRIVER_TESTS):])]


def remember_drivers(cls, started):
    """Append to ``started`` each driver whose init_host() is called.

    Nova's tests never call cleanup_host(), which is what stops our threads.
    """
    init_host = cls.init_host

    @functools.wraps(init_host)
    def remembered(self, host):
        # The same arguments: one of Nova's tests compares them.
        started.append(self)
        return init_host(self, host)

    cls.init_host = remembered


def stop_after_each_test(started):
    """Have what the drivers have started end with each test's own part.

    Not with its cleanups: by then Nova looks whether a listener is left.
    """
    tear_down = nova.test.TestCase.tearDown

    @functools.wraps(tear_down)
    def stopping(self):
        for driver in started:
            # Not cleanup_host(): the rest of it is Nova's, whose parts were
            # patched only as long as the test ran.
            if driver.vmhealth_monitor is not None:
                driver.vmhealth_monitor.stop()
        started.clear()
        tear_down(self)

    nova.test.TestCase.tearDown = stopping


def our_threads():
    """Return our threads, also the native ones of an eventlet process."""
    eventlet_patcher = sys.modules.get('eventlet.patcher')
    module = (eventlet_patcher.original('threading') if eventlet_patcher
              else threading)
    return {thread for thread in (*threading.enumerate(), *module.enumerate())
            if thread.name.startswith(THREAD_PREFIX)}


class Result(unittest.TestResult):
    """Collects what the parent needs, and looks for threads left over."""

    def __init__(self):
        super().__init__()
        self.left_over = {}
        self._known_threads = set()

    def stopTest(self, test):
        super().stopTest(test)
        new = our_threads() - self._known_threads
        if new:
            self._known_threads |= new
            self.left_over[test.id()] = sorted(
                thread.name for thread in new)

    def to_primitive(self):
        failed = [*self.failures, *self.errors,
                  *((test, 'unexpected success')
                    for test in self.unexpectedSuccesses)]
        return {
            'run': self.testsRun,
            'skipped': len(self.skipped),
            'failed': {test.id(): trace for test, trace in failed},
            'left_over': self.left_over,
        }


def tests_for(args, classes):
    """Load and select the tests that the command line asks for."""
    if args.id:
        return load(args.id)
    tests = load([HOST_TESTS, DRIVER_TESTS])
    if args.match:
        tests = [test for test in tests if re.search(args.match, test.id())]
    elif not args.whole:
        tests = select(tests, words_of(*classes))
    index, count = map(int, args.share.split('/'))
    return tests[index::count]


def main():
    parser = argparse.ArgumentParser(description='See tests.nova_suite.run.')
    parser.add_argument('classes', choices=('ours', 'stock'))
    parser.add_argument('result')
    parser.add_argument('--share', default='0/1')
    parser.add_argument('--whole', action='store_true')
    parser.add_argument('--match')
    parser.add_argument('--id', nargs='+')
    args = parser.parse_args()
    classes, started = (), []
    if args.classes == 'ours':
        classes = put_in_place()
        remember_drivers(classes[0], started)
        stop_after_each_test(started)
    result = Result()
    unittest.TestSuite(tests_for(args, classes)).run(result)
    with open(args.result, 'w') as output:
        json.dump(result.to_primitive(), output)


if __name__ == '__main__':
    main()
