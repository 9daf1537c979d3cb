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


"""Commands of a test to a process of its own, in either concurrency mode."""

import sys


def lines():
    """The lines of stdin; under eventlet the greenthreads go on meanwhile."""
    wait = _wait
    # Nova 34 with native threads forbids the import.
    if 'eventlet.patcher' in sys.modules \
            and sys.modules['eventlet.patcher'].is_monkey_patched('thread'):
        from eventlet import tpool

        def wait():
            return tpool.execute(_wait)
    yield from iter(wait, '')


def _wait():
    return sys.stdin.readline()
