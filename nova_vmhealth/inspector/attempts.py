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

"""One attempt to do something about a silent host, and its timing."""

import time

from oslo_log import log as logging

from nova_vmhealth.notifications import times

LOG = logging.getLogger(__name__)


class Attempt:
    """One attempt, and when it was how far; monotonic seconds.

    :ivar situation: nova_vmhealth.inspector.desk.Situation, with the lock
    :ivar finding: core.checks.Finding; None where nobody was asked
    """

    def __init__(self, host):
        self.host = host
        self.situation = None
        self.finding = None
        self.began_at = self.checked_at = time.monotonic()
        self.locked_at = self.decided_at = self.forced_at = None

    def log(self):
        """Say what was done, and when."""
        if self.forced_at is None:
            LOG.warning('Host %(host)s is down: silent since %(since)s, and '
                        'forced down already',
                        {'host': self.host, 'since': clock(self.situation)})
            return
        silent_s = self.situation.silent_s
        heard_at = (self.began_at if silent_s is None
                    else time.monotonic() - silent_s - (
                        time.time() - self.situation.at))
        LOG.warning(
            'Host %(host)s is DOWN: silent since %(since)s; after that '
            'suspected %(began).0f ms, checked %(checked).0f ms (%(finding)s),'
            ' decided %(decided).0f ms, forced down %(forced).0f ms, told '
            '%(told).0f ms',
            {'host': self.host, 'since': clock(self.situation),
             'finding': self.finding and
                f'{self.finding.check}: {self.finding.text}',
             **{name: (at - heard_at) * 1000 for name, at in (
                 ('began', self.began_at), ('checked', self.checked_at),
                 ('decided', self.decided_at), ('forced', self.forced_at),
                 ('told', time.monotonic()))}})


def clock(situation):
    """Say since when a host is silent, for the log.

    :param situation: nova_vmhealth.inspector.desk.Situation
    """
    if situation.last_beacon_at is None:
        return 'the start'
    return times.iso_time(situation.last_beacon_at)
