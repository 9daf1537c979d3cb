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



"""Which events of an instance did not arrive, by their sequence."""

import collections

# Some bytes each; more instances than one cloud has.
REMEMBERED_INSTANCES = 100000


class Gaps:
    """Follows the sequence of each instance.

    Give it every event of the pool, before any filter: a filter, and another
    member of the pool, take events away as well. It is not thread safe; the
    listener's callback is called for one event at a time. An event that was
    told on a host's behalf has the sequence 0, and no part in the count.

    :param most: how many instances are remembered; the one that was quiet for
        longest is dropped
    """

    def __init__(self, most=REMEMBERED_INSTANCES):
        self._most = most
        self._last = collections.OrderedDict()

    def missed(self, event):
        """Say how many events of an instance are missing before this one.

        A sequence that goes back is no gap: it begins anew where its host
        could not hand it on, as in an evacuation.

        :param event: a ReceivedEvent, or what has its uuid and sequence
        :returns: their number; 0 for the first event of an instance
        """
        if not event.sequence:
            return 0
        last = self._last.pop(event.uuid, event.sequence - 1)
        self._last[event.uuid] = event.sequence
        if len(self._last) > self._most:
            self._last.popitem(last=False)
        return max(0, event.sequence - last - 1)
