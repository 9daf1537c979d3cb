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

"""The suite's results for people and for programs."""

import collections
import json

from nova_vmhealth.conformance import suite
from nova_vmhealth.conformance.suite import Status
from nova_vmhealth.core import protocol

# Width of the columns of names and of status words.
_NAME = max(len(check.name) for check in suite.CHECKS)
_STATUS = max(len(status.value) for status in Status)


def list_text(checks):
    """Return what the checks are, one a line."""
    return ''.join('%-*s  %-11s  %s\n' % (
        _NAME, check.name, _need(check), check.why) for check in checks)


def list_json(checks):
    """Return what the checks are as a JSON text."""
    return _json([_described(check) for check in checks])


class Progress:
    """Writes a line for each check, its name before it is made.

    :param stream: a text stream
    """

    def __init__(self, stream):
        self._stream = stream

    def say(self, text):
        """Write at once."""
        self._stream.write(text)
        self._stream.flush()

    def begin(self, link):
        """Say what is going on."""
        self.say('Guest heartbeat protocol, version %d, over %s\n' % (
            protocol.VERSION, link))

    def starting(self, check):
        """Say which check comes next."""
        self.say('%-*s  ' % (_NAME, check.name))

    def done(self, result):
        """Say how it has ended."""
        status = result.status
        word = status.value.upper() if status is Status.FAILED else (
            status.value)
        self.say(('%-*s  %s' % (_STATUS, word, result.detail)).rstrip() + '\n')
        if status in (Status.FAILED, Status.WARNING):
            self.say('%*s  (%s)\n' % (_NAME, '', result.check.why))

    def end(self, results):
        """Sum up."""
        counts = collections.Counter(result.status for result in results)
        self.say('%d checks: %s\n' % (len(results), ', '.join(
            '%d %s' % (counts[status], status.value)
            for status in Status if counts[status])))
        self.say('The agent %s.\n' % (
            'conforms' if suite.conforms(results) else 'does not conform'))


def results_json(results, link, init):
    """Return everything as a JSON text.

    :param init: the agent's last introduction, or None
    """
    return _json({
        'protocol': protocol.VERSION,
        'conforms': suite.conforms(results),
        'transport': str(link),
        'agent': init.agent if init else None,
        'checks': [dict(
            _described(result.check), status=result.status.value,
            detail=result.detail, seconds=round(result.seconds, 3))
            for result in results],
    })


def _described(check):
    return {'name': check.name, 'required': check.required, 'why': check.why}


def _need(check):
    return 'required' if check.required else 'recommended'


def _json(value):
    return json.dumps(value, indent=2) + '\n'
