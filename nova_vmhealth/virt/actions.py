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

"""Acts upon a guest whose heartbeat is lost, where its owner asked for it.

The worker decides, by the rules of :mod:`nova_vmhealth.core.actions`; the
calls to libvirt are made on a background thread, which looks once more before
it acts.
"""

import collections
import dataclasses
import threading
import time

from oslo_log import log as logging

from nova_vmhealth.core.actions import Situation
from nova_vmhealth.core.actions import Withheld
from nova_vmhealth.core import transitions
from nova_vmhealth.core.vocabulary import Action
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt import background

LOG = logging.getLogger(__name__)

# VIR_DOMAIN_RUNNING and VIR_DOMAIN_BLOCKED of virDomainState.
_RUNNING = (1, 2)
# libvirt's words may be long, and go over the bus.
_MAX_REASON = 255
# Reasons that may pass while the guest is lost still: a late answer, an
# operation of Nova's that did not help.
_PASSING = (Withheld.RECOVERED, Withheld.PLANNED)
# It is looked at again after the delay, and this many seconds at least.
RETRY_S = 1.0
_NO_ANSWER = 'libvirt gives no answer'

# What each action is to libvirt.
_CALLS = {
    Action.INJECT_NMI: lambda domain: domain.injectNMI(0),
    Action.RESET: lambda domain: domain.reset(0),
    Action.POWEROFF: lambda domain: domain.destroy(),
    Action.PAUSE: lambda domain: domain.suspend(),
}


def call(domain, action):
    """Do to a domain what an action says.

    :param domain: virDomain
    :param action: nova_vmhealth.core.vocabulary.Action, but not NONE
    :returns: None when it is done, Withheld.NOT_RUNNING when there is nothing
        to act upon
    :raises libvirt.libvirtError: libvirt refuses
    """
    if domain.info()[0] not in _RUNNING:
        return Withheld.NOT_RUNNING
    _CALLS[action](domain)
    return None


def wanted(policy):
    """Return the causes to tell of an instance.

    Who asks for an action on a loss is told of the loss, and so of the action.
    Who is told of losses is told of an agent that exits as well: a guest could
    hide its silence behind a word of farewell otherwise.

    :param policy: nova_vmhealth.core.policy.Policy
    """
    causes = policy.events
    if policy.action is not Action.NONE:
        causes |= {Cause.HEARTBEAT_LOST}
    if Cause.HEARTBEAT_LOST in causes:
        causes |= {Cause.AGENT_EXITED}
    return causes


class Actions:
    """Plans, decides and takes actions.

    Called on the worker only, as is the ledger.

    :param governor: nova_vmhealth.core.actions.Governor
    :param ledger: nova_vmhealth.core.ledger.Ledger
    :param steering: nova_vmhealth.virt.steering.Steering
    :param is_host_suspected: called without arguments
    :param get_connection: gives libvirt's connection
    :param submit: Background.submit
    :param observe: takes an observation in, from any thread
    :param wake: makes the worker call :meth:`handle_timer`, from any thread
    :param monotonic: the worker's clock, seconds
    """

    def __init__(self, governor, ledger, steering, is_host_suspected,
                 get_connection, submit, observe, wake,
                 monotonic=time.monotonic):
        self._governor = governor
        self._ledger = ledger
        self._steering = steering
        self._is_host_suspected = is_host_suspected
        self._get_connection = get_connection
        self._submit = submit
        self._observe = observe
        self._wake = wake
        self._monotonic = monotonic
        # (uuid, action, reason) of what was withheld at the last moment
        self._returned = collections.deque()
        # The worker and the background's threads change what is below.
        self._lock = threading.Lock()
        # uuid -> (the action whose call is under way, when it is given up)
        self._under_way = {}
        # instances whose call was given up and has not come back
        self._hung = set()

    def details(self, uuid, policy):
        """Return what a loss that is about to be told says of its action.

        :param policy: nova_vmhealth.core.policy.Policy
        """
        if policy.action is Action.NONE or self._is_told(uuid):
            return {}
        return {'action': policy.action.value, 'action_state': 'pending'}

    def told(self, event, policy, now):
        """Plan an action on a loss that is told; drop it when that is over.

        :param event: nova_vmhealth.core.vocabulary.HealthEvent
        :param policy: nova_vmhealth.core.policy.Policy
        :param now: monotonic time, seconds
        :returns: the event, saying so where the action was dropped
        """
        if event.cause is not Cause.HEARTBEAT_LOST:
            return event
        uuid = event.instance_uuid
        if event.transition is Transition.RAISED \
                and policy.action is not Action.NONE:
            self._governor.lost(uuid, policy.action, now)
        elif event.transition is Transition.CLEARED \
                and not transitions.is_withdrawn(event) \
                and self._governor.cancel(uuid) is not None:
            reason = (Withheld.PLANNED if self._ledger.is_planned(uuid)
                      else Withheld.RECOVERED)
            return dataclasses.replace(event, details={
                **event.details, **_withheld(reason)})
        return event

    def forget(self, uuid):
        """Drop everything about an instance that left this host."""
        self._governor.forget(uuid)
        with self._lock:
            self._under_way.pop(uuid, None)
            self._hung.discard(uuid)

    def next_deadline(self):
        """Return when to call :meth:`handle_timer`; None for never."""
        with self._lock:
            due = [until for _, until in self._under_way.values()]
        planned = self._governor.next_deadline()
        if planned is not None:
            due.append(planned)
        return min(due, default=None)

    def handle_timer(self, now):
        """Decide on the actions that are due; give up those that hang.

        :param now: monotonic time, seconds
        """
        while self._returned:
            uuid, action, reason = self._returned.popleft()
            self._governor.refund(uuid)
            self._withhold(uuid, action, reason, now)
        self._give_up(now)
        for uuid, action in self._governor.due(now):
            reason = self._governor.decide(uuid, self._situation(uuid), now)
            if reason is not None:
                self._withhold(uuid, action, reason, now)
            elif uuid in self._hung:
                # One more call would wait behind the last.
                self._finish(uuid, action, _failed(_NO_ANSWER))
            elif not self._submit(f'{action.value} of instance {uuid}',
                                  lambda u=uuid, a=action: self.take(u, a)):
                self._finish(uuid, action,
                             _failed('too much else waits to be done'))

    def take(self, uuid, action):
        """Take an action: a background thread's job.

        :param action: nova_vmhealth.core.vocabulary.Action, but not NONE
        """
        # The thread may have been busy: what was decided may not hold now.
        reason = self._second_thoughts(uuid)
        # From here on an operation of Nova's waits for the call.
        if reason is None and not self._steering.claim(uuid):
            reason = Withheld.PLANNED
        if reason is not None:
            self._return(uuid, action, reason)
            return
        try:
            self._act(uuid, action)
        finally:
            self._steering.unclaim(uuid)

    def _act(self, uuid, action):
        under_way = action, self._monotonic() + background.STUCK_S
        with self._lock:
            self._under_way[uuid] = under_way
        # Its side effects are no second fault, and none of Nova's doing.
        self._tell(Kind.PLANNED_BEGUN, uuid, _operation(action))
        reason = None
        try:
            reason = call(self._get_connection().lookupByUUIDString(uuid),
                          action)
            state = {'action_state': 'done'}
        except Exception as error:
            # Whatever it is: raised any further it would make the thread try
            # again later, when nobody has judged the guest anew.
            state = _failed(str(error) or repr(error))
        with self._lock:
            self._hung.discard(uuid)
            if self._under_way.get(uuid) is not under_way:
                return              # given up, and told so
            del self._under_way[uuid]
        self._tell(Kind.PLANNED_ENDED, uuid, _operation(action))
        if reason is not None:
            self._return(uuid, action, reason)
        else:
            self._finish(uuid, action, state)

    def _return(self, uuid, action, reason):
        """Leave an action that is not taken to the worker."""
        self._returned.append((uuid, action, reason))
        self._wake()

    def _withhold(self, uuid, action, reason, now):
        """Tell that an action is withheld, or plan it again."""
        if (reason in _PASSING and self._is_told(uuid)
                and self._steering.has_not_recovered(uuid)):
            # Not at once where the delay is 0: it would not sleep any more.
            self._governor.lost(uuid, action, now, RETRY_S)
        else:
            self._finish(uuid, action, _withheld(reason))

    def _give_up(self, now):
        """Wait no longer for calls that do not return."""
        with self._lock:
            late = [(uuid, action)
                    for uuid, (action, until) in self._under_way.items()
                    if until <= now]
            for uuid, _ in late:
                del self._under_way[uuid]
                self._hung.add(uuid)
        for uuid, action in late:
            self._steering.unclaim(uuid)
            self._tell(Kind.PLANNED_ENDED, uuid, _operation(action))
            self._finish(uuid, action, _failed(_NO_ANSWER))

    def _is_told(self, uuid):
        return any(condition.cause is Cause.HEARTBEAT_LOST
                   for condition in self._ledger.conditions(uuid))

    def _situation(self, uuid):
        return Situation(
            planned=self._ledger.is_planned(uuid),
            running=self._steering.is_running(uuid),
            lost=self._steering.is_lost(uuid),
            host_suspected=self._is_host_suspected())

    def _second_thoughts(self, uuid):
        """Look again, without the ledger: that is the worker's alone."""
        if self._steering.is_planned(uuid):
            return Withheld.PLANNED
        if not self._steering.is_running(uuid):
            return Withheld.NOT_RUNNING
        if not self._steering.is_lost(uuid):
            return Withheld.RECOVERED
        # Reads one attribute, which the worker changes.
        if self._is_host_suspected():
            return Withheld.HOST_SUSPECTED
        return None

    def _finish(self, uuid, action, state):
        LOG.warning('[instance: %(uuid)s] its heartbeat is lost, action '
                    '%(action)s: %(state)s%(reason)s',
                    {'uuid': uuid, 'action': action.value,
                     'state': state['action_state'],
                     'reason': ''.join(
                         f' ({text})' for key, text in state.items()
                         if key == 'action_reason')})
        self._tell(Kind.DETAILS, uuid, {'action': action.value, **state},
                   Cause.HEARTBEAT_LOST)

    def _tell(self, kind, uuid, details, cause=None):
        self._observe(Observation(kind, uuid, time.time(), cause,
                                  details=details))


def _operation(action):
    return {'operation': transitions.ACTION + action.value}


def _withheld(reason):
    return {'action_state': 'withheld', 'action_reason': reason.value}


def _failed(reason):
    return {'action_state': 'failed', 'action_reason': reason[:_MAX_REASON]}
