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

"""Options out of range are refused by name; limits and checks follow them."""

from oslo_config import cfg
from oslo_config import fixture
import pytest

from nova_vmhealth import conf
from nova_vmhealth.core import policy
from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth import exception


def configure(tmp_path, **options):
    """A ConfigOpts that has read [vmhealth] from a file, as Nova does."""
    path = tmp_path / 'nova.conf'
    path.write_text('[vmhealth]\n' + ''.join(
        f'{name} = {value}\n' for name, value in options.items()))
    parsed = cfg.ConfigOpts()
    conf.register_opts(parsed)
    parsed(['--config-file', str(path)])
    return parsed


@pytest.mark.parametrize('options, name', [
    ({'min_interval_ms': 5}, 'min_interval_ms'),
    ({'min_interval_ms': 'fast'}, 'min_interval_ms'),
    ({'max_interval_ms': 10 ** 9}, 'max_interval_ms'),
    ({'min_timeout_ms': 2000, 'max_timeout_ms': 1000}, 'min_timeout_ms'),
    ({'min_misses': 0}, 'min_misses'),
    ({'max_misses': 2, 'min_misses': 3}, 'min_misses'),
    ({'max_boot_deadline_s': -1}, 'max_boot_deadline_s'),
    ({'default_events': 'heartbeat_lost,nonsense'}, 'default_events'),
    ({'planned_grace_s': -1}, 'planned_grace_s'),
    ({'update_interval_s': 0}, 'update_interval_s'),
    ({'event_queue_size': 1}, 'event_queue_size'),
    ({'notification_priority': 'loud'}, 'notification_priority'),
    ({'flap_flips': -1}, 'flap_flips'),
    ({'flap_window_s': 0}, 'flap_window_s'),
    ({'flap_quiet_s': 'long'}, 'flap_quiet_s'),
    ({'mass_loss_guests': -1}, 'mass_loss_guests'),
    ({'mass_loss_percent': 0}, 'mass_loss_percent'),
    ({'mass_loss_percent': 101}, 'mass_loss_percent'),
    ({'mass_loss_window_s': 0}, 'mass_loss_window_s'),
    ({'allowed_actions': 'reset,reboot'}, 'allowed_actions'),
    ({'allowed_actions': 'none'}, 'allowed_actions'),
    ({'max_actions': 0}, 'max_actions'),
    ({'action_window_s': 0}, 'action_window_s'),
    ({'action_delay_s': -1}, 'action_delay_s'),
    ({'notice_timeout_ms': 600001}, 'notice_timeout_ms'),
    ({'open_channel': 'perhaps'}, 'open_channel'),
    ({'metrics_port': 65536}, 'metrics_port'),
    ({'metrics_address': 'not an address'}, 'metrics_address'),
])
def test_refused_by_name(tmp_path, options, name):
    with pytest.raises(exception.InvalidConfiguration) as caught:
        conf.validate(configure(tmp_path, **options))
    assert f'[vmhealth]{name}' in str(caught.value)


@pytest.mark.parametrize('options, valid', [
    ({}, True),
    ({'action_delay_s': 9.5}, False),
    ({'action_delay_s': 3, 'mass_loss_window_s': 3}, True),
    ({'mass_loss_window_s': 10.5}, False),
    ({'action_delay_s': 0, 'mass_loss_guests': 0}, True),
    ({'action_delay_s': 0, 'allowed_actions': ''}, True),
])
def test_no_action_before_the_host_can_be_suspected(tmp_path, options, valid):
    parsed = configure(tmp_path, **{'allowed_actions': 'reset', **options})
    if valid:
        conf.validate(parsed)
        return
    with pytest.raises(exception.InvalidConfiguration) as caught:
        conf.validate(parsed)
    assert '[vmhealth]action_delay_s' in str(caught.value)
    assert 'mass_loss_window_s' in str(caught.value)


def test_defaults_are_valid_and_allow_the_documented_minimum(tmp_path):
    parsed = configure(tmp_path)
    conf.validate(parsed)
    limits = conf.limits(parsed)
    assert limits.interval_ms == policy.Bounds(100, 3600 * 1000)
    assert limits.default_events == frozenset(Cause)
    assert limits.allowed_actions == frozenset()


def test_limits_follow_the_options(tmp_path):
    limits = conf.limits(configure(
        tmp_path, min_interval_ms=500, max_misses=7, default_events='none',
        allowed_actions='reset, pause'))
    assert limits.interval_ms.minimum == 500
    assert limits.misses.maximum == 7
    assert limits.default_events == frozenset()
    assert limits.allowed_actions == {Action.RESET, Action.PAUSE}


@pytest.mark.parametrize('form, drivers, options', [
    ('versioned', ['messagingv2'], []),
    ('both', ['messagingv2', 'log'], []),
    ('unversioned', ['messagingv2'], ['notification_format']),
    ('both', [], ['[oslo_messaging_notifications]driver']),
    ('both', ['log', 'routing'], ['[oslo_messaging_notifications]driver']),
    ('unversioned', ['noop'],
     ['notification_format', '[oslo_messaging_notifications]driver']),
])
def test_what_keeps_notifications_from_leaving(form, drivers, options):
    parsed = cfg.ConfigOpts()
    parsed.register_opt(cfg.StrOpt('notification_format'),
                        group='notifications')
    parsed.register_opt(cfg.ListOpt('versioned_notifications_topics',
                                    default=['versioned_notifications']),
                        group='notifications')
    parsed.register_opt(cfg.MultiStrOpt('driver', default=[]),
                        group='oslo_messaging_notifications')
    parsed([])
    config = fixture.Config(parsed)
    config.setUp()
    config.config(group='notifications', notification_format=form)
    config.config(group='oslo_messaging_notifications', driver=drivers)
    problems = conf.check_notifications(parsed)
    assert len(problems) == len(options)
    for problem, option in zip(problems, options, strict=True):
        assert option in problem
