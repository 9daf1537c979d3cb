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


"""Audits: programs whose exit status is the health of one thing."""

import collections
import re

from nova_vmhealth.guest.health import clean_text
from nova_vmhealth.guest.health import HEALTH_BY_STATUS
from nova_vmhealth.guest.health import MAX_AUDITS
from nova_vmhealth.guest.health import MESSAGE_LIMITS
from nova_vmhealth.guest.health import Result
from nova_vmhealth.guest.health import UNHEALTHY
from nova_vmhealth.guest import processes

# Bounds for an audit's interval and timeout, in seconds.
MIN_SECONDS, MAX_SECONDS = 0.1, 86400.0

AUDIT_NAME = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z')
# An audit's own settings stand in its first 2 KiB: '# vmhealth-interval: 5'.
HEADER_BYTES = 2048
HEADER = re.compile(
    br'^#[ \t]*vmhealth-(interval|timeout):[ \t]*([0-9]{1,6}(?:\.[0-9]{1,3})?)'
    br'[ \t]*\r?$', re.MULTILINE)

Audit = collections.namedtuple('Audit', 'name path interval timeout')


def read_settings(path, interval, timeout):
    """Return (interval, timeout) of an audit, in seconds, from its header.

    :raises OSError: the audit cannot be read
    """
    settings = {b'interval': interval, b'timeout': timeout}
    with open(path, 'rb') as audit:
        settings.update(HEADER.findall(audit.read(HEADER_BYTES)))
    return tuple(min(max(float(settings[key]), MIN_SECONDS), MAX_SECONDS)
                 for key in (b'interval', b'timeout'))


def discover(directory, interval, timeout, complain):
    """Return the audits in a directory, by name, at most MAX_AUDITS.

    :param interval: seconds between two runs of an audit that says nothing
    :param timeout: seconds that a run may take, likewise
    :param complain: called with what is wrong with them, mostly ''
    :raises OSError: the directory exists and cannot be read
    """
    audits, problems = [], []
    found = processes.executables(directory, AUDIT_NAME.match)
    if len(found) > MAX_AUDITS:
        problems.append('of %d audits the first %d by name are run'
                        % (len(found), MAX_AUDITS))
    for name, path in found[:MAX_AUDITS]:
        settings = interval, timeout
        try:
            settings = read_settings(path, interval, timeout)
        except OSError as error:
            problems.append('settings cannot be read: %s' % error)
        audits.append(Audit(name, path, *settings))
    complain('; '.join(problems))
    return audits


def run_audit(audit):
    """Run an audit once and return its Result; see processes.run."""
    try:
        status, output = processes.run([audit.path], audit.timeout)
    except OSError as error:
        return Result(audit.name, UNHEALTHY,
                      'cannot be run: %s' % error.strerror)
    except processes.TimedOut:
        return Result(audit.name, UNHEALTHY, timeout_message(audit))
    return Result(audit.name, *judge(status, output))


def timeout_message(audit):
    """Return the message of an audit that has not ended in time."""
    return 'timed out after %g s' % audit.timeout


def judge(status, output):
    """Return (health, message) for an exit status and the output."""
    message = clean_text(output.partition(b'\n')[0], MESSAGE_LIMITS[0])
    if status < 0:
        return UNHEALTHY, 'ended by signal %d' % -status
    if status >= len(HEALTH_BY_STATUS):
        return UNHEALTHY, ('exit status %d: %s' % (status, message)).rstrip(
            ': ')
    return HEALTH_BY_STATUS[status], message
