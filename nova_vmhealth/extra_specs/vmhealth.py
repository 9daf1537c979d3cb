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


"""Validators of the ``vmhealth:`` extra specs, for nova-api.

Nova loads this module by the entry point group
``nova.api.extra_spec_validators`` and calls :func:`register`. Once one of
them is loaded the namespace is known to Nova, which then refuses every other
key of it. What a value may be is said in :mod:`nova_vmhealth.core.policy`
alone, so that nova-api and nova-compute cannot disagree.
"""

from nova.api.validation.extra_specs import base
from nova import exception

from nova_vmhealth.core import policy
from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth.core.vocabulary import Cause

_DESCRIPTIONS = {
    'heartbeat': (
        'Whether the guest gets a heartbeat channel and is asked in regular '
        'intervals if it is alive. ``false`` is a veto: the image cannot ask '
        'for it either.'
    ),
    'interval_ms': (
        'The time between two challenges, in milliseconds. The operator\'s '
        'limits in ``[vmhealth]`` apply.'
    ),
    'timeout_ms': (
        'The time that the guest has to answer a challenge, in milliseconds. '
        'The operator\'s limits in ``[vmhealth]`` apply.'
    ),
    'misses': (
        'The number of challenges in a row without an answer that make the '
        'guest lost. The operator\'s limits in ``[vmhealth]`` apply.'
    ),
    'boot_deadline_s': (
        'The time that the guest has for its first answer after it was '
        'started, in seconds; ``0`` is no deadline. The operator\'s limits '
        'in ``[vmhealth]`` apply.'
    ),
    'panic_device': (
        'Whether to add a pvpanic device, without which a panic of the guest '
        'is invisible to the host.'
    ),
    'events': (
        'The causes that are told in notifications: a comma-separated list, '
        '``all`` or ``none``. The causes are: %s.'
        % ', '.join(cause.value for cause in Cause)
    ),
    'action': (
        'What is done to the guest when its heartbeat is lost. Without effect '
        'unless the operator\'s ``[vmhealth]allowed_actions`` lists it.'
    ),
}


class SettingValidator(base.ExtraSpecValidator):
    """Validate one setting, with an error that names its key.

    The messages of Nova's own validators name only the value.
    """

    def validate(self, name, value):
        """Check what a flavor says.

        :param name: the extra spec
        :param value: its value; the API lets numbers through as such
        :raises nova.exception.ValidationError: naming the extra spec; the
            API answers with 400
        """
        try:
            _SETTINGS[name].read(str(value))
        except ValueError as error:
            raise exception.ValidationError(
                "Validation failed; invalid value '%s' for extra spec '%s': "
                "%s." % (value, name, error)) from error


_SETTINGS = {setting.key: setting for setting in policy.SETTINGS}


def _validator(setting):
    value = {'type': setting.type}
    if setting.type is int:
        value['min'] = setting.minimum
    if setting.type is Action:
        value = {'type': str, 'enum': [action.value for action in Action]}
    return SettingValidator(
        name=setting.key,
        description=_DESCRIPTIONS[setting.name],
        value=value)


def register():
    """Return the validators, as Nova asks every plugin to do.

    :returns: a list of nova.api.validation.extra_specs.base
        .ExtraSpecValidator
    """
    return [_validator(setting) for setting in policy.SETTINGS]
