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

"""Who an instance is and what it asked for, kept at hand without an RPC.

The path from an event to the bus must not wait for nova-conductor, so each
instance of this host has one entry here: filled when Nova hands the driver an
instance, for all instances by one call at start, and refreshed a while after
Nova changed something. Only load() and load_all() call nova-conductor.
"""

import dataclasses

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova.objects import fields
from oslo_log import log as logging

from nova_vmhealth.core import policy as policy_lib
from nova_vmhealth import exception
from nova_vmhealth.notifications import identity

LOG = logging.getLogger(__name__)

# How Nova names an image property in an instance's system_metadata.
_SYSTEM_METADATA_PREFIX = 'image_'
_ATTRIBUTES = ['flavor', 'metadata', 'system_metadata']


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What the driver knows of one instance.

    :ivar domain_name: the libvirt domain's name
    :ivar identity: what a notification says of the instance
    :ivar policy: what its flavor and image ask for
    """

    domain_name: str
    identity: identity.InstanceIdentity
    policy: policy_lib.Policy


@dataclasses.dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where nova-conductor says that an instance is.

    :ivar here: it exists, and on this host
    :ivar busy: Nova is at work on it (it has a task_state), so that it may
        still come or go
    """

    here: bool
    busy: bool


def image_properties(instance):
    """Return the image properties of ours that an instance was built with.

    Nova's ImageMeta drops every property outside its closed set, while
    system_metadata keeps them all; it is there on spawn, hard reboot and
    resize, is replaced on rebuild, and rescue leaves it alone.

    :param instance: nova.objects.Instance
    """
    if 'system_metadata' not in instance:
        return {}
    prefix = _SYSTEM_METADATA_PREFIX + policy_lib.IMAGE_PREFIX
    return {key[len(_SYSTEM_METADATA_PREFIX):]: value
            for key, value in instance.system_metadata.items()
            if key.startswith(prefix)}


def policy_of(instance, flavor, limits):
    """Return the policy that an instance's flavor and image ask for.

    :param instance: nova.objects.Instance
    :param flavor: nova.objects.Flavor, not always the instance's current one
    :param limits: nova_vmhealth.core.policy.Limits
    :returns: (Policy, tuple of Clamp)
    :raises nova_vmhealth.exception.InvalidPolicy: a value cannot be used
    """
    return policy_lib.parse(_extra_specs(flavor), image_properties(instance),
                            limits)


def _extra_specs(flavor):
    if flavor is None or 'extra_specs' not in flavor:
        return {}
    return dict(flavor.extra_specs)


def _get(instance, name):
    """Read an attribute only if it is loaded: a lazy load is an RPC."""
    return getattr(instance, name) if name in instance else None


def _power_state(instance):
    number = _get(instance, 'power_state')
    if number is None:
        return None
    return fields.InstancePowerState.from_index(number)


def identity_of(instance):
    """Copy what a notification says of an instance.

    :param instance: nova.objects.Instance; nothing is lazy-loaded
    :returns: nova_vmhealth.notifications.identity.InstanceIdentity
    """
    flavor = _get(instance, 'flavor')
    return identity.InstanceIdentity(
        uuid=instance.uuid,
        name=_get(instance, 'display_name'),
        tenant_id=_get(instance, 'project_id'),
        user_id=_get(instance, 'user_id'),
        host=_get(instance, 'host'),
        node=_get(instance, 'node'),
        availability_zone=_get(instance, 'availability_zone'),
        flavor_name=flavor.name if flavor else None,
        extra_specs=_extra_specs(flavor),
        image_uuid=_get(instance, 'image_ref'),
        state=_get(instance, 'vm_state'),
        power_state=_power_state(instance),
        task_state=_get(instance, 'task_state'),
        metadata=dict(_get(instance, 'metadata') or {}))


def _completed(entry, known, instance):
    """Keep what was known of that which Nova's caller has not loaded.

    An API call that attaches a volume, for one, comes with the flavor, and
    without the metadata of either kind.
    """
    kept = {}
    if 'flavor' not in instance:
        kept.update(flavor_name=known.identity.flavor_name,
                    extra_specs=known.identity.extra_specs)
    if 'metadata' not in instance:
        kept.update(metadata=known.identity.metadata)
    policy = entry.policy
    if 'flavor' not in instance or 'system_metadata' not in instance:
        policy = known.policy
    return dataclasses.replace(
        entry, policy=policy,
        identity=dataclasses.replace(entry.identity, **kept))


class InstanceCache:
    """The entries of this host's instances; safe to use from any thread.

    :param limits: nova_vmhealth.core.policy.Limits
    """

    def __init__(self, limits):
        self._limits = limits
        # Only ever changed by single operations on the dict, which are
        # atomic; no lock that an event could wait for.
        self._entries = {}

    def get(self, uuid):
        """Return the Entry of an instance, or None if it is not known."""
        return self._entries.get(uuid)

    def put(self, instance):
        """Take in what Nova's own object says; no RPC.

        :param instance: nova.objects.Instance
        """
        entry = Entry(domain_name=instance.name,
                      identity=identity_of(instance),
                      policy=self._policy(instance))
        known = self._entries.get(instance.uuid)
        if known is not None:
            entry = _completed(entry, known, instance)
        self._entries[instance.uuid] = entry

    def arrived(self, uuid, host):
        """Take note that an instance is on this host now.

        Nova itself writes that down a moment later.

        :param host: the name of this compute host
        """
        entry = self._entries.get(uuid)
        if entry is not None and entry.identity.host != host:
            self._entries[uuid] = dataclasses.replace(
                entry, identity=dataclasses.replace(
                    entry.identity, host=host, node=None))

    def restore(self, uuid, entry):
        """Take in what was known in an earlier run, unless it is known now.

        :param entry: Entry
        """
        self._entries.setdefault(uuid, entry)

    def uuids(self):
        """Return the instances that are known."""
        return list(self._entries)

    def forget(self, uuid):
        """Drop an instance that left this host."""
        self._entries.pop(uuid, None)

    def load(self, uuid, host):
        """Fetch one instance from nova-conductor.

        :param uuid: the instance's
        :param host: the name of this compute host
        :returns: Whereabouts; its entry is current if it is here
        :raises oslo_messaging.MessagingException: no answer
        """
        context = nova_context.get_admin_context()
        try:
            instance = objects.Instance.get_by_uuid(
                context, uuid, expected_attrs=_ATTRIBUTES)
        except nova_exception.InstanceNotFound:
            return Whereabouts(here=False, busy=False)
        here = instance.host == host
        if here:
            self.put(instance)
        return Whereabouts(here, busy=instance.task_state is not None)

    def load_all(self, host):
        """Fetch all instances of this host from nova-conductor, by one call.

        :param host: the name of this compute host
        :returns: their uuids
        :raises oslo_messaging.MessagingException: no answer
        """
        context = nova_context.get_admin_context()
        instances = objects.InstanceList.get_by_host(
            context, host, expected_attrs=_ATTRIBUTES)
        for instance in instances:
            self.put(instance)
        return frozenset(instance.uuid for instance in instances)

    def _policy(self, instance):
        try:
            policy, clamps = policy_of(instance, _get(instance, 'flavor'),
                                       self._limits)
        except exception.InvalidPolicy as error:
            # The spawn refuses such a value; here it can only come from that
            # spawn, or from an instance that was built before this driver was
            # in use.
            if instance.uuid not in self._entries:      # said once
                LOG.warning('Not watching the heartbeat of this instance: %s',
                            error, instance=instance)
            return policy_lib.parse({}, {}, self._limits)[0]
        if instance.uuid not in self._entries:      # said once
            for clamp in clamps:
                LOG.warning(
                    '%(key)s = %(asked)s is outside the limits of '
                    '[vmhealth], using %(given)s',
                    {'key': clamp.key, 'asked': _shown(clamp.asked),
                     'given': _shown(clamp.given)}, instance=instance)
        return policy


def _shown(value):
    """Show a number, or an action by its name."""
    return getattr(value, 'value', value)
