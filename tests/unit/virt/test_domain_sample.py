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

"""What libvirt says of domains, and what moved between two of its answers."""

import types

import pytest

from nova_vmhealth.virt import domain_sample
from nova_vmhealth.virt.domain_sample import Sample

XML = """<domain><devices>
 <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'
   state='disconnected'/></channel>%s
</devices></domain>"""
CHANNEL = """<channel type='unix'><source mode='bind' path='/x'/>
 <target type='virtio' name='org.openstack.vmhealth.0'%s/></channel>"""
# As libvirt 9.0 gives them of a guest with two processors and a disk.
STATS = {
    'vcpu.current': 2, 'vcpu.maximum': 2,
    'vcpu.0.state': 1, 'vcpu.0.time': 7440000000, 'vcpu.0.wait': 0,
    'vcpu.0.delay': 1500, 'vcpu.1.state': 1, 'vcpu.1.time': 60000000,
    'vcpu.1.delay': 500,
    'block.count': 1, 'block.0.name': 'vda', 'block.0.path': '/d',
    'block.0.rd.reqs': 4, 'block.0.rd.bytes': 12800, 'block.0.rd.times': 9,
    'block.0.wr.reqs': 2, 'block.0.wr.bytes': 512, 'block.0.fl.reqs': 1,
    'block.0.capacity': 16777216,
}


class Domain:
    def __init__(self, uuid, xml=''):
        self.uuid, self.xml = uuid, xml

    def UUIDString(self):
        return self.uuid

    def XMLDesc(self, _flags):
        return self.xml


class Connection:
    def __init__(self, stats):
        self.stats = stats
        self.calls = []

    def domainListGetStats(self, domains, groups, flags):
        # as the binding, which refuses what is wrapped
        assert all(isinstance(domain, Domain) for domain in domains)
        self.calls.append((groups, flags))
        return [(domain, self.stats[domain.uuid]) for domain in domains
                if domain.uuid in self.stats]


def domains(*uuids):
    return {uuid: Domain(uuid) for uuid in uuids}


@pytest.mark.parametrize('channels, state', [
    ('', ''),
    (CHANNEL % '', ''),
    (CHANNEL % " state='connected'", 'connected'),
    (CHANNEL % " state='disconnected'", 'disconnected'),
])
def test_port(channels, state):
    assert domain_sample.port_state(Domain('a', XML % channels)) == state


@pytest.mark.parametrize('number, name', [
    (1, 'running'), (3, 'paused'), (7, 'suspended'), (8, 'unknown (8)'),
    (None, 'unknown (None)')])
def test_state(number, name):
    connection = Connection({'a': {'state.state': number}})
    assert domain_sample.states(connection, domains('a', 'gone')) == {
        'a': name}
    assert connection.calls == [(1, 1 << 29)]


def test_sample():
    connection = Connection({'a': STATS})
    assert domain_sample.samples(connection, domains('a'), lambda: 5.0) == {
        'a': Sample(5.0, 7500000000, 2000, 7)}
    assert connection.calls == [(8 | 32, 1 << 29)]


@pytest.mark.parametrize('stats, requests', [
    ({}, None),
    ({'block.count': 0}, 0),
    # QEMU is busy: libvirt gives what it knows itself
    ({'block.count': 1, 'block.0.name': 'vda'}, None),
    ({'block.count': 2, 'block.0.rd.reqs': 1, 'block.1.wr.reqs': 2}, 3),
])
def test_requests(stats, requests):
    found = domain_sample.samples(
        Connection({'a': stats}), domains('a'), lambda: 1.0)
    assert found['a'].requests == requests


def test_domains_wrapped_for_greenthreads():
    wrapped = {'a': types.SimpleNamespace(_obj=Domain('a'))}
    assert domain_sample.states(
        Connection({'a': {'state.state': 1}}), wrapped) == {'a': 'running'}


MS = 1_000_000


@pytest.mark.parametrize('last, details, moved', [
    (Sample(2.5, 10 * MS, 4 * MS, 3),
     {'observed_ms': '1500', 'vcpu_time_ms': '0', 'vcpu_delay_ms': '0',
      'block_requests': '0'}, False),
    (Sample(2.5, 35 * MS, 9 * MS, 5),
     {'observed_ms': '1500', 'vcpu_time_ms': '25', 'vcpu_delay_ms': '5',
      'block_requests': '2'}, True),
    # an idle guest: less than a step of the processor time
    (Sample(2.0, 10 * MS, 4 * MS + 1, 3),
     {'observed_ms': '1000', 'vcpu_time_ms': '0', 'vcpu_delay_ms': '0',
      'block_requests': '0'}, True),
    (Sample(2.0, 10 * MS, 4 * MS, 4),
     {'observed_ms': '1000', 'vcpu_time_ms': '0', 'vcpu_delay_ms': '0',
      'block_requests': '1'}, True),
    (Sample(2.0, 10 * MS, 4 * MS, None),
     {'observed_ms': '1000', 'vcpu_time_ms': '0', 'vcpu_delay_ms': '0'},
     False),
])
def test_movement(last, details, moved):
    first = Sample(1.0, 10 * MS, 4 * MS, 3)
    assert domain_sample.movement(first, last) == details
    assert domain_sample.moved(first, last) == moved


@pytest.mark.parametrize('last', [
    Sample(1.0, 10, 4, 3),              # one and the same
    Sample(2.0, 9, 4, 3),               # QEMU was started anew
])
def test_no_movement_to_speak_of(last):
    assert domain_sample.movement(Sample(1.0, 10, 4, 3), last) == {}


def test_the_states_of_all_by_one_call():
    class All:
        def getAllDomainStats(self, groups, flags):
            assert (groups, flags) == (1, 1 << 29)
            return [(Domain('a'), {'state.state': 3, 'state.reason': 5}),
                    (Domain('b'), {})]
    assert domain_sample.all_states(All()) == {'a': (3, 5), 'b': (0, 0)}


DISKS = """<domain><devices>
 <disk type='file'><source file='/d'/><target dev='vda'/>
  <alias name='virtio-disk0'/></disk>
 <disk type='network'><source protocol='rbd' name='pool/d'/>
  <target dev='vdb'/><alias name='virtio-disk1'/></disk>
 <disk type='block'><source dev='/dev/d'/><target dev='vdc'/></disk>
 <disk type='file' device='cdrom'><target dev='sda'/></disk>
</devices></domain>"""


@pytest.mark.parametrize('errors, disks', [
    ({}, []),
    ({'vda': 2}, [('virtio-disk0', '/d', 'enospc')]),
    ({'vdb': 1}, [('virtio-disk1', 'pool/d', 'unspecified')]),
    ({'vdc': 7, 'sda': 1}, [('', '/dev/d', ''), ('', '', 'unspecified')]),
])
def test_disks_with_an_error(errors, disks):
    domain = Domain('a', DISKS)
    domain.diskErrors = lambda _flags: errors
    assert [(disk.alias, disk.path, disk.reason)
            for disk in domain_sample.disk_errors(domain)] == disks
