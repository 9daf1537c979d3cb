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


"""A real nova-compute with our driver, in the lab of tools/lab."""

import json
import os
import subprocess
import urllib.request

import pytest

from tests.integration import clients
from tests.integration.lab import Compute
from tests.integration.lab import NETLESS
from tests.integration.lab import openstack
from tests.integration.lab import port

# The lab installs itself where it has never been.
pytestmark = pytest.mark.timeout(1500)


def test_hung_guest(lab, lab_bus, delete_later, measured):
    name = 'integration-hung'
    delete_later(name)
    uuid = openstack('server', 'create', '--flavor', 'vmhealth', '--image',
                      'vmhealth-guest', *NETLESS, '-f', 'value', '-c', 'id',
                      name)
    compute = Compute()
    compute.wait_beating(uuid)
    os.write(compute.console(uuid), b'hang-agent\n')
    event = lab_bus.wait_for(uuid, 'heartbeat_lost', seconds=30)
    measured('real nova-compute: first miss -> listener',
             clients.epoch(event['received_at'])
             - clients.epoch(event['occurred_at']))
    assert event['tenant_id'] == openstack(
        'server', 'show', uuid, '-f', 'value', '-c', 'project_id')
    assert event['name'] == name
    assert event['flavor_name'] == 'vmhealth'


@pytest.mark.parametrize('key,value', [
    ('vmhealth:interval_ms', 'abc'), ('vmhealth:unknown', '1')])
def test_bad_extra_spec(lab, key, value):
    said = openstack('flavor', 'set', '--property', key + '=' + value,
                      'plain', fails=True)
    assert key in said
    assert '400' in said


def test_bad_image_property(lab, delete_later):
    image, name = 'vmhealth-guest-no-agent', 'integration-refused'
    delete_later(name)
    openstack('image', 'set', '--property', 'hw_vmhealth_interval_ms=abc',
               image)
    try:
        openstack('server', 'create', '--flavor', 'plain', '--image', image,
                   *NETLESS, name, fails=True)
    finally:
        openstack('image', 'unset', '--property',
                   'hw_vmhealth_interval_ms', image)
    server = json.loads(openstack('server', 'show', name, '-f', 'json'))
    assert 'hw_vmhealth_interval_ms' in str(server['fault'])


def test_trait(lab):
    token = openstack('token', 'issue', '-f', 'value', '-c', 'id')

    def get(path):
        request = urllib.request.Request(
            'http://127.0.0.1:%d%s' % (port(1), path), headers={
                'X-Auth-Token': token,
                'OpenStack-API-Version': 'placement 1.6'})
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            return json.load(answer)
    providers = get('/resource_providers')['resource_providers']
    assert providers
    for provider in providers:
        assert 'CUSTOM_VMHEALTH_HEARTBEAT' in get(
            '/resource_providers/%s/traits' % provider['uuid'])['traits']


def test_option_out_of_range(lab, tmp_path):
    extra = tmp_path / 'extra.conf'
    extra.write_text('[vmhealth]\nmin_interval_ms = 1\n')
    etc = os.path.join(lab, 'etc')
    done = subprocess.run(
        [os.path.join(lab, 'venv-nova', 'bin', 'nova-compute'),
         '--config-file', os.path.join(etc, 'nova-cpu.conf'),
         '--config-file', str(extra)],
        capture_output=True, text=True, timeout=120)
    assert done.returncode
    assert 'min_interval_ms' in done.stdout + done.stderr
