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


"""How long from libvirt's callback to a listener in another process.

    python -m tests.benchmarks.event_latency [--events N]

As root, by hand, on an idle machine: a private broker and libvirtd, the real
driver, the real ``nova-vmhealth listen``. Events come one after the other. The
floor, measured in the same run, is a bare oslo.messaging notification of
eight fields between the same two processes; the ratios are what counts.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile

from tests.integration import clients
from tests.integration import processes
from tests.integration import services

WARM_UP = 20
TRIES = 30


def health_events(driver, listener, count):
    """Seconds from callback to listener, by event.

    Each is another instance's, since one instance's repeats are held back.
    """
    uuids = driver.do('instances', count=TRIES + WARM_UP + count)
    _first(driver, listener, uuids)
    found = []
    for uuid in uuids[-WARM_UP - count:]:
        driver.do('fire', uuid)
        event = listener.wait_for(uuid, 'watchdog_expired', every=0.002)
        found.append(clients.epoch(event['received_at'])
                     - clients.epoch(event['occurred_at']))
    return found[WARM_UP:]


def _first(driver, listener, uuids):
    """Until the listener's queue is there, events go nowhere."""
    for uuid in uuids[:TRIES]:
        driver.do('fire', uuid)
        try:
            listener.wait_for(uuid, 'watchdog_expired', seconds=1)
            return
        except AssertionError:
            continue
    sys.exit('the listener hears nothing')


def floor_events(driver, log, url, count):
    """Seconds from a bare notification to a bare listener, by event."""
    process = processes.Process(
        [sys.executable, '-m', 'tests.benchmarks.floor_listener', url], log,
        pipes=True, cwd=clients.REPOSITORY)
    try:
        assert process.stdout.readline() == 'ready\n', process.logged()
        found = []
        for number in range(WARM_UP + count):
            driver.do('floor', number=number)
            found.append(json.loads(process.stdout.readline())['seconds'])
        return found[WARM_UP:]
    finally:
        process.stop()


def show(name, seconds, floor=None):
    cuts = statistics.quantiles(seconds, n=100)
    p50, p99 = cuts[49] * 1000, cuts[98] * 1000
    line = '%-28s p50 %6.2f ms   p99 %6.2f ms' % (name, p50, p99)
    if floor:
        line += '   %.2f and %.2f times the floor' % (
            p50 / floor[0], p99 / floor[1])
    print(line)
    return p50, p99


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--events', type=int, default=500)
    count = parser.parse_args().events
    lacks = services.missing()
    if lacks:
        sys.exit('this machine lacks ' + lacks)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix='vmhealth-'))
        os.chmod(folder, 0o755)

        def started(service):
            stack.callback(service.stop)
            return service
        libvirtd = started(services.Libvirtd(os.path.join(folder, 'lv')))
        broker = started(services.Broker(os.path.join(folder, 'mq')))
        listener = started(clients.Listener(
            os.path.join(folder, 'listener.log'), broker.url))
        driver = started(clients.DriverProcess(
            os.path.join(folder, 'nova'), libvirtd, broker, folder,
            module='tests.benchmarks.event_driver'))
        ours = health_events(driver, listener, count)
        bare = floor_events(driver, os.path.join(folder, 'floor.log'),
                            broker.url, count)
        floor = show('floor: bare notification', bare)
        show('callback to listener', ours, floor)


if __name__ == '__main__':
    main()
