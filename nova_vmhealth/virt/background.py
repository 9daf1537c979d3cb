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

"""One thread for what must not hold up an event: RPC and calls to libvirt."""

import threading
import time

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

# A job that fails (nova-conductor or libvirt away) is tried again after this
# many seconds.
RETRY_S = 5.0
# Jobs are keyed by instance and purpose, so this is far above what a host
# needs; it bounds what a storm of unknown domains can queue.
MAX_JOBS = 10000
# A job that takes this long, seconds, does not come back: a call to libvirt
# waits for ever where a QEMU is stopped, or its storage is away.
STUCK_S = 30.0
# Threads that may wait like that. Under eventlet each of them has one of the
# 20 native threads that make all of nova-compute's calls to libvirt.
MAX_STUCK = 8


class Background:
    """Runs keyed, delayed jobs one after the other on a thread of its own.

    The thread comes from whatever ``threading`` Nova left in place, a native
    thread or, under eventlet, a greenthread: its jobs do RPC, which in
    eventlet mode must stay on the hub's thread.

    A thread whose job does not come back can be replaced: the next one goes on
    with the queue, and the old one ends with its job.

    :param name: of the thread
    :param monotonic: the clock of the delays, seconds
    :param stuck_s: seconds after which a job's thread is replaced; None for
        never, where jobs end by themselves
    """

    def __init__(self, name, monotonic=time.monotonic, stuck_s=None):
        self._name = name
        self._monotonic = monotonic
        self._stuck_s = stuck_s
        self._changed = threading.Condition()
        self._jobs = {}
        self._running = False
        self._thread = None
        # Counts the threads: only the latest takes jobs.
        self._turn = 0
        # the job at hand: its key, and when it began
        self._at_hand = None
        self._stuck = 0
        self._told_of_limit = False

    def start(self):
        """Start the thread."""
        with self._changed:
            self._running = True
            self._begin_thread()

    def stop(self, timeout_s):
        """Stop after the job at hand; what is queued is dropped.

        :param timeout_s: longest wait for the job at hand, seconds
        """
        with self._changed:
            self._running = False
            self._changed.notify()
        if self._thread:
            self._thread.join(timeout_s)

    def submit(self, key, function, delay_s=0.0):
        """Queue a job; one with the same key is replaced.

        :param key: what names the job
        :param function: called without arguments
        :param delay_s: not before this many seconds from now
        :returns: False when there are too many jobs and this one is dropped
        """
        with self._changed:
            if len(self._jobs) >= MAX_JOBS and key not in self._jobs:
                return False
            self._jobs[key] = (self._monotonic() + delay_s, function)
            self._changed.notify()
            self._replace_stuck()
            return True

    def tend(self):
        """Replace the thread if its job does not come back."""
        with self._changed:
            self._replace_stuck()

    def next_job(self, now):
        """Take out the job that is due longest.

        :param now: monotonic time, seconds
        :returns: (key, function) or None, and the seconds until the next one
            is due (None when there is none)
        """
        if not self._jobs:
            return None, None
        key = min(self._jobs, key=lambda k: self._jobs[k][0])
        due, function = self._jobs[key]
        if due > now:
            return None, due - now
        del self._jobs[key]
        return (key, function), 0.0

    # -- with the lock held --------------------------------------------------

    def _begin_thread(self):
        self._turn += 1
        self._thread = threading.Thread(
            target=self._run, args=(self._turn,), name=self._name,
            daemon=True)
        self._thread.start()

    def _replace_stuck(self):
        if not self._running or self._stuck_s is None or not self._at_hand:
            return
        key, began = self._at_hand
        if self._monotonic() - began < self._stuck_s:
            return
        if self._stuck >= MAX_STUCK:
            if not self._told_of_limit:
                self._told_of_limit = True
                LOG.error('%(name)s: %(number)d jobs do not come back, the '
                          'rest waits for one of them, the latest is '
                          '%(key)s', {'name': self._name, 'key': key,
                                      'number': self._stuck + 1})
            return
        self._stuck += 1
        self._at_hand = None
        LOG.warning('%(key)s has not come back for %(seconds)d s, the rest '
                    'goes on without it',
                    {'key': key, 'seconds': self._stuck_s})
        self._begin_thread()

    # -- the thread ----------------------------------------------------------

    def _run(self, turn):
        while True:
            with self._changed:
                if not self._running:
                    return
                job, wait = self.next_job(self._monotonic())
                if job is None:
                    self._changed.wait(wait)
                    continue
                self._at_hand = (job[0], self._monotonic())
            self._do(*job)
            with self._changed:
                if turn != self._turn:
                    self._stuck -= 1
                    return          # another has taken its place
                self._at_hand = None
                self._told_of_limit = False

    def _do(self, key, function):
        try:
            function()
        except Exception as error:
            # Whatever a job meets (RPC, libvirt, database errors behind the
            # conductor), the thread must live on and the job come again.
            LOG.warning('%(key)s failed, again in %(seconds)d s: %(error)s',
                        {'key': key, 'seconds': RETRY_S, 'error': error})
            with self._changed:
                asked_anew = key in self._jobs
            if not asked_anew:
                self.submit(key, function, RETRY_S)
