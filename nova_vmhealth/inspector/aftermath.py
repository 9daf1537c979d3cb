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

"""What follows when a host was found silent: jobs, see footing.

It is back, or is no more, or was not told of to the end.
"""

from oslo_log import log as logging

from nova_vmhealth.core.fleet_table import EXPECTED
from nova_vmhealth.core.fleet_table import Standing
from nova_vmhealth.core.marks import BY_BEACONS
from nova_vmhealth.core.vocabulary import HostStatus

LOG = logging.getLogger(__name__)


class Aftermath:
    """Each method is a job about one host.

    :param footing: nova_vmhealth.inspector.footing.Footing
    :param api: nova_vmhealth.inspector.nova_api.NovaApi
    :param herald: nova_vmhealth.inspector.herald.Herald
    :param unforces: whether forcing down is undone when a host is back
    """

    def __init__(self, footing, api, herald, unforces):
        self._footing = footing
        self._api = api
        self._herald = herald
        self._unforces = unforces

    # -- one that is no more -------------------------------------------------

    def bury(self, host):
        """Forget a host that is not heard, if Nova does not know it.

        :returns: as Actor.attend
        """
        return self._footing.under_lock(host, lambda: self._bury(host))

    def _bury(self, host):
        situation = self._footing.look(host)
        if (situation.view is not None
                and situation.view.standing not in EXPECTED
                and self._api.service_of(host) is None):
            self.forget(situation)

    def forget(self, situation):
        """Forget a host; under its lock.

        :param situation: nova_vmhealth.inspector.desk.Situation
        """
        host = situation.host
        LOG.warning('Host %s is not heard, and Nova knows no such compute '
                    'service: it is forgotten', host)
        for cause, told in situation.mark.conditions.items():
            self._herald.end(host, cause, told, HostStatus.UNKNOWN)
        self._footing.do(lambda desk: desk.forget(host))

    # -- one that is back ----------------------------------------------------

    def welcome(self, host):
        """Do what is to be done about a host whose beacons are back.

        :returns: as Actor.attend
        """
        return self._footing.under_lock(host, lambda: self._welcome(host))

    def _welcome(self, host):
        situation = self._footing.look(host)
        causes = [cause for cause in situation.mark.conditions
                  if cause in BY_BEACONS]
        if not causes or situation.view is None or (
                situation.view.standing is not Standing.WATCHED):
            return None
        service = self._api.service_of(host)
        status = HostStatus.UNKNOWN
        if service is not None:
            service = self._unforce(situation, service)
            status = service.record.status
        for cause in causes:
            self._herald.end(host, cause, situation.told(cause), status)
        LOG.info('Host %(host)s is back; its status is %(status)s',
                 {'host': host, 'status': status.value})
        return None

    def _unforce(self, situation, service):
        if not (self._unforces and service.record.forced_down
                and situation.forcing):
            return service
        LOG.info('Host %s is forced down no more', situation.host)
        service = self._api.change(service, forced_down=False)
        self._footing.do(lambda desk: desk.unforced(situation.host))
        return service

    # -- what was not told to its end ----------------------------------------

    def complete(self, host, take_over):
        """Tell what was not told to its end, here or elsewhere.

        :param take_over: whether another inspector may have told it, and not
            sent
        :returns: as Actor.attend
        """
        return self._footing.under_lock(
            host, lambda: self._complete(host, take_over))

    def _complete(self, host, take_over):
        mark = self._footing.look(host).mark
        if mark.conditions:
            self._herald.complete(host, mark, take_over)
