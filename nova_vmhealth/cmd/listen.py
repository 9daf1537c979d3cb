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

"""``nova-vmhealth listen``: health events as they come, a line each."""

import dataclasses
import json
import os
import threading

from cliff import command

from nova_vmhealth.cmd import configuration
from nova_vmhealth.core import vocabulary
from nova_vmhealth import exception
from nova_vmhealth.notifications import listener
from nova_vmhealth.notifications import payload
from nova_vmhealth.notifications import times

# Heading and width of a column; the last one takes the rest of the line.
_COLUMNS = (
    ('RECEIVED', 27), ('TRANSITION', 10), ('CAUSE', 25), ('SEVERITY', 8),
    ('HEALTH', 9), ('INSTANCE', 36), ('NAME', 16), ('HOST', 16),
    ('DETAILS', 0),
)

_CAUSES = (*vocabulary.Cause, *vocabulary.HostCause)


def _printable(text):
    """Take away what could steer a terminal: guests have written part."""
    return ''.join(
        each if each.isprintable() else '\N{REPLACEMENT CHARACTER}'
        for each in text)


def _details(event):
    pairs = [('subject', event.subject)] if event.subject else []
    if event.count > 1:
        pairs.append(('count', event.count))
    if event.operation:
        pairs.append(('operation', event.operation))
    pairs.extend(sorted(event.details.items()))
    return ' '.join(f'{name}={value}' for name, value in pairs)


def _host_details(event):
    pairs = [('instances', event.instance_count)]
    pairs.extend(sorted(event.details.items()))
    return ' '.join(f'{name}={value}' for name, value in pairs)


def _cells(event):
    if isinstance(event, listener.ReceivedHostEvent):
        own = None, None, None, event.host, _host_details(event)
    else:
        own = (event.health.value, event.uuid, event.name, event.host,
               _details(event))
    return [_printable(cell or '-') for cell in (
        times.iso_time(event.received_at), event.transition.value,
        event.cause.value, event.severity.value, *own)]


def _row(cells):
    return '  '.join(
        cell.ljust(width)
        for cell, (_, width) in zip(cells, _COLUMNS, strict=True)).rstrip()


def table_row(event):
    """Give an event as a row of the table, for a terminal."""
    return _row(_cells(event))


def plain_line(event):
    """Give an event as words with a blank between them."""
    return ' '.join(_cells(event))


def json_line(event):
    """Give an event as JSON: its type and its fields, times as text."""
    fields = dataclasses.asdict(event)
    for name in ('occurred_at', 'detected_at', 'received_at'):
        fields[name] = times.iso_time(fields[name])
    if isinstance(event, listener.ReceivedHostEvent):
        fields['event_type'] = payload.HOST_EVENT_TYPE
        return json.dumps(fields)
    fields['event_type'] = payload.EVENT_TYPE
    for condition in fields['conditions']:
        condition['since'] = times.iso_time(condition['since'])
    heartbeat = fields['heartbeat']
    if heartbeat and heartbeat['last_seen_at'] is not None:
        heartbeat['last_seen_at'] = times.iso_time(heartbeat['last_seen_at'])
    return json.dumps(fields)


class Printer:
    """The listener's callback: prints events until there were enough.

    :param stream: where to
    :param format_event: gives an event's line
    :param count: how many are enough; None: never
    :ivar done: set when there were enough, or nobody reads any more
    """

    def __init__(self, stream, format_event, count):
        self.printed = 0
        self.done = threading.Event()
        self.listener = None
        self._stream = stream
        # What guests have written need not exist in a terminal's encoding.
        # A stream that keeps text, and so encodes nothing, cannot be told.
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')
        self._format_event = format_event
        self._count = count

    def write(self, line):
        try:
            print(line, file=self._stream, flush=True)
        except BrokenPipeError:
            # Python would flush again on exit and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._finish()

    def __call__(self, event):
        self.write(self._format_event(event))
        self.printed += 1
        if self.printed == self._count:
            self._finish()

    def _finish(self):
        if self.listener is not None:
            self.listener.close()
        self.done.set()


def _positive(kind):
    def positive(text):
        value = kind(text)
        if not value > 0:
            raise ValueError(text)
        return value
    return positive


def _filters(parsed_args, callback):
    """Give the listener's arguments that say what is printed."""
    common = {
        # No word of the one kind is of the other: each filter takes its own.
        'cause': frozenset(
            word for word in _CAUSES if word.value in parsed_args.cause),
        'project': frozenset(parsed_args.project),
        'host': frozenset(parsed_args.host)}
    given = {'filter': listener.EventFilter(
        health=frozenset(map(vocabulary.Health, parsed_args.health)),
        **common)}
    # A host's event tells no health.
    if parsed_args.health:
        return given
    return {**given, 'host_callback': callback,
            'host_filter': listener.HostEventFilter(**common)}


class Listen(command.Command):
    """Print instance.health and host.health events as they arrive.

    A table on a terminal, lines of words elsewhere, JSON with --json. The
    broker keeps the queue of the pool after the command's end: what arrives
    meanwhile comes first the next time. It keeps it over a restart of its own
    only if the queue is a durable or a quorum queue.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        self._add_bus_arguments(parser)
        self._add_filter_arguments(parser)
        parser.add_argument('--json', action='store_true',
                            help='print each event as a line of JSON')
        parser.add_argument('--count', type=_positive(int), metavar='N',
                            help='end after this many events')
        parser.add_argument(
            '--timeout', type=_positive(float), metavar='SECONDS',
            help='end after this time; with --count, and fewer events by '
                 'then, the exit status is 1')
        return parser

    def _add_bus_arguments(self, parser):
        parser.add_argument(
            '--config-file', metavar='FILE', action='append',
            help="a configuration file with the broker's transport_url; may "
                 'be repeated')
        parser.add_argument('--transport-url', metavar='URL',
                            help='the broker, before that of any file')
        parser.add_argument(
            '--topic', metavar='TOPIC', action='append',
            help='may be repeated; default: [notifications]'
                 'versioned_notifications_topics of the file, or '
                 'versioned_notifications')
        parser.add_argument(
            '--pool', metavar='POOL',
            default=listener.default_pool() + '-listen',
            help='name of the queue; commands with the same name share the '
                 'events among them (default: %(default)s)')

    def _add_filter_arguments(self, parser):
        for name, words, text in (
                ('--health', vocabulary.Health, "the instance's health"),
                ('--cause', _CAUSES, "the event's cause"),
                ('--project', None, "the project of the instance, or of one "
                                    "of the host's"),
                ('--host', None, 'the host')):
            parser.add_argument(
                name, action='append', default=[],
                choices=words and [word.value for word in words],
                help=f'only events where this is {text}; may be repeated')

    def take_action(self, parsed_args):
        stream = self.app.stdout
        as_table = stream.isatty() and not parsed_args.json
        printer = Printer(
            stream, self._format(parsed_args, as_table), parsed_args.count)
        source = self._listener(parsed_args, printer)
        printer.listener = source
        source.start()
        try:
            if as_table:
                printer.write(_row([heading for heading, _ in _COLUMNS]))
            printer.done.wait(parsed_args.timeout)
        finally:
            source.stop()
        return int(printer.printed < (parsed_args.count or 0))

    @staticmethod
    def _format(parsed_args, as_table):
        if parsed_args.json:
            return json_line
        return table_row if as_table else plain_line

    @staticmethod
    def _listener(parsed_args, callback):
        conf = configuration.load(parsed_args.config_file)
        url = parsed_args.transport_url or configuration.transport_url(conf)
        if url is None:
            raise exception.VMHealthError(
                'No message broker: give --transport-url, or a --config-file '
                'with a transport_url')
        topics = (parsed_args.topic
                  or conf.notifications.versioned_notifications_topics)
        return listener.Listener(
            conf, callback, transport_url=url, topics=topics,
            exchange=conf.control_exchange, pool=parsed_args.pool,
            **_filters(parsed_args, callback))
