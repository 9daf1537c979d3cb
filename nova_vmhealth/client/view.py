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
"""What is known of a host, as a caller gets it."""

from collections.abc import Mapping
import dataclasses
from typing import Optional

from nova_vmhealth.core import maintenance
from nova_vmhealth.core import protocol
from nova_vmhealth.core import saving

NOVA_COMPUTE = 'nova-compute'
INSPECTOR = 'inspector'

# Of each text of an answer, which may go to a terminal: as much as Nova has
# room for in a service's disabled_reason. The longest name is shorter.
_MAX_TEXT = 255


@dataclasses.dataclass(frozen=True, slots=True)
class HostCondition:
    """What is wrong with a host.

    Words are those of core.vocabulary, as text: a later release may know more.

    :ivar cause: a HostCause's value
    :ivar subject: which of several, such as a storage backend; or empty
    :ivar since: seconds since the epoch
    :ivar reason: for people
    :ivar action: a HostAction's value: what it does to the service record
    """

    cause: str
    subject: str
    since: float
    reason: str
    action: str

    @classmethod
    def restored(cls, record):
        """Read one from an answer.

        :param record: core.saving.Record
        :raises nova_vmhealth.exception.InvalidRecord: it is none
        """
        return cls(
            cause=_text(record, 'cause'), subject=_text(record, 'subject'),
            since=record.time('since'), reason=_text(record, 'reason'),
            action=_text(record, 'action'))


@dataclasses.dataclass(frozen=True, slots=True)
class HostView:
    """What is known of a host, by its nova-compute or by an inspector.

    :ivar host: name of the compute service
    :ivar status: ``host_status`` of Nova's API: UP, MAINTENANCE, DOWN, UNKNOWN
    :ivar answered_by: 'nova-compute', or 'inspector' where the host itself
        does not answer
    :ivar disabled: whether the compute service is disabled; this and the next
        two are None where Nova's API was not reached
    :ivar disabled_reason: why; None for no reason
    :ivar forced_down: whether it is forced down
    :ivar conditions: what is wrong, as far as the one who answers knows
    :ivar windows: of planned maintenance, core.maintenance.Window
    :ivar instances: health -> number of instances; an inspector knows none
    :ivar last_beacon_at: seconds since the epoch; None where no inspector
        answers, or none has heard one
    :ivar cleared: after clear_host_fault(), the causes that it has ended
    """

    host: str
    status: str
    answered_by: str
    disabled: Optional[bool] = None
    disabled_reason: Optional[str] = None
    forced_down: Optional[bool] = None
    conditions: tuple[HostCondition, ...] = ()
    windows: tuple[maintenance.Window, ...] = ()
    instances: Mapping[str, int] = dataclasses.field(default_factory=dict)
    last_beacon_at: Optional[float] = None
    cleared: tuple[str, ...] = ()

    @classmethod
    def restored(cls, record, answered_by):
        """Read an answer of rpcapi's ``show`` and its like.

        :param record: a dict of JSON's types
        :param answered_by: who gave it
        :raises nova_vmhealth.exception.InvalidRecord: it is no such answer
        """
        fields = saving.Record(record)
        return cls(
            host=_text(fields, 'host'), status=_text(fields, 'status'),
            answered_by=answered_by,
            disabled=_unless_none(fields.flag, record, 'disabled'),
            disabled_reason=_clean(fields.text_or_none('disabled_reason')),
            forced_down=_unless_none(fields.flag, record, 'forced_down'),
            conditions=tuple(map(
                HostCondition.restored, fields.records('conditions'))),
            windows=_windows(fields, record),
            instances=_numbers(record.get('instances', {})),
            last_beacon_at=fields.time_or_none('last_beacon_at'),
            cleared=tuple(map(
                _clean, _unless_none(fields.words, record, 'cleared') or ())))


def _clean(text):
    return text and protocol.clean_text(text, _MAX_TEXT)


def _text(fields, name):
    return _clean(fields.text(name))


def _unless_none(read, record, name):
    return None if record.get(name) is None else read(name)


def _windows(fields, record):
    fields.records('windows')       # a list of them
    return tuple(map(maintenance.Window.restored, record['windows']))


def _numbers(counts):
    fields = saving.Record(counts)
    return {_clean(name): fields.count(name) for name in counts}
