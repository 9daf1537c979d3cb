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

"""What libvirt says of a guest that has fallen silent.

From the first unanswered challenge on, samples are taken of the guest's
processors and disks. What moved between them tells an agent that died from a
guest that hangs and from one that is paused, and goes into the details of the
loss. An agent whose port is closed has exited: that is told at once.
"""

import collections
import math
import threading
import time

from nova.virt.libvirt import host

from nova_vmhealth.core import protocol
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.virt import domain_sample

# Seconds between two looks: of guests that fall silent together all but the
# first are looked at together.
GATHER_S = 0.1
# Domains in one call to libvirt, which asks QEMU after QEMU, some 3 ms each.
SLICE = 100
# Movement is judged over this many seconds at least: an idle guest does
# something only now and then.
MIN_SPAN_S = 0.5
# The last look at a guest that is lost comes after this many seconds where
# there was none before.
LATER_S = 1.0
# After a failure libvirt is left alone for this many seconds.
RETRY_S = 5.0
# Guests whose samples are kept, the latest to fall silent: far more than are
# silent at a time on a host that works.
MAX_SUSPECTS = 5000
_JOB = 'looking at guests that are silent'


class _Suspect:
    """What is known of one guest's silence.

    :ivar since: monotonic seconds; what was seen before says nothing of it
    :ivar state: of the domain, '' as long as it is not known
    :ivar port: of the heartbeat's port, likewise
    :ivar first: the first Sample of the silence
    :ivar last: the latest
    :ivar told: what the event of its loss has said, None before the loss
    :ivar again: whether there is to be one more look after the loss
    """

    __slots__ = ('since', 'state', 'port', 'first', 'last', 'told', 'again')

    def __init__(self, since):
        self.since = since
        self.state = self.port = ''
        self.first = self.last = None
        self.told = None
        self.again = True

    def take(self, sample):
        self.first = self.first or sample
        self.last = sample

    def details(self):
        known = {'domain_state': self.state, 'port': self.port}
        if self.first:
            known.update(domain_sample.movement(self.first, self.last))
        known['assessment'] = self._assessment(known)
        return {key: value for key, value in known.items() if value}

    def _assessment(self, known):
        if self.state in domain_sample.PAUSED:
            return 'guest_paused'
        if int(known.get('observed_ms', 0)) < MIN_SPAN_S * 1000:
            return ''
        if domain_sample.moved(self.first, self.last):
            return 'guest_active'
        return 'guest_stalled'


class Corroborator:
    """Looks at silent guests, with as few calls to libvirt as possible.

    :param get_connection: returns Nova's connection to libvirt, wrapped by
        eventlet or not (nova.virt.libvirt.host.Host.get_connection)
    :param submit_background: called with a key, a function and a delay in
        seconds (nova_vmhealth.virt.background.Background.submit). Its thread
        should have nothing else to do: a QEMU that hangs, and not only its
        guest, holds up the call that asks it
    :param deliver: called with an Observation, on that thread
    :param monotonic: clock, seconds
    """

    def __init__(self, get_connection, submit_background, deliver,
                 monotonic=time.monotonic):
        self._get_connection = get_connection
        self._submit = submit_background
        self._deliver = deliver
        self._monotonic = monotonic
        # The worker and the background's thread both change what is below.
        self._lock = threading.Lock()
        self._suspects = collections.OrderedDict()
        self._wanted = {}           # uuid -> when to look, monotonic seconds
        self._due = -math.inf       # when the next look is due
        self._not_before = -math.inf
        # Looks are numbered: one that was given up as stuck may still come
        # back, and then has nothing to say.
        self._turn = 0
        # uuid -> how many guests the look asks for that has not come back
        self._asked = {}

    # -- called by the worker; all return at once ----------------------------

    def suspect(self, instance_uuid, silent_s):
        """A guest that was beating leaves challenges unanswered.

        :param instance_uuid: the instance
        :param silent_s: seconds since its last answer
        """
        with self._lock:
            now = self._monotonic()
            suspect = self._suspects.get(instance_uuid)
            # It may have answered since it was suspected last.
            if suspect is None or suspect.since < now - silent_s:
                suspect = _Suspect(now)
            self._keep(instance_uuid, suspect)
            self._want(instance_uuid, now)

    def details(self, instance_uuid):
        """Return what is known by now.

        :returns: details for the event of the loss, all strings: domain_state,
            port, observed_ms, vcpu_time_ms, vcpu_delay_ms, block_requests and
            assessment, as far as known; empty when nothing is
        """
        with self._lock:
            suspect = self._suspects.get(instance_uuid)
            return suspect.details() if suspect else {}

    def lost(self, instance_uuid):
        """Look once more at a guest that is lost, and tell what is new.

        :param instance_uuid: the instance; what :meth:`details` says of it
            has been told
        """
        with self._lock:
            now = self._monotonic()
            suspect = self._suspects.get(instance_uuid) or _Suspect(now)
            suspect.told = suspect.details()
            self._keep(instance_uuid, suspect)
            self._want(instance_uuid, now)

    def forget(self, instance_uuid):
        """Drop what is known of a guest that stopped or left."""
        with self._lock:
            self._suspects.pop(instance_uuid, None)
            self._wanted.pop(instance_uuid, None)
            self._asked.pop(instance_uuid, None)

    # -- with the lock held --------------------------------------------------

    def _keep(self, uuid, suspect):
        self._suspects[uuid] = suspect
        self._suspects.move_to_end(uuid)
        if len(self._suspects) > MAX_SUSPECTS:
            oldest, _ = self._suspects.popitem(last=False)
            self._wanted.pop(oldest, None)

    def _want(self, uuid, now):
        self._wanted[uuid] = now
        self._arrange(now, now)

    def _arrange(self, now, at):
        """See to it that a look is due by then, or as soon as it may be."""
        at = max(at, self._not_before)
        if not now <= self._due <= at:
            self._due = at
            self._submit(_JOB, self._look, at - now)

    # -- the background's job ------------------------------------------------

    def _look(self):
        turn, uuids = self._begin()
        if not uuids:
            return
        try:
            self._ask(turn, uuids)
        finally:
            with self._lock:
                for uuid in uuids:
                    self._asked.pop(uuid, None)

    def _ask(self, turn, uuids):
        connection = self._get_connection()
        domains = self._domains(connection, uuids)
        # First what can be told even of a QEMU that hangs.
        states = domain_sample.states(connection, domains)
        for uuid, domain in domains.items():
            self._note(turn, uuid, states.get(uuid, ''), _port_state(domain))
        samples = domain_sample.samples(connection, domains, self._monotonic)
        self._finish(turn, uuids, samples)

    def _begin(self):
        """Return the number of the look, and whom to look at."""
        with self._lock:
            now = self._monotonic()
            self._turn += 1
            self._due = -math.inf
            uuids = self._choose(now)
            if uuids:
                # Until it is done well; see _finish().
                self._not_before = now + RETRY_S
            self._arrange_rest(now)
            return self._turn, uuids

    def _choose(self, now):
        """Take out whom to look at now; with the lock held.

        Who is asked for already is in a look that does not come back: one of
        its QEMUs hangs. Each of them is asked for alone then, and never again
        if that does not come back either.
        """
        due = [uuid for uuid, at in self._wanted.items() if at <= now]
        uuids = [uuid for uuid in due if uuid not in self._asked][:SLICE]
        if not uuids:
            uuids = [uuid for uuid in due if self._asked[uuid] > 1][:1]
        # Not looked at again where that fails: it might fail again.
        for uuid in due:
            if uuid in uuids or self._asked.get(uuid) == 1:
                del self._wanted[uuid]
        for uuid in uuids:
            self._asked[uuid] = len(uuids)
        return uuids

    def _domains(self, connection, uuids):
        domains = {}
        for uuid in uuids:
            try:
                domains[uuid] = connection.lookupByUUIDString(uuid)
            except host.libvirt.libvirtError:
                self.forget(uuid)           # it has just gone
        return domains

    def _note(self, turn, uuid, state, port):
        """Take down a domain's and its port's state; tell a port's end."""
        with self._lock:
            suspect = self._suspects.get(uuid)
            if suspect is None or turn != self._turn:
                return              # forgotten or too late
            closed = (port == 'disconnected' != suspect.port)
            suspect.state, suspect.port = state, port
        if closed:
            self._deliver(Observation(
                Kind.AGENT_DISCONNECTED, uuid, time.time(),
                details={'channel': protocol.CHANNEL_NAME}))

    def _finish(self, turn, uuids, samples):
        """Take down the samples; tell what they add to losses."""
        news = []
        with self._lock:
            if turn != self._turn:
                return              # others were looked at meanwhile
            now = self._monotonic()
            for uuid in uuids:
                suspect = self._suspects.get(uuid)
                if suspect is None:
                    continue        # forgotten meanwhile
                if uuid in samples:
                    suspect.take(samples[uuid])
                if suspect.told is not None:
                    news += self._conclude(uuid, suspect, now)
            self._not_before = now + GATHER_S
            self._arrange_rest(now)
        for observation in news:
            self._deliver(observation)

    def _conclude(self, uuid, suspect, now):
        """Return what a look at a lost guest gives to tell."""
        details = suspect.details()
        if 'assessment' not in details and suspect.again:
            suspect.again = False
            self._wanted[uuid] = now + LATER_S
            return []
        del self._suspects[uuid]
        if (details.keys() <= suspect.told.keys() and
                details.get('assessment') == suspect.told.get('assessment')):
            return []
        return [Observation(Kind.DETAILS, uuid, time.time(),
                            Cause.HEARTBEAT_LOST, details=details)]

    def _arrange_rest(self, now):
        if self._wanted:
            self._arrange(now, min(self._wanted.values()))


def _port_state(domain):
    try:
        return domain_sample.port_state(domain)
    except host.libvirt.libvirtError:
        return ''                           # it has just gone
