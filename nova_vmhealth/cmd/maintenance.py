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

"""``nova-vmhealth maintenance``: windows in which hosts are worked on."""

import argparse
import time

from cliff import lister
from cliff import show

from nova_vmhealth.client import maintenance
from nova_vmhealth.cmd import bus
from nova_vmhealth.cmd import cells
from nova_vmhealth.cmd import moments
from nova_vmhealth import exception

_COLUMNS = ('ID', 'Host', 'From', 'Until', 'State', 'Source', 'Reason')

_EPILOG = """
Times are ISO 8601 with a zone (2026-01-31T22:00Z, 2026-01-31T22:00+01:00),
"now", or from now (+30m, +1h30m, +2d). Times are shown in UTC.
"""

# What --until is where nobody has given it: None is an open end.
_NOT_GIVEN = object()


def _state(window):
    return 'active' if window.starts_at <= time.time() else 'planned'


def _row(planned):
    window = planned.window
    return (window.id, window.host, cells.time(window.starts_at),
            cells.time(window.ends_at), _state(window), window.source,
            window.reason)


def _rows(planned):
    return (
        *zip(('id', 'host', 'starts_at', 'ends_at', 'state', 'source',
              'reason'), _row(planned), strict=True),
        ('created_at', cells.time(planned.window.created_at)),
        ('told', planned.stage),
        ('projects', cells.Lines(list(planned.projects), planned.projects)))


class _MaintenanceCommand:
    """What the commands share."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        bus.add_bus_arguments(parser)
        return parser

    def take_action(self, parsed_args):
        self._check(parsed_args)
        with maintenance.MaintenanceClient(
                bus.rpc_transport(parsed_args)) as client:
            return self._act(client, parsed_args)

    def _check(self, parsed_args):
        """Refuse what cannot be before anybody is asked."""


class _One(_MaintenanceCommand, show.ShowOne):
    """A command that shows one window."""

    def _act(self, client, parsed_args):
        return tuple(zip(*_rows(self._find(client, parsed_args)),
                         strict=True))


class _Several(_MaintenanceCommand, lister.Lister):
    """A command that lists windows."""

    def _act(self, client, parsed_args):
        return _COLUMNS, list(map(_row, self._find(client, parsed_args)))


class Set(_One):
    """Announce planned maintenance of a host, or change what was announced.

    Projects that have instances on the host are told at once, at the start
    and at the end. Between start and end the host's events, and those of its
    instances, are marked as planned, so that consumers can mute them, and the
    host is not acted upon. Nothing is done to its instances.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = _EPILOG
        parser.add_argument(
            'host', metavar='HOST',
            help='the host, by the name of its compute service in Nova')
        parser.add_argument(
            '--from', metavar='TIME', type=moments.moment, dest='starts',
            help='its start (default: now)')
        end = parser.add_mutually_exclusive_group()
        end.add_argument(
            '--until', metavar='TIME', type=moments.moment_or_open,
            dest='ends', default=_NOT_GIVEN,
            help='its end; "open" where that is not known yet: it lasts until '
                 '"maintenance unset" (default: open)')
        end.add_argument(
            '--for', metavar='DURATION', type=moments.duration,
            dest='lasts_s', help='its end, as so long after its start')
        parser.add_argument(
            '--reason', metavar='TEXT',
            help='what is done. The tenants whose instances are on the host '
                 'read it: name nothing that they are not to know; 255 '
                 'characters at most')
        parser.add_argument(
            '--id', metavar='ID',
            help='change this window; what is not given stays as it is')
        return parser

    def _check(self, parsed_args):
        if parsed_args.id is None and not (parsed_args.reason or '').strip():
            raise exception.InvalidWindow(
                '--reason: a new window needs one, for the tenants')

    def _find(self, client, parsed_args):
        now = time.time()
        record = {'host': parsed_args.host}
        if parsed_args.id is not None:
            record['id'] = parsed_args.id
        if parsed_args.reason is not None:
            record['reason'] = parsed_args.reason
        if parsed_args.starts is not None:
            record['starts_at'] = parsed_args.starts.resolve(now)
        elif parsed_args.id is None:
            record['starts_at'] = now
        self._add_end(client, parsed_args, record, now)
        return client.set(record)

    @staticmethod
    def _add_end(client, parsed_args, record, now):
        if parsed_args.lasts_s is not None:
            starts_at = record.get('starts_at')
            if starts_at is None:
                starts_at = client.show(record['id']).window.starts_at
            record['ends_at'] = starts_at + parsed_args.lasts_s
        elif parsed_args.ends is None:
            record['ends_at'] = None
        elif parsed_args.ends is not _NOT_GIVEN:
            record['ends_at'] = parsed_args.ends.resolve(now)
            if record['ends_at'] <= record.get('starts_at', 0.0):
                raise exception.InvalidWindow(
                    '--until: the end is not after the start (--from)')


class Unset(_Several):
    """Withdraw a host's windows, or one; lists what was withdrawn.

    Projects that were told of a window are told that it is cancelled, or that
    it has ended if it had begun.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('host', metavar='HOST', nargs='?',
                            help='all windows of this host')
        parser.add_argument('--id', metavar='ID', help='this window')
        return parser

    def _check(self, parsed_args):
        if not parsed_args.host and not parsed_args.id:
            raise exception.InvalidWindow(
                'Say which windows: give HOST, or --id')

    def _find(self, client, parsed_args):
        return client.unset(parsed_args.host, parsed_args.id)


class List(_Several):
    """List the maintenance windows that are not over, the earliest first."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('host', metavar='HOST', nargs='?',
                            help='only those of this host')
        return parser

    def _find(self, client, parsed_args):
        return client.list(parsed_args.host)


class Show(_One):
    """Show a maintenance window, and which projects know of it."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('id', metavar='ID', help='the window')
        return parser

    def _find(self, client, parsed_args):
        return client.show(parsed_args.id)
