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

"""What is asked of Nova's API, by openstacksdk, of a server that counts."""

import pytest

from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth import exception
from nova_vmhealth.inspector import nova_api
from nova_vmhealth.notifications import identity
from tests import fake_nova

UUIDS = ['178b0921-8f85-4257-88b6-2e743b5a97%02d' % n for n in range(7)]


@pytest.fixture
def nova():
    server = fake_nova.FakeNova({'compute-1': UUIDS, 'compute-2': []})
    yield server
    server.stop()


@pytest.fixture
def api(nova, tmp_path, monkeypatch):
    for name, value in nova.write_clouds(str(tmp_path)).items():
        monkeypatch.setenv(name, value)
    for name in ('OS_CLOUD', 'OS_AUTH_URL', 'http_proxy', 'HTTP_PROXY'):
        monkeypatch.delenv(name, raising=False)
    return nova_api.NovaApi(fake_nova.CLOUD, 5.0)


def test_services(api, nova):
    nova.services['compute-1'].update(
        status='disabled', disabled_reason='disk', forced_down=True)
    assert api.service_of('compute-1') == nova_api.Service(
        'id-of-compute-1', 'compute-1', ServiceRecord(True, 'disk', True))
    assert api.service_of('compute-2').record == ServiceRecord(
        False, None, False)
    assert api.service_of('compute-3') is None
    assert set(api.services()) == {'compute-1', 'compute-2'}


def test_as_they_were_some_time_ago(nova, tmp_path, monkeypatch):
    for name, value in nova.write_clouds(str(tmp_path)).items():
        monkeypatch.setenv(name, value)
    now = [100.0]
    api = nova_api.NovaApi(fake_nova.CLOUD, 5.0, lambda: now[0])
    assert api.service_of('compute-1', 10.0)
    nova.services.clear()
    now[0] += 9
    assert api.service_of('compute-1', 10.0)
    assert api.service_of('compute-1') is None
    now[0] += 2
    assert api.service_of('compute-1', 10.0) is None


def test_changed(api, nova):
    service = api.service_of('compute-1')
    changed = api.change(service, forced_down=True)
    assert changed.record == ServiceRecord(False, None, True)
    api.change(service, status='disabled', disabled_reason='disk')
    assert nova.changes == [
        ('compute-1', {'forced_down': True}),
        ('compute-1', {'status': 'disabled', 'disabled_reason': 'disk'})]


def test_a_change_is_not_made_again_by_itself(api, nova):
    service = api.service_of('compute-1')
    asked = []

    def put(path, body):
        asked.append(body)
        raise ConnectionAbortedError
    nova.put = put
    with pytest.raises(exception.NovaFailed):
        api.change(service, forced_down=True)
    assert len(asked) == 1


def test_servers(api, nova, monkeypatch):
    assert api.servers_of('compute-1')[0] == identity.InstanceIdentity(
        uuid=UUIDS[0], name='server', tenant_id=fake_nova.PROJECT,
        user_id='user', host='compute-1', node='compute-1.example.org',
        availability_zone='nova', flavor_name='m1.tiny',
        extra_specs={'vmhealth:heartbeat': 'true'},
        image_uuid='155d900f-4e14-4e4c-a73d-069cbf4541e6', state='active',
        power_state='running', metadata={'role': 'primary'})
    monkeypatch.setattr(nova_api, '_PAGE', 3)
    assert [each.uuid for each in api.servers_of('compute-1')] == UUIDS
    assert api.servers_of('compute-2') == []


def test_a_list_that_does_not_end_is_ended(api, nova, monkeypatch):
    monkeypatch.setattr(nova_api, '_MAX_PAGES', 3)
    nova._page = lambda query: [nova._server_of(UUIDS[0])]
    assert [each.uuid for each in api.servers_of('compute-1')] == [UUIDS[0]]


def test_one_server(api):
    assert api.server(UUIDS[1]).uuid == UUIDS[1]
    assert api.server('00000000-8f85-4257-88b6-2e743b5a9701') is None


def test_a_server_without_image_and_with_little_told_of_it(api, nova):
    plain = nova._server_of

    def bare(uuid):
        fields = plain(uuid)
        for name in [each for each in fields if each.startswith('OS-')]:
            del fields[name]
        return {**fields, 'image': '', 'flavor': {'original_name': 'tiny'}}
    nova._server_of = bare
    found = api.server(UUIDS[0])
    assert (found.image_uuid, found.extra_specs, found.power_state,
            found.host) == (None, {}, None, None)


def test_reset(api, nova):
    api.reset_state(UUIDS[0])
    assert nova.resets == [(f'/servers/{UUIDS[0]}/action',
                            {'os-resetState': {'state': 'error'}})]


def test_what_the_api_says_when_it_fails(api, nova):
    service = api.service_of('compute-1')
    nova.fails = True
    for call in (lambda: api.service_of('compute-1'), api.services,
                 lambda: api.change(service, forced_down=True),
                 lambda: api.servers_of('compute-1'),
                 lambda: api.server(UUIDS[0]),
                 lambda: api.reset_state(UUIDS[0])):
        with pytest.raises(exception.NovaFailed, match='it is away'):
            call()


def test_an_answer_that_is_none(api, nova):
    nova.get = lambda path, query: {'services': [{'host': 'compute-1'}]}
    with pytest.raises(exception.NovaFailed):
        api.services()


def test_no_such_cloud(tmp_path, monkeypatch):
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(tmp_path / 'none'))
    with pytest.raises(exception.NovaFailed, match='nowhere'):
        nova_api.NovaApi('nowhere', 1.0).services()


def test_one_that_takes_too_long(nova, tmp_path, monkeypatch):
    for name, value in nova.write_clouds(str(tmp_path)).items():
        monkeypatch.setenv(name, value)
    api = nova_api.NovaApi(fake_nova.CLOUD, 0.3)
    service = api.service_of('compute-1')
    nova.put_s = 2
    with pytest.raises(exception.NovaFailed):
        api.change(service, forced_down=True)
