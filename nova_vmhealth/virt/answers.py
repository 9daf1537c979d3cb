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

"""What nova-compute answers over the bus: rpcapi.ComputeAPI's other side.

Whoever may use the broker may ask; what they give is cleaned and bounded.
"""

import collections
import threading
import time

from nova import rpc
from oslo_log import log as logging
import oslo_messaging

from nova_vmhealth.core import host_page
from nova_vmhealth.core import protocol
from nova_vmhealth import exception
from nova_vmhealth import rpcapi

LOG = logging.getLogger(__name__)

# As Nova has it for every text of that kind.
MAX_TEXT = 255
# The worker answers within a turn or two; the caller waits for a second.
ANSWER_S = 5.0
# The service record is written within some 10 ms.
_POLL_S = 0.010


class Answers:
    """The endpoint that oslo.messaging calls.

    :param host: name of the compute service
    :param faults: nova_vmhealth.virt.host_faults.HostFaults
    :param standing: nova_vmhealth.core.host_standing.HostStanding
    :param health_of: gives the Health of an instance; on the worker
    :param instances: gives the uuids of this host's instances
    :param call: has a function run on the worker and gives its result
    """

    target = oslo_messaging.Target(version=rpcapi.COMPUTE_VERSION)

    def __init__(self, host, faults, standing, health_of, instances, call):
        self._host = host
        self._faults = faults
        self._standing = standing
        self._health_of = health_of
        self._instances = instances
        self._call = call

    def report_fault(self, ctxt, reason, force_down, reporter):
        """See rpcapi.ComputeAPI."""
        reason, reporter = _text(reason), _text(reporter)
        # Nothing else that JSON may carry forces a host down.
        force_down = force_down is True
        LOG.warning('%(reporter)s reports a fault of this host: %(reason)s'
                    '%(forced)s',
                    {'reporter': reporter, 'reason': reason,
                     'forced': ', to be forced down' if force_down else ''})
        self._do(lambda: self._faults.report(reason, force_down, reporter))
        return self._settled(ctxt)

    def clear_fault(self, ctxt, reporter):
        """See rpcapi.ComputeAPI."""
        reporter = _text(reporter)
        LOG.warning('%s says that this host is well', reporter)
        causes = self._do(lambda: self._faults.clear(reporter))
        return {**self._settled(ctxt),
                'cleared': [each.value for each in causes]}

    def show(self, ctxt):
        """See rpcapi.ComputeAPI.

        Nobody tells when an operator forces a service down: the record is
        read anew.
        """
        answers = self._do(self._faults.look)
        self._wait(lambda: self._faults.answers == answers)
        return self._do(self._view)

    def set_windows(self, ctxt, windows):
        """See rpcapi.ComputeAPI."""
        self._do(lambda: self._set_windows(windows))

    def _settled(self, ctxt):
        self._wait(lambda: self._faults.waits)
        return self.show(ctxt)

    def _wait(self, waits):
        """Wait for the service record, but not longer than an event does."""
        until = time.monotonic() + host_page.SETTLE_S
        while self._do(waits) and time.monotonic() < until:
            time.sleep(_POLL_S)

    def _do(self, function):
        # What an error says is the caller's; the worker logs the trace.
        result = self._call(lambda: (function(),), ANSWER_S)
        if result is None:
            raise exception.VMHealthError(
                'nova-compute on %s did not answer, see its log' % self._host)
        return result[0]

    # -- on the worker -------------------------------------------------------

    def _set_windows(self, windows):
        try:
            self._faults.set_windows(windows)
        except exception.InvalidRecord as error:
            LOG.warning('Maintenance windows from the bus are not used: %s',
                        error)

    def _view(self):
        record = self._standing.record
        healths = collections.Counter(
            self._health_of(uuid).value for uuid in self._instances())
        return {
            'host': self._host,
            'status': self._standing.status.value,
            'disabled': record and record.disabled,
            'disabled_reason': record and record.reason,
            'forced_down': record and record.forced_down,
            'conditions': self._faults.view(),
            'windows': [each.record() for each in self._standing.windows],
            'instances': dict(healths),
        }


class Server:
    """Has the bus call an endpoint.

    :param host: name of the compute service
    :param endpoint: Answers
    """

    def __init__(self, host, endpoint):
        self._host = host
        self._endpoint = endpoint
        self._server = None
        self._thread = None
        self._is_over = False
        self._lock = threading.Lock()

    def start(self):
        """Begin; returns at once, whether the broker is there or not."""
        self._thread = threading.Thread(
            target=self._start, name='vmhealth-answers', daemon=True)
        self._thread.start()

    def _start(self):
        # Safe on Nova 31-34: same arguments; it chooses the executor of the
        # concurrency mode. Without a transport, as in tests, there is no bus.
        if rpc.TRANSPORT is None:
            return
        server = rpc.get_server(rpcapi.compute_target(self._host),
                                [self._endpoint])
        server.start()
        with self._lock:
            self._server = server
            is_over = self._is_over
        if is_over:
            server.stop()

    def stop(self, timeout_s):
        """Answer no more.

        :param timeout_s: longest wait for a broker that is away, seconds
        """
        with self._lock:
            self._is_over = True
            server, self._server = self._server, None
        if server is not None:
            self._thread = threading.Thread(
                target=server.stop, name='vmhealth-answers', daemon=True)
            self._thread.start()
        if self._thread is not None:
            self._thread.join(timeout_s)


def _text(value):
    return protocol.clean_text(str(value), MAX_TEXT)
