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

from nova_vmhealth.core import policy
from nova_vmhealth import exception

GROUP = 'vmhealth'

_HOUR_MS = 3600 * 1000

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
        'io_error_quiet_s', default=60.0, min=1.0, max=24 * 3600.0,
        help="""
Time without another I/O error after which the condition of a disk whose
error policy is to report to the guest is cleared, in seconds.
"""),
    cfg.IntOpt(
        'event_queue_size', default=10000, min=100, max=1000000,
        help="""
Most observations, and most notifications, that wait in memory.

What does not fit is dropped, counted, and logged at most once a minute; Nova
is never held up. Raise it when the log says that the queue was full.
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
Priority of the ``instance.health`` notifications.
"""),
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
        default_events=policy.parse_events(group.default_events))


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
