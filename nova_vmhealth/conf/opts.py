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

"""Declaration of the options of group [vmhealth] and their cross-checks."""

from oslo_config import cfg
from oslo_config import types

from nova_vmhealth.conf import host
from nova_vmhealth.core import policy
from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth import exception

GROUP = 'vmhealth'

_HOUR_MS = 3600 * 1000
_DAY_S = 24 * 3600.0

# The drivers of oslo.messaging that reach a broker; "log", "noop", "routing"
# and "test" do not, or not by themselves.
BUS_DRIVERS = ('messagingv2', 'messaging')

OPTS = [
    cfg.IntOpt(
        'min_interval_ms', default=100, min=100, max=_HOUR_MS,
        help="""
Shortest time between two challenges to a guest, in milliseconds.

An owner who asks for less by ``vmhealth:interval_ms`` gets this; the change is
logged once. Raise it on hosts with thousands of guests to bound the CPU time
that nova-compute spends on heartbeats.
"""),
    cfg.IntOpt(
        'max_interval_ms', default=_HOUR_MS, min=100, max=_HOUR_MS,
        help="""
Longest time between two challenges to a guest, in milliseconds.

An owner who asks for more by ``vmhealth:interval_ms`` gets this. Lower it
where you promise your users a time to detect.
"""),
    cfg.IntOpt(
        'min_timeout_ms', default=100, min=50, max=_HOUR_MS,
        help="""
Shortest time that a guest has to answer a challenge, in milliseconds.

Raise it on hosts that are often overloaded: a guest that gets no CPU time
cannot answer.
"""),
    cfg.IntOpt(
        'max_timeout_ms', default=60000, min=50, max=_HOUR_MS,
        help="""
Longest time that a guest has to answer a challenge, in milliseconds.
"""),
    cfg.IntOpt(
        'min_misses', default=1, min=1, max=1000,
        help="""
Fewest unanswered challenges in a row that count as a lost heartbeat.

Raise it to 2 or 3 where a single slow answer must never raise an alarm.
"""),
    cfg.IntOpt(
        'max_misses', default=100, min=1, max=1000,
        help="""
Most unanswered challenges in a row that an owner may allow.
"""),
    cfg.IntOpt(
        'max_boot_deadline_s', default=_HOUR_MS // 1000, min=0,
        max=7 * 24 * 3600,
        help="""
Longest time that an owner may give a guest for its first heartbeat after a
start, in seconds. 0 in ``vmhealth:boot_deadline_s`` always means no deadline.
"""),
    cfg.StrOpt(
        'default_events', default='all',
        help="""
What to tell of an instance whose flavor and image do not say.

A comma separated list of causes (for example ``heartbeat_lost,io_error``),
``all`` or ``none``. Set it to ``none`` to tell only of instances that opt in
by ``vmhealth:events``.
"""),
    cfg.IntOpt(
        'recover_beats', default=2, min=1, max=100,
        help="""
Valid answers in a row after which a lost heartbeat counts as recovered.

Raise it for guests that come and go, to get fewer events.
"""),
    cfg.FloatOpt(
        'planned_grace_s', default=10.0, min=0.0, max=3600.0,
        help="""
Time after an operation of Nova's own (stop, reboot, migration, ...) during
which its side effects are still no faults, in seconds.

Raise it where libvirt's events arrive late, on very busy hosts.
"""),
    cfg.FloatOpt(
        'update_interval_s', default=1.0, min=0.1, max=3600.0,
        help="""
Shortest time between two ``updated`` notifications of the same condition, in
seconds. What happens in between is counted and told with the next one.
"""),
    cfg.FloatOpt(
        'io_error_quiet_s', default=60.0, min=1.0, max=_DAY_S,
        help="""
Time without another I/O error after which the condition of a disk whose
error policy is to report to the guest is cleared, in seconds.
"""),
    cfg.IntOpt(
        'event_queue_size', default=10000, min=100, max=1000000,
        help="""
Most observations that wait in memory.

What does not fit is dropped, counted, and logged at most once a minute; Nova
is never held up. Raise it when the log says that the queue was full.
"""),
    cfg.IntOpt(
        'flap_flips', default=5, min=0, max=1000,
        help="""
How often one source (the heartbeat, or one audit of the guest) may raise a
condition within ``flap_window_s`` before it counts as flapping.

The next time it would, one condition ``flapping`` is raised in place of it,
and nothing more is told of that source until it has kept still for
``flap_quiet_s``. Then ``flapping`` is cleared, and what is still wrong is
raised. 0 turns this off. An instance whose owner names the causes to tell of,
and not ``flapping`` among them, is never damped.
"""),
    cfg.FloatOpt(
        'flap_window_s', default=60.0, min=1.0, max=_DAY_S,
        help="""
Time within which ``flap_flips`` are counted, in seconds.
"""),
    cfg.FloatOpt(
        'flap_quiet_s', default=60.0, min=1.0, max=_DAY_S,
        help="""
Time without a change after which a source is no longer flapping, in seconds.

A source that changes for the better and the worse just more slowly than this
is told of each time; raise it to be told less often.
"""),
    cfg.IntOpt(
        'mass_loss_guests', default=5, min=0, max=100000,
        help="""
Fewest guests that must lose their heartbeat within ``mass_loss_window_s`` for
the host itself to be suspected.

When ``mass_loss_percent`` is reached too, one ``host.health`` notification
with the cause ``many_guests_lost`` is sent, every loss that is told meanwhile
names it, and nothing is done to a guest (see ``allowed_actions``). 0 turns
this off.

A host with fewer guests with a heartbeat than this is never suspected: lower
it where hosts have few. On the other hand, one project with so many guests on
a host, and ``mass_loss_percent`` of them, can make the host suspected by
silencing its own, and so keep actions from everyone's: raise both where you
rely on actions.
"""),
    cfg.IntOpt(
        'mass_loss_percent', default=20, min=1, max=100,
        help="""
Smallest part of the guests with a heartbeat that must lose it within
``mass_loss_window_s`` for the host itself to be suspected, in percent.
"""),
    cfg.FloatOpt(
        'mass_loss_window_s', default=10.0, min=0.1, max=3600.0,
        help="""
Time within which losses count as one, in seconds.

It should be longer than the longest time to detect a loss that your users
ask for, (misses - 1) x interval + timeout, or guests with different settings
that fall silent together are not seen together.
"""),
    cfg.ListOpt(
        'allowed_actions', default=[],
        item_type=types.String(choices=[
            action.value for action in Action if action is not Action.NONE]),
        help="""
What an owner may ask for by ``vmhealth:action`` to be done to a guest whose
heartbeat is lost: any of ``inject_nmi``, ``reset``, ``poweroff`` and
``pause``.

An owner who asks for what is not in this list gets ``none``; this is logged
once. Nothing is ever done during an operation of Nova's own, nor while the
host itself is suspected (see ``mass_loss_guests``).
"""),
    cfg.IntOpt(
        'max_actions', default=3, min=1, max=1000,
        help="""
Most actions on one guest within ``action_window_s``.

A guest that is lost once more is told of as ever, and left alone. The count is
kept in memory: it begins anew when nova-compute is started.
"""),
    cfg.FloatOpt(
        'action_window_s', default=3600.0, min=1.0, max=7 * _DAY_S,
        help="""
Time within which ``max_actions`` are counted, in seconds.
"""),
    cfg.FloatOpt(
        'action_delay_s', default=10.0, min=0.0, max=3600.0,
        help="""
Time between the loss of a heartbeat and the action, in seconds.

A guest that answers again in this time is left alone. It is also the time in
which the loss of many guests shows that the host is to blame: where
``allowed_actions`` is not empty and ``mass_loss_guests`` not 0, less than
``mass_loss_window_s`` is refused, or the first of many would be acted upon
before the last are lost.
"""),
    cfg.IntOpt(
        'notice_timeout_ms', default=0, min=0, max=600000,
        help="""
Longest time that Nova waits for a guest to get ready before it stops, reboots,
suspends or moves it, in milliseconds. 0 sends no such notice.

Only a guest whose agent asked for notices is waited for, and only until it
says that it is ready. Each such operation may take this much longer, as one
that stops a guest waits for its clean shutdown.
"""),
    cfg.BoolOpt(
        'open_channel', default=True,
        help="""
Reach a guest's channel through libvirt (virDomainOpenChannel) where its socket
cannot be reached: no permission, or a container that does not see the path.

The way that was taken is in the log. It costs libvirtd CPU time for each
heartbeat, so giving nova-compute access to the sockets is better where many
guests have one.
"""),
    cfg.PortOpt(
        'metrics_port', default=0, min=0,
        help="""
TCP port on which nova-compute serves the counters of this package in
Prometheus' text format. 0 serves none.

It needs the Python package ``prometheus_client``.
"""),
    cfg.HostAddressOpt(
        'metrics_address', default='127.0.0.1',
        help="""
Address that ``metrics_port`` is opened on.

The counters name no instance. They are still served to everyone who can reach
this address.
"""),
    cfg.IntOpt(
        'outbox_max_events', default=100000, min=100, max=10000000,
        help="""
Most events that wait on disk for the broker.

When there are more, events ``updated`` that a later one makes superfluous are
dropped first, then the oldest ``cleared``; each drop is counted and logged.
Raise it where a broker may be away for long on hosts with many guests.
"""),
    cfg.IntOpt(
        'outbox_max_mib', default=256, min=1, max=1024 * 1024,
        help="""
Most space that the events which wait for the broker may take on disk, in MiB.

It lies under ``state_path``. When it is used up, events are dropped as for
``outbox_max_events``.
"""),
    cfg.BoolOpt(
        'outbox_fsync', default=False,
        help="""
Wait for the disk at each write of an event, so that those of the last moments
survive a power failure too, and not only the end of nova-compute.

It costs each event the time of the disk's flush, some milliseconds.
"""),
    cfg.FloatOpt(
        'reconcile_interval_s', default=60.0, min=1.0, max=_DAY_S,
        help="""
Time between two comparisons of what Nova expects with what libvirt has, in
seconds, varied by a tenth.

They are made at the start and after each reconnect to libvirt as well. One
costs a single call to libvirt for all domains, and asks nova-conductor only of
instances that are not as expected. Lower it where a fault that libvirt did not
tell must be found sooner.
"""),
    cfg.StrOpt(
        'notification_priority', default='info',
        choices=[
            ('info', 'Always info: the one that reaches Ceilometer meters, '
                     'Vitrage and Mistral alike.'),
            ('severity', 'error for critical, warn for warning, info for '
                         'info; what is cleared has the priority of what was '
                         'raised.'),
        ],
        help="""
Priority of the ``instance.health`` and ``host.health`` notifications. That of
``instance.maintenance`` is always info.
"""),
    *host.OPTS,
]


def register_opts(conf):
    """Register the options of group [vmhealth].

    :param conf: an oslo.config ConfigOpts
    """
    conf.register_opts(OPTS, group=GROUP)


def list_opts():
    """List the options for oslo.config's sample generator."""
    return [(GROUP, OPTS)]


def validate(conf):
    """Read every option once, so that a bad one stops the service's start.

    :param conf: an oslo.config ConfigOpts with our options registered
    :raises nova_vmhealth.exception.InvalidConfiguration: an option is out
        of its range or contradicts another; the message names it
    """
    group = conf[GROUP]
    for opt in OPTS:
        try:
            getattr(group, opt.dest)
        except ValueError as error:     # oslo.config's ConfigFileValueError
            raise exception.InvalidConfiguration(
                option=opt.name, reason=str(error)) from error
    for name in ('interval_ms', 'timeout_ms', 'misses'):
        low, high = group[f'min_{name}'], group[f'max_{name}']
        if low > high:
            raise exception.InvalidConfiguration(
                option=f'min_{name}',
                reason=f'{low} is above max_{name} = {high}')
    delay_s, window_s = group.action_delay_s, group.mass_loss_window_s
    if (group.allowed_actions and group.mass_loss_guests
            and delay_s < window_s):
        raise exception.InvalidConfiguration(
            option='action_delay_s',
            reason=f'{delay_s:g} is below mass_loss_window_s = {window_s:g}: '
                   'the first of many guests lost would be acted upon before '
                   'the host is suspected')
    host.validate(group)
    try:
        policy.parse_events(group.default_events)
    except ValueError as error:
        raise exception.InvalidConfiguration(
            option='default_events', reason=str(error)) from error


def limits(conf):
    """Return the operator's limits for policies.

    :param conf: an oslo.config ConfigOpts, validated
    :returns: nova_vmhealth.core.policy.Limits
    """
    group = conf[GROUP]
    return policy.Limits(
        interval_ms=policy.Bounds(group.min_interval_ms,
                                  group.max_interval_ms),
        timeout_ms=policy.Bounds(group.min_timeout_ms, group.max_timeout_ms),
        misses=policy.Bounds(group.min_misses, group.max_misses),
        boot_deadline_s=policy.Bounds(0, group.max_boot_deadline_s),
        default_events=policy.parse_events(group.default_events),
        allowed_actions=frozenset(
            Action(name) for name in group.allowed_actions))


def check_notifications(conf):
    """Say what keeps notifications from leaving, if anything does.

    :param conf: an oslo.config ConfigOpts with Nova's [notifications] and
        oslo.messaging's [oslo_messaging_notifications] registered
    :returns: a list of sentences, each naming the option to set; empty when
        notifications go out
    """
    problems = []
    form = conf.notifications.notification_format
    if form not in ('versioned', 'both'):
        problems.append(
            f'[notifications]notification_format is {form!r}, so Nova sends '
            'no versioned notification: set it to "versioned" or "both"')
    if not conf.notifications.versioned_notifications_topics:
        problems.append(
            '[notifications]versioned_notifications_topics is empty: name at '
            'least one topic')
    drivers = conf.oslo_messaging_notifications.driver
    if not any(driver in BUS_DRIVERS for driver in drivers):
        problems.append(
            f'[oslo_messaging_notifications]driver is {drivers}, which sends '
            'nothing to the bus: set it to "messagingv2"')
    return problems
