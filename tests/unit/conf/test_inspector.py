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

"""Options of the inspector that contradict each other are refused by name."""

import socket

from oslo_config import cfg
from oslo_config import generator
import pytest

from nova_vmhealth.conf import inspector
from nova_vmhealth import exception


def configure(tmp_path, **options):
    path = tmp_path / 'inspector.conf'
    path.write_text('[vmhealth_inspector]\n' + ''.join(
        f'{name} = {value}\n' for name, value in options.items()))
    parsed = cfg.ConfigOpts()
    inspector.register_opts(parsed)
    parsed(['--config-file', str(path)])
    return parsed


def test_the_defaults_are_valid(tmp_path):
    conf = configure(tmp_path)
    inspector.validate(conf)
    group = conf.vmhealth_inspector
    assert inspector.name_of(group) == socket.gethostname()
    assert inspector.coordination_url_of(group) == (
        'file:///var/lib/nova-vmhealth/coordination')
    # As the issue has them.
    assert (group.beacon_misses, group.checks, group.unforce,
            group.reset_state) == (3, ['quorum'], False, False)


@pytest.mark.parametrize('options, name', [
    ({'name': 'a/b'}, 'name'),
    ({'name': 'x' * 201}, 'name'),
    ({'beacon_misses': 0}, 'beacon_misses'),
    ({'beacon_misses': 'many'}, 'beacon_misses'),
    ({'beacon_interval_ms': 10}, 'beacon_interval_ms'),
    ({'recover_beacons': 0}, 'recover_beacons'),
    ({'grace_s': -1}, 'grace_s'),
    ({'max_down_percent': 101}, 'max_down_percent'),
    ({'max_down_window_s': -1}, 'max_down_window_s'),
    ({'api_timeout_s': 0}, 'api_timeout_s'),
    ({'checks': ''}, 'checks'),
    ({'checks': 'quorum,ping'}, 'checks'),
    ({'checks': 'tcp:ssh'}, 'checks'),
    ({'checks': 'exec:fence'}, 'checks'),
    ({'checks': 'exec:/no/such/program'}, 'checks'),
    ({'checks': 'exec:/etc/passwd'}, 'checks'),
    ({'check_timeout_s': 0}, 'check_timeout_s'),
    ({'check_timeout_s': 10}, 'check_interval_s'),
    ({'check_interval_s': 0.5}, 'check_interval_s'),
    ({'check_address': 'controller'}, 'check_address'),
    ({'check_address': '%(hots)s'}, 'check_address'),
    ({'check_address': '%(host)d'}, 'check_address'),
    ({'check_address': '%s'}, 'check_address'),
    ({'coordination_url': '/var/lib/locks'}, 'coordination_url'),
    ({'coordination_url': 'file://var/lib/locks'}, 'coordination_url'),
    ({'reset_state': 'perhaps'}, 'reset_state'),
    ({'unforce': 'perhaps'}, 'unforce'),
    ({'fenix_max_hours': 0}, 'fenix_max_hours'),
])
def test_refused_by_name(tmp_path, options, name):
    with pytest.raises(exception.InvalidConfiguration) as caught:
        inspector.validate(configure(tmp_path, **options))
    assert f'[vmhealth_inspector]{name}:' in str(caught.value)


@pytest.mark.parametrize('options', [
    {'checks': 'quorum,tcp:22,exec:/bin/true'},
    {'check_address': '%(host)s.storage.example.org'},
    {'coordination_url': 'etcd3+http://controller:2379'},
    {'coordination_url': 'file:///var/lib/locks'},
    {'check_timeout_s': 5, 'check_interval_s': 5},
    {'max_down_percent': 0},
    {'name': 'controller-1.b'},
])
def test_valid(tmp_path, options):
    inspector.validate(configure(tmp_path, **options))


def test_locks_lie_below_the_state_path(tmp_path):
    group = configure(tmp_path, state_path='/srv/a b').vmhealth_inspector
    assert inspector.coordination_url_of(group) == (
        'file:///srv/a%20b/coordination')


def test_the_help_says_what_it_should():
    (name, options), = inspector.list_opts()
    assert name == 'vmhealth_inspector'
    for option in options:
        assert option.help and option.help.strip().endswith('.'), option.name


def test_a_sample_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(
        generator, '_list_opts',
        lambda namespaces: [('nova_vmhealth.inspector',
                             inspector.list_opts())])
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    path = tmp_path / 'sample'
    conf(['--namespace', 'nova_vmhealth.inspector', '--output-file',
          str(path)])
    generator.generate(conf)
    text = path.read_text()
    assert '[vmhealth_inspector]' in text
    assert '#beacon_misses = 3' in text
    assert '#name = <host name of this machine>' in text
