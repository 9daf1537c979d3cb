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

"""Keep what leads to Nova's API warm.

A token, the endpoint and a connection that are there already save a second
when a host is down. It also shows at the start whether the API can be used.
"""

import threading

from oslo_log import log as logging

from nova_vmhealth import exception

LOG = logging.getLogger(__name__)

# Seconds. keystoneauth fetches a new token two minutes before the old one is
# over, so that this is who waits for it.
PERIOD_S = 15.0


class Warmth:
    """Asks Nova's API now and then, on a thread of its own.

    :param api: nova_vmhealth.inspector.nova_api.NovaApi
    :param tell: called with the names of the hosts that Nova knows
    """

    def __init__(self, api, tell):
        self._api = api
        self._tell = tell
        self._stopping = threading.Event()
        self._works = None

    def start(self):
        """Start the thread."""
        threading.Thread(target=self._run, name='vmhealth-warmth',
                         daemon=True).start()

    def stop(self):
        """End the thread, soon."""
        self._stopping.set()

    def _run(self):
        while not self._stopping.is_set():
            self.ask()
            self._stopping.wait(PERIOD_S)

    def ask(self):
        """Ask once; say what has changed."""
        try:
            hosts = frozenset(self._api.services())
        except exception.NovaFailed as error:
            if self._works is not False:
                LOG.error('%s. No host can be forced down until it can',
                          error)
            self._works = False
            return
        if not self._works:
            LOG.info('The compute API answers: %d compute services',
                     len(hosts))
        self._works = True
        self._tell(hosts)
