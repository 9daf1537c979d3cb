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
])
def test_refused_by_name(tmp_path, options, name):
    with pytest.raises(exception.InvalidConfiguration) as caught:
        conf.validate(configure(tmp_path, **options))
    assert f'[vmhealth]{name}' in str(caught.value)


def test_defaults_are_valid_and_allow_the_documented_minimum(tmp_path):
    parsed = configure(tmp_path)
    conf.validate(parsed)
    limits = conf.limits(parsed)
    assert limits.interval_ms == policy.Bounds(100, 3600 * 1000)
    assert limits.default_events == frozenset(Cause)


def test_limits_follow_the_options(tmp_path):
    limits = conf.limits(configure(
        tmp_path, min_interval_ms=500, max_misses=7, default_events='none'))
    assert limits.interval_ms.minimum == 500
    assert limits.misses.maximum == 7
    assert limits.default_events == frozenset()


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
