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

"""This host's compute service record: read and written, at once.

Nova computes the API's ``host_status`` from it. Each look and each change is a
job on a thread of its own, since it asks nova-conductor, and placement for the
trait that keeps the scheduler away.
"""

import dataclasses
from typing import Optional

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging

from nova_vmhealth.core import host_record
from nova_vmhealth.core.vocabulary import HostAction

LOG = logging.getLogger(__name__)

# What others write is looked for this often, seconds. An operator's disable is
# known at once: Nova's API tells nova-compute of it.
LOOK_EVERY_S = 60.0
# Nova's driver writes the record of a libvirt that is lost at the same time as
# this one: who of the two was last is seen after so many seconds. The first is
# for a libvirt that is soon back, on which Nova would enable the service.
LOOK_SOON_S = 0.25
LOOK_AGAIN_S = 2.0
# The names of one job, by when it is due.
_NOW = 'following the compute service record'
_SOON = f'{_NOW} once more'
_LATER = f'{_NOW} twice more'
_REGULARLY = f'{_NOW} as ever'


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """The record as it is now.

    :ivar number: of the latest wish that it follows
    :ivar record: None where there is none
    :ivar forced: whether ``forced_down`` was set by this driver
    """

    number: int
    record: Optional[host_record.ServiceRecord]
    forced: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Wish:
    """What the record is to be.

    :ivar anew: number of the latest wish for which something had gone wrong
    """

    number: int = 0
    action: HostAction = HostAction.NONE
    text: str = ''
    anew: int = 0


class RecordKeeper:
    """Has the record follow what is wished; safe to use from any thread.

    :param compute_host: this host's name
    :param submit: Background.submit of a thread for RPC
    :param answer: takes a Settled
    :param tell_placement: called with a context and Nova's Service when
        ``disabled`` has changed: the driver's own
        _update_compute_provider_status()
    """

    def __init__(self, compute_host, submit, answer, tell_placement):
        self._compute_host = compute_host
        self._submit = submit
        self._answer = answer
        self._tell_placement = tell_placement
        # Replaced as a whole: the worker wishes, the thread reads.
        self._wish = _Wish()
        # the latest wish that the record followed, and whose disable kept it
        # from that; the thread's own
        self._followed = 0
        self._owner = host_record.Owner.NOBODY
        self._forced = False

    def begin(self, forced, action, text, anew):
        """Look at the record for the first time.

        :param forced: whether ``forced_down`` was set in an earlier run
        :param action: as for :meth:`wish`, of what is wrong since then
        :returns: as :meth:`wish`
        """
        self._forced = forced
        self._wish = _Wish(1, action, text, int(anew))
        self._submit(_REGULARLY, self._look)
        return self._wish.number

    def wish(self, action, text, anew):
        """Have the record changed; the last wish holds.

        :param action: HostAction
        :param text: why, without prefix
        :param anew: see core.host_record.change
        :returns: the number of the wish, which a Settled answers
        """
        number = self._wish.number + 1
        self._wish = _Wish(number, action, text,
                           number if anew else self._wish.anew)
        self._submit(_NOW, self._follow)
        return number

    def look(self):
        """Have the record read, and what Nova wrote meanwhile taken over."""
        self._submit(_NOW, self._follow)

    def _look(self):
        self._follow()
        self._submit(_REGULARLY, self._look, LOOK_EVERY_S)

    def _follow(self):
        wish = self._wish
        context = nova_context.get_admin_context()
        try:
            # Safe on Nova 31-34: as LibvirtDriver._set_host_enabled() does.
            service = objects.Service.get_by_compute_host(
                context, self._compute_host)
        except nova_exception.ComputeHostNotFound:
            # Nova has not written it yet: the first start on this host.
            LOG.debug('There is no compute service record yet')
            self._submit(_LATER, self._follow, LOOK_AGAIN_S)
            self._answer(Settled(wish.number, None, self._forced))
            return
        # If it is not so any more, somebody else has taken it back.
        self._forced = self._forced and service.forced_down
        record = _record_of(service)
        # What an inspector takes back is no operator's word.
        anew = (wish.anew > self._followed
                or self._owner is host_record.Owner.INSPECTOR
                and record.owner is host_record.Owner.NOBODY)
        made = host_record.change(
            record, wish.action, wish.text, self._forced, anew=anew)
        if made:
            self._write(service, made)
        self._followed = max(self._followed, wish.number)
        self._owner = record.owner
        if anew:
            self._submit(_SOON, self._follow, LOOK_SOON_S)
            self._submit(_LATER, self._follow, LOOK_AGAIN_S)
        self._answer(Settled(wish.number, _record_of(service), self._forced))
        if 'disabled' in made:
            # After the answer: placement may take its time, and it never
            # raises.
            self._tell_placement(context, service)

    def _write(self, service, made):
        for name, value in made.items():
            setattr(service, name, value)
        # Before: it may be written, and the answer be lost.
        self._forced = self._forced or made.get('forced_down', False)
        service.save()
        self._forced = self._forced and service.forced_down
        LOG.warning('The compute service record was changed: %s',
                    ', '.join(f'{name} = {value!r}'
                              for name, value in sorted(made.items())))


def _record_of(service):
    return host_record.ServiceRecord(
        disabled=service.disabled, reason=service.disabled_reason,
        forced_down=service.forced_down)
