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

"""Stand-ins of the monitor's neighbours, which the tests of its parts share.

Each records what it is asked; none of them has a thread.
"""

from nova_vmhealth.core import policy
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import HeartbeatStatus
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.notifications import identity
from nova_vmhealth.notifications import publisher
from nova_vmhealth.virt import heartbeat
from nova_vmhealth.virt import identity as virt_identity

UUID = '6f70656e-7374-6163-6b20-6865616c7468'
OTHER = '6f70656e-7374-6163-6b20-6f7468657273'
LIMITS = policy.Limits(
    interval_ms=policy.Bounds(100, 10000), timeout_ms=policy.Bounds(100, 9999),
    misses=policy.Bounds(1, 10), boot_deadline_s=policy.Bounds(0, 100),
    default_events=frozenset(Cause),
    allowed_actions=frozenset(policy.Action))
# Before a test puts the one below in its place.
_RealHeartbeat = heartbeat.HeartbeatMonitor


def parse(**extra_specs):
    """Make the policy of a flavor: parse(heartbeat='true')."""
    return policy.parse({'vmhealth:' + key: value
                         for key, value in extra_specs.items()}, {}, LIMITS)[0]


def entry(uuid, host='compute1', **extra_specs):
    """What the cache has of an instance that opted in."""
    return virt_identity.Entry(
        'instance-1',
        identity.InstanceIdentity(uuid=uuid, host=host, tenant_id='project'),
        parse(**{'heartbeat': 'true', **extra_specs}))


def see(kind, uuid=UUID, cause=None, **details):
    """Make an observation."""
    return Observation(kind, uuid, 1.0, cause, '', details)


class Heartbeat:
    """Records what is asked of the heartbeat's thread.

    :ivar calls: each call's name, and for watch() the socket's name
    """

    def __init__(self, deliver=None, **_kwargs):
        self.calls = []
        self.watched = set()
        self.began = None
        self.established = False
        self.misses = 0
        self.lost = False
        self.policies = {}
        self.notices = []
        self.answer = None
        self.count = 0

    def watch(self, uuid, path, policy, guest=Guest.WAITING, said=()):
        self.calls.append(('watch', path.rsplit('/', 1)[-1]))
        self.watched.add(uuid)
        self.began = guest, said
        self.established = guest not in (Guest.WAITING, Guest.OVERDUE)
        self.policies[uuid] = policy

    def unwatch(self, uuid):
        self.calls.append(('unwatch',))
        self.watched.discard(uuid)

    def hold(self, _uuid):
        self.calls.append(('hold',))

    def release(self, _uuid):
        self.calls.append(('release',))

    def port_closed(self, _uuid):
        self.calls.append(('port_closed',))

    def offer(self, uuid, connection):
        self.calls.append(('offer', uuid, connection))

    def notice(self, uuid, operation, timeout_ms):
        self.notices.append((operation, timeout_ms))
        return self.answer

    def notice_later(self, uuid, operation):
        self.notices.append((operation, None))

    def status(self, uuid):
        if uuid not in self.watched:
            return None
        return HeartbeatStatus(
            interval_ms=1000, timeout_ms=1000, misses_allowed=3,
            misses=self.misses, established=self.established,
            last_seen_at=None)

    def is_lost(self, uuid):
        return uuid in self.watched and self.lost

    def statistics(self):
        real = _RealHeartbeat(None)
        real.stop(0)
        return real.statistics()


class Saved:
    """Knows how a heartbeat was left, if the test says so."""

    def __init__(self):
        self.guest = Guest.WAITING
        self.said = {}
        self.has_rebooted = False
        self.beat = False

    def session_of(self, _uuid):
        return self.guest

    def said_of(self, _uuid):
        return self.said

    def rebooted(self, _uuid):
        return self.has_rebooted

    def beat_when_saved(self, _uuid):
        return self.beat


class Background:
    """Keeps the jobs for the test to run."""

    def __init__(self, name='', stuck_s=None):
        self.jobs = {}
        self.full = False
        self.tended = 0

    def submit(self, key, function, delay_s=0.0):
        if not self.full:
            self.jobs[key] = function
        return not self.full

    def tend(self):
        self.tended += 1

    def run(self):
        """Do every job that is queued now."""
        jobs, self.jobs = self.jobs, {}
        for job in jobs.values():
            job()


class Cache:
    """An InstanceCache whose nova-conductor is a dict."""

    def __init__(self):
        self.entries = {}
        self.loadable = {}
        self.busy = False

    def get(self, uuid):
        return self.entries.get(uuid)

    def put(self, instance):
        self.entries[instance.uuid] = entry(instance.uuid)

    def uuids(self):
        return list(self.entries)

    def arrived(self, uuid, host):
        pass

    def load_all(self, host):
        for uuid in self.loadable:
            self.load(uuid, host)
        return frozenset(self.loadable)

    def load(self, uuid, host):
        if uuid in self.loadable:
            self.entries[uuid] = self.loadable[uuid]
        return virt_identity.Whereabouts(uuid in self.loadable, self.busy)

    def forget(self, uuid):
        self.entries.pop(uuid, None)

    def restore(self, uuid, known):
        self.entries.setdefault(uuid, known)


class Publisher:
    """Keeps what was told.

    :ivar events: (transition, cause) of each event
    :ivar details: each event's, in the same order
    :ivar sequences: each event's too
    """

    commits = 0
    is_behind = False

    def __init__(self):
        self.events = []
        self.details = []
        self.sequences = []
        self.host_events = []

    def saved_pages(self):
        return {}

    def statistics(self):
        return publisher.Publisher(delivery=None).statistics()

    def commit(self, pages):
        self.commits += 1
        return True

    def was_renewed(self):
        return False

    def take_found(self):
        return {}

    def submit(self, event, _identity, _heartbeat):
        self.events.append((event.transition, event.cause))
        self.details.append(dict(event.details))
        self.sequences.append(event.sequence)

    def submit_host(self, event, host, projects):
        self.host_events.append((event.transition, host, projects))


class Corroborator:
    """Knows of every guest what the test says.

    :ivar known: what details() returns
    """

    def __init__(self, *_neighbours):
        self.calls = []
        self.known = {}

    def suspect(self, uuid, silent_s):
        self.calls.append(('suspect', uuid, silent_s))

    def lost(self, uuid):
        self.calls.append(('lost', uuid))

    def forget(self, uuid):
        self.calls.append(('forget', uuid))

    def details(self, uuid):
        return self.known


class HostFaults:
    """Keeps what the parts say of the host, each change once.

    :ivar last: (occurred_at, wall, reason, details) of what was wrong last
    :param events: takes (transition, cause)
    """

    def __init__(self, events):
        self._events = events
        self._wrong = set()
        self.last = None
        self.stocks = 0

    def wrong(self, cause, occurred_at, wall, reason, details):
        self.last = occurred_at, wall, reason, details
        if cause not in self._wrong:
            self._wrong.add(cause)
            self._events.append((Transition.RAISED, cause))

    def over(self, cause, subject=''):
        if cause in self._wrong:
            self._wrong.discard(cause)
            self._events.append((Transition.CLEARED, cause))

    def stocktaken(self):
        self.stocks += 1


class Beacon:
    """Sends none."""

    sent = failed = 0

    def start(self, windows):
        self.windows = windows

    def stop(self, timeout_s):
        pass
