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

"""Tell of a host, and ask, by whoever answers for it.

That is its nova-compute, which knows most. Where it does not answer, as the
host may be dead, the inspectors act on its behalf.
"""

import dataclasses
import getpass
import os
import socket
import sys
from typing import Any, NamedTuple

import oslo_messaging

from nova_vmhealth import broker
from nova_vmhealth.client import connection
from nova_vmhealth.client import view
from nova_vmhealth import configuration
from nova_vmhealth.core import protocol
from nova_vmhealth import exception
from nova_vmhealth import rpcapi

# What Nova has room for in a service's disabled_reason, and more than a person
# reads of a reporter.
MAX_TEXT = 255
# Bytes. With the topic before it a name is a routing key of 255 at most.
MAX_HOST = 230


def connect(transport_url=None, config_files=None, reporter=None):
    """Connect to the broker of a cell.

    :param transport_url: of the broker; None: that of the files
    :param config_files: paths of configuration files, such as nova.conf: for
        the broker's URL and the options of ``[oslo_messaging_rabbit]``
    :param reporter: who reports; None: user, machine and program
    :returns: a :class:`HealthClient`, which is a context manager
    :raises nova_vmhealth.exception.BrokerUnreachable: none is named, or it
        does not take us
    :raises oslo_config.cfg.ConfigFilesNotFoundError: a file is not there
    """
    conf = configuration.load(config_files)
    url = transport_url or configuration.rpc_url(conf)
    if url is None:
        raise exception.BrokerUnreachable(
            'No message broker: give transport_url, or config_files with one')
    return HealthClient(broker.rpc_transport(conf, url), reporter)


def default_reporter():
    """Name whoever runs this: user@machine:program."""
    try:
        user = getpass.getuser()
    # No such user in this container: KeyError, from Python 3.13 on OSError.
    except (KeyError, OSError):
        user = str(os.getuid())
    program = os.path.basename(sys.argv[0]) if sys.argv else ''
    return f'{user}@{socket.gethostname()}:{program or "python"}'


class _Party(NamedTuple):
    name: str
    api: Any
    answer_s: float


class HealthClient(connection.Connection):
    """A connection to the broker of a cell, for some calls or for many.

    Each call may take some seconds, and not more: 1 s until a host counts as
    one that does not answer, 2 s until there is no inspector, 30 s where an
    inspector is at it and has to wait for Nova's API. Calls may come from any
    thread.

    :param transport: oslo.messaging's for RPC; it is closed with this
    :param reporter: as for :func:`connect`
    :raises nova_vmhealth.exception.BrokerUnreachable: the broker does not take
        us
    """

    def __init__(self, transport, reporter=None):
        super().__init__(transport)
        self._reporter = protocol.clean_text(
            reporter or default_reporter(), MAX_TEXT)
        # Who may answer for a host, the one that knows more first.
        self._parties = (
            _Party(view.NOVA_COMPUTE, rpcapi.ComputeAPI(transport),
                   rpcapi.COMPUTE_ANSWER_S),
            _Party(view.INSPECTOR, rpcapi.InspectorAPI(transport),
                   rpcapi.INSPECTOR_ANSWER_S))

    def report_host_fault(self, host, reason, force_down=False):
        """Report that a host is ill, whatever of it is.

        Its compute service is disabled, or whatever
        ``[vmhealth]on_reported_fault`` says; ``host.health``, and the
        ``instance.health`` of each of its instances, tell it. It stays until
        :meth:`clear_host_fault`.

        :param host: name of the compute service, as Nova has it
        :param reason: for people. Made printable, and cut at 255 characters
        :param force_down: have the service forced down, whatever the option
            says. That allows evacuation of instances that may still run: only
            for a host that was made sure to be off
        :returns: a HostView of how it is then
        :raises nova_vmhealth.exception.InvalidReport: no host or no reason
        :raises nova_vmhealth.exception.HostUnreachable: nobody answers for it
        :raises nova_vmhealth.exception.HostCallFailed: it could not be done
        :raises nova_vmhealth.exception.BrokerUnreachable: the broker is gone
        """
        host = _checked(host)
        reason = protocol.clean_text(reason, MAX_TEXT)
        if not reason:
            raise exception.InvalidReport(reason='it gives no reason')
        arguments = host, reason, bool(force_down), self._reporter
        return self._first(
            host, lambda api: api.report_fault(*arguments))

    def clear_host_fault(self, host):
        """Say that a host is well again, whoever reported what.

        Both its nova-compute and the inspectors are asked, as each ends what
        it has told. What they see themselves ends by itself, and not by this.

        :returns: a HostView of how it is then, with ``cleared``
        :raises nova_vmhealth.exception.HostUnreachable: nobody answers for it
        :raises nova_vmhealth.exception.HostCallFailed: one of the two could
            not do it; the other may have
        :raises nova_vmhealth.exception.BrokerUnreachable: the broker is gone
        """
        host = _checked(host)
        answers, failure = [], None
        for party in self._parties:
            try:
                answers.append(self._ask(
                    party, host,
                    lambda api: api.clear_fault(host, self._reporter)))
            except oslo_messaging.MessagingTimeout:
                continue
            except exception.HostCallFailed as error:
                failure = error
        if failure is not None:
            raise failure
        if not answers:
            raise self._unreachable(host)
        # The host knows more, but not what inspectors have just changed.
        known, latest = answers[0], answers[-1]
        return dataclasses.replace(
            known, status=latest.status, disabled=latest.disabled,
            disabled_reason=latest.disabled_reason,
            forced_down=latest.forced_down, cleared=tuple(dict.fromkeys(
                cause for each in answers for cause in each.cleared)))

    def show_host(self, host):
        """Say how a host is.

        :returns: a HostView
        :raises nova_vmhealth.exception.HostUnreachable: nobody answers for it
        :raises nova_vmhealth.exception.HostCallFailed: it could not be done
        :raises nova_vmhealth.exception.BrokerUnreachable: the broker is gone
        """
        host = _checked(host)
        return self._first(host, lambda api: api.show(host))

    def _first(self, host, call):
        """Have the first that answers do something."""
        for party in self._parties:
            try:
                return self._ask(party, host, call)
            except oslo_messaging.MessagingTimeout:
                continue
        raise self._unreachable(host)

    def _ask(self, party, host, call):
        """Have one do something.

        :raises oslo_messaging.MessagingTimeout: it does not answer
        """
        try:
            answer = self.ask(party.answer_s, lambda: call(party.api))
        except connection.Failed as error:
            raise exception.HostCallFailed(
                answered_by=party.name, host=host, reason=error) from error
        return view.HostView.restored(answer, party.name)

    def _unreachable(self, host):
        return exception.HostUnreachable(host=host, broker=self.broker)


def _checked(host):
    if not host.isprintable() or not 0 < len(host.encode()) <= MAX_HOST:
        raise exception.InvalidReport(
            reason=f'{host!r:.80} is no name of a host')
    return host
