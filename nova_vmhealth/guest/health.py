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


"""What all parts of the agent share: words, results, text, threads."""

import collections
import logging
import threading

NAME = 'vmhealth-guest/1.1'

HEALTHY, DEGRADED, UNHEALTHY = 'healthy', 'degraded', 'unhealthy'
# Exit status to health; the order is also the order of severity.
HEALTH_BY_STATUS = (HEALTHY, DEGRADED, UNHEALTHY)

# The host tells at most 16 audit names apart, and 16 always fit in a line; one
# of them is the agent's own.
MAX_AUDITS = 15
# Characters of a message; the later ones are tried when a line gets too long.
MESSAGE_LIMITS = (256, 64, 0)

LOG = logging.getLogger('vmhealth-guest')

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


def start_thread(function, *args):
    """Run a function on a thread that does not keep the process alive.

    :raises RuntimeError: the guest has no room for another thread
    """
    threading.Thread(target=function, args=args, daemon=True).start()
