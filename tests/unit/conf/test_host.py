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

"""The options about the host itself: ranges, refused by name, defaults."""

import pytest

from nova_vmhealth import conf
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth import exception
from tests.unit.conf.test_opts import configure


@pytest.mark.parametrize('name, value', [
    *((f'on_{cause.value}', value) for cause in conf.HOST_CAUSES
      for value in ('explode', 'force-down', '')),
    ('host_fault_quiet_s', -0.1), ('host_fault_quiet_s', 86400.1),
    ('host_fault_quiet_s', 'long'),
    ('storage_fault_instances', -1), ('storage_fault_instances', 100001),
    ('storage_fault_instances', 1.5),
    ('storage_fault_window_s', 0.9), ('storage_fault_window_s', 86400.1),
    ('memory_failure_quiet_s', 0.9), ('memory_failure_quiet_s', 604800.1),
    ('beacon_interval_ms', -1), ('beacon_interval_ms', 60001),
    ('beacon_interval_ms', 'often'),
    # An inspector would take the host for a burden.
    ('beacon_interval_ms', 1), ('beacon_interval_ms', 49),
])
def test_refused_by_name(tmp_path, name, value):
    with pytest.raises(exception.InvalidConfiguration) as caught:
        conf.validate(configure(tmp_path, **{name: value}))
    assert f'[vmhealth]{name}' in str(caught.value)


@pytest.mark.parametrize('name, value', [
    *((f'on_{cause.value}', value) for cause in conf.HOST_CAUSES
      for value in ('none', 'disable', 'force_down')),
    ('host_fault_quiet_s', 0), ('host_fault_quiet_s', 86400),
    ('storage_fault_instances', 0), ('storage_fault_instances', 100000),
    ('storage_fault_window_s', 1), ('storage_fault_window_s', 86400),
    ('memory_failure_quiet_s', 1), ('memory_failure_quiet_s', 604800),
    ('beacon_interval_ms', 0), ('beacon_interval_ms', 50),
    ('beacon_interval_ms', 60000),
])
def test_taken(tmp_path, name, value):
    parsed = configure(tmp_path, **{name: value})
    conf.validate(parsed)
    assert parsed[conf.GROUP][name] == value


def test_a_beacon_too_often_is_refused_with_the_reason(tmp_path):
    with pytest.raises(exception.InvalidConfiguration) as caught:
        conf.validate(configure(tmp_path, beacon_interval_ms=49))
    assert '49 is neither 0 nor at least 50' in str(caught.value)


def test_defaults(tmp_path):
    parsed = configure(tmp_path)
    conf.validate(parsed)
    group = parsed[conf.GROUP]
    assert {cause: group[f'on_{cause.value}']
            for cause in conf.HOST_CAUSES} == {
        HostCause.LIBVIRT_LOST: 'disable', HostCause.STORAGE_FAULT: 'disable',
        HostCause.MEMORY_FAILURE: 'disable',
        # One project can bring that about by itself.
        HostCause.MANY_GUESTS_LOST: 'none',
        HostCause.REPORTED_FAULT: 'disable'}
    assert (group.storage_fault_instances, group.beacon_interval_ms) == (
        3, 500)


def test_forcing_down_is_never_a_default_and_warned_of():
    found = {opt.name: opt for opt in conf.opts.OPTS
             if opt.name.startswith('on_')}
    assert len(found) == len(conf.HOST_CAUSES)
    for opt in found.values():
        assert opt.default != 'force_down'
        assert 'fence' in dict(opt.type.choices)['force_down']
