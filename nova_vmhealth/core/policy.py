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


"""What one instance asked for, after the operator's limits.

A tenant or an operator asks by flavor extra specs (``vmhealth:...``) and image
properties (``hw_vmhealth_...``); the flavor wins. :data:`SETTINGS` is the one
table of what can be asked: the validators of nova-api read it too.
"""

import dataclasses
import re
from typing import Callable, Mapping, Union

from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth import exception

PREFIX = 'vmhealth:'
IMAGE_PREFIX = 'hw_vmhealth_'

# The words of oslo_utils.strutils.bool_from_string(strict=True), which
# decides for Nova's own extra specs; core stays free of oslo.
_BOOLEANS: Mapping[str, bool] = {
    **dict.fromkeys(('1', 't', 'true', 'on', 'y', 'yes'), True),
    **dict.fromkeys(('0', 'f', 'false', 'off', 'n', 'no'), False),
}

# ASCII digits only: int() also takes '1_000' and the digits of every script.
# 18 of them fit in 64 bits, and no limit comes near.
_INTEGER = re.compile(r'[+-]?[0-9]{1,18}')

# Nova stores at most 255 characters of an extra spec or a property.
_MAX_SHOWN = 255

Value = Union[bool, int, Action, frozenset[Cause]]


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """The operator's limits of one number, both ends included."""

    minimum: int
    maximum: int

    def clamp(self, number: int) -> int:
        return max(self.minimum, min(number, self.maximum))


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows, and what is told when nobody asks.

    :ivar interval_ms: bounds of the time between challenges, milliseconds
    :ivar timeout_ms: bounds of the time for an answer, milliseconds
    :ivar misses: bounds of the misses in a row that make a loss
    :ivar boot_deadline_s: bounds of the time to the first beat, seconds;
        0, no deadline, is always allowed
    :ivar default_events: causes told for an instance that names none
    :ivar allowed_actions: what may be done to a guest that is lost
    """

    interval_ms: Bounds
    timeout_ms: Bounds
    misses: Bounds
    boot_deadline_s: Bounds
    default_events: frozenset[Cause]
    allowed_actions: frozenset[Action] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """How one instance is watched.

    :ivar heartbeat: whether the guest gets a channel and challenges
    :ivar interval_ms: time between challenges, milliseconds
    :ivar timeout_ms: time the guest has for an answer, milliseconds
    :ivar misses: the guest is lost on this miss in a row
    :ivar boot_deadline_s: time to the first beat, seconds; 0 is none
    :ivar panic_device: whether the guest gets a pvpanic device
    :ivar events: the causes that are told
    :ivar action: what is done to the guest when its heartbeat is lost
    """

    heartbeat: bool
    interval_ms: int
    timeout_ms: int
    misses: int
    boot_deadline_s: int
    panic_device: bool
    events: frozenset[Cause]
    action: Action = Action.NONE


@dataclasses.dataclass(frozen=True, slots=True)
class Clamp:
    """A value that was asked for and is outside the operator's limits.

    :ivar key: the extra spec or image property as it was written
    """

    key: str
    asked: Union[int, Action]
    given: Union[int, Action]


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be asked for.

    :ivar name: the key without its prefix, and the field of :class:`Policy`
    :ivar type: bool, int, Action, or str for the list of causes
    :ivar default: what holds when nobody asks; for the events the operator's
        limits say it instead
    :ivar minimum: the least number that makes sense at all; less is an error
        and not clamped
    """

    name: str
    type: type
    default: Union[bool, int, Action, None]
    minimum: int = 0

    @property
    def key(self) -> str:
        """The flavor's extra spec."""
        return PREFIX + self.name

    @property
    def image_key(self) -> str:
        """The image's property."""
        return IMAGE_PREFIX + self.name

    def read(self, text: str) -> Value:
        """Read a value as a flavor or an image has it.

        :raises ValueError: with the reason, in words for the one who wrote it
        """
        value = _READERS[self.type](text)
        if self.type is int and value < self.minimum:
            raise ValueError('must be at least %d' % self.minimum)
        return value


def parse_bool(text: str) -> bool:
    """Read a boolean the way Nova reads those of its own extra specs.

    :raises ValueError: when it is none
    """
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError('not a boolean') from None


def parse_int(text: str) -> int:
    """Read a whole number.

    :raises ValueError: when it is none
    """
    if not _INTEGER.fullmatch(text.strip()):
        raise ValueError('not a whole number')
    return int(text)


def parse_events(text: str) -> frozenset[Cause]:
    """Read a comma separated list of causes, or ``all``, or ``none``.

    :raises ValueError: naming the first word that is no cause
    """
    words = [word.strip().lower() for word in text.split(',')]
    if words == ['all']:
        return frozenset(Cause)
    if words == ['none']:
        return frozenset()
    return frozenset(_parse_cause(word) for word in words)


def _parse_cause(word: str) -> Cause:
    if word in ('all', 'none'):
        raise ValueError('%r cannot stand beside other words' % word)
    try:
        return Cause(word)
    except ValueError:
        raise ValueError('%r is not a cause' % word) from None


def parse_action(text: str) -> Action:
    """Read an action.

    :raises ValueError: when it is none
    """
    try:
        return Action(text.strip().lower())
    except ValueError:
        raise ValueError('not one of %s' % ', '.join(
            action.value for action in Action)) from None


_READERS: Mapping[type, Callable[[str], Value]] = {
    bool: parse_bool,
    int: parse_int,
    Action: parse_action,
    str: parse_events,
}

SETTINGS: tuple[Setting, ...] = (
    Setting('heartbeat', bool, False),
    Setting('interval_ms', int, 1000, minimum=1),
    Setting('timeout_ms', int, 1000, minimum=1),
    Setting('misses', int, 3, minimum=1),
    Setting('boot_deadline_s', int, 0),
    Setting('panic_device', bool, False),
    Setting('events', str, None),
    Setting('action', Action, Action.NONE),
)


def parse(
    extra_specs: Mapping[str, str],
    image_properties: Mapping[str, str],
    limits: Limits,
) -> tuple[Policy, tuple[Clamp, ...]]:
    """Make the policy of one instance.

    A property of the image is not even read where the flavor has the same
    setting. Defaults are held to the limits too, but are no clamps: nobody
    asked for them.

    :param extra_specs: of the flavor; keys without our prefix are ignored
    :param image_properties: of the image; keys without our prefix are ignored
    :param limits: what the operator allows
    :returns: the policy, and what was asked for outside of the limits
    :raises InvalidPolicy: naming the key whose value cannot be used, or that
        is not known
    """
    _refuse_unknown(extra_specs, PREFIX)
    _refuse_unknown(image_properties, IMAGE_PREFIX)
    values: dict[str, Value] = {}
    clamps = []
    for setting in SETTINGS:
        key, value = _asked(setting, extra_specs, image_properties)
        if value is None:
            value = (limits.default_events if setting.default is None
                     else setting.default)
        given = _limited(setting, value, limits)
        if key and given != value:
            clamps.append(Clamp(key, value, given))
        values[setting.name] = given
    return Policy(**values), tuple(clamps)


def _asked(setting, extra_specs, image_properties):
    """Return the key that decides and its value, or '' and None."""
    for key, source in ((setting.key, extra_specs),
                        (setting.image_key, image_properties)):
        if key in source:
            text = str(source[key])
            try:
                return key, setting.read(text)
            except ValueError as error:
                raise exception.InvalidPolicy(
                    key=key, value=_shown(text), reason=error) from None
    return '', None


def _limited(setting: Setting, value: Value, limits: Limits) -> Value:
    if setting.type is Action:
        return value if value in limits.allowed_actions else Action.NONE
    if setting.type is not int:
        return value
    if setting.name == 'boot_deadline_s' and value == 0:
        return value
    return getattr(limits, setting.name).clamp(value)


def _refuse_unknown(source: Mapping[str, str], prefix: str) -> None:
    known = {prefix + setting.name for setting in SETTINGS}
    for key in source:
        if key.startswith(prefix) and key not in known:
            raise exception.InvalidPolicy(
                key=_shown(key), value=_shown(str(source[key])),
                reason='no such setting')


def _shown(text: str) -> str:
    """Make a tenant's text fit for a log line."""
    return ''.join(
        char if char.isprintable() else '?' for char in text[:_MAX_SHOWN])
