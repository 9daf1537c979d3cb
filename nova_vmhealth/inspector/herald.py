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

"""Tell of a host and of its instances, however many those are.

In jobs, on threads of their own: Nova's API takes its time to list servers.
What concerns the host is told at once, and the instances as soon as they are
known, some at a time: the loop, which writes it all down, has other things to
do.
"""

import itertools

from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostStatus
from nova_vmhealth.core.vocabulary import Transition

# What concerns a host waits so long for the names of its instances, seconds.
NAMES_S = 1.0
# Instances that are told in one turn of the loop: each takes about a
# millisecond.
_AT_ONCE = 20

# What ends a condition has instances of its own, the others only name them.
_OF_INSTANCES = frozenset({HostCause.HOST_DOWN, HostCause.REPORTED_FAULT})


class Herald:
    """Tells conditions of hosts; for jobs that have the host's lock.

    :param footing: nova_vmhealth.inspector.footing.Footing
    :param api: nova_vmhealth.inspector.nova_api.NovaApi
    :param crew: nova_vmhealth.inspector.crew.Crew, for lists alone
    :param reset: called with the servers of a host that was forced down, once
        they were told; has to be quick
    """

    def __init__(self, footing, api, crew, reset):
        self._footing = footing
        self._api = api
        self._crew = crew
        self._reset = reset

    def begin_list(self, host):
        """Begin to ask which servers a host has.

        :returns: nova_vmhealth.inspector.crew.Job; None if it cannot be now
        """
        return self._crew.submit(lambda: self._api.servers_of(host))

    def raise_(self, situation, cause, told, status, listing):
        """Tell that something is wrong with a host, and to its instances.

        Those that are not known in time are told by :meth:`complete`.

        :param situation: nova_vmhealth.inspector.desk.Situation
        :param cause: HostCause
        :param told: core.marks.Told; not listed, where instances are to hear
            of it
        :param status: HostStatus after it
        :param listing: what :meth:`begin_list` gave
        """
        instances = _result(listing, NAMES_S)
        self._footing.do(lambda desk: desk.raise_(
            situation, cause, told, status, instances or []))
        if instances is not None and not told.listed:
            self._tell_all(situation.host, cause, told, status, instances)

    def withhold(self, situation, told, status, listing):
        """Tell that nothing is done about a silent host.

        Arguments as for :meth:`raise_`.
        """
        named = _result(listing, NAMES_S) or []
        self._footing.do(lambda desk: desk.raise_(
            situation, HostCause.BEACONS_LOST, told, status, named))

    def end(self, host, cause, told, status):
        """Tell that something is not wrong with a host any more.

        :param told: core.marks.Told
        :raises nova_vmhealth.exception.NovaFailed: nothing is told then
        """
        instances = self._api.servers_of(host)
        if cause in _OF_INSTANCES:
            here = {each.uuid for each in instances}
            moved = [self._api.server(uuid) for uuid in told.instances
                     if uuid not in here]
            self._tell(host, cause, Transition.CLEARED, status,
                       [*instances, *filter(None, moved)])
        self._footing.do(
            lambda desk: desk.clear(host, cause, status, instances))

    def complete(self, host, mark, take_over):
        """Tell what was not told to its end.

        :param mark: core.marks.Mark
        :param take_over: whether another inspector may have told it, and not
            sent
        :raises nova_vmhealth.exception.NovaFailed: it is to be tried again
        """
        instances = self._api.servers_of(host)
        status = _status(mark, self._api.service_of(host))
        if take_over:
            self._footing.do(
                lambda desk: desk.take_over(host, status, instances))
        for cause, told in mark.conditions.items():
            if cause not in _OF_INSTANCES or not (
                    take_over or not told.listed):
                continue
            if not take_over:
                self._name(host, cause, status, instances)
            self._tell_all(host, cause, told, status, instances)

    def _name(self, host, cause, status, instances):
        self._footing.do(lambda desk: desk.name_instances(
            host, cause, status, instances))

    def _tell_all(self, host, cause, told, status, instances):
        self._tell(host, cause, Transition.RAISED, status, instances)
        if (cause is HostCause.HOST_DOWN
                and told.action is HostAction.FORCE_DOWN):
            self._reset(instances)
        self._footing.do(lambda desk: desk.finish(
            host, cause, [each.uuid for each in instances]))

    def _tell(self, host, cause, transition, status, instances):
        left = iter(instances)
        while some := list(itertools.islice(left, _AT_ONCE)):
            self._footing.do(lambda desk, some=some: desk.tell_instances(
                host, cause, transition, status, some))


def _result(listing, timeout_s):
    if listing is None or not listing.wait(timeout_s) or listing.error:
        return None
    return listing.result


def _status(mark, service):
    if any(told.action is HostAction.FORCE_DOWN
           for told in mark.conditions.values()):
        return HostStatus.DOWN
    if service is None:
        return HostStatus.UNKNOWN
    return service.record.status
