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

"""A broker with nobody behind it but what a test puts there."""

import oslo_messaging
from oslo_messaging import transport

from nova_vmhealth import broker
from nova_vmhealth import configuration
from nova_vmhealth import rpcapi

URL = 'rabbit://user:secret@broker:5672/cell1'

# What nova-compute's driver answers to "show".
ANSWER = {
    'host': 'compute-1', 'status': 'UP', 'disabled': False,
    'disabled_reason': None, 'forced_down': False, 'conditions': [],
    'windows': [], 'instances': {'healthy': 2, 'unhealthy': 1},
}


class Driver:
    """What oslo.messaging's transport has below it.

    :ivar calls: (topic, server, method, arguments) of each message, but for
        the question whether there is an inspector
    :ivar questions: number of those
    :ivar patience: (timeout, call_monitor_timeout, retry) of each message
    """

    def __init__(self):
        # with all options that a transport's has
        self.conf = broker.rpc_transport(
            configuration.load([]), 'fake://').conf
        self._url = oslo_messaging.TransportURL.parse(self.conf, URL)
        self._answers = {}
        self.calls = []
        self.questions = 0
        self.patience = []
        self.closed = False

    def answer(self, topic, server, answer):
        """Have somebody answer.

        :param answer: what to, or the error that it ends with
        """
        self._answers[topic, server] = answer

    def require_features(self, requeue=False):
        pass

    def send(self, target, ctxt, message, wait_for_reply=None, timeout=None,
             call_monitor_timeout=None, retry=None, transport_options=None):
        assert wait_for_reply
        self.patience.append((timeout, call_monitor_timeout, retry))
        call = message['method'], message['args']
        if call == ('list_windows', {'host': rpcapi.NO_HOST}):
            self.questions += 1
        else:
            self.calls.append((target.topic, target.server, *call))
        try:
            answer = self._answers[target.topic, target.server]
        except KeyError:
            raise oslo_messaging.MessagingTimeout('nobody') from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cleanup(self):
        self.closed = True


class Bus:
    """The transport, and who answers on it.

    :param compute: what the nova-compute of compute-1 answers, or the error
        that it ends with; None where it is silent
    :param inspector: the same of the inspectors
    """

    def __init__(self, compute=None, inspector=None):
        self.driver = Driver()
        self.transport = transport.RPCTransport(self.driver)
        for topic, server, answer in (
                (rpcapi.COMPUTE_TOPIC, 'compute-1', compute),
                (rpcapi.INSPECTOR_TOPIC, None, inspector)):
            if answer is not None:
                self.driver.answer(topic, server, answer)

    @property
    def asked(self):
        """Who was asked for what, in order."""
        return [(topic, method) for topic, _, method, _ in self.driver.calls]
