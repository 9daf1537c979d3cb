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
"""A limit for what else may wait for ever."""

import threading


class GivenUp(Exception):
    """It took too long. Not TimeoutError, which the function may raise."""


def within(seconds, function):
    """Call a function, and give it up when it takes too long.

    oslo.messaging waits for a broker that has stopped answering, or has no
    memory left, as long as that takes; a monitor that hangs with it sees
    nothing any more. The thread of a call that was given up is left alone.

    :param seconds: how long it may take
    :param function: takes nothing
    :returns: what it returns
    :raises GivenUp: it has not returned
    """
    ended = []

    def run():
        try:
            ended.append((function(), None))
        # Whatever it is, it is the caller's.
        except BaseException as error:
            ended.append((None, error))

    thread = threading.Thread(
        target=run, name='vmhealth-client', daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise GivenUp(f'no answer within {seconds:g} s')
    result, error = ended[0]
    if error is not None:
        raise error
    return result
