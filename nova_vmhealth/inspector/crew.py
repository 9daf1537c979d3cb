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

"""Threads for what takes time: Nova's API, locks, checks.

They are daemons, and nobody waits for them at the end: a request that hangs
must not keep the process from ending.
"""

import queue
import threading

from oslo_log import log as logging

LOG = logging.getLogger(__name__)


class Job:
    """A function that a crew has taken.

    :ivar result: what it returned
    :ivar error: what it raised instead; None for nothing
    """

    def __init__(self, function):
        self._function = function
        self._done = threading.Event()
        self.result = None
        self.error = None

    def run(self):
        """Run it; for the crew."""
        try:
            self.result = self._function()
        except Exception as error:
            # Who waits for it logs it; nobody may.
            LOG.debug('A job failed: %s', error)
            self.error = error
        finally:
            self._done.set()

    def wait(self, timeout_s):
        """Wait until it has run.

        :param timeout_s: longest wait, seconds
        :returns: whether it has
        """
        return self._done.wait(timeout_s)


class Crew:
    """Some threads that take jobs in order.

    :param name: of the threads
    :param size: how many there are at most
    :param most: how many jobs may wait for one
    """

    def __init__(self, name, size, most=10000):
        self._name = name
        self._size = size
        self._jobs = queue.Queue(most)
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0

    def submit(self, function):
        """Have a function called on one of the threads.

        :param function: called without arguments; what it raises is the
            job's ``error``
        :returns: a Job; None where too many wait
        """
        job = Job(function)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            LOG.error('%(name)s: %(number)d jobs wait, no other is taken',
                      {'name': self._name, 'number': self._jobs.qsize()})
            return None
        with self._lock:
            if self._idle < self._jobs.qsize() and self._threads < self._size:
                self._threads += 1
                threading.Thread(
                    target=self._run, daemon=True,
                    name=f'{self._name}-{self._threads}').start()
        return job

    def _run(self):
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
            job.run()
