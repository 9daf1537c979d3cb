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

"""How an instance's entry in the cache is written down, and read again."""

import dataclasses

from nova_vmhealth.core import policy as policy_lib
from nova_vmhealth.core import saving
from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.notifications import identity as identity_lib
from nova_vmhealth.virt import identity

_TEXTS = frozenset({'extra_specs', 'metadata'})
_FLAGS = frozenset({'heartbeat', 'panic_device'})
_NUMBERS = frozenset({'interval_ms', 'timeout_ms', 'misses',
                      'boot_deadline_s'})


def record_of(entry):
    """Return an entry's record.

    :param entry: nova_vmhealth.virt.identity.Entry
    :returns: what JSON can write down
    """
    who, policy = entry.identity, entry.policy
    return {
        'domain_name': entry.domain_name,
        'identity': {
            **{name: getattr(who, name) for name in _names(who)},
            **{name: dict(getattr(who, name)) for name in _TEXTS}},
        'policy': {
            **{name: getattr(policy, name) for name in _FLAGS | _NUMBERS},
            'events': sorted(cause.value for cause in policy.events),
            'action': policy.action.value},
    }


def restored(saved):
    """Return the entry that a record is of.

    :param saved: what :func:`record_of` gave
    :returns: nova_vmhealth.virt.identity.Entry
    :raises nova_vmhealth.exception.InvalidRecord: it is of none
    """
    record = saving.Record(saved)
    who, policy = record.record('identity'), record.record('policy')
    return identity.Entry(
        domain_name=record.text('domain_name'),
        identity=identity_lib.InstanceIdentity(
            **{name: who.text_or_none(name)
               for name in _names(identity_lib.InstanceIdentity)
               if name not in _TEXTS},
            **{name: who.texts(name) for name in _TEXTS}),
        policy=policy_lib.Policy(
            **{name: policy.flag(name) for name in _FLAGS},
            **{name: policy.count(name) for name in _NUMBERS},
            events=_causes(policy),
            action=_action(policy)))


def _names(identity_class):
    return [field.name for field in dataclasses.fields(identity_class)]


def _causes(policy):
    known = {cause.value: cause for cause in Cause}
    # One that another release knew is not told by this one.
    return frozenset(known[name] for name in policy.words('events')
                     if name in known)


def _action(policy):
    # One that only another release can take is not taken by this one.
    if not policy.is_word('action', Action):
        return Action.NONE
    return policy.word('action', Action)
