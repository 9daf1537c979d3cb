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

"""Inspectors without threads, clock, broker and Nova: all by hand."""

import contextlib
import json

from nova_vmhealth.core import replica
from nova_vmhealth.inspector import maintenance
from nova_vmhealth.notifications import identity

EPOCH = 1_700_000_000.0


def server(uuid, project, name=None):
    return identity.InstanceIdentity(uuid=uuid, name=name, tenant_id=project)


class Cloud:
    """What the inspectors share: Nova's API, the locks, the bus.

    :ivar servers: host -> its instances
    :ivar failure: what Nova's API raises, if anything
    :ivar told: all events, in order
    """

    def __init__(self):
        self.servers = {}
        self.failure = None
        self.asked = []
        self.told = []
        self.locks = set()

    def servers_of(self, host):
        self.asked.append(host)
        if self.failure is not None:
            raise self.failure
        return self.servers.get(host, [])

    def lock(self, name):
        if name in self.locks:
            return None
        return self._held(name)

    @contextlib.contextmanager
    def _held(self, name):
        self.locks.add(name)
        try:
            yield
        finally:
            self.locks.discard(name)

    def words(self):
        """What was told since the last call, as 'project stage'."""
        told, self.told = self.told, []
        return [f'{event.project_id} {event.stage.value}' for event in told]


class Inspector:
    """One of them; its jobs wait until they are run."""

    def __init__(self, cloud, name='one', records=None):
        self.cloud = cloud
        self.name = name
        self.replica = replica.Replica(name)
        self.replica.merge(records or {}, EPOCH)
        self.jobs = []
        self.keeper = maintenance.MaintenanceKeeper(
            self.replica, lambda event: cloud.told.append(event),
            cloud.servers_of, lambda job: self.jobs.append(job), cloud.lock,
            hold_s=0.0)

    def run_jobs(self):
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()
        return len(jobs)

    def turn(self, wall):
        """Do all that is due; return what was told."""
        self.keeper.handle_timer(wall)
        while self.run_jobs():
            assert self.keeper.next_deadline(wall) <= wall
            self.keeper.handle_timer(wall)
        return self.cloud.words()

    def sync(self, other, wall):
        """Tell another all that this one knows."""
        other.replica.merge(
            json.loads(json.dumps(self.replica.records())), wall)

    def again(self):
        """The same one after a restart, from what it had written down."""
        return Inspector(self.cloud, self.name,
                         json.loads(json.dumps(self.replica.records())))
