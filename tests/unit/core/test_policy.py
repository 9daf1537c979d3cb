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


"""What an instance asked for, read from its flavor and image."""

import dataclasses

import pytest

from nova_vmhealth.core import policy
from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth import exception

LIMITS = policy.Limits(
    interval_ms=policy.Bounds(200, 60000),
    timeout_ms=policy.Bounds(100, 50000),
    misses=policy.Bounds(2, 100),
    boot_deadline_s=policy.Bounds(10, 3600),
    default_events=frozenset({Cause.IO_ERROR, Cause.HEARTBEAT_LOST}),
    allowed_actions=frozenset({Action.INJECT_NMI, Action.RESET}),
)
DEFAULT = policy.Policy(
    heartbeat=False, interval_ms=1000, timeout_ms=1000, misses=3,
    boot_deadline_s=0, panic_device=False, events=LIMITS.default_events)


def _parse(flavor=None, image=None, limits=LIMITS):
    return policy.parse(flavor or {}, image or {}, limits)


def test_nothing_asked():
    assert _parse() == (DEFAULT, ())


def test_other_namespaces_are_not_ours():
    assert _parse({'hw:watchdog_action': 'reset', 'vmhealthy': 'x'},
                  {'hw_disk_bus': 'virtio'}) == (DEFAULT, ())


@pytest.mark.parametrize('name,text,value', [
    ('heartbeat', 'true', True),
    ('heartbeat', 'TRUE', True),
    ('heartbeat', ' y ', True),
    ('heartbeat', 't', True),
    ('heartbeat', '1', True),
    ('heartbeat', 'on', True),
    ('heartbeat', 'Yes', True),
    ('heartbeat', 'false', False),
    ('panic_device', 'yes', True),
    ('panic_device', '0', False),
    ('panic_device', 'off', False),
    ('panic_device', 'N', False),
    ('interval_ms', '200', 200),
    ('interval_ms', ' 60000 ', 60000),
    ('timeout_ms', '+100', 100),
    ('misses', '2', 2),
    ('boot_deadline_s', '0', 0),
    ('boot_deadline_s', '3600', 3600),
    ('events', 'all', frozenset(Cause)),
    ('events', 'none', frozenset()),
    ('events', 'io_error, Watchdog_Expired',
     {Cause.IO_ERROR, Cause.WATCHDOG_EXPIRED}),
    ('events', 'io_error,io_error', {Cause.IO_ERROR}),
    ('events', 'flapping', {Cause.FLAPPING}),
    ('action', 'none', Action.NONE),
    ('action', 'reset', Action.RESET),
    ('action', ' Inject_NMI ', Action.INJECT_NMI),
])
def test_value(name, text, value):
    for asked in (_parse({'vmhealth:' + name: text}),
                  _parse(None, {'hw_vmhealth_' + name: text})):
        given, clamps = asked
        assert getattr(given, name) == value
        assert type(getattr(given, name)) is not str
        assert clamps == ()


@pytest.mark.parametrize('name,text,reason', [
    ('heartbeat', 'maybe', 'not a boolean'),
    ('heartbeat', '', 'not a boolean'),
    ('heartbeat', '2', 'not a boolean'),
    ('panic_device', 'pvpanic', 'not a boolean'),
    ('interval_ms', 'abc', 'not a whole number'),
    ('interval_ms', '', 'not a whole number'),
    ('interval_ms', '1.5', 'not a whole number'),
    ('interval_ms', '1_000', 'not a whole number'),
    ('interval_ms', '\u0661\u0662', 'not a whole number'),
    ('interval_ms', '9' * 255, 'not a whole number'),
    ('interval_ms', '0x10', 'not a whole number'),
    ('interval_ms', '0', 'must be at least 1'),
    ('timeout_ms', '-1', 'must be at least 1'),
    ('timeout_ms', '0', 'must be at least 1'),
    ('misses', '0', 'must be at least 1'),
    ('misses', 'three', 'not a whole number'),
    ('boot_deadline_s', '-1', 'must be at least 0'),
    ('events', '', "'' is not a cause"),
    ('events', 'io_error,', "'' is not a cause"),
    ('events', 'io_error,disk_melted', "'disk_melted' is not a cause"),
    ('events', 'all,io_error', "'all' cannot stand beside other words"),
    ('events', 'io_error,none', "'none' cannot stand beside other words"),
    ('action', 'reboot',
     'not one of none, inject_nmi, reset, poweroff, pause'),
    ('action', '', 'not one of none, inject_nmi, reset, poweroff, pause'),
    ('action', 'reset,pause',
     'not one of none, inject_nmi, reset, poweroff, pause'),
])
def test_bad_value_names_the_key(name, text, reason):
    for key, flavor, image in (
            ('vmhealth:' + name, {'vmhealth:' + name: text}, {}),
            ('hw_vmhealth_' + name, {}, {'hw_vmhealth_' + name: text})):
        with pytest.raises(exception.InvalidPolicy) as caught:
            _parse(flavor, image)
        assert caught.value.key == key
        assert caught.value.value == text
        assert str(caught.value.reason) == reason
        assert key in str(caught.value)
        assert reason in str(caught.value)


@pytest.mark.parametrize('flavor,image,key', [
    ({'vmhealth:intervall_ms': '1'}, {}, 'vmhealth:intervall_ms'),
    ({'vmhealth:': '1'}, {}, 'vmhealth:'),
    ({'vmhealth:Heartbeat': 'true'}, {}, 'vmhealth:Heartbeat'),
    ({}, {'hw_vmhealth_beat': 'true'}, 'hw_vmhealth_beat'),
])
def test_unknown_key_is_refused(flavor, image, key):
    with pytest.raises(exception.InvalidPolicy) as caught:
        _parse(flavor, image)
    assert caught.value.key == key


def test_flavor_wins():
    given, clamps = _parse(
        {'vmhealth:misses': '5'},
        {'hw_vmhealth_misses': '7', 'hw_vmhealth_interval_ms': '300'})
    assert (given.misses, given.interval_ms) == (5, 300)
    assert clamps == ()


def test_flavor_vetoes_the_heartbeat():
    given, _ = _parse({'vmhealth:heartbeat': 'false'},
                      {'hw_vmhealth_heartbeat': 'true'})
    assert given.heartbeat is False


def test_image_is_not_read_where_the_flavor_decides():
    given, _ = _parse({'vmhealth:misses': '5'}, {'hw_vmhealth_misses': 'x'})
    assert given.misses == 5


@pytest.mark.parametrize('name,asked,given', [
    ('interval_ms', 1, 200),
    ('interval_ms', 60001, 60000),
    ('timeout_ms', 99, 100),
    ('timeout_ms', 10 ** 17, 50000),
    ('misses', 1, 2),
    ('misses', 101, 100),
    ('boot_deadline_s', 9, 10),
    ('boot_deadline_s', 3601, 3600),
])
def test_clamp(name, asked, given):
    for key, source in (('vmhealth:' + name, 0), ('hw_vmhealth_' + name, 1)):
        sources = [{}, {}]
        sources[source][key] = str(asked)
        result, clamps = _parse(*sources)
        assert getattr(result, name) == given
        assert clamps == (policy.Clamp(key, asked, given),)


@pytest.mark.parametrize('action', ['poweroff', 'pause'])
def test_an_action_that_is_not_allowed_is_none(action):
    for key, source in (('vmhealth:action', 0), ('hw_vmhealth_action', 1)):
        sources = [{}, {}]
        sources[source][key] = action
        result, clamps = _parse(*sources)
        assert result.action is Action.NONE
        assert clamps == (policy.Clamp(key, Action(action), Action.NONE),)


def test_nothing_is_done_unless_it_is_allowed():
    limits = dataclasses.replace(LIMITS, allowed_actions=frozenset())
    for action in Action:
        result, clamps = _parse({'vmhealth:action': action.value},
                                limits=limits)
        assert result.action is Action.NONE
        assert bool(clamps) is (action is not Action.NONE)


def test_flavor_vetoes_an_action():
    given, clamps = _parse({'vmhealth:action': 'none'},
                           {'hw_vmhealth_action': 'reset'})
    assert given.action is Action.NONE
    assert clamps == ()


def test_defaults_are_clamped_and_nobody_is_told():
    limits = policy.Limits(
        interval_ms=policy.Bounds(2000, 3000),
        timeout_ms=policy.Bounds(100, 500),
        misses=policy.Bounds(4, 4),
        boot_deadline_s=policy.Bounds(10, 20),
        default_events=frozenset())
    given, clamps = _parse(limits=limits)
    assert (given.interval_ms, given.timeout_ms, given.misses) == (
        2000, 500, 4)
    assert given.boot_deadline_s == 0
    assert given.events == frozenset()
    assert clamps == ()


def test_a_tenants_text_is_made_fit_for_the_log():
    with pytest.raises(exception.InvalidPolicy) as caught:
        _parse(None, {'hw_vmhealth_misses': 'a\n\x1b[31m' + 'b' * 999})
    assert caught.value.value == 'a??[31m' + 'b' * 248


def test_numbers_that_are_not_text():
    given, _ = _parse({'vmhealth:misses': 5, 'vmhealth:heartbeat': True})
    assert (given.misses, given.heartbeat) == (5, True)
