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


"""A storm of I/O errors: libvirt's event loop is not held, nothing is lost."""

import collections
import datetime
import os
import re

import pytest

from tests.benchmarks import burst
from tests.integration import processes

EVENTS, INSTANCES = 10000, 500
# On a machine that does other things too, Python's lock alone may take longer
# than the 5 ms that a callback has, once in some thousands: the floor has the
# same. See tests/benchmarks/burst.py for the figures.
MOST_P99_S = 0.025
MOST_GROWN_MIB = 50
UPDATE_INTERVAL_S = 1.0
# The log says when a line was written, the ledger counts from when it was
# decided: up to a part of those that are due earlier.
CLOCK_S = 0.3
HEARD_S = 60


@pytest.fixture
def storm(broker, folder):
    process = burst.BurstDriver(os.path.join(folder, 'burst'), broker.url,
                                EVENTS, INSTANCES)
    yield process
    process.stop()


def test_burst(storm, listener, measured):
    # until the listener's queue is there, events go nowhere
    processes.wait_for(
        lambda: storm.one() and listener.events(storm.first), HEARD_S,
        'first event', every=0.5)

    found = storm.burst()
    measured('burst: callback, p99', burst.percentile_ms(
        found['held'], 99) / 1000)
    measured('burst: callback that does nothing, p99', burst.percentile_ms(
        found['floor'], 99) / 1000)
    assert len(found['held']) == EVENTS
    assert burst.percentile_ms(found['held'], 99) / 1000 < MOST_P99_S
    assert found['grown_mib'] < MOST_GROWN_MIB
    assert found['dropped'] == 0

    told = processes.wait_for(lambda: complete(listener, storm.first), HEARD_S,
                              'last word on each instance')
    for events in told.values():
        assert [event['sequence'] for event in events] \
            == list(range(1, len(events) + 1))
        errors = of_cause(events, 'io_error')
        assert [event['transition'] for event in errors] \
            == ['raised'] + ['updated'] * (len(errors) - 1)
        # so many on one storage are a fault of it, told of each once
        assert [event['transition']
                for event in of_cause(events, 'host_fault')] == ['raised']
    assert len(listener.host_events('storage_fault')) == 1
    assert_seldom(storm.logged())


def complete(listener, first):
    """Events by instance, once each has been told all of its errors."""
    told = collections.defaultdict(list)
    for event in listener.events_of(burst.HOST):
        if event['uuid'] != first:
            told[event['uuid']].append(event)
    last = collections.Counter(
        of_cause(events, 'io_error')[-1]['count'] for events in told.values()
        if of_cause(events, 'host_fault'))
    assert max(last, default=0) <= EVENTS // INSTANCES
    return told if last == {EVENTS // INSTANCES: INSTANCES} else None


def of_cause(events, cause):
    return [event for event in events if event['cause'] == cause]


def assert_seldom(log):
    """Each update is told a second after what was told before it."""
    last = {}
    told = re.findall(
        r'^(\S+ \S+) .*\[instance: (\S+)\] io_error .* (raised|updated),',
        log, re.MULTILINE)
    assert len(told) > INSTANCES
    for text, uuid, transition in told:
        at = datetime.datetime.fromisoformat(text).timestamp()
        if transition == 'updated':
            assert at - last[uuid] > UPDATE_INTERVAL_S - CLOCK_S
        last[uuid] = at
