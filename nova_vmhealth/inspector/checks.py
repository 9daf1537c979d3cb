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

"""Look at a silent host in a second way: connect to it, run a program.

The quorum is asked for elsewhere: it takes no time and no thread.
"""

import errno
import os
import signal
import socket
import subprocess
import time

from oslo_log import log as logging

from nova_vmhealth.core.checks import Finding
from nova_vmhealth.core.checks import Kind
from nova_vmhealth.core.checks import Opinion
from nova_vmhealth.core.checks import weigh

LOG = logging.getLogger(__name__)

# Of a program: what fencing agents and the like use.
_IS_DOWN, _IS_ALIVE = 0, 1
# A check may be late by so much, seconds, for want of a thread or of CPU time.
_SLACK_S = 0.5


class Checks:
    """The checks that the operator has named, but for the quorum.

    :param wanted: core.checks.Check
    :param crew: nova_vmhealth.inspector.crew.Crew, of its own
    :param timeout_s: longest time for one check, seconds
    :param address_of: gives a host's address for its name
    """

    def __init__(self, wanted, crew, timeout_s, address_of):
        self._wanted = [check for check in wanted
                        if check.kind is not Kind.QUORUM]
        self._crew = crew
        self._timeout_s = timeout_s
        self._address_of = address_of

    def ask(self, host):
        """Run all of them side by side, and weigh what they say.

        :param host: name of the compute service
        :returns: a core.checks.Finding; None where there are no checks
        """
        until = time.monotonic() + self._timeout_s + _SLACK_S
        jobs = [(check, self._crew.submit(
                    lambda check=check: self._run(check, host)))
                for check in self._wanted]
        findings = [self._found(check, job, until) for check, job in jobs]
        for finding in findings:
            LOG.debug('Host %(host)s: %(finding)s',
                      {'host': host, 'finding': finding})
        return weigh(findings) if findings else None

    def _found(self, check, job, until):
        if job is None or not job.wait(max(0.0, until - time.monotonic())):
            return Finding(check.name, Opinion.UNSURE, 'no answer in time',
                           self._timeout_s)
        if job.error is not None:
            return Finding(check.name, Opinion.UNSURE, str(job.error))
        return job.result

    def _run(self, check, host):
        began = time.monotonic()
        if check.kind is Kind.TCP:
            opinion, text = connect(self._address_of(host), check.port,
                                    self._timeout_s)
        else:
            opinion, text = execute(check.path, host, self._timeout_s)
        return Finding(check.name, opinion, text, time.monotonic() - began)


def connect(address, port, timeout_s):
    """Say whether somebody accepts a connection.

    A refusal means that nobody serves that port, not that nobody is there: who
    names the port wants to know of the service.

    :param address: name or address of a machine
    :param timeout_s: longest time for it, seconds
    :returns: core.checks.Opinion, and how it came to that
    """
    try:
        socket.create_connection((address, port), timeout_s).close()
    except socket.gaierror as error:
        return Opinion.UNSURE, f'{address}: {error}'
    except TimeoutError:
        return Opinion.GONE, f'{address} does not answer'
    except ConnectionError as error:
        return Opinion.GONE, f'{address}: {error}'
    except OSError as error:
        return _unreachable(address, error)
    return Opinion.ALIVE, f'{address} answers'


def _unreachable(address, error):
    # Where there is no way to anywhere, it is this machine's network that is
    # gone; a neighbour that knows nothing of the machine says so.
    gone = error.errno in (errno.EHOSTUNREACH, errno.EHOSTDOWN)
    return (Opinion.GONE if gone else Opinion.UNSURE), f'{address}: {error}'


def execute(path, host, timeout_s):
    """Have a program say how a host is.

    :param path: of the program
    :param host: its only argument
    :param timeout_s: after so many seconds it is killed, and its children
    :returns: core.checks.Opinion, and how it came to that
    """
    try:
        process = subprocess.Popen(
            [path, host], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
    except (OSError, ValueError) as error:
        return Opinion.UNSURE, str(error)
    try:
        status = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return Opinion.UNSURE, f'it has not ended after {timeout_s:g} s'
    finally:
        _kill(process)
    opinion = {_IS_DOWN: Opinion.GONE, _IS_ALIVE: Opinion.ALIVE}.get(
        status, Opinion.UNSURE)
    return opinion, f'it exits with {status}'


def _kill(process):
    """End a program and what it has left behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass                        # none is left
    process.wait()
