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

"""How often a log line may repeat itself."""

import time


class Throttle:
    """Let one pass in each period.

    :param period_s: seconds that must lie between two passes
    :param clock: gives monotonic seconds
    """

    def __init__(self, period_s, clock=time.monotonic):
        self._period_s = period_s
        self._clock = clock
        self._next = None

    def ready(self):
        """Say whether a period has passed, and begin the next if so."""
        now = self._clock()
        if self._next is not None and now < self._next:
            return False
        self._next = now + self._period_s
        return True
