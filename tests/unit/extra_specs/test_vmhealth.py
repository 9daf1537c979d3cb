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


"""The validators that nova-api gets from us, called the way Nova does."""

import subprocess
import sys

from nova.api.validation.extra_specs import validators
from nova import exception
import pytest

from nova_vmhealth.core import policy
from nova_vmhealth.extra_specs import vmhealth


@pytest.fixture
def loaded(monkeypatch):
    """Nova's registry with our validators in it, as load_validators does."""
    ours = {validator.name: validator for validator in vmhealth.register()}
    monkeypatch.setattr(
        validators, 'VALIDATORS', {**validators.VALIDATORS, **ours})
    monkeypatch.setattr(
        validators, 'NAMESPACES', validators.NAMESPACES | {
            name.split(':', 1)[0] for name in ours})


def test_every_setting_has_a_validator():
    assert [validator.name for validator in vmhealth.register()] == [
        setting.key for setting in policy.SETTINGS]
    for validator in vmhealth.register():
        assert validator.description


@pytest.mark.parametrize('name,value', [
    ('vmhealth:heartbeat', 'true'),
    ('vmhealth:heartbeat', 'No'),
    ('vmhealth:heartbeat', 1),
    ('vmhealth:interval_ms', '200'),
    ('vmhealth:interval_ms', 200),
    ('vmhealth:timeout_ms', '1'),
    ('vmhealth:misses', '1'),
    ('vmhealth:boot_deadline_s', '0'),
    ('vmhealth:panic_device', 'yes'),
    ('vmhealth:events', 'all'),
    ('vmhealth:events', 'none'),
    ('vmhealth:events', 'io_error, watchdog_expired'),
    ('vmhealth:events', 'heartbeat_lost,flapping'),
    ('vmhealth:action', 'none'),
    ('vmhealth:action', 'inject_nmi'),
    ('vmhealth:action', 'Reset'),
    ('vmhealth:action', 'poweroff'),
    ('vmhealth:action', 'pause'),
])
def test_accepted(loaded, name, value):
    validators.validate(name, value)


@pytest.mark.parametrize('name,value', [
    ('vmhealth:heartbeat', 'maybe'),
    ('vmhealth:interval_ms', 'abc'),
    ('vmhealth:interval_ms', 0.5),
    ('vmhealth:interval_ms', '0'),
    ('vmhealth:timeout_ms', '-5'),
    ('vmhealth:misses', '0'),
    ('vmhealth:misses', '1_0'),
    ('vmhealth:boot_deadline_s', '-1'),
    ('vmhealth:panic_device', ''),
    ('vmhealth:events', 'disk_melted'),
    ('vmhealth:events', ''),
    ('vmhealth:action', ''),
    ('vmhealth:action', 'reboot'),
    ('vmhealth:action', 'reset,pause'),
    ('vmhealth:action', 'true'),
    ('vmhealth:intervall_ms', '1000'),
    ('vmhealth:', '1000'),
])
def test_refused_and_named(loaded, name, value):
    with pytest.raises(exception.ValidationError) as caught:
        validators.validate(name, value)
    assert caught.value.code == 400
    assert "'%s'" % name in caught.value.format_message()


def test_the_actions_are_described():
    validator, = (each for each in vmhealth.register()
                  if each.name == 'vmhealth:action')
    assert validator.value == {'type': str, 'enum': [
        'none', 'inject_nmi', 'reset', 'poweroff', 'pause']}


def test_the_actions_are_named_in_the_answer(loaded):
    with pytest.raises(exception.ValidationError) as caught:
        validators.validate('vmhealth:action', 'reboot')
    assert ('not one of none, inject_nmi, reset, poweroff, pause'
            in caught.value.format_message())


def test_the_reason_is_said(loaded):
    with pytest.raises(exception.ValidationError) as caught:
        validators.validate('vmhealth:events', 'io_error,disk_melted')
    assert "'disk_melted' is not a cause" in caught.value.format_message()


def test_other_namespaces_stay_as_they_were(loaded):
    validators.validate('somebody:else', 'x')
    with pytest.raises(exception.ValidationError):
        validators.validate('hw:no_such_thing', 'x')


def test_loads_without_libvirt():
    """nova-api often runs where libvirt is not installed."""
    subprocess.run(
        [sys.executable, '-c',
         'import sys\n'
         'sys.modules["libvirt"] = None\n'
         'sys.path[:] = %r\n'
         'from nova_vmhealth.extra_specs import vmhealth\n'
         'vmhealth.register()\n'
         'assert "nova.virt.libvirt" not in sys.modules\n' % sys.path],
        check=True)
