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

"""Reading Nova's objects without a lazy load; policies from both sources."""

import pytest

from nova import exception as nova_exception
from nova import objects
from nova.objects import fields
from oslo_config import cfg

from nova_vmhealth import conf
from nova_vmhealth import exception
from nova_vmhealth.virt import identity

UUID = '6f70656e-7374-6163-6b20-6865616c7468'

objects.register_all()


@pytest.fixture
def limits():
    parsed = cfg.ConfigOpts()
    conf.register_opts(parsed)
    parsed([])
    return conf.limits(parsed)


def flavor(**extra_specs):
    return objects.Flavor(
        name='m1', extra_specs={key.replace('__', ':'): value
                                for key, value in extra_specs.items()})


def instance(system_metadata=None, **attributes):
    loaded = objects.Instance(uuid=UUID, id=7, **attributes)
    if system_metadata is not None:
        loaded.system_metadata = system_metadata
    return loaded


def test_identity_of_a_full_instance():
    found = identity.identity_of(instance(
        display_name='db1', project_id='p', user_id='u', host='h', node='n',
        availability_zone='az', flavor=flavor(vmhealth__heartbeat='true'),
        image_ref='i', vm_state='active', power_state=1, task_state=None,
        metadata={'tier': 'gold'}))
    assert (found.name, found.tenant_id, found.host, found.node) == (
        'db1', 'p', 'h', 'n')
    assert found.flavor_name == 'm1'
    assert found.extra_specs == {'vmhealth:heartbeat': 'true'}
    assert found.power_state == fields.InstancePowerState.RUNNING
    assert found.metadata == {'tier': 'gold'}


def test_identity_never_loads_what_is_missing():
    """An Instance without a context raises on every lazy load."""
    found = identity.identity_of(instance())
    assert found.uuid == UUID
    assert found.flavor_name is None
    assert found.metadata == {}


@pytest.mark.parametrize('specs, system_metadata, heartbeat, interval', [
    ({}, None, False, 1000),
    ({'vmhealth__heartbeat': 'true'}, None, True, 1000),
    ({}, {'image_hw_vmhealth_heartbeat': 'yes',
          'image_hw_vmhealth_interval_ms': '250'}, True, 250),
    ({'vmhealth__heartbeat': 'false'},
     {'image_hw_vmhealth_heartbeat': 'true'}, False, 1000),
    ({'vmhealth__interval_ms': '500'},
     {'image_hw_vmhealth_interval_ms': '250'}, False, 500),
])
def test_policy(limits, specs, system_metadata, heartbeat, interval):
    policy, clamps = identity.policy_of(instance(system_metadata),
                                        flavor(**specs), limits)
    assert (policy.heartbeat, policy.interval_ms) == (heartbeat, interval)
    assert not clamps


def test_a_bad_image_property_is_named(limits):
    with pytest.raises(exception.InvalidPolicy,
                       match='hw_vmhealth_interval_ms'):
        identity.policy_of(
            instance({'image_hw_vmhealth_interval_ms': 'abc'}), flavor(),
            limits)


@pytest.mark.parametrize('asked, said', [
    ({'vmhealth__interval_ms': '10'},
     'vmhealth:interval_ms = 10 is outside the limits of [vmhealth], '
     'using 100'),
    ({'vmhealth__action': 'reset'},
     'vmhealth:action = reset is outside the limits of [vmhealth], '
     'using none'),
])
def test_a_clamp_is_logged_once(limits, caplog, asked, said):
    cache = identity.InstanceCache(limits)
    greedy = instance(flavor=flavor(**asked))
    for _ in range(3):
        cache.put(greedy)
    lines = [r for r in caplog.records if 'outside the limits' in r.message]
    assert len(lines) == 1
    assert said in lines[0].message


def test_what_the_flavor_says_outlives_an_instance_without_it(limits):
    cache = identity.InstanceCache(limits)
    cache.put(instance(flavor=flavor(vmhealth__heartbeat='true')))
    cache.put(instance(vm_state='paused'))
    entry = cache.get(UUID)
    assert entry.policy.heartbeat is True
    assert (entry.identity.flavor_name, entry.identity.state) == (
        'm1', 'paused')


@pytest.mark.parametrize('found, whereabouts', [
    ({'host': 'here', 'task_state': None}, (True, False)),
    ({'host': 'here', 'task_state': 'deleting'}, (True, True)),
    ({'host': 'there', 'task_state': 'migrating'}, (False, True)),
    ({'host': 'there', 'task_state': None}, (False, False)),
    (None, (False, False)),
])
def test_whereabouts(limits, monkeypatch, found, whereabouts):
    def get_by_uuid(context, uuid, expected_attrs):
        if found is None:
            raise nova_exception.InstanceNotFound(instance_id=uuid)
        return instance(**found)
    monkeypatch.setattr(objects.Instance, 'get_by_uuid', get_by_uuid)
    cache = identity.InstanceCache(limits)
    where = cache.load(UUID, 'here')
    assert (where.here, where.busy) == whereabouts
    assert (cache.get(UUID) is not None) is where.here


def test_cache_keeps_an_instance_with_a_bad_value_unwatched(limits):
    cache = identity.InstanceCache(limits)
    cache.put(instance({'image_hw_vmhealth_heartbeat': 'perhaps'}))
    assert cache.get(UUID).policy.heartbeat is False
    cache.forget(UUID)
    assert cache.get(UUID) is None


@pytest.mark.parametrize('host, node', [('here', 'n'), ('elsewhere', None)])
def test_who_arrived_is_here(limits, host, node):
    cache = identity.InstanceCache(limits)
    cache.arrived(UUID, 'here')          # who is not known stays so
    assert cache.get(UUID) is None
    cache.put(instance(host=host, node='n', display_name='db1'))
    cache.arrived(UUID, 'here')
    found = cache.get(UUID).identity
    assert (found.host, found.node, found.name) == ('here', node, 'db1')


def test_what_the_image_says_outlives_an_instance_without_it(limits):
    """As one to which a volume is attached: its flavor alone is loaded."""
    cache = identity.InstanceCache(limits)
    cache.put(instance({'image_hw_vmhealth_heartbeat': 'yes'},
                       flavor=flavor(), metadata={'tier': 'gold'}))
    cache.put(instance(flavor=flavor(), vm_state='active'))
    entry = cache.get(UUID)
    assert entry.policy.heartbeat
    assert entry.identity.metadata == {'tier': 'gold'}
    assert entry.identity.state == 'active'
    # what is loaded is taken over, even if it is empty
    cache.put(instance({}, flavor=flavor(), metadata={}))
    entry = cache.get(UUID)
    assert not entry.policy.heartbeat
    assert entry.identity.metadata == {}


def test_all_of_a_host_by_one_call(limits, monkeypatch):
    asked = []
    monkeypatch.setattr(
        identity.objects.InstanceList, 'get_by_host',
        lambda context, host, expected_attrs: asked.append(host) or [
            instance()])
    cache = identity.InstanceCache(limits)
    assert cache.load_all('compute1') == {UUID}
    assert asked == ['compute1']
    assert cache.uuids() == [UUID]
