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


"""What the driver adds to a guest's XML, against stock Nova's."""

import itertools
import xml.etree.ElementTree as etree

import pytest

from tests.integration import clients

_NUMBERS = itertools.count(1000)
CHANNEL = "./devices/channel/target[@name='org.openstack.vmhealth.0']"


@pytest.mark.parametrize('specs,properties', [
    ({}, {}),
    ({'hw:watchdog_action': 'reset'}, {'hw_qemu_guest_agent': 'yes'}),
    ({'vmhealth:heartbeat': 'false'}, {'hw_vmhealth_heartbeat': 'true'}),
    ({'vmhealth:interval_ms': '500'}, {}),
])
def test_not_opted_in(driver, specs, properties):
    """Byte for byte what stock Nova makes."""
    made = driver.do('both_xml', number=next(_NUMBERS), extra_specs=specs,
                     image_properties=properties)
    assert made['ours'] == made['stock']


@pytest.mark.parametrize('specs,properties', [
    ({'vmhealth:heartbeat': 'true'}, {}),
    ({}, {'hw_vmhealth_heartbeat': 'true'}),
])
def test_opted_in(driver, specs, properties):
    made = driver.do('both_xml', number=next(_NUMBERS), extra_specs=specs,
                     image_properties=dict(properties,
                                           hw_qemu_guest_agent='yes'))
    names = [target.get('name') for target in etree.fromstring(
        made['ours']).findall('./devices/channel/target')]
    assert names == ['org.qemu.guest_agent.0', 'org.openstack.vmhealth.0']
    assert etree.fromstring(made['stock']).find(CHANNEL) is None


def test_panic_device(driver):
    made = driver.do('both_xml', number=next(_NUMBERS),
                     extra_specs={'vmhealth:panic_device': 'true'})
    assert etree.fromstring(made['ours']).find('./devices/panic') is not None


def test_bad_image_property(driver):
    with pytest.raises(clients.Refused) as refused:
        driver.do('spawn', number=next(_NUMBERS), command_line='quiet',
                  image_properties={'hw_vmhealth_interval_ms': 'abc'})
    assert refused.value.kind == 'InvalidInput'
    assert 'hw_vmhealth_interval_ms' in str(refused.value)


def test_trait(driver):
    assert 'CUSTOM_VMHEALTH_HEARTBEAT' in driver.do('traits')
