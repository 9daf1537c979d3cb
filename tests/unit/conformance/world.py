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

"""A link, a process and agents of which time is only a number."""

import collections
import json
import re

from nova_vmhealth.conformance import links


class World:
    """A link to an agent in this process; its clock moves when one waits.

    :param make_agent: returns an agent as it starts
    """

    can_reopen = True
    port = 'nowhere'

    def __init__(self, make_agent):
        self._make_agent = make_agent
        self._now = 1000.0
        self._coming = collections.deque()
        self.agent = None
        self.connected = False
        self.running = False
        self.status = 'exit status 1'

    def __str__(self):
        return 'thin air'

    # -- as a process --------------------------------------------------------

    def start(self):
        self.running = True
        self.agent = self._make_agent()
        self.agent.world = self

    def terminate(self):
        self.agent.terminated()

    # -- as a link -----------------------------------------------------------

    def now(self):
        return self._now

    def sleep(self, seconds):
        self._now += seconds

    def open(self, deadline):
        if not self.agent.comes:
            self._now = deadline
            raise links.Unavailable('nobody came')
        self.connected = True
        self.agent.connected()

    def close(self):
        self.connected = False
        self._coming.clear()

    def write(self, data, deadline):
        if not self.connected:
            raise links.Gone()
        if not self.agent.reads(data):
            self._now = deadline
            return data
        if self.running:
            self.agent.receive(data)
        return b''

    def read(self, deadline):
        if not self.connected:
            raise links.Gone()
        if not self._coming or self._coming[0][0] > deadline:
            self._now = max(self._now, deadline)
            return b''
        at, data = self._coming.popleft()
        self._now = max(self._now, at)
        return data

    # -- for the agent -------------------------------------------------------

    def deliver(self, at, data):
        """Let the host get bytes at a moment."""
        self._coming.append((at, data))
        self._coming = collections.deque(
            sorted(self._coming, key=lambda item: item[0]))


class Agent:
    """An agent without fault; subclasses have theirs."""

    comes = True
    delay_s = 0.001
    says_init = True
    notices = True

    def __init__(self):
        self.world = None
        self.buffer = b''
        self.last_sequence = 0

    def reads(self, data):
        return True

    def say(self, fields, delay_s=None):
        self.say_bytes(json.dumps(fields).encode() + b'\n', delay_s)

    def say_bytes(self, data, delay_s=None):
        self.world.deliver(self.world.now() + (
            self.delay_s if delay_s is None else delay_s), data)

    def die(self):
        self.world.running = False

    def connected(self):
        self.buffer = b''
        self.say_init()
        self.say_report()

    def say_init(self):
        if self.says_init:
            self.say({'type': 'init', 'version': 1, 'agent': 'test/1',
                      'notices': self.notices})

    def say_report(self):
        self.say({'type': 'report', 'health': 'healthy'})

    def receive(self, data):
        *lines, self.buffer = (self.buffer + data).split(b'\n')
        for line in lines:
            if self.world.running:
                self.line(line)

    def line(self, line):
        try:
            fields = json.loads(line.decode())
        except (ValueError, RecursionError):
            fields = None
        if isinstance(fields, dict):
            self.message(fields)

    def message(self, fields):
        handler = getattr(self, 'take_%s' % fields.get('type'), None)
        if handler is not None:
            handler(fields)

    def take_challenge(self, fields):
        sequence, nonce = fields.get('sequence'), fields.get('nonce')
        if (type(sequence) is not int or sequence < 0
                or not isinstance(nonce, str)):
            return
        self.answer(sequence, nonce)
        if sequence <= self.last_sequence:
            self.reinit()
        self.last_sequence = sequence

    def answer(self, sequence, nonce):
        self.say({'type': 'challenge_response', 'sequence': sequence,
                  'nonce': nonce})

    def reinit(self):
        self.say_init()

    def take_notice(self, fields):
        if fields['timeout_ms']:
            self.say({'type': 'notice_ack', 'sequence': fields['sequence']})

    def terminated(self):
        self.say({'type': 'exit', 'reason': 'terminated'}, 0)
        self.die()


class Pattern(Agent):
    """An agent that reads with a regular expression."""

    pattern = re.compile(
        br'.*?"sequence"\s*:\s*(\d+).*?"nonce"\s*:\s*"(\w+)"')

    def line(self, line):
        found = self.pattern.match(line)
        if found:
            self.take_challenge({'sequence': int(found.group(1)),
                                 'nonce': found.group(2).decode()})
        else:
            super().line(line)
