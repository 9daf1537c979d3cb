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

"""The checks of the suite, and how they are made one after the other."""

import dataclasses
import enum

from nova_vmhealth.conformance import answering
from nova_vmhealth.conformance.check import Check
from nova_vmhealth.conformance import enduring
from nova_vmhealth.conformance import host as hosts
from nova_vmhealth.conformance import links
from nova_vmhealth.conformance import watching

CHECKS = (*answering.CHECKS, *enduring.CHECKS, *watching.CHECKS,
          enduring.SIGTERM)


class Status(str, enum.Enum):
    """How a check has ended."""

    OK = 'ok'
    FAILED = 'failed'
    # A recommended check failed: the agent still conforms.
    WARNING = 'warning'
    SKIPPED = 'skipped'
    # The agent was lost before.
    UNMADE = 'not made'


@dataclasses.dataclass(frozen=True)
class Result:
    """What came out of a check.

    :ivar detail: words for it, perhaps none
    :ivar seconds: how long it took
    """

    check: Check
    status: Status
    detail: str
    seconds: float


def choose(names):
    """Return the checks of these names, in the suite's order; all for none.

    :raises KeyError: there is no check of that name
    """
    known = {check.name for check in CHECKS}
    for name in names:
        if name not in known:
            raise KeyError(name)
    return [check for check in CHECKS if not names or check.name in names]


def run(checks, host, starting=lambda check: None):
    """Make checks, and yield the Result of each.

    After a failure the connection, and the agent where it is ours to start,
    is begun anew, so that one fault fails one check. Where that does not
    help, the rest is not made.

    :param host: a Host that has not begun
    :param starting: called with each check before it is made
    :raises nova_vmhealth.conformance.links.Unavailable: there is no agent to
        begin with
    """
    silent = _meet(host.begin)
    lost = False
    for check in checks:
        starting(check)
        began = host.link.now()
        if lost:
            status, detail = Status.UNMADE, 'the agent is lost'
        elif silent:
            status, detail = _failure(check), silent
            lost = True
        else:
            status, detail = _run_one(check, host)
            if status in (Status.FAILED, Status.WARNING):
                lost = _is_lost(host)
        yield Result(check, status, detail, host.link.now() - began)


def conforms(results):
    """Say whether an agent with these results conforms."""
    return not any(
        result.check.required and result.status in (
            Status.FAILED, Status.UNMADE) for result in results)


def _meet(begin):
    """Call this; return why the agent does not answer, '' if it does."""
    try:
        begin()
    except (hosts.Failed, links.Gone) as error:
        return str(error)
    return ''


def _is_lost(host):
    try:
        return bool(_meet(host.recover))
    except links.Unavailable:
        return True


def _failure(check):
    return Status.FAILED if check.required else Status.WARNING


def _run_one(check, host):
    before = dict(host.record.faults)
    try:
        host.settle()
        detail = check.run(host) or ''
        if not check.required:
            _own(host.record.faults, before)
        return Status.OK, detail
    except hosts.Skipped as reason:
        return Status.SKIPPED, str(reason)
    except (hosts.Failed, links.Gone, links.Unavailable) as error:
        return _failure(check), str(error)
    finally:
        if not check.required:
            # What it provoked is held against it alone.
            host.record.faults = before


def _own(faults, before):
    """Raise for what came up in a check that does not wait for it."""
    for name in faults.keys() - before:
        raise hosts.Failed('%s: %s' % (name, faults[name]))
