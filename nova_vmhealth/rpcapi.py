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

"""What the processes of this package say to each other over the bus.

nova-compute answers on one topic, by the name of its host; the inspectors on
another, all of them or any one. These are oslo.messaging's RPC, and no
notifications: a notification's topic has a queue that fills up where nobody
reads it, while a beacon that nobody hears is gone.
"""

import oslo_messaging

# Not that of the service: Nova's control_exchange is the operator's choice,
# which a client elsewhere need not know.
EXCHANGE = 'nova_vmhealth'
COMPUTE_TOPIC = 'vmhealth_compute'
INSPECTOR_TOPIC = 'vmhealth_inspector'

# A new method or argument asks for a new minor version.
COMPUTE_VERSION = '1.0'
INSPECTOR_VERSION = '1.0'

# How long an answer may take, seconds. nova-compute answers from memory, in
# milliseconds; an inspector may ask Nova's API first.
COMPUTE_ANSWER_S = 1.0
INSPECTOR_ANSWER_S = 30.0
# An inspector that is at it says so within half of this time, whole seconds;
# so where there is none, nobody waits for the answer.
INSPECTOR_SIGN_S = 2
# Once more, on a new connection, where the broker was restarted since the last
# call.
CALL_RETRIES = 1
# A host that has no windows, so that an inspector answers at once.
NO_HOST = ''


def compute_target(host):
    """Return where nova-compute listens.

    :param host: name of the compute service
    """
    return oslo_messaging.Target(exchange=EXCHANGE, topic=COMPUTE_TOPIC,
                                 server=host)


def inspector_target(name):
    """Return where an inspector listens.

    :param name: of the inspector
    """
    return oslo_messaging.Target(exchange=EXCHANGE, topic=INSPECTOR_TOPIC,
                                 server=name)


class ComputeAPI:
    """Calls nova-compute's driver.

    :param transport: oslo.messaging's for RPC
    """

    def __init__(self, transport):
        self._client = _client(transport, COMPUTE_TOPIC, COMPUTE_VERSION)

    def report_fault(self, host, reason, force_down, reporter,
                     timeout_s=COMPUTE_ANSWER_S):
        """Have a host raise the condition ``reported_fault`` of itself.

        :param host: name of the compute service
        :param reason: for people
        :param force_down: whether its record is to be forced down, and not
            what ``[vmhealth]on_reported_fault`` says
        :param reporter: who says so
        :returns: what :meth:`show` does, after it
        :raises oslo_messaging.MessagingTimeout: nobody answers for the host
        """
        return self._call(host, timeout_s, 'report_fault', reason=reason,
                          force_down=force_down, reporter=reporter)

    def clear_fault(self, host, reporter, timeout_s=COMPUTE_ANSWER_S):
        """Have a host end the conditions that only a person can end.

        That is ``reported_fault``, and a ``memory_failure``.

        :returns: as :meth:`show`, with ``cleared``, a list of causes
        :raises oslo_messaging.MessagingTimeout: nobody answers for the host
        """
        return self._call(host, timeout_s, 'clear_fault', reporter=reporter)

    def show(self, host, timeout_s=COMPUTE_ANSWER_S):
        """Return what a host knows of itself.

        :returns: a dict: ``host``, ``status``, ``disabled``,
            ``disabled_reason``, ``forced_down``, ``conditions`` (each with
            ``cause``, ``subject``, ``since``, ``reason``, ``action``),
            ``windows`` (see core.maintenance), ``instances`` (health ->
            number)
        :raises oslo_messaging.MessagingTimeout: nobody answers for the host
        """
        return self._call(host, timeout_s, 'show')

    def set_windows(self, host, windows):
        """Tell a host all of its maintenance windows; nobody waits.

        :param windows: list of records, see core.maintenance
        """
        self._client.prepare(server=host).cast(
            {}, 'set_windows', windows=windows)

    def _call(self, host, timeout_s, method, **arguments):
        return self._client.prepare(
            server=host, timeout=timeout_s, retry=CALL_RETRIES).call(
                {}, method, **arguments)


class InspectorAPI:
    """Calls any one of the inspectors, or tells all of them.

    :param transport: oslo.messaging's for RPC
    """

    def __init__(self, transport):
        self._client = _client(transport, INSPECTOR_TOPIC, INSPECTOR_VERSION)
        self._all = self._client.prepare(fanout=True)

    # any one, which answers

    def report_fault(self, host, reason, force_down, reporter,
                     timeout_s=INSPECTOR_ANSWER_S):
        """Report a fault of a host whose nova-compute does not answer.

        Arguments as for :meth:`ComputeAPI.report_fault`.

        :returns: as :meth:`show`
        :raises oslo_messaging.MessagingTimeout: there is no inspector
        """
        return self._change(timeout_s, 'report_fault', host=host,
                            reason=reason, force_down=force_down,
                            reporter=reporter)

    def clear_fault(self, host, reporter, timeout_s=INSPECTOR_ANSWER_S):
        """End what inspectors told of a host, and let it be up again.

        :returns: as :meth:`show`, with ``cleared``, a list of causes
        :raises oslo_messaging.MessagingTimeout: there is no inspector
        """
        return self._change(timeout_s, 'clear_fault', host=host,
                            reporter=reporter)

    def show(self, host, timeout_s=INSPECTOR_ANSWER_S):
        """Return what the inspectors know of a host.

        :returns: a dict: ``host``, ``status``, ``disabled``,
            ``disabled_reason``, ``forced_down`` (as Nova's API has them, None
            where it was not reached), ``conditions`` and ``windows`` as in
            :meth:`ComputeAPI.show`, ``last_beacon_at`` (seconds since the
            epoch, or None)
        :raises oslo_messaging.MessagingTimeout: there is no inspector
        """
        return self._call(timeout_s, 'show', host=host)

    def set_window(self, window, timeout_s=INSPECTOR_ANSWER_S):
        """Announce planned maintenance, or change what was announced.

        :param window: record, see core.maintenance; without ``id`` a new one
        :returns: the record as it is kept
        :raises oslo_messaging.MessagingTimeout: there is no inspector
        """
        return self._change(timeout_s, 'set_window', window=window)

    def unset_windows(self, host=None, window_id=None,
                      timeout_s=INSPECTOR_ANSWER_S):
        """Withdraw a host's windows, or the one with an id.

        :returns: list of the records that were withdrawn
        :raises oslo_messaging.MessagingTimeout: there is no inspector
        """
        return self._change(timeout_s, 'unset_windows', host=host,
                            window_id=window_id)

    def list_windows(self, host=None, timeout_s=INSPECTOR_ANSWER_S):
        """Return the windows that are not over.

        :returns: list of records
        :raises oslo_messaging.MessagingTimeout: there is no inspector
        """
        return self._call(timeout_s, 'list_windows', host=host)

    # all of them, and nobody waits

    def host_beacon(self, beacon):
        """Say that a host's nova-compute lives.

        :param beacon: core.beacons.Beacon as a dict
        :raises oslo_messaging.MessageDeliveryFailure: the broker did not take
            it
        """
        self._cast('host_beacon', beacon=beacon)

    def inspector_beacon(self, beacon):
        """Say that an inspector lives, to itself too, and what it suspects.

        :param beacon: core.beacons.InspectorBeacon as a dict
        :raises oslo_messaging.MessageDeliveryFailure: the broker did not take
            it
        """
        self._cast('inspector_beacon', beacon=beacon)

    def sync(self, sender, records):
        """Tell all inspectors what one has written down.

        :param sender: name of the inspector
        :param records: of core.replica.Replica
        :raises oslo_messaging.MessageDeliveryFailure: the broker did not take
            it
        """
        self._cast('sync', sender=sender, records=records)

    def _change(self, timeout_s, method, **arguments):
        """Call what has an effect, if somebody is there.

        A call that nobody takes lies in the queue until its time is over, and
        whoever is started meanwhile would do what the caller was told that
        nobody does. A question that lies there does no harm.
        """
        self.list_windows(NO_HOST, timeout_s)
        return self._call(timeout_s, method, **arguments)

    def _call(self, timeout_s, method, **arguments):
        return self._client.prepare(
            timeout=timeout_s, retry=CALL_RETRIES,
            call_monitor_timeout=INSPECTOR_SIGN_S).call(
                {}, method, **arguments)

    def _cast(self, method, **arguments):
        self._all.cast({}, method, **arguments)


def _client(transport, topic, version):
    # One attempt for what nobody answers: who sends a beacon tries again with
    # the next one.
    return oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(
            exchange=EXCHANGE, topic=topic, version=version), retry=0)
