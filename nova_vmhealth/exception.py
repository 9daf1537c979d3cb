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

"""Errors of nova_vmhealth: one base class and its leaves; stdlib only."""


class VMHealthError(Exception):
    """Base of every error that nova_vmhealth raises on its own account.

    Subclasses set ``msg_fmt``; the keyword arguments fill it in and stay
    readable as attributes of the error.
    """

    msg_fmt = 'An unknown nova_vmhealth error occurred.'

    def __init__(self, message=None, **kwargs):
        super().__init__(message or self.msg_fmt % kwargs)
        for name, value in kwargs.items():
            setattr(self, name, value)


class InvalidPolicy(VMHealthError):
    """A flavor extra spec or image property has a value we cannot use."""

    msg_fmt = "Invalid value '%(value)s' for %(key)s: %(reason)s"


class InvalidConfiguration(VMHealthError):
    """Options of nova.conf contradict each other or are out of range."""

    msg_fmt = 'Invalid configuration: [vmhealth]%(option)s: %(reason)s'


class ProtocolError(VMHealthError):
    """A guest sent a line that is not a message of the protocol.

    Remote misbehaviour: the session counts it and goes on.
    """

    msg_fmt = 'bad line from the guest: %(reason)s'


class IllegalTransition(VMHealthError):
    """A state machine was given an event that its state does not allow.

    Local misuse: nothing has changed when it is raised.
    """

    msg_fmt = 'event %(event)s is not allowed in state %(state)s'


class InvalidPayload(VMHealthError):
    """A notification on the bus is not one that this release can read."""

    msg_fmt = 'unreadable notification: %(reason)s'


class InvalidRecord(VMHealthError):
    """What an earlier run wrote down cannot be used by this one."""

    msg_fmt = 'unreadable record: %(reason)s'


class InvalidWindow(InvalidRecord):
    """A maintenance window has a value that makes no sense."""

    msg_fmt = 'invalid maintenance window: %(reason)s'


class BrokerUnreachable(VMHealthError):
    """The message broker cannot be reached, or does not answer in time."""

    msg_fmt = 'The message broker %(broker)s cannot be reached: %(reason)s'


class InvalidReport(VMHealthError):
    """What somebody wants to report of a host cannot be told."""

    msg_fmt = 'invalid report: %(reason)s'


class HostUnreachable(VMHealthError):
    """Neither a host's nova-compute nor an inspector answers for it."""

    msg_fmt = (
        'Nobody answers for host %(host)s. Look whether nova-compute runs '
        'there with the driver of nova-vmhealth, and under this name; whether '
        'a nova-vmhealth-inspector runs; and whether %(broker)s is the broker '
        "of the host's cell")


class InspectorUnreachable(VMHealthError):
    """No inspector answers, and nobody else knows."""

    msg_fmt = (
        'No inspector answers. Look whether a nova-vmhealth-inspector runs, '
        'and start one if not; and whether %(broker)s is the broker that it '
        'uses')


class InspectorFailed(VMHealthError):
    """An inspector could not do what was asked."""

    msg_fmt = 'The inspector that answered failed: %(reason)s'


class HostCallFailed(VMHealthError):
    """Who answers for a host could not do what was asked."""

    msg_fmt = ('The %(answered_by)s that answers for host %(host)s failed: '
               '%(reason)s')


class CoordinationFailed(VMHealthError):
    """Inspectors cannot agree who acts: the backend of their locks is away."""

    msg_fmt = 'No lock can be had from %(url)s: %(reason)s'


class NovaFailed(VMHealthError):
    """Nova's API, or keystone, did not do what was asked."""

    msg_fmt = 'The compute API cannot %(what)s: %(reason)s'


class Busy(VMHealthError):
    """Another inspector is at work on the same host, and takes long."""

    msg_fmt = 'another inspector is at work on host %(host)s; try again'


class LoopStuck(VMHealthError):
    """The inspector's own loop does not come to what was asked of it."""

    msg_fmt = 'the inspector has not done it within %(seconds)d s'
