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

import os
import threading

from cliff import command

from nova_vmhealth.cmd import bus
from nova_vmhealth.cmd import event_lines
from nova_vmhealth import configuration
from nova_vmhealth.core import vocabulary
from nova_vmhealth import exception
from nova_vmhealth.notifications import listener
from nova_vmhealth.notifications import payload

# A word of both kinds is one word: it equals itself as either.
_CAUSES = tuple(dict.fromkeys([*vocabulary.Cause, *vocabulary.HostCause]))


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


def _chosen(parsed_args, callback):
    """Give the listener's arguments that say what is printed.

    :raises exception.VMHealthError: nothing ever would be
    """
    common = {
        # Whole: without the words of the other kind the set of a filter may
        # be empty, which wants all.
        'cause': frozenset(
            word for word in _CAUSES if word.value in parsed_args.cause),
        'project': frozenset(parsed_args.project),
        'host': frozenset(parsed_args.host)}
    arguments = {
        payload.EVENT_TYPE: {
            'callback': callback,
            'filter': listener.EventFilter(
                health=frozenset(map(vocabulary.Health, parsed_args.health)),
                **common)},
        payload.HOST_EVENT_TYPE: {
            'host_callback': callback,
            'host_filter': listener.HostEventFilter(**common)},
        payload.MAINTENANCE_EVENT_TYPE: {
            'maintenance_callback': callback,
            'maintenance_filter': listener.MaintenanceFilter(
                project=common['project'])}}
    chosen = {'callback': None}
    for event_type in _event_types(parsed_args):
        chosen.update(arguments[event_type])
    return chosen


def _event_types(parsed_args):
    """Give those that can match the filters.

    :raises exception.VMHealthError: there are none
    """
    wanted = set(parsed_args.event or event_lines.EVENT_TYPES)
    if parsed_args.health:
        wanted &= {payload.EVENT_TYPE}
    if parsed_args.cause or parsed_args.host:
        wanted -= {payload.MAINTENANCE_EVENT_TYPE}
    if not wanted:
        raise exception.VMHealthError(
            'Nothing would be printed: no --event has all that the other '
            'options ask for')
    return wanted


class Listen(command.Command):
    """Print the events of instances, hosts and maintenance as they arrive.

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
        bus.add_bus_arguments(parser)
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
        parser.add_argument(
            '--event', action='append', choices=event_lines.EVENT_TYPES,
            help='only events of this type; may be repeated')
        for name, words, text in (
                ('--health', vocabulary.Health,
                 "the instance's health, which only its own events have"),
                ('--cause', _CAUSES,
                 "the event's cause, which those of maintenance do not have"),
                ('--project', None,
                 "the project of the instance, or of one of the host's"),
                ('--host', None,
                 'the host, which those of maintenance do not name')):
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
        # before the first event, which may come before start() returns
        if as_table:
            printer.write(event_lines.table_heading())
        source.start()
        try:
            printer.done.wait(parsed_args.timeout)
        finally:
            source.stop()
        return int(printer.printed < (parsed_args.count or 0))

    @staticmethod
    def _format(parsed_args, as_table):
        if parsed_args.json:
            return event_lines.json_line
        return event_lines.table_row if as_table else event_lines.plain_line

    @staticmethod
    def _listener(parsed_args, callback):
        conf = configuration.load(parsed_args.config_file)
        url = bus.given_url(parsed_args, configuration.transport_url(conf))
        topics = (parsed_args.topic
                  or conf.notifications.versioned_notifications_topics)
        return listener.Listener(
            conf, transport_url=url, topics=topics,
            exchange=conf.control_exchange, pool=parsed_args.pool,
            **_chosen(parsed_args, callback))
