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


"""What the heartbeat's thread tells: observations, and lines for the log."""

import logging as levels

from nova_vmhealth.core import outcomes
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.notifications.throttle import Throttle
from nova_vmhealth.virt.heartbeat_observations import observations_of

# What happens for every guest or for none, and could fill a log, seconds.
LOG_EVERY_S = 60.0


class Teller:
    """Tells what the loop finds; whatever its hearers do, it goes on.

    :param deliver: called with one Observation; has to be quick
    :param monotonic: the clock of all deadlines
    :param wall: seconds since the epoch, for what is told
    :param log: called with a level and a text
    """

    def __init__(self, deliver, monotonic, wall, log):
        self._deliver = deliver
        self._monotonic = monotonic
        self._wall = wall
        self._log = log
        self._voids_untold = 0
        self._void_throttle = Throttle(LOG_EVERY_S, monotonic)
        self._error_throttle = Throttle(LOG_EVERY_S, monotonic)

    def last_seen_at(self, session):
        """Return when a guest answered last, seconds since the epoch."""
        answered_at = session.last_answer_at
        if answered_at is None:
            return None
        return self._wall() - (self._monotonic() - answered_at)

    def outcomes(self, channel, found, now):
        """Tell what follows from a guest's bytes, or from its silence.

        :param found: of its session
        :param now: monotonic seconds
        """
        for outcome in found:
            if isinstance(outcome, outcomes.Complaint):
                self._log(levels.WARNING, '[instance: %s] its guest misuses '
                          'the heartbeat channel: %s'
                          % (channel.instance_uuid, outcome.reason))
            elif isinstance(outcome, outcomes.NoticeAcked):
                channel.notice_acked(outcome.number)
            else:
                for observation in observations_of(
                        channel.instance_uuid, outcome, now, self._wall(),
                        channel.session.policy,
                        self.last_seen_at(channel.session), channel.way):
                    self._deliver_safely(observation)

    def unreachable(self, channel, reason):
        """Tell why there is no connection, if that is news.

        :param reason: None for no news
        """
        if reason:
            self._log(levels.WARNING, '[instance: %s] no heartbeat channel at '
                      '%s, trying again: %s'
                      % (channel.instance_uuid, channel.path, reason))

    def given_up(self, channel, error):
        """Tell that a guest is served no more, for a defect of ours."""
        self._deliver_safely(Observation(
            Kind.HEARTBEAT_UNREACHABLE, channel.instance_uuid, self._wall(),
            details={'reason': 'internal error'}))
        self._log(levels.ERROR, '[instance: %s] the heartbeat is given up '
                  'because of an internal error: %r'
                  % (channel.instance_uuid, error))

    def voided(self, rounds, late):
        """Tell now and then that rounds were not judged.

        :param rounds: how many this time
        :param late: by how much the loop came late, seconds
        """
        self._voids_untold += rounds
        if self._voids_untold and self._void_throttle.ready():
            self._log(levels.WARNING, 'the heartbeat loop came %d ms late: '
                      '%d rounds were not judged since the last such message'
                      % (late * 1000, self._voids_untold))
            self._voids_untold = 0

    def failed(self, what, error):
        """Tell of a failure that may come again and again."""
        if self._error_throttle.ready():
            self._log(levels.ERROR, '%s: %r' % (what, error))

    def _deliver_safely(self, observation):
        try:
            self._deliver(observation)
        except Exception as error:
            # Whatever the receiver's defect is, guests are still to be heard.
            self.failed('an observation could not be delivered', error)
