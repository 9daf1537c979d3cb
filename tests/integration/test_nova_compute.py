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
from tests.integration import processes

# The lab installs itself where it has never been.
pytestmark = pytest.mark.timeout(1500)

LAB = os.environ.get('NOVA_VMHEALTH_LAB_DIR', '/var/lib/nova-vmhealth-lab')
TOOLS = os.path.join(clients.REPOSITORY, 'tools', 'lab')
URI = 'qemu+unix:///system?socket=%s/lv/run/libvirt-sock' % LAB
NETLESS = ('--nic', 'none', '--wait')


def _port(offset):
    """A port of the lab, which keeps the first one; it must be up."""
    with open(os.path.join(LAB, 'state', 'port')) as f:
        return int(f.read()) + offset


def _openstack(*arguments, fails=False):
    """What the command line client prints; its complaint if it must fail."""
    # Nothing of the caller's own cloud.
    env = {name: value for name, value in os.environ.items()
           if not name.startswith('OS_')}
    env.update(
        OS_CLIENT_CONFIG_FILE=os.path.join(LAB, 'clouds.yaml'),
        OS_CLOUD='vmhealth-lab', OS_COMPUTE_API_VERSION='2.96',
        no_proxy='127.0.0.1')
    done = subprocess.run(
        [os.path.join(LAB, 'venv-control', 'bin', 'openstack'), *arguments],
        capture_output=True, text=True, timeout=300, env=env)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout.strip()


def _up():
    try:
        with open(os.path.join(LAB, 'run', 'compute.pid')) as f:
            return os.path.exists('/proc/' + f.read().split()[0])
    except FileNotFoundError:
        return False


@pytest.fixture(scope='module')
def lab(machine, require):
    """The lab, up; it is left as it was found."""
    installed = os.path.exists(os.path.join(LAB, 'venv-nova'))
    require(installed or os.environ.get('NOVA_VMHEALTH_REQUIRE_ALL'),
            'integration: no lab in %s; run tools/lab/up' % LAB)
    was_up = _up()
    subprocess.run([os.path.join(TOOLS, 'up')], check=True)
    yield LAB
    if not was_up:
        subprocess.run([os.path.join(TOOLS, 'down')], check=True)


@pytest.fixture
def bus(lab, tmp_path):
    url = 'rabbit://guest:guest@127.0.0.1:%d/' % _port(6)
    listener = clients.Listener(tmp_path / 'listener.log', url)
    yield listener
    listener.stop()


@pytest.fixture
def delete_later():
    servers = []
    yield servers.append
    for server in servers:
        _openstack('server', 'delete', '--wait', server)


def _compute_log():
    with open(os.path.join(LAB, 'log', 'compute.log')) as f:
        return f.read()


def test_hung_guest(lab, bus, delete_later, measured):
    name = 'integration-hung'
    delete_later(name)
    uuid = _openstack('server', 'create', '--flavor', 'vmhealth', '--image',
                      'vmhealth-guest', *NETLESS, '-f', 'value', '-c', 'id',
                      name)
    processes.wait_for(
        lambda: '[instance: %s] heartbeat established' % uuid
        in _compute_log(), clients.BOOT_S, 'heartbeat')
    console = clients.open_console(subprocess.run(
        ['virsh', '-c', URI, 'ttyconsole', uuid], check=True, text=True,
        capture_output=True).stdout.strip())
    os.write(console, b'hang-agent\n')
    event = bus.wait_for(uuid, 'heartbeat_lost', seconds=30)
    measured('real nova-compute: first miss -> listener',
             clients.epoch(event['received_at'])
             - clients.epoch(event['occurred_at']))
    assert event['tenant_id'] == _openstack(
        'server', 'show', uuid, '-f', 'value', '-c', 'project_id')
    assert event['name'] == name
    assert event['flavor_name'] == 'vmhealth'


@pytest.mark.parametrize('key,value', [
    ('vmhealth:interval_ms', 'abc'), ('vmhealth:unknown', '1')])
def test_bad_extra_spec(lab, key, value):
    said = _openstack('flavor', 'set', '--property', key + '=' + value,
                      'plain', fails=True)
    assert key in said
    assert '400' in said


def test_bad_image_property(lab, delete_later):
    image, name = 'vmhealth-guest-no-agent', 'integration-refused'
    delete_later(name)
    _openstack('image', 'set', '--property', 'hw_vmhealth_interval_ms=abc',
               image)
    try:
        _openstack('server', 'create', '--flavor', 'plain', '--image', image,
                   *NETLESS, name, fails=True)
    finally:
        _openstack('image', 'unset', '--property',
                   'hw_vmhealth_interval_ms', image)
    server = json.loads(_openstack('server', 'show', name, '-f', 'json'))
    assert 'hw_vmhealth_interval_ms' in str(server['fault'])


def test_trait(lab):
    token = _openstack('token', 'issue', '-f', 'value', '-c', 'id')

    def get(path):
        request = urllib.request.Request(
            'http://127.0.0.1:%d%s' % (_port(1), path), headers={
                'X-Auth-Token': token,
                'OpenStack-API-Version': 'placement 1.6'})
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            return json.load(answer)
    provider, = get('/resource_providers')['resource_providers']
    assert 'CUSTOM_VMHEALTH_HEARTBEAT' in get(
        '/resource_providers/%s/traits' % provider['uuid'])['traits']


def test_option_out_of_range(lab, tmp_path):
    extra = tmp_path / 'extra.conf'
    extra.write_text('[vmhealth]\nmin_interval_ms = 1\n')
    etc = os.path.join(LAB, 'etc')
    done = subprocess.run(
        [os.path.join(LAB, 'venv-nova', 'bin', 'nova-compute'),
         '--config-file', os.path.join(etc, 'nova-cpu.conf'),
         '--config-file', str(extra)],
        capture_output=True, text=True, timeout=120)
    assert done.returncode
    assert 'min_interval_ms' in done.stdout + done.stderr
