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

"""Inspectors with all their parts but threads, sockets and a real clock.

They share a broker, the locks and Nova's API; jobs are done at once.
"""

import contextlib
import dataclasses
import json
from unittest import mock

from nova_vmhealth.core import beacons
from nova_vmhealth.core import checks
from nova_vmhealth.core import fleet
from nova_vmhealth.core import fleet_words
from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth.core import replica
from nova_vmhealth import exception
from nova_vmhealth.inspector import acting
from nova_vmhealth.inspector import aftermath
from nova_vmhealth.inspector import cases
from nova_vmhealth.inspector import courier
from nova_vmhealth.inspector import crew
from nova_vmhealth.inspector import desk
from nova_vmhealth.inspector import footing
from nova_vmhealth.inspector import herald
from nova_vmhealth.inspector import inbox
from nova_vmhealth.inspector import keeping
from nova_vmhealth.inspector import loop
from nova_vmhealth.inspector import maintenance
from nova_vmhealth.inspector import marks
from nova_vmhealth.inspector import nova_api
from nova_vmhealth.inspector import reports
from nova_vmhealth.notifications import identity

WALL = 1_700_000_000.0
TICK_S = 0.02
INTERVAL_S = 0.5


class Nova:
    """Nova's API, or what is in the way of it.

    :ivar changes: (by whom, host, fields), in order
    :ivar fails: methods that do not work
    """

    def __init__(self, hosts):
        self.records = {host: ServiceRecord(False, None, False)
                        for host in hosts}
        self.servers = {host: [f'{host}-vm-{n}' for n in range(2)]
                        for host in hosts}
        self.elsewhere = {}
        self.changes = []
        self.resets = []
        self.fails = set()
        self.lists = 0

    def client(self, inspector):
        return _NovaClient(self, inspector)

    def check(self, method):
        if self.fails & {method, 'all'}:
            raise exception.NovaFailed(what=method, reason='it is away')


class _NovaClient:
    """What one inspector has for a NovaApi."""

    def __init__(self, nova, inspector):
        self._nova = nova
        self._inspector = inspector

    def service_of(self, host, max_age_s=0.0):
        self._nova.check('service_of')
        record = self._nova.records.get(host)
        return record and nova_api.Service(host, host, record)

    def change(self, service, **fields):
        self._nova.check('change')
        self._nova.changes.append(
            (self._inspector.name, service.host, fields))
        record = self._nova.records[service.host]
        if 'forced_down' in fields:
            record = dataclasses.replace(
                record, forced_down=fields['forced_down'])
        if 'status' in fields:
            record = dataclasses.replace(
                record, disabled=fields['status'] == 'disabled',
                reason=fields.get('disabled_reason'))
        self._nova.records[service.host] = record
        self._inspector.die_if('changed')
        return nova_api.Service(service.host, service.host, record)

    def servers_of(self, host):
        self._nova.check('servers_of')
        self._nova.lists += 1
        return [_server(uuid, host)
                for uuid in self._nova.servers.get(host, ())]

    def server(self, uuid):
        host = self._nova.elsewhere.get(uuid)
        return host and _server(uuid, host)

    def reset_state(self, uuid):
        self._nova.check('reset_state')
        self._nova.resets.append(uuid)


def _server(uuid, host):
    return identity.InstanceIdentity(
        uuid=uuid, name=uuid, tenant_id='project', host=host)


class Locks:
    """Locks of all inspectors; those that have died hold none."""

    def __init__(self):
        self.held = set()
        self.fails = False

    def hold(self, name):
        if self.fails:
            raise exception.CoordinationFailed(url='etcd', reason='away')
        return None if name in self.held else self._hold(name)

    @contextlib.contextmanager
    def _hold(self, name):
        self.held.add(name)
        try:
            yield
        finally:
            self.held.discard(name)


class Publisher:
    """Keeps what was told.

    :ivar told: (who or what, cause, transition) of what is written down
    :ivar events: the same with the events themselves
    :ivar sends: whether the bus takes it
    """

    def __init__(self):
        self.events = []
        self.sent = 0
        self.pages = {}
        self.sends = True
        self._rows = []
        self.is_behind = False

    def submit(self, event, who, heartbeat):
        assert heartbeat is None
        self._rows.append((event.instance_uuid, event, who))

    def submit_host(self, event, host, projects):
        self._rows.append((host, event, projects))

    def submit_maintenance(self, event):
        self._rows.append((event.project_id, event, None))

    def commit(self, pages):
        self.pages.update(pages)
        self.events += self._rows
        self._rows = []
        if self.sends:
            self.sent = len(self.events)
        return True

    def was_renewed(self):
        return False

    @property
    def told(self):
        return [(about, event.subject or event.cause.value,
                 event.transition.value)
                for about, event, _ in self.events]

    def of(self, about, cause=None, transition=None):
        """The events of a host or an instance."""
        return [event for each, event, _ in self.events if each == about
                and cause in (None, event.cause.value)
                and transition in (None, event.transition.value)]


class Died(BaseException):
    """The process was killed."""


class Inspector:
    """One of them.

    :ivar dies_at: a word for the moment when it is killed
    """

    def __init__(self, stage, name, pages=None, **wanted):
        self.stage = stage
        self.name = name
        self.incarnation = f'{name}-{len(stage.inspectors)}'
        self.dies_at = None
        self.alive = True
        self.windows = []
        wishes = {'checks': [], 'quorum': True, 'reset_state': False,
                  'unforce': False, 'check_interval_s': 5.0, **wanted}
        self.watch = fleet.BeaconWatch(
            fleet_words.Settings(**{key: wishes.pop(key) for key in (
                'misses', 'recover_beacons', 'grace_s', 'percent', 'window_s')
                if key in wishes}), name, self.incarnation, INTERVAL_S)
        self.findings = wishes.pop('checks')
        self.publisher = Publisher()
        self.kept = replica.Replica(name)
        self.marks = marks.Marks(self.kept)
        self.inbox = inbox.Inbox()
        self._build(wishes)
        self.keeping.restore(pages or {}, stage.wall())

    def _build(self, wishes):
        stage = self.stage
        self.keeper = maintenance.MaintenanceKeeper(
            self.kept, self.publisher.submit_maintenance, lambda host: [],
            lambda job: None, stage.locks.hold)
        self.keeping = keeping.Keeping(
            self.kept, self.marks, self.watch, self, self.name)
        api = stage.nova.client(self)
        self.footing = footing.Footing(
            desk.Desk(self.name, self.watch, self.marks, self.keeper,
                      self.publisher, stage.monotonic, stage.wall),
            self._on_loop, stage.locks)
        resets = wishes.pop('reset_state')
        self.herald = herald.Herald(
            self.footing, api, self, lambda instances: [
                api.reset_state(each.uuid) for each in instances if resets])
        after = aftermath.Aftermath(
            self.footing, api, self.herald, wishes.pop('unforce'))
        quorum = wishes['quorum']
        actor = acting.Actor(
            acting.Wishes(misses=3, **wishes), self.name, self.footing, api,
            self, self.herald, after.forget)
        self.cases = cases.Cases(
            self.name, self.watch, self.marks, actor, after, quorum,
            self._submit_case, self._submit_case,
            lambda: self.publisher.sent == len(self.publisher.events),
            stage.monotonic)
        self.loop = loop.Loop(
            loop.Parts(
                inbox=self.inbox, watch=self.watch, kept=self.kept,
                keeping=self.keeping, keeper=self.keeper,
                courier=courier.WindowCourier(self.keeper, self.set_windows),
                cases=self.cases, voice=self, publisher=self.publisher),
            self.name, self.incarnation, round(INTERVAL_S * 1000),
            stage.monotonic, stage.wall)
        calls = reports.WindowCalls(self.keeper, self._on_loop, stage.wall)
        self.windows_calls = calls
        self.reports = reports.Reports(
            self.footing, api, self.herald, calls)

    def _on_loop(self, function):
        result = function()
        self.loop._commit()
        return result

    def _submit_case(self, job, done):
        try:
            result = job()
        except Died:
            self.kill()
            return True
        self.loop.post(lambda: done(result))
        return True

    def submit(self, function):
        """As a crew's: done at once, or when the stage says so."""
        job = crew.Job(function)
        job.run()
        return job

    def ask(self, host):
        """As the checks': what the test has put there."""
        self.die_if('checked')
        return checks.weigh(self.findings) if self.findings else None

    def die_if(self, moment):
        if self.dies_at == moment:
            raise Died(moment)

    def kill(self):
        self.alive = False
        self.stage.locks.held.clear()

    # what it says

    def beacon(self, record):
        self.stage.say(self, 'beacon', record)

    def sync(self, records):
        if records:
            self.stage.say(self, 'sync', json.loads(json.dumps(records)))

    def set_windows(self, host, windows):
        self.windows.append((host, windows))

    def hear(self, sender, kind, what):
        if kind == 'beacon':
            self.inbox.put(beacons.InspectorBeacon.restored(what))
        else:
            self.inbox.put(loop.Sync(sender, what))


class Stage:
    """Hosts, a broker and inspectors; time goes on in turns."""

    def __init__(self, hosts=('a',), inspectors=('one',), **wanted):
        self.now = 0.0
        self.broker = True
        self.nova = Nova(hosts)
        self.locks = Locks()
        self.inspectors = []
        self.beating = set(hosts)
        self.sequences = dict.fromkeys(hosts, 0)
        self.windows_known = ''
        self._said = []
        self._wanted = wanted
        for name in inspectors:
            self.add(name)

    def monotonic(self):
        return self.now

    def wall(self):
        return WALL + self.now

    def add(self, name, pages=None):
        made = Inspector(self, name, pages, **self._wanted)
        self.inspectors.append(made)
        return made

    def say(self, sender, kind, what):
        if self.broker:
            self._said.append((sender.name, kind, what))

    def run(self, seconds):
        """Let the time pass in turns of all inspectors that live."""
        # Jobs look at the clocks of the process themselves.
        with mock.patch('time.time', self.wall), \
                mock.patch('time.monotonic', self.monotonic), \
                mock.patch('time.sleep'):
            for _ in range(round(seconds / TICK_S)):
                self.now += TICK_S
                self._turn()

    def _turn(self):
        said, self._said = self._said, []
        living = [each for each in self.inspectors if each.alive]
        for each in living:
            if self.broker:
                self._beat(each)
            for words in said:
                each.hear(*words)
            try:
                each.loop.turn()
            except Died:
                each.kill()

    def _beat(self, inspector):
        # once for each half second, by the first of them
        if inspector is next(each for each in self.inspectors if each.alive):
            # not when inspectors send theirs
            beat = int(self.now / INTERVAL_S + 0.4)
            self._new = [] if beat == getattr(self, '_beaten', None) else [
                self._beacon(host) for host in sorted(self.beating)]
            self._beaten = beat
        for beacon in self._new:
            inspector.inbox.arrive(beacon)

    def _beacon(self, host):
        self.sequences[host] += 1
        return beacons.Beacon(host, 'first', self.sequences[host],
                              round(INTERVAL_S * 1000), self.wall(),
                              windows=self.windows_known)

    def settle(self):
        """The start is over, and the grace too."""
        self.run(14)
        return self

    def die(self, *hosts):
        self.beating -= set(hosts)

    @property
    def told(self):
        return [each for inspector in self.inspectors
                for each in inspector.publisher.told]

    def forced(self):
        return [(host, fields) for _, host, fields in self.nova.changes]
