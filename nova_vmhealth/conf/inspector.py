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

"""Options of group [vmhealth_inspector] and their cross-checks."""

import os
import socket
from urllib import parse

from oslo_config import cfg

from nova_vmhealth.conf import fenix
from nova_vmhealth.core import checks
from nova_vmhealth import exception

GROUP = 'vmhealth_inspector'

_DAY_S = 24 * 3600.0
# Its queues and its events' publisher_id carry it.
_MAX_NAME = 200

OPTS = [
    cfg.StrOpt(
        'name', sample_default='<host name of this machine>',
        help="""
Name of this inspector among those of the cell. Unset: this machine's.

Give each a name of its own where several run on one machine: the lock, the
file of unsent events and the vote of an inspector go by it.
"""),
    cfg.StrOpt(
        'state_path', default='/var/lib/nova-vmhealth',
        help="""
Folder of what must outlive the inspector: events that are not sent yet, the
hosts that it has heard, maintenance windows and marks.

It may be the ``state_path`` of Nova. Inspectors on one machine may share it.
"""),
    cfg.StrOpt(
        'cloud',
        help="""
Name of the cloud in ``clouds.yaml`` whose compute API is used.

Unset: what the environment says, ``OS_CLOUD`` or the other ``OS_`` variables.
The user must be allowed to change compute services, to list the servers of all
projects and, with ``reset_state``, to reset their state: Nova's defaults want
an administrator.
"""),
    cfg.FloatOpt(
        'api_timeout_s', default=5.0, min=0.5, max=300.0,
        help="""
Longest time that Nova's API may take for one answer, in seconds.

Then the request has failed and is made again, once the compute service's
record says that it had no effect. Lists of servers may take ten times as long.
"""),
    cfg.StrOpt(
        'coordination_url',
        sample_default='file://<state_path>/coordination',
        help="""
Where inspectors agree who acts on a host: a URL of the library tooz.

Unset, it is a folder of lock files, which serves for inspectors on one machine
only. With inspectors on several it must be the same for all of them, such as
``etcd3+http://controller:2379``, ``redis://controller:6379`` or
``zookeeper://controller:2181``; install what tooz needs for it
(``pip install 'tooz[etcd3gw]'``, ``[redis]``, ``[zookeeper]``).
"""),
    cfg.IntOpt(
        'beacon_misses', default=3, min=1, max=1000,
        help="""
Beacons in a row that a host must have missed to count as silent.

Together with ``[vmhealth]beacon_interval_ms`` of nova-compute it is the time
to detect: at most so many intervals. With 1 a single late beacon is a silent
host; where that interval is short, less than 2 is not wise.
"""),
    cfg.IntOpt(
        'beacon_interval_ms', default=500, min=50, max=10000,
        help="""
Time between two beacons that the inspector itself sends, in milliseconds.

They tell the other inspectors what it thinks, and come back to itself: if they
do not, it cannot hear the hosts either and judges none. It should not be
longer than that of the hosts. An inspector has a vote for three of these after
its last beacon.
"""),
    cfg.IntOpt(
        'recover_beacons', default=3, min=1, max=1000,
        help="""
Beacons in a row after which a host that was silent counts as back.

Raise it for hosts that come and go, to get fewer events.
"""),
    cfg.FloatOpt(
        'grace_s', default=10.0, min=0.0, max=3600.0,
        help="""
Time that hosts have to be heard again after the broker, or the inspector's way
to it, was gone, and after the start of the inspector, in seconds.

It must be as long as the slowest nova-compute takes to connect to the broker
anew, or a restart of the broker may look like hosts that died with it.
"""),
    cfg.FloatOpt(
        'max_down_percent', default=10.0, min=0.0, max=100.0,
        help="""
Most hosts that may be marked down within ``max_down_window_s``, in percent of
all hosts that are watched, rounded down; one may always be.

If more are silent, nothing is done about any of them, since it is more likely
that the network is broken than the hosts. It is said in the log and by
``host.health`` with the cause ``beacons_lost``. Hosts in planned maintenance
do not count. Raise it in a small cell, where several hosts may well fail at
once: with fewer than 20 hosts, 10 percent is one.
"""),
    cfg.FloatOpt(
        'max_down_window_s', default=600.0, min=0.0, max=7 * _DAY_S,
        help="""
Time within which hosts that were marked down count for ``max_down_percent``,
in seconds. Those that are back count no more.
"""),
    cfg.ListOpt(
        'checks', default=['quorum'],
        help="""
What must agree that a silent host is gone before anything is done about it.

``quorum``
    more than half of the inspectors that are heard miss its beacons too
``tcp:PORT``
    nobody accepts a connection on that port of the host, such as sshd's 22 or
    libvirtd's 16509; see ``check_address``
``exec:/PATH/TO/PROGRAM``
    a program of yours, called with the name of the host, exits with 0. With 1
    it says that the host is alive, with anything else that it cannot tell; its
    output is not used. For IPMI, for a switch, for a shared disk

All of those named must agree. A host that one finds alive, or cannot tell of,
is left alone and asked for again, which ``host.health`` tells with the cause
``beacons_lost``.
"""),
    cfg.FloatOpt(
        'check_timeout_s', default=1.0, min=0.05, max=300.0,
        help="""
Longest time for one check, in seconds.

A connection that is not made until then means that the host is gone; a program
that has not ended until then is killed, and could not tell.
"""),
    cfg.FloatOpt(
        'check_interval_s', default=5.0, min=0.5, max=3600.0,
        help="""
Time after which a silent host that was left alone is looked at again, in
seconds. It must not be shorter than ``check_timeout_s``.
"""),
    cfg.StrOpt(
        'check_address', default='%(host)s',
        help="""
Address of a host for ``tcp`` checks. ``%(host)s`` stands for the name of its
compute service, as in ``%(host)s.storage.example.org``.
"""),
    cfg.DictOpt(
        'check_addresses', default={},
        help="""
Addresses of hosts for which ``check_address`` is not right, such as
``compute-7:192.0.2.7,compute-8:192.0.2.8``.
"""),
    cfg.BoolOpt(
        'reset_state', default=False,
        help="""
Set the servers of a host that was forced down to the state ``error``.

Users see it at once, and some tools evacuate only such servers. It is not
undone when the host comes back.
"""),
    cfg.BoolOpt(
        'unforce', default=False,
        help="""
Undo the forcing down of a host whose beacons are back.

Only where an inspector has forced it down, and ``recover_beacons`` after its
return. Otherwise an operator does it, by ``nova-vmhealth host clear`` or
Nova's API: instances that were evacuated meanwhile must be gone from the host
before it works again, which nova-compute sees to when it is started, and not
when only its network comes back.
"""),
    *fenix.OPTS,
]


def register_opts(conf):
    """Register the options of group [vmhealth_inspector].

    :param conf: an oslo.config ConfigOpts
    """
    conf.register_opts(OPTS, group=GROUP)


def list_opts():
    """List the options for oslo.config's sample generator."""
    return [(GROUP, OPTS)]


def name_of(group):
    """Return the name of this inspector.

    :param group: conf.vmhealth_inspector
    """
    return group.name or socket.gethostname()


def coordination_url_of(group):
    """Return the URL at which inspectors agree.

    :param group: conf.vmhealth_inspector
    """
    return group.coordination_url or 'file://' + parse.quote(
        os.path.join(os.path.abspath(group.state_path), 'coordination'))


def validate(conf):
    """Read every option once, so that a bad one stops the start.

    :param conf: an oslo.config ConfigOpts with our options registered
    :raises nova_vmhealth.exception.InvalidConfiguration: an option is out
        of its range or contradicts another; the message names it
    """
    group = conf[GROUP]
    for opt in OPTS:
        try:
            getattr(group, opt.dest)
        except ValueError as error:     # oslo.config's ConfigFileValueError
            raise invalid(opt.name, str(error)) from error
    _validate_name(name_of(group))
    _validate_checks(group)
    _validate_address(group.check_address)
    if group.check_interval_s < group.check_timeout_s:
        raise invalid('check_interval_s',
                      f'{group.check_interval_s:g} is below '
                      f'check_timeout_s = {group.check_timeout_s:g}')
    url = parse.urlparse(coordination_url_of(group))
    if not url.scheme or (url.scheme == 'file' and (
            url.netloc or not url.path.startswith('/'))):
        raise invalid('coordination_url',
                      f'{group.coordination_url!r} is no URL of tooz, such '
                      'as file:///var/lib/nova-vmhealth/coordination')


def _validate_name(name):
    if len(name) > _MAX_NAME or not name.isprintable() or '/' in name:
        raise invalid('name', f'{name!r} is too long, or has other '
                              'characters than a name has')


def _validate_checks(group):
    if not group.checks:
        raise invalid('checks', 'none is named; "quorum" is the least')
    for text in group.checks:
        try:
            check = checks.parse(text)
        except ValueError as error:
            raise invalid('checks', f'{text!r}: {error}') from error
        if check.kind is checks.Kind.EXEC and not os.access(
                check.path, os.X_OK):
            raise invalid('checks', f'{check.path} is no program that may '
                                    'be run')


def _validate_address(template):
    try:
        template % {'host': 'compute-1'}
    except (KeyError, TypeError, ValueError) as error:
        raise invalid('check_address', f'{template!r}: {error!r}; only '
                                       '%(host)s may stand in it') from error
    if '%(host)s' not in template:
        raise invalid('check_address', f'{template!r} is the same for all '
                                       'hosts: it needs %(host)s')


def invalid(option, reason):
    """Make the error that names an option.

    :param option: its name
    :param reason: what is wrong with it
    :returns: nova_vmhealth.exception.InvalidConfiguration
    """
    return exception.InvalidConfiguration(
        f'Invalid configuration: [{GROUP}]{option}: {reason}',
        option=option, reason=reason)
