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



"""Python's garbage collector, kept from stopping the whole process.

A full collection looks at every object that nova-compute has, with all of
Python's threads waiting: for some 300 ms, in which neither libvirt's event
thread nor the heartbeat does anything. Nearly all of those objects are modules
and what was made of the configuration at the start, and stay for ever.
"""

import gc

_spared = False


def spare():
    """Leave what the process has by now out of all later collections.

    Once in a process: what would be garbage at a later time, as between two
    tests, is to be collected.
    """
    global _spared
    if not _spared:
        _spared = True
        # What is garbage already would be kept for ever.
        gc.collect()
        gc.freeze()
