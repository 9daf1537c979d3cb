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

"""What an inspector asks of Nova's API, by openstacksdk.

Every method may take as long as the API does, and raises
:class:`nova_vmhealth.exception.NovaFailed` where it does not answer as it
should. They may be called from all threads.
"""

import contextlib
import dataclasses
import threading
import time

import openstack
from oslo_log import log as logging

from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth import exception
from nova_vmhealth.notifications.identity import InstanceIdentity

LOG = logging.getLogger(__name__)

# Services have ids of their own from here on, which all cells know.
_SERVICES = '2.53'
# The first with all that an identity takes.
_SERVERS = '2.47'
_ACTION = '2.1'
# Servers in one answer: with more it takes Nova longer than a proxy waits.
_PAGE = 500
# Pages that are asked for at most: no host has so many servers.
_MAX_PAGES = 100
# A list of servers may take so many times as long as another answer.
_LIST_FACTOR = 10

# As nova.objects.fields.InstancePowerState has it, which notifications tell.
_POWER_STATES = {0: 'pending', 1: 'running', 3: 'paused', 4: 'shutdown',
                 6: 'crashed', 7: 'suspended'}


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A compute service.

    :ivar id: Nova's, by which it is changed
    :ivar record: core.host_record.ServiceRecord
    """

    id: str
    host: str
    record: ServiceRecord


class NovaApi:
    """Asks one cloud's compute API.

    :param cloud: its name in clouds.yaml; None: what the environment says
    :param timeout_s: longest time for one answer, seconds
    :param clock: gives monotonic seconds
    """

    def __init__(self, cloud, timeout_s, clock=time.monotonic):
        self._cloud = cloud
        self._timeout_s = timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._compute = None
        # host -> Service, of the last list of all, and when that was
        self._services = {}
        self._listed_at = None

    # -- compute services ----------------------------------------------------

    def service_of(self, host, max_age_s=0.0):
        """Return a host's compute service.

        :param max_age_s: as it was so many seconds ago will do
        :returns: Service; None where Nova has none of this name
        """
        if max_age_s:
            return self.services(max_age_s).get(host)
        return self._list_services(host=host).get(host)

    def services(self, max_age_s=0.0):
        """Return all compute services.

        :param max_age_s: as they were so many seconds ago will do
        :returns: host -> Service
        """
        now = self._clock()
        if self._listed_at is None or self._listed_at + max_age_s <= now:
            self._services = self._list_services()
            self._listed_at = now
        return self._services

    def _list_services(self, **which):
        with _translated('list compute services'):
            body = self._get('/os-services', _SERVICES, self._timeout_s,
                             binary='nova-compute', **which)
            return {each['host']: _service(each)
                    for each in body['services']}

    def change(self, service, **fields):
        """Change a compute service's record.

        :param service: Service
        :param fields: ``forced_down``, ``status`` ('enabled' or 'disabled'),
            ``disabled_reason``
        :returns: Service, as it is now
        """
        what = f'change the compute service of host {service.host}'
        with _translated(what):
            # Not once more by itself: whether it had an effect is looked up.
            response = self._proxy().put(
                f'/os-services/{service.id}', json=fields,
                microversion=_SERVICES, timeout=self._timeout_s,
                connect_retries=0, status_code_retries=0)
            openstack.exceptions.raise_from_response(response)
            return _service(response.json()['service'])

    # -- servers -------------------------------------------------------------

    def servers_of(self, host):
        """Return the servers of a host, of all projects.

        :returns: list of InstanceIdentity
        """
        found = {}
        with _translated(f'list the servers of host {host}'):
            query = {'all_tenants': 'True', 'host': host, 'limit': _PAGE}
            for _ in range(_MAX_PAGES):
                page = self._get(
                    '/servers/detail', _SERVERS,
                    _LIST_FACTOR * self._timeout_s, **query)['servers']
                found.update((each['id'], _identity(each)) for each in page)
                if not page:
                    break
                query['marker'] = page[-1]['id']
        return list(found.values())

    def server(self, uuid):
        """Return a server, wherever it is.

        :returns: InstanceIdentity; None where there is none
        """
        with _translated(f'show server {uuid}'):
            try:
                return _identity(self._get(
                    f'/servers/{uuid}', _SERVERS, self._timeout_s)['server'])
            except openstack.exceptions.NotFoundException:
                return None

    def reset_state(self, uuid):
        """Set a server's state to ``error``; one that is gone is let go."""
        with _translated(f'reset the state of server {uuid}'):
            response = self._proxy().post(
                f'/servers/{uuid}/action',
                json={'os-resetState': {'state': 'error'}},
                microversion=_ACTION, timeout=self._timeout_s)
            try:
                openstack.exceptions.raise_from_response(response)
            except openstack.exceptions.NotFoundException:
                pass

    # -- the connection ------------------------------------------------------

    def _get(self, path, microversion, timeout_s, **query):
        response = self._proxy().get(
            path, params=query, microversion=microversion, timeout=timeout_s,
            # Whatever clouds.yaml wants kept: it is about what is now.
            skip_cache=True)
        openstack.exceptions.raise_from_response(response)
        return response.json()

    def _proxy(self):
        with self._lock:
            if self._compute is None:
                # Without a cloud's name the environment says which.
                options = {'cloud': self._cloud} if self._cloud else {}
                self._compute = openstack.connect(**options).compute
            return self._compute


@contextlib.contextmanager
def _translated(what):
    """Make one error of all that can go wrong."""
    try:
        yield
    # openstacksdk lets those of keystoneauth, requests and the JSON of a proxy
    # in between through.
    except Exception as error:
        raise exception.NovaFailed(
            what=what, reason=str(error) or repr(error)) from error


def _service(fields):
    return Service(
        id=str(fields['id']), host=fields['host'],
        record=ServiceRecord(
            disabled=fields['status'] == 'disabled',
            reason=fields['disabled_reason'],
            forced_down=bool(fields['forced_down'])))


def _identity(fields):
    flavor, image = fields['flavor'], fields['image']
    return InstanceIdentity(
        uuid=fields['id'], name=fields['name'],
        tenant_id=fields['tenant_id'], user_id=fields['user_id'],
        host=fields.get('OS-EXT-SRV-ATTR:host'),
        node=fields.get('OS-EXT-SRV-ATTR:hypervisor_hostname'),
        availability_zone=fields.get('OS-EXT-AZ:availability_zone') or None,
        flavor_name=flavor['original_name'],
        # Left out where the policy does not show them.
        extra_specs=flavor.get('extra_specs', {}),
        # An empty string for one that was booted from a volume.
        image_uuid=image['id'] if image else None,
        state=fields.get('OS-EXT-STS:vm_state'),
        power_state=_POWER_STATES.get(fields.get('OS-EXT-STS:power_state')),
        task_state=fields.get('OS-EXT-STS:task_state'),
        metadata=fields['metadata'])
