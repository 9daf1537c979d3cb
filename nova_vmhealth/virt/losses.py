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

"""What is done about guests whose heartbeat is lost, besides telling it.

Three things hang on a loss: what libvirt's figures say of the guest meanwhile
(corroboration), whether the host itself is suspected (mass loss), and what the
owner wants done (actions). They meet here, on the worker.
"""

import dataclasses

from oslo_utils import uuidutils

from nova_vmhealth.core import actions as governor
from nova_vmhealth.core import storm
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import actions
from nova_vmhealth.virt import corroboration
from nova_vmhealth.virt import mass_loss


class Losses:
    """Called on the worker only.

    :param mass_loss: nova_vmhealth.virt.mass_loss.MassLoss
    :param actions: nova_vmhealth.virt.actions.Actions
    :param corroborator: nova_vmhealth.virt.corroboration.Corroborator
    """

    def __init__(self, mass_loss, actions, corroborator):
        self._mass_loss = mass_loss
        self._actions = actions
        self._corroborator = corroborator

    def observed(self, observation, policy, now, wall):
        """Take in an observation before the ledger does.

        :param observation: nova_vmhealth.core.vocabulary.Observation
        :param policy: of its instance
        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        :returns: it; a loss with all that is known of it
        """
        uuid, kind = observation.instance_uuid, observation.kind
        if kind is Kind.HEARTBEAT_MISSED:
            silent_ms = int(observation.details.get('silent_ms', 0))
            self._corroborator.suspect(uuid, silent_ms / 1000)
        elif kind is Kind.STOPPED:
            self._corroborator.forget(uuid)
            self._mass_loss.forget(uuid, now, wall)
        self._mass_loss.observed(observation, now, wall)
        if kind is not Kind.FAULT \
                or observation.cause is not Cause.HEARTBEAT_LOST:
            return observation
        known = self._corroborator.details(uuid)
        self._corroborator.lost(uuid)
        return dataclasses.replace(observation, details={
            **observation.details, **known,
            **self._actions.details(uuid, policy)})

    def told(self, event, policy, now, wall):
        """Take in what is about to be told.

        :param event: nova_vmhealth.core.vocabulary.HealthEvent
        :param policy: of its instance
        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        :returns: what to tell
        """
        event = self._mass_loss.told(event, now, wall)
        return self._actions.told(event, policy, now)

    def next_deadline(self):
        """Return when to call :meth:`handle_timer`; None for never."""
        return min((at for at in (self._mass_loss.next_deadline(),
                                  self._actions.next_deadline())
                    if at is not None), default=None)

    def handle_timer(self, now, wall):
        """Do what time alone asks for.

        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        """
        # In this order: no action in the moment in which the host is blamed.
        self._mass_loss.handle_timer(now, wall)
        self._actions.handle_timer(now)

    def forget(self, uuid, now, wall):
        """Drop an instance that left this host.

        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        """
        self._mass_loss.forget(uuid, now, wall)
        self._actions.forget(uuid)
        self._corroborator.forget(uuid)


def build(options, ledger, heartbeat, steering, get_connection, submit,
          submit_look, observe, tell_host, wake):
    """Make the parts and what joins them.

    :param options: the option group [vmhealth]
    :param ledger: nova_vmhealth.core.ledger.Ledger
    :param heartbeat: nova_vmhealth.virt.heartbeat.HeartbeatMonitor
    :param steering: nova_vmhealth.virt.steering.Steering
    :param get_connection: gives libvirt's connection
    :param submit: Background.submit of the thread that takes actions
    :param submit_look: Background.submit of a thread that a QEMU which hangs
        may hold up
    :param observe: takes an observation in, from any thread
    :param tell_host: called with each HostEvent
    :param wake: makes the worker look at what is due, from any thread
    :returns: Losses
    """
    many = mass_loss.MassLoss(
        storm.Storm(options.mass_loss_guests, options.mass_loss_percent,
                    options.mass_loss_window_s, uuidutils.generate_uuid),
        lambda: heartbeat.count, ledger.is_planned, tell_host)
    return Losses(
        many,
        actions.Actions(
            governor.Governor(options.max_actions, options.action_window_s,
                              options.action_delay_s),
            ledger, steering, lambda: many.suspected, get_connection, submit,
            observe, wake),
        corroboration.Corroborator(get_connection, submit_look, observe))
