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

"""``nova-vmhealth host``: reports from outside, and how a host is."""

import abc

from cliff import show

from nova_vmhealth import client
from nova_vmhealth.cmd import bus
from nova_vmhealth.cmd import cells


def _conditions(conditions):
    records = [
        {'cause': each.cause, 'subject': each.subject,
         'since': cells.time(each.since), 'reason': each.reason,
         'action': each.action} for each in conditions]
    return cells.Lines(records, [
        '{} {}since {}, action {}: {}'.format(
            each['cause'], each['subject'] and each['subject'] + ' ',
            each['since'], each['action'], each['reason'])
        for each in records])


def _windows(windows):
    records = [
        {'id': each.id, 'starts_at': cells.time(each.starts_at),
         'ends_at': cells.time(each.ends_at), 'reason': each.reason,
         'source': each.source} for each in windows]
    return cells.Lines(records, [
        '{} to {}: {} ({})'.format(
            each['starts_at'], each['ends_at'] or 'open end', each['reason'],
            each['id']) for each in records])


def _instances(counts):
    return cells.Lines(dict(counts), [', '.join(
        f'{number} {health}' for health, number in sorted(counts.items()))])


def rows(view):
    """Give what is known of a host as names and values.

    :param view: client.HostView
    """
    return (
        ('host', view.host),
        ('status', view.status),
        ('disabled', view.disabled),
        ('disabled_reason', view.disabled_reason),
        ('forced_down', view.forced_down),
        ('conditions', _conditions(view.conditions)),
        ('windows', _windows(view.windows)),
        ('instances', _instances(view.instances)),
        ('last_beacon_at', cells.time(view.last_beacon_at)),
        ('answered_by', view.answered_by),
    )


class _HostCommand(show.ShowOne, metaclass=abc.ABCMeta):
    """What the commands about one host share."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'host', metavar='HOST',
            help='the host, by the name of its compute service in Nova')
        bus.add_bus_arguments(parser)
        return parser

    def _add_reporter(self, parser):
        parser.add_argument(
            '--reporter', metavar='NAME',
            help='who says so (default: user, machine and program)')

    def take_action(self, parsed_args):
        reporter = getattr(parsed_args, 'reporter', None)
        with client.HealthClient(
                bus.rpc_transport(parsed_args), reporter) as health:
            return tuple(zip(*self._rows(health, parsed_args), strict=True))

    @abc.abstractmethod
    def _rows(self, health, parsed_args):
        """Do it, and give what there is to show."""


class Fault(_HostCommand):
    """Report that a host is ill.

    Its compute service is disabled, or what [vmhealth]on_reported_fault says,
    until "host clear". Exits with 0 only when the host's nova-compute, or an
    inspector on its behalf, has taken the report.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--reason', metavar='TEXT', required=True,
            help='what is wrong, for people; 255 characters at most')
        parser.add_argument(
            '--force-down', action='store_true',
            help='have the compute service forced down. Nova then allows to '
                 'evacuate its instances, though they may still run and write '
                 'to their disks: only for a host that was made sure to be '
                 'off')
        self._add_reporter(parser)
        return parser

    def _rows(self, health, parsed_args):
        return rows(health.report_host_fault(
            parsed_args.host, parsed_args.reason, parsed_args.force_down))


class Clear(_HostCommand):
    """Say that a host is well again.

    Ends what was reported, and what inspectors told on the host's behalf. What
    nova-compute sees itself ends by itself. Exits with 0 only when it was
    taken.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        self._add_reporter(parser)
        return parser

    def _rows(self, health, parsed_args):
        view = health.clear_host_fault(parsed_args.host)
        cleared = cells.Lines(list(view.cleared), [', '.join(view.cleared)])
        return (*rows(view), ('cleared', cleared))


class Show(_HostCommand):
    """Show how a host is.

    As its nova-compute knows it, or an inspector where the host does not
    answer.
    """

    def _rows(self, health, parsed_args):
        return rows(health.show_host(parsed_args.host))
