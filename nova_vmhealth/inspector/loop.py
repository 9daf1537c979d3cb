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

"""The inspector's loop: the one thread that holds all that it knows.

A turn reads what has arrived, then judges, has done what is due, and in the
end writes down what came of it. Nothing in it waits for the network.
"""

import collections
import dataclasses
import math
import threading
import time
from typing import Any

from oslo_log import log as logging

from nova_vmhealth.core import beacons
from nova_vmhealth.core import fleet_words
from nova_vmhealth.inspector import inbox as inbox_lib
from nova_vmhealth.notifications import throttle

LOG = logging.getLogger(__name__)

# Longest pause between two turns, seconds. Beacons do not wake the loop:
# thousands of them a second are read together.
TURN_S = 0.02
# Shortest pause between two turns, seconds.
_LEAST_S = 0.001
# A turn reads for so long at most, seconds, or it would not end. What is left
# is read in the next one, and nobody is judged before.
_READ_S = 0.1
# What others have told of maintenance must be heard before anything is told of
# it once more, seconds after the first word from the broker.
_SETTLE_S = 3.0
# The publisher looks after its file, and says what is stuck, at least this
# often, seconds.
_COMMIT_S = 10.0
# Longest wait of another thread for the loop, seconds: it may have to wait for
# the disk.
ANSWER_S = 15.0
_LOG_PERIOD_S = 60.0
# Hosts that are said to be silent within that time, a line each.
_MOST_SAID = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Sync:
    """What another inspector knows.

    :ivar records: of core.replica.Replica
    """

    sender: str
    records: Any


@dataclasses.dataclass(frozen=True)
class Parts:
    """What the loop lets have its say; each has its own module."""

    inbox: Any
    watch: Any
    kept: Any
    keeping: Any
    keeper: Any
    courier: Any
    cases: Any
    voice: Any
    publisher: Any


class Loop:
    """Takes one turn after the other.

    :param parts: Parts
    :param name: of this inspector
    :param incarnation: of this inspector
    :param interval_ms: between two own beacons
    :param monotonic: clock, seconds
    :param wall: clock, seconds since the epoch
    """

    def __init__(self, parts, name, incarnation, interval_ms,
                 monotonic=time.monotonic, wall=time.time):
        self._parts = parts
        self._name = name
        self._incarnation = incarnation
        self._interval_ms = interval_ms
        self._monotonic = monotonic
        self._wall = wall
        self._sequence = 0
        self._beacon_at = -math.inf
        # when maintenance may be told
        self._settled_at = math.inf
        self._commit_at = -math.inf
        # calls that have run, and wait for the disk
        self._calls = []
        self._stopping = False
        self._thread = None
        # when a host was said to be silent
        self._said = collections.deque()
        # name of what failed -> Throttle
        self._may_log = {}
        self._may_log_namesake = throttle.Throttle(_LOG_PERIOD_S)

    # -- for other threads ---------------------------------------------------

    def start(self):
        """Start the thread."""
        self._thread = threading.Thread(
            target=self._run, name='vmhealth-loop', daemon=True)
        self._thread.start()

    def stop(self, timeout_s):
        """Say goodbye and end, with what was told written down.

        :param timeout_s: longest wait, seconds
        """
        self._stopping = True
        self._parts.inbox.wake()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def call(self, function):
        """Run a function on the loop and wait until what it did is on disk.

        Not for the loop itself.

        :param function: called without arguments
        :returns: its result; what it raises is raised
        :raises nova_vmhealth.exception.LoopStuck: it took too long
        """
        call = inbox_lib.Call(function)
        self._parts.inbox.put(call)
        return call.result(ANSWER_S)

    def post(self, function):
        """Have a function run on the loop; returns at once."""
        self._parts.inbox.put(inbox_lib.Call(function))

    # -- the thread ----------------------------------------------------------

    def _run(self):
        while not self._stopping:
            self.turn()
            self._parts.inbox.wait(self._patience())
        self._safely(self._read)
        self._safely(self._send_beacon, False)
        self._safely(self._commit)

    def turn(self):
        """Take one turn."""
        self._follow(self._parts.watch.wake(self._monotonic()))
        self._safely(self._read)
        if not self._parts.inbox:
            self._safely(self._judge)
        for attend in (self._attend_cases, self._attend_maintenance,
                       self._attend_beacon, self._commit):
            self._safely(attend)

    def _patience(self):
        """Seconds until the next turn."""
        due_at = min(self._parts.watch.next_deadline(),
                     self._parts.cases.next_deadline(), self._beacon_at)
        return min(max(due_at - self._monotonic(), _LEAST_S), TURN_S)

    def _safely(self, function, *arguments):
        try:
            function(*arguments)
        except Exception:
            # A defect in one part must not end the watch over all hosts; the
            # trace says where it is. It may come with each turn.
            name = function.__name__
            if name not in self._may_log:
                self._may_log[name] = throttle.Throttle(_LOG_PERIOD_S)
            if self._may_log[name].ready():
                LOG.exception('Failed in %s', name)

    # -- reading -------------------------------------------------------------

    def _read(self):
        until = self._monotonic() + _READ_S
        inbox = self._parts.inbox
        while inbox and self._monotonic() < until:
            self._safely(self._take, inbox.take())

    def _take(self, item):
        now, wall = self._monotonic(), self._wall()
        if isinstance(item, beacons.Beacon):
            decisions = self._parts.watch.hear(item, now)
            if decisions:
                self._follow(decisions)
            self._parts.courier.look(item, now, wall)
        elif isinstance(item, beacons.InspectorBeacon):
            self._follow(self._parts.watch.hear_inspector(item, now))
        elif isinstance(item, Sync):
            self._parts.keeping.hear(item.sender, item.records, wall)
        else:
            item.run()
            self._calls.append(item)

    def _judge(self):
        self._follow(self._parts.watch.handle_timer(self._monotonic()))

    # -- acting --------------------------------------------------------------

    def _attend_cases(self):
        now, wall = self._monotonic(), self._wall()
        self._parts.cases.follow_marks(now, wall)
        self._parts.cases.handle_timer(now, wall)

    def _attend_maintenance(self):
        wall = self._wall()
        if self._monotonic() < self._settled_at:
            return
        due_at = self._parts.keeper.next_deadline(wall)
        if due_at is not None and due_at <= wall:
            self._parts.keeper.handle_timer(wall)

    def _attend_beacon(self):
        now = self._monotonic()
        if now >= self._beacon_at:
            self._send_beacon(self._parts.watch.is_judging(now))

    def _send_beacon(self, judging):
        now = self._monotonic()
        self._sequence += 1
        self._beacon_at = now + self._interval_ms / 1000
        watch = self._parts.watch
        watch.sent(self._sequence, now)
        self._parts.voice.beacon(beacons.InspectorBeacon(
            self._name, self._incarnation, self._sequence, self._interval_ms,
            watch.suspects(), self._parts.kept.digest(), judging).record())

    def _follow(self, decisions):
        now = self._monotonic()
        for decision in decisions:
            self._safely(_FOLLOWS[type(decision)], self, decision, now)

    def _probe(self, _decision, now):
        self._beacon_at = now

    def _suspected(self, decision, now):
        view = self._parts.watch.view(decision.host)
        silent_s = math.inf if view.heard_at is None else now - view.heard_at
        # Of many at a time there is one line more, see _refused.
        level = logging.WARNING if self._may_say(now) else logging.DEBUG
        LOG.log(level, 'Host %(host)s is silent for %(seconds).3f s, after '
                       'beacon %(sequence)d of %(incarnation)s',
                {'host': decision.host, 'seconds': silent_s,
                 'sequence': view.sequence,
                 'incarnation': view.incarnation or 'nobody'})
        self._parts.cases.suspect(decision.host, now)
        # The others are to know at once, and not with the next beacon.
        self._beacon_at = now

    def _may_say(self, now):
        """Say whether there is room for a line about one more host."""
        while self._said and self._said[0] <= now - _LOG_PERIOD_S:
            self._said.popleft()
        if len(self._said) >= _MOST_SAID:
            return False
        self._said.append(now)
        return True

    def _refused(self, decision, now):
        LOG.error('%(number)d hosts are silent, and left alone, since that '
                  'makes %(silent)d of %(watched)d hosts that are silent or '
                  'were marked down lately, and %(limit)d may be by '
                  '[vmhealth_inspector]max_down_percent: it is more likely '
                  'that the network is at fault. They are %(hosts)s%(more)s',
                  {'number': len(decision.hosts), 'silent': decision.silent,
                   'watched': decision.watched, 'limit': decision.limit,
                   'hosts': ', '.join(decision.hosts[:20]),
                   'more': ', ...' if len(decision.hosts) > 20 else ''})

    def _heard(self, decision, now):
        LOG.info('Host %s is heard again', decision.host)

    def _recovered(self, decision, now):
        self._parts.cases.hurry(decision.host, now)

    def _left(self, decision, now):
        LOG.info('Host %s says goodbye, and is not missed until it is back',
                 decision.host)

    def _stalled(self, decision, now):
        LOG.warning('The inspector was not run for %.3f s, which count for '
                    'no host', decision.seconds)

    def _blinded(self, _decision, now):
        LOG.error('Nothing is heard from the message broker in time, not even '
                  'what this inspector sends: the broker is away, or it or '
                  'this machine is too busy. No host is judged meanwhile')

    def _sighted(self, decision, now):
        if decision.seconds == math.inf:
            LOG.info('The inspector %s hears itself by the message broker',
                     self._name)
            self._settled_at = now + _SETTLE_S
        else:
            LOG.warning('The message broker is heard again after %.3f s; '
                        'hosts get [vmhealth_inspector]grace_s to be heard '
                        'too', decision.seconds)

    def _namesake(self, _decision, now):
        if self._may_log_namesake.ready():
            LOG.error('Another inspector is called %s too: give each a '
                      '[vmhealth_inspector]name of its own', self._name)

    # -- the end of a turn ---------------------------------------------------

    def _commit(self):
        """Write down what the turn brought, then answer who waits for it."""
        publisher, keeping = self._parts.publisher, self._parts.keeping
        now = self._monotonic()
        pages = keeping.changes(now, self._wall())
        is_written = True
        if pages or publisher.is_behind or now >= self._commit_at:
            self._commit_at = now + _COMMIT_S
            is_written = publisher.commit(pages)
        if publisher.was_renewed():
            keeping.restore(publisher.take_found(), self._wall())
            keeping.rewrite_all()
            is_written = publisher.commit(keeping.changes(
                self._monotonic(), self._wall()))
        if is_written:
            calls, self._calls = self._calls, []
            for call in calls:
                call.finish()


_FOLLOWS = {
    fleet_words.Probe: Loop._probe,
    fleet_words.Suspected: Loop._suspected,
    fleet_words.Refused: Loop._refused,
    fleet_words.Heard: Loop._heard,
    fleet_words.Recovered: Loop._recovered,
    fleet_words.Left: Loop._left,
    fleet_words.Stalled: Loop._stalled,
    fleet_words.Blinded: Loop._blinded,
    fleet_words.Sighted: Loop._sighted,
    fleet_words.Namesake: Loop._namesake,
}
