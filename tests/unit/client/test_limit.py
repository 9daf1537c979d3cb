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

"""What takes too long is given up, and nothing else is changed."""

import threading

import pytest

from nova_vmhealth.client import limit

PATIENCE_S = 30


def test_returns_what_the_function_does():
    assert limit.within(PATIENCE_S, lambda: 'done') == 'done'


@pytest.mark.parametrize('error', [
    ValueError('no'), TimeoutError('its own'), KeyboardInterrupt()])
def test_raises_what_the_function_does(error):
    def fail():
        raise error

    with pytest.raises(type(error)) as raised:
        limit.within(PATIENCE_S, fail)
    assert raised.value is error


def test_gives_up():
    go_on = threading.Event()
    threads = []

    def hang():
        threads.append(threading.current_thread())
        go_on.wait(PATIENCE_S)

    with pytest.raises(limit.GivenUp, match='within 0.01 s'):
        limit.within(0.01, hang)
    # Python does not wait for such a thread at its own end
    assert threads[0].daemon
    go_on.set()
    threads[0].join(PATIENCE_S)
