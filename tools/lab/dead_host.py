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

"""The demo's last fault: nova-compute dies, and an inspector misses it."""

import os
import signal
import subprocess
import time

import watchers

HERE = os.path.dirname(os.path.abspath(__file__))
# An inspector gives hosts 10 s to be heard after its start, and some beacons.
JUDGES_S = 12
# Limits for giving up, not measures.
START_S = 60
DOWN_S = 30


class DeadHost:
    """The lab's host, and the inspector that watches over it.

    :param lab: the lab's folder
    :param cloud: an openstacksdk connection
    """

    def __init__(self, lab, cloud):
        self._lab = lab
        self._cloud = cloud
        self._judges_at = None

    def inspect(self):
        """Start the inspector; it judges a while later."""
        log = watchers.LogFile(
            'inspector', os.path.join(self._lab, 'log', 'inspector-1.log'))
        self._tool('inspector', 'up')
        log.wait('.*hears itself', START_S)
        self._judges_at = time.monotonic() + JUDGES_S

    def wait_until_it_judges(self):
        time.sleep(max(0, self._judges_at - time.monotonic()))

    def kill(self):
        """End nova-compute as a power failure does; the time of it."""
        with open(os.path.join(self._lab, 'run', 'compute.pid')) as f:
            os.kill(int(f.read().split()[0]), signal.SIGKILL)
        return time.time()

    def wait_status(self, server, wanted):
        """Poll Nova's API until it shows a host_status; the time of it.

        :raises watchers.TimedOut: it does not
        """
        end = time.monotonic() + DOWN_S
        while time.monotonic() < end:
            answer = self._cloud.compute.get(
                '/servers/' + server.id, microversion='2.16')
            if answer.json()['server']['host_status'] == wanted:
                return time.time()
            time.sleep(0.02)
        raise watchers.TimedOut('nova: host_status is not %s' % wanted)

    def mend(self, host, program, transport_url):
        """Start nova-compute again, and say that the host is well.

        :param host: name of the compute service
        :param program: nova-vmhealth
        """
        self._tool('up')
        subprocess.run(
            [program, 'host', 'clear', host, '--transport-url',
             transport_url], check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        if self._judges_at is not None:
            self._tool('inspector', 'down')

    def _tool(self, *command):
        subprocess.run([os.path.join(HERE, command[0]), *command[1:]],
                       check=True, stdout=subprocess.DEVNULL)
