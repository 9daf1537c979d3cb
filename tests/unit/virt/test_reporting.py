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

"""What is handed to the publisher and written into the log."""

import logging as levels
import uuid

import pytest

from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth.core import host_standing
from nova_vmhealth.core import maintenance
from nova_vmhealth.core import vocabulary
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import Severity
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth.virt import reporting
from tests.unit.virt import fakes
from tests.unit.virt.fakes import OTHER
from tests.unit.virt.fakes import UUID


@pytest.fixture
def lines(monkeypatch):
    found = []
    monkeypatch.setattr(
        reporting.LOG, 'log',
        lambda level, text, values: found.append((level, text % values)))
    return found


@pytest.fixture
def publisher():
    return fakes.Publisher()


@pytest.fixture
def standing():
    return host_standing.HostStanding()


@pytest.fixture
def reporter(publisher, standing):
    return reporting.Reporter(publisher, 'compute1',
                              {UUID: fakes.entry(UUID)}.get, lambda uuid: None,
                              standing, lambda: 50.0)


def window(starts_at, ends_at):
    return maintenance.Window(str(uuid.uuid4()), 'compute1', starts_at,
                              ends_at, 'new fans', 'operator', 1.0)


def event(transition, severity, subject=''):
    return vocabulary.HealthEvent(
        'id', 1, UUID, transition, vocabulary.Cause.IO_ERROR, subject,
        severity, Health.UNHEALTHY, Health.HEALTHY, (), 1.0, 1.0,
        details={'reason': 'enospc'})


@pytest.mark.parametrize('transition, severity, level', [
    (Transition.RAISED, Severity.CRITICAL, levels.WARNING),
    (Transition.RAISED, Severity.WARNING, levels.INFO),
    (Transition.UPDATED, Severity.CRITICAL, levels.INFO),
    (Transition.CLEARED, Severity.CRITICAL, levels.INFO),
])
def test_only_a_critical_raise_is_a_warning(
        reporter, publisher, lines, transition, severity, level):
    reporter.tell(event(transition, severity), fakes.entry(UUID))
    assert lines == [
        (level, "[instance: %s] io_error %s, health unhealthy: "
                "{'reason': 'enospc'}" % (UUID, transition.value))]
    assert publisher.events == [(transition, vocabulary.Cause.IO_ERROR)]


def test_names_the_subject(reporter, lines):
    reporter.tell(event(Transition.RAISED, Severity.INFO, 'virtio-disk0'),
                  fakes.entry(UUID))
    assert 'io_error (virtio-disk0) raised' in lines[0][1]


def test_the_hosts_event_goes_to_the_projects_of_its_guests(
        reporter, publisher, lines):
    """But for one that has left meanwhile."""
    reporter.tell_host(vocabulary.HostEvent(
        'id', 1, Transition.RAISED, vocabulary.HostCause.MANY_GUESTS_LOST,
        Severity.CRITICAL, 1.0, 1.0, (UUID, OTHER), {'lost': '700'},
        instance_count=700))
    assert publisher.host_events == [
        (Transition.RAISED, 'compute1', {UUID: 'project'})]
    assert lines == [
        (levels.WARNING, "host compute1: many_guests_lost raised, status "
                         "UNKNOWN, 700 guests: {'lost': '700'}")]


def test_a_guest_does_not_fill_the_log_by_exits(reporter, monkeypatch):
    said = []
    monkeypatch.setattr(reporting.LOG, 'info',
                        lambda text, values: said.append(text % values))
    for tenth in range(1201):
        reporter.established(UUID, 'socket', 50.0 + tenth / 10)
    assert said == ['[instance: %s] heartbeat established, way: socket'
                    % UUID] * 3
    reporter.established(UUID, 'libvirt', 170.1)        # this is news
    reporter.established(OTHER, 'socket', 170.1)
    assert len(said) == 5
    reporter.forget(UUID)
    reporter.forget(OTHER)
    assert not reporter._established


@pytest.mark.parametrize('record, windows, status, suppressed', [
    (None, (), 'UNKNOWN', False),
    (ServiceRecord(False, None, False), (), 'UP', False),
    (ServiceRecord(True, 'my disk', False), (), 'MAINTENANCE', True),
    (ServiceRecord(True, 'vmhealth: x', False), (), 'MAINTENANCE', False),
    (ServiceRecord(True, 'AUTO: x', True), (), 'DOWN', False),
    (None, (window(40.0, 60.0),), 'UNKNOWN', True),
    (None, (window(51.0, 60.0),), 'UNKNOWN', False),
])
def test_an_event_says_how_the_host_stands(
        reporter, publisher, standing, lines, record, windows, status,
        suppressed):
    standing.record, standing.windows = record, windows
    told = []
    publisher.submit = lambda *given: told.append(given)
    reporter.tell(event(Transition.RAISED, Severity.CRITICAL),
                  fakes.entry(UUID))
    ((published, identity, _),) = told
    assert (identity.host_status, published.suppressed) == (
        status, suppressed)
    assert lines[0][0] == (levels.INFO if suppressed else levels.WARNING)
