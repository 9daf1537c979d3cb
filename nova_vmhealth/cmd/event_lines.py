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

"""Events as lines for people and programs."""

import dataclasses
import json
from typing import Any, Callable, Optional

from nova_vmhealth.notifications import listener
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import times

# Heading and width of a column; the last one takes the rest of the line.
_COLUMNS = (
    ('RECEIVED', 27), ('TRANSITION', 10), ('CAUSE', 25), ('SEVERITY', 8),
    ('HEALTH', 9), ('INSTANCE', 36), ('NAME', 16), ('HOST', 16),
    ('DETAILS', 0),
)


def _printable(text):
    """Take away what could steer a terminal: guests have written part."""
    return ''.join(
        each if each.isprintable() else '\N{REPLACEMENT CHARACTER}'
        for each in text)


def _words(*pairs):
    return ' '.join(f'{name}={value}' for name, value in pairs if value)


def _instance_cells(event):
    return (
        event.transition.value, event.cause.value, event.severity.value,
        event.health.value, event.uuid, event.name, event.host,
        _words(('subject', event.subject),
               ('count', event.count if event.count > 1 else ''),
               ('operation', event.operation),
               ('suppressed', event.suppressed and 'true'),
               *sorted(event.details.items())))


def _host_cells(event):
    return (
        event.transition.value, event.cause.value, event.severity.value,
        None, None, None, event.host,
        _words(('subject', event.subject), ('status', event.status.value),
               ('action', event.action.value),
               ('suppressed', event.suppressed and 'true'),
               ('instances', str(event.instance_count)),
               *sorted(event.details.items()),
               # a sentence, and so the last
               ('reason', event.reason)))


def _maintenance_cells(event):
    # It has no cause, and the host's name is not for its readers.
    return (
        event.stage.value, 'maintenance', None, None, None, None, None,
        _words(('starts_at', times.iso_time(event.starts_at)),
               ('ends_at', None if event.ends_at is None
                else times.iso_time(event.ends_at)),
               ('instances', str(event.instance_count)),
               ('project', event.tenant_id), ('host_id', event.host_id),
               ('window_id', event.window_id), ('reason', event.reason)))


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How the events of one type are printed.

    :ivar cells: gives what stands in the columns after the first
    :ivar times: names of the fields that are times
    """

    event_type: str
    cells: Callable[[Any], tuple[Optional[str], ...]]
    times: tuple[str, ...]


_KINDS = {
    listener.ReceivedEvent: _Kind(
        payload.EVENT_TYPE, _instance_cells, ('occurred_at', 'detected_at')),
    listener.ReceivedHostEvent: _Kind(
        payload.HOST_EVENT_TYPE, _host_cells, ('occurred_at', 'detected_at')),
    listener.ReceivedMaintenance: _Kind(
        payload.MAINTENANCE_EVENT_TYPE, _maintenance_cells,
        ('starts_at', 'ends_at', 'occurred_at')),
}

EVENT_TYPES = tuple(kind.event_type for kind in _KINDS.values())


def _cells(event):
    cells = (times.iso_time(event.received_at),
             *_KINDS[type(event)].cells(event))
    return [_printable(cell or '-') for cell in cells]


def _row(cells):
    return '  '.join(
        cell.ljust(width)
        for cell, (_, width) in zip(cells, _COLUMNS, strict=True)).rstrip()


def table_heading():
    """Give what stands above the rows of the table."""
    return _row([heading for heading, _ in _COLUMNS])


def table_row(event):
    """Give an event as a row of the table, for a terminal."""
    return _row(_cells(event))


def plain_line(event):
    """Give an event as words with a blank between them."""
    return ' '.join(_cells(event))


def json_line(event):
    """Give an event as JSON: its type and its fields, times as text."""
    kind = _KINDS[type(event)]
    fields = {'event_type': kind.event_type, **dataclasses.asdict(event)}
    _write_times(fields, 'received_at', *kind.times)
    for condition in fields.get('conditions', ()):
        _write_times(condition, 'since')
    if fields.get('heartbeat'):
        _write_times(fields['heartbeat'], 'last_seen_at')
    return json.dumps(fields)


def _write_times(fields, *names):
    for name in names:
        if fields[name] is not None:
            fields[name] = times.iso_time(fields[name])
