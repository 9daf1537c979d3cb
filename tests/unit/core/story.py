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


"""A ledger with its clock in the test's hand, and words to tell it things."""

import itertools

from nova_vmhealth.core import ledger
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation

ALL = frozenset(Cause)
CHANNEL = 'org.openstack.vmhealth.0'
# the wall clock when the monotonic clock of these tests shows 0
EPOCH = 1_000_000.0


def fault(cause, subject='', /, **details):
    return Kind.FAULT, Cause(cause), subject, details


def recovered(cause, subject=''):
    return Kind.RECOVERED, Cause(cause), subject, {}


def details(cause, subject='', /, **details):
    return Kind.DETAILS, Cause(cause), subject, details


def saw(kind, **details):
    return Kind(kind), None, '', details


def begun(operation='reboot'):
    return saw('planned_begun', operation=operation)


def ended(operation='reboot'):
    return saw('planned_ended', operation=operation)


STARTED = saw('started', reason='booted')
RESUMED = saw('resumed', reason='unpaused')
REBOOTED = saw('rebooted')
BEATS = saw('heartbeat_established')
DESTROYED = saw('stopped', reason='destroyed')
SHUT_DOWN = saw('stopped', reason='shutdown')


class Story:
    """A ledger with its clock in the test's hand."""

    def __init__(self, wanted=ALL, **settings):
        ids = itertools.count(1)
        self.ledger = ledger.Ledger(
            ledger.Settings(**settings), lambda: 'id-%d' % next(ids))
        self.now = 0.0
        self.wanted = wanted

    def see(self, seen, uuid='vm'):
        kind, cause, subject, details = seen
        return self.ledger.observe(
            Observation(kind, uuid, EPOCH + self.now - 0.25, cause, subject,
                        details),
            self.now, EPOCH + self.now, self.wanted)

    def tell(self, *seen, uuid='vm'):
        """See it all and return what was told, one line an event."""
        return [line(event) for one in seen for event in self.see(one, uuid)]

    def wait_for_events(self, seconds):
        """Let time pass, the timer being called when it asks to be.

        :returns: pairs of the time and what was told then
        """
        told = []
        end = self.now + seconds
        while True:
            deadline = self.ledger.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            told += [(self.now, event) for event in self.ledger.handle_timer(
                self.now, EPOCH + self.now)]
        self.now = end
        return told

    def wait(self, seconds):
        """Let time pass and return what was told, one line an event."""
        return [line(event) for _, event in self.wait_for_events(seconds)]

    def active(self, uuid='vm'):
        return ['%s %s' % (c.cause.value, c.subject) if c.subject
                else c.cause.value for c in self.ledger.conditions(uuid)]


def line(event):
    text = '%s %s' % (event.transition.value, event.cause.value)
    if event.subject:
        text += ' ' + event.subject
    if event.count > 1:
        text += ' x%d' % event.count
    if event.operation:
        text += ' during ' + event.operation
    return text
