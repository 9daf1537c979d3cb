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


"""What was done to each guest against what was told of it: the verdict.

A fault that was done must be told, once, by its cause, and told to be over
when it is; nothing else may be told. While something of ours is down nobody is
late. A fault that only an event shows may be missed when it happens within
moments of a kill, and one that libvirt alone remembers may be told by what it
remembers.
"""

import collections

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Transition

# Seconds from a fault until it must have been told, and from its end until
# that must have been; outages do not count, nor what follows them. Far above
# what it takes, which the tally says.
TOLD_S = 30.0
# Before a kill: what was seen by then may not be written down yet.
UNWRITTEN_S = 2.0
# After an outage: until the listener has reconnected, and until who may tell
# by another cause has done it.
SETTLED_S = 8.0


class Tally:
    """Everything that is counted.

    :ivar problems: texts by what sort of problem
    """

    def __init__(self, say):
        self._say = say
        self.stories = collections.Counter()
        self.transitions = collections.Counter()
        self.restarts = collections.Counter()
        self.excused = 0
        self.host_events = 0
        self.problems = collections.defaultdict(list)
        # seconds from a fault to its detection, where nothing was down
        self.latencies = collections.defaultdict(list)

    def problem(self, sort, text):
        self.problems[sort].append(text)
        self._say('%s: %s' % (sort.upper(), text))

    def lines(self):
        """Describe it, a line each."""
        yield 'stories: ' + _counts(self.stories)
        yield 'restarts: ' + _counts(self.restarts)
        yield 'told: ' + _counts(self.transitions) \
            + ', host events %d' % self.host_events
        yield 'excused, as only an event could show it: %d' % self.excused
        for cause, found in sorted(self.latencies.items()):
            found.sort()
            yield 'detected, %s: p50 %.2f  max %.2f s of %d' % (
                cause, found[len(found) // 2], found[-1], len(found))
        yield 'problems: ' + (_counts(
            {sort: len(texts) for sort, texts in self.problems.items()})
            or 'none')


def _counts(counts):
    return ', '.join('%s %d' % pair for pair in sorted(counts.items()))


class Guest:
    """One guest, as the one who breaks it knows it.

    :ivar vm_state: that Nova has of it
    :ivar story: name of the story that it is in, for people
    """

    def __init__(self, uuid, name, number, outages, tally):
        self.uuid = uuid
        self.name = name
        self.number = number
        self.vm_state = 'active'
        self.story = ''
        self._outages = outages
        self._tally = tally
        self._sequence = 0
        self._active = set()
        # faults of its host that it was told of
        self._host_faults = set()
        self.expect()

    # -- from the story ------------------------------------------------------

    def expect(self, *conditions, otherwise=frozenset(), only_by_event=False):
        """Say what is about to be wrong; nothing, without arguments.

        :param conditions: pairs of cause and subject
        :param otherwise: what may be told in their place if something is down
        :param only_by_event: nobody can find it out afterwards
        """
        self._expected = frozenset(conditions)
        self._otherwise = frozenset(otherwise)
        self._only_by_event = only_by_event
        self._begun_at = self._outages.now()
        self._since = self._outages.uptime()
        self._over_at = None
        self._seen = set()

    def over(self):
        """What was wrong is about to be right."""
        self._over_at = self._outages.now()
        self._since = self._outages.uptime()

    def told(self):
        """Say whether all was told that is to be told, or it is too late."""
        if self._expected <= self._seen:
            return True
        disturbed = self._disturbed()
        if (disturbed and self._seen
                and self._outages.calm_for() > SETTLED_S):
            return True
        if not self._is_late():
            return False
        if disturbed and self._only_by_event:
            self._tally.excused += 1
        else:
            self._tally.problem('missed', self._text(
                self._expected - self._seen))
        return True

    def cleared(self):
        """Say whether all is told to be over, or it is too late."""
        if not self._active:
            return True
        if not self._is_late():
            return False
        self._tally.problem('not cleared', self._text(self._active))
        self._active.clear()
        return True

    def _is_late(self):
        return self._outages.uptime() - self._since > TOLD_S

    def _disturbed(self):
        return self._outages.since(self._begun_at - UNWRITTEN_S)

    def _text(self, conditions):
        return '%s in "%s": %s' % (self.uuid, self.story, ', '.join(
            '%s %s' % (cause.value, subject)
            for cause, subject in sorted(conditions)))

    # -- from the listener ---------------------------------------------------

    def take(self, event):
        """Judge an event of this guest; repeats have been dropped."""
        key = event.cause, event.subject
        self._tally.transitions[event.transition.value] += 1
        if event.sequence != self._sequence + 1:
            self._tally.problem('sequence', '%s after %d in %s' % (
                event.sequence, self._sequence, self._text({key})))
        self._sequence = event.sequence
        if event.cause is Cause.HOST_FAULT:
            self._take_host_fault(key, event)
        elif event.transition is Transition.RAISED:
            self._raised(key, event)
        elif key not in self._active:
            self._tally.problem(event.transition.value + ' unraised',
                                self._text({key}))
        elif event.transition is Transition.CLEARED:
            self._active.discard(key)
            # With no other sign, a guest that runs and beats after a time in
            # which nobody listened is taken to be well.
            if self._over_at is None and not (
                    self._only_by_event and self._disturbed()):
                self._tally.problem('cleared too early', self._text({key}))

    def _take_host_fault(self, key, event):
        """Judge what is told of all guests, whatever their stories are.

        That libvirt is restarted, or that so many stories have an I/O error,
        is no fault of this guest.
        """
        raised = event.transition is Transition.RAISED
        if raised is (key in self._host_faults):
            self._tally.problem('raised twice' if raised else
                                event.transition.value + ' unraised',
                                self._text({key}))
        if raised:
            self._host_faults.add(key)
        elif event.transition is Transition.CLEARED:
            self._host_faults.discard(key)

    def _raised(self, key, event):
        if key in self._active:
            self._tally.problem('raised twice', self._text({key}))
        disturbed = self._disturbed()
        if key not in (self._expected | self._otherwise if disturbed
                       else self._expected):
            self._tally.problem('false alarm', '%s %s' % (
                self._text({key}), dict(event.details)))
        elif not disturbed:
            self._tally.latencies[key[0].value].append(
                event.detected_at - self._begun_at)
        self._active.add(key)
        self._seen.add(key)


class Outages:
    """When something of ours was down.

    :param now: the clock, seconds since the epoch
    """

    def __init__(self, now):
        self.now = now
        self._down = collections.Counter()
        self._up_s = 0.0
        self._disturbed_at = float('-inf')
        self._calm_at = now()

    def begin(self, what, disturbs):
        """Something is about to go down.

        :param disturbs: whether facts may be lost by it
        """
        self._up_s = self.uptime()
        self._down[what, disturbs] += 1

    def end(self, what, disturbs):
        """It is up again."""
        self._down[what, disturbs] -= 1
        self._calm_at = self.now()
        if disturbs:
            self._disturbed_at = self._calm_at

    def calm_for(self):
        """Seconds since all was up; 0 while it is not."""
        return 0 if any(self._down.values()) else self.now() - self._calm_at

    def uptime(self):
        """Return the seconds in which all was up and had settled."""
        return self._up_s + max(0, self.calm_for() - SETTLED_S)

    def since(self, begin):
        """Say whether facts may have been lost since then."""
        return self._disturbed_at >= begin or any(
            count for (_, disturbs), count in self._down.items() if disturbs)
