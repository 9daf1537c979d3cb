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

"""The versioned objects that a notification carries.

They are Nova's in form (``nova_object.name``, ``.namespace``, ``.version``,
``.data``) and not in origin: nova.notifications.objects is closed to other
projects, its EventType takes only actions that it knows, and its DateTimeField
cuts times to whole seconds.

None of them enters oslo.versionedobjects' registry. That registry is one for
the whole process, nova-compute's included, and they are never read back as
objects: consumers read JSON, ours through
:mod:`nova_vmhealth.notifications.parsing`.

A change of any field asks for a new version of its object and of those that
contain it; a test compares fingerprints.
"""

from oslo_versionedobjects import base
from oslo_versionedobjects import fields

from nova_vmhealth.core import vocabulary
from nova_vmhealth.notifications import times


class TimeType(fields.FieldType):
    """Takes seconds since the epoch, keeps the text of times.iso_time."""

    @staticmethod
    def coerce(obj, attr, value):
        return times.iso_time(value)


class TimeField(fields.AutoTypedField):
    AUTO_TYPE = TimeType()


def _closed_set(words):
    return fields.EnumField(valid_values=[word.value for word in words])


class NotificationObject(base.VersionedObject):
    """Base of everything that goes over the bus."""

    OBJ_SERIAL_NAMESPACE = 'nova_object'
    OBJ_PROJECT_NAMESPACE = 'nova_vmhealth'

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Made for one message: all its fields count as changed, which would
        # be told on the wire and means nothing to consumers.
        self.obj_reset_changes(recursive=False)


@base.VersionedObjectRegistry.register_if(False)
class ConditionPayload(NotificationObject):
    """One active condition of the instance."""

    # Version 1.0: Initial version
    # Version 1.1: The cause 'flapping'
    VERSION = '1.1'

    fields = {
        'cause': _closed_set(vocabulary.Cause),
        'subject': fields.StringField(),
        'severity': _closed_set(vocabulary.Severity),
        'since': TimeField(),
        'count': fields.IntegerField(),
    }


@base.VersionedObjectRegistry.register_if(False)
class HeartbeatPayload(NotificationObject):
    """What the heartbeat session of the instance knows."""

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'interval_ms': fields.IntegerField(),
        'timeout_ms': fields.IntegerField(),
        'misses_allowed': fields.IntegerField(),
        'misses': fields.IntegerField(),
        'established': fields.BooleanField(),
        'last_seen_at': TimeField(nullable=True),
    }


@base.VersionedObjectRegistry.register_if(False)
class FlavorPayload(NotificationObject):
    """The part of Nova's FlavorPayload that says what was asked for.

    Nested as Nova nests it, so that the same path finds it.
    """

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'name': fields.StringField(nullable=True),
        'extra_specs': fields.DictOfNullableStringsField(),
    }


@base.VersionedObjectRegistry.register_if(False)
class InstanceHealthPayload(NotificationObject):
    """A change of one instance's health: the event ``instance.health``."""

    # Version 1.0: Initial version
    # Version 1.1: The cause 'flapping'; ConditionPayload 1.1
    # Version 1.2: The sequence may be 0; what is suppressed is planned
    VERSION = '1.2'

    fields = {
        # the event
        'event_id': fields.UUIDField(),
        'sequence': fields.IntegerField(),
        'transition': _closed_set(vocabulary.Transition),
        'cause': _closed_set(vocabulary.Cause),
        'subject': fields.StringField(),
        'severity': _closed_set(vocabulary.Severity),
        'count': fields.IntegerField(),
        'occurred_at': TimeField(),
        'detected_at': TimeField(),
        'details': fields.DictOfStringsField(),
        'planned': fields.BooleanField(),
        'operation': fields.StringField(nullable=True),
        'suppressed': fields.BooleanField(),
        # how the instance is after it
        'health': _closed_set(vocabulary.Health),
        'previous_health': _closed_set(vocabulary.Health),
        'conditions': fields.ListOfObjectsField('ConditionPayload'),
        'heartbeat': fields.ObjectField('HeartbeatPayload', nullable=True),
        'host_status': fields.StringField(nullable=True),
        # the instance, as Nova's InstancePayload has it
        'uuid': fields.UUIDField(),
        'name': fields.StringField(nullable=True),
        'tenant_id': fields.StringField(nullable=True),
        'user_id': fields.StringField(nullable=True),
        'host': fields.StringField(nullable=True),
        'node': fields.StringField(nullable=True),
        'availability_zone': fields.StringField(nullable=True),
        'flavor': fields.ObjectField('FlavorPayload'),
        'image_uuid': fields.StringField(nullable=True),
        'state': fields.StringField(nullable=True),
        'power_state': fields.StringField(nullable=True),
        'task_state': fields.StringField(nullable=True),
        'metadata': fields.DictOfNullableStringsField(),
    }


@base.VersionedObjectRegistry.register_if(False)
class HostHealthPayload(NotificationObject):
    """A change of a host's own health: the event ``host.health``."""

    # Version 1.0: Initial version
    # Version 1.1: The cause 'libvirt_lost'
    # Version 1.2: The causes 'storage_fault', 'memory_failure',
    #              'reported_fault', 'host_down' and 'beacons_lost'; subject,
    #              reason, status, action, planned and suppressed; the sequence
    #              may be 0
    VERSION = '1.2'

    fields = {
        'event_id': fields.UUIDField(),
        'sequence': fields.IntegerField(),
        'transition': _closed_set(vocabulary.Transition),
        'cause': _closed_set(vocabulary.HostCause),
        'subject': fields.StringField(),
        'severity': _closed_set(vocabulary.Severity),
        'occurred_at': TimeField(),
        'detected_at': TimeField(),
        'reason': fields.StringField(),
        'details': fields.DictOfStringsField(),
        'planned': fields.BooleanField(),
        'suppressed': fields.BooleanField(),
        # the host, and what the condition does to its service record
        'host': fields.StringField(),
        'status': _closed_set(vocabulary.HostStatus),
        'action': _closed_set(vocabulary.HostAction),
        # the instances that it is about: uuid -> project
        'instances': fields.DictOfNullableStringsField(),
        'instance_count': fields.IntegerField(),
    }


@base.VersionedObjectRegistry.register_if(False)
class InstanceMaintenancePayload(NotificationObject):
    """Planned maintenance of a host, told to one project.

    The event ``instance.maintenance``. Tenants read it: it has no host's
    name.
    """

    # Version 1.0: Initial version
    VERSION = '1.0'

    fields = {
        'event_id': fields.UUIDField(),
        'window_id': fields.UUIDField(),
        'stage': _closed_set(vocabulary.MaintenanceStage),
        'tenant_id': fields.StringField(),
        'host_id': fields.StringField(),
        'starts_at': TimeField(),
        'ends_at': TimeField(nullable=True),
        'reason': fields.StringField(),
        'occurred_at': TimeField(),
        # the project's instances on the host: uuid -> name
        'instances': fields.DictOfNullableStringsField(),
        'instance_count': fields.IntegerField(),
    }
