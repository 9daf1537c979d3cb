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

"""When silent guests are looked at, what is concluded, and what is bounded."""

import types

from nova.virt.libvirt import host as nova_host
import pytest

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import corroboration
from nova_vmhealth.virt.corroboration import GATHER_S
from nova_vmhealth.virt.corroboration import LATER_S
from nova_vmhealth.virt.corroboration import RETRY_S

UUID = '6f70656e-7374-6163-6b20-6865616c7468'
MS = 1_000_000
XML = """<domain><devices><channel><target name='org.openstack.vmhealth.0'
 state='%s'/></channel></devices></domain>"""


class LibvirtError(Exception):
    pass


class Domain:
    """One guest, as the test has it."""

    def __init__(self, uuid):
        self.uuid = uuid
        self.state, self.port = 1, 'connected'
        self.vcpu_ns = 0

    def UUIDString(self):
        return self.uuid

    def XMLDesc(self, _flags):
        return XML % self.port


class Libvirt:
    """The connection.

    :ivar asked: how many domains each call was for
    """

    def __init__(self):
        self.domains = {}
        self.asked = []
        self.before_samples = lambda: None

    def lookupByUUIDString(self, uuid):
        try:
            return self.domains[uuid]
        except KeyError:
            raise LibvirtError('no such domain') from None

    def domainListGetStats(self, domains, groups, _flags):
        if groups & 1:
            self.asked.append(len(domains))
            return [(d, {'state.state': d.state}) for d in domains]
        self.before_samples()
        return [(d, {'vcpu.0.time': d.vcpu_ns, 'block.count': 0})
                for d in domains]


class Look:
    """A Corroborator whose background and clock are the test's."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(nova_host, 'libvirt', types.SimpleNamespace(
            libvirtError=LibvirtError))
        self.now = 100.0
        self.libvirt = Libvirt()
        self.libvirt.domains[UUID] = self.domain = Domain(UUID)
        self.told = []
        self.job = None
        self.submitted = 0
        self.looks = corroboration.Corroborator(
            lambda: self.libvirt, self.submit, self.told.append,
            lambda: self.now)

    def submit(self, key, function, delay_s):
        self.submitted += 1
        self.job = (self.now + delay_s, function)

    def run(self, seconds):
        """Let time pass, and the jobs with it, failing ones as Background."""
        end = self.now + seconds
        while self.job and self.job[0] <= end:
            (self.now, function), self.job = self.job, None
            try:
                function()
            except LibvirtError:
                self.job = self.job or (self.now + RETRY_S, function)
        self.now = end

    def lose(self, misses=3, interval_s=1.0):
        """What the monitor does from the first miss to the loss."""
        if misses > 1:
            self.looks.suspect(UUID, interval_s)
            self.run((misses - 2) * interval_s)
        if misses > 2:
            self.looks.suspect(UUID, (misses - 1) * interval_s)
        self.run(interval_s)
        known = self.looks.details(UUID)
        self.looks.lost(UUID)
        return known


@pytest.fixture
def look(monkeypatch):
    return Look(monkeypatch)


@pytest.mark.parametrize('state, ran_ns, assessment', [
    (1, 10 * MS, 'guest_active'),
    (1, 0, 'guest_stalled'),
    (3, 0, 'guest_paused'),
    (7, 0, 'guest_paused'),
])
def test_assessment(look, state, ran_ns, assessment):
    look.domain.state = state
    look.looks.suspect(UUID, 1.0)
    look.run(1.0)
    look.domain.vcpu_ns += ran_ns
    look.looks.suspect(UUID, 2.0)
    look.run(1.0)
    known = look.looks.details(UUID)
    assert known['assessment'] == assessment
    assert known['port'] == 'connected'
    assert known['observed_ms'] == '1000'
    assert known['vcpu_time_ms'] == str(ran_ns // MS)
    assert all(isinstance(value, str) for value in known.values())


def test_nothing_is_known_of_others(look):
    assert look.looks.details(UUID) == {}
    look.looks.suspect(UUID, 1.0)
    assert look.looks.details(UUID) == {}


def test_what_was_told_with_the_loss_is_not_told_again(look):
    known = look.lose(misses=3)
    assert known['assessment'] == 'guest_stalled'
    look.run(10.0)
    assert look.told == []


@pytest.mark.parametrize('misses', [1, 2])
def test_a_loss_after_few_misses_is_judged_afterwards(look, misses):
    known = look.lose(misses)
    assert 'assessment' not in known
    look.domain.vcpu_ns += 50 * MS
    look.run(GATHER_S)
    look.domain.vcpu_ns += 50 * MS
    look.run(10.0)
    update, = look.told
    assert update.kind is Kind.DETAILS
    assert update.cause is Cause.HEARTBEAT_LOST
    assert update.instance_uuid == UUID
    assert update.details['assessment'] == 'guest_active'
    assert look.job is None


def test_a_guest_that_wakes_after_the_loss(look):
    look.lose(misses=3)
    look.domain.vcpu_ns += 50 * MS
    look.run(10.0)
    assert look.told[0].details['assessment'] == 'guest_active'
    assert look.told[0].details['vcpu_time_ms'] == '50'


def test_samples_of_an_earlier_silence_do_not_count(look):
    look.looks.suspect(UUID, 1.0)
    look.run(60.0)
    look.domain.vcpu_ns += 5000 * MS        # it lived well in between
    look.looks.suspect(UUID, 1.0)
    look.run(1.0)
    assert 'vcpu_time_ms' not in look.looks.details(UUID)
    look.looks.suspect(UUID, 2.0)
    look.run(1.0)
    assert look.looks.details(UUID)['vcpu_time_ms'] == '0'


def test_a_closed_port_is_told_at_once_and_once(look):
    look.domain.port = 'disconnected'
    look.looks.suspect(UUID, 1.0)
    look.run(1.0)
    look.looks.suspect(UUID, 2.0)
    look.run(1.0)
    closed, = look.told
    assert closed.kind is Kind.AGENT_DISCONNECTED
    assert closed.details == {'channel': 'org.openstack.vmhealth.0'}
    look.looks.suspect(UUID, 0.5)           # of a later silence
    look.run(1.0)
    assert len(look.told) == 2


def test_a_qemu_that_hangs_hides_neither_state_nor_port(look):
    """Its counters are asked for last."""
    look.domain.state, look.domain.port = 3, 'disconnected'
    seen = []
    look.libvirt.before_samples = lambda: seen.append(
        (look.looks.details(UUID), len(look.told)))
    look.looks.suspect(UUID, 1.0)
    look.run(1.0)
    assert seen == [({'domain_state': 'paused', 'port': 'disconnected',
                      'assessment': 'guest_paused'}, 1)]


def test_a_look_that_does_not_come_back(look, monkeypatch):
    """What follows while it waits happens on the thread's replacement."""
    monkeypatch.setattr(corroboration, 'SLICE', 2)
    hung, innocent, later = (UUID[:-1] + name for name in '123')
    for uuid in (hung, innocent, later):
        look.libvirt.domains[uuid] = Domain(uuid)
    calls = []

    def meanwhile():
        calls.append(set(look.looks._asked.items()))
        if len(calls) == 1:
            look.run(RETRY_S)           # who was left over
            assert calls[1:] == [{(hung, 2), (innocent, 2), (later, 1)}]
            look.looks.suspect(innocent, 6.0)
            look.run(RETRY_S)           # alone now
            assert len(calls) == 3 and innocent not in look.looks._asked
            look.looks.suspect(hung, 11.0)
            look.run(RETRY_S)
        elif len(calls) == 4:           # alone as well, and hangs again
            for _ in range(3):
                look.looks.suspect(hung, 60.0)
                look.looks.suspect(later, 60.0)
                look.run(RETRY_S)
            assert look.looks._asked[hung] == 1
    look.libvirt.before_samples = meanwhile
    for uuid in (hung, innocent, later):
        look.looks.suspect(uuid, 1.0)
    look.run(0)
    assert [dict(call).get(hung) for call in calls] == [2, 2, 2, 1, 1, 1, 1]
    assert not look.looks._asked        # they have come back at last
    look.looks.suspect(hung, 1.0)
    look.run(RETRY_S)
    assert hung in dict(calls[-1])


@pytest.mark.parametrize('hangs_at', ['states', 'samples'])
def test_a_look_that_comes_back_late_says_nothing(look, hangs_at):
    other = UUID[:-1] + '1'
    look.libvirt.domains[other] = Domain(other)
    look.domain.port = 'disconnected'
    stats = look.libvirt.domainListGetStats

    def hangs(domains, groups, flags):
        if bool(groups & 1) is (hangs_at == 'states'):
            look.libvirt.domainListGetStats = stats
            look.looks.suspect(other, 1.0)
            look.run(RETRY_S)
            assert 'domain_state' in look.looks.details(other)
        return stats(domains, groups, flags)
    look.libvirt.domainListGetStats = hangs
    look.looks.suspect(UUID, 1.0)
    look.run(0)
    assert look.looks._suspects[UUID].first is None
    assert len(look.told) == (hangs_at == 'samples')    # told before it hung


def test_many_guests_share_calls(look, monkeypatch):
    monkeypatch.setattr(corroboration, 'SLICE', 3)
    for number in range(7):
        uuid = UUID[:-1] + str(number)
        look.libvirt.domains[uuid] = Domain(uuid)
        look.looks.suspect(uuid, 1.0)
    assert look.submitted == 1
    look.run(0)
    assert look.libvirt.asked == [3]
    look.run(GATHER_S)
    assert look.libvirt.asked == [3, 3]
    look.run(10.0)
    assert look.libvirt.asked == [3, 3, 1]
    assert look.job is None


def test_domains_that_are_gone(look):
    look.libvirt.domains.clear()
    look.lose(misses=3)
    look.run(10.0)
    assert look.told == []
    assert not look.looks._suspects and not look.looks._wanted
    assert look.job is None


@pytest.mark.parametrize('when', ['before the look', 'during it'])
def test_forgotten(look, when):
    look.looks.suspect(UUID, 1.0)
    if when == 'before the look':
        look.looks.forget(UUID)
    else:
        look.libvirt.before_samples = lambda: look.looks.forget(UUID)
    look.run(10.0)
    assert look.looks.details(UUID) == {}
    assert not look.looks._suspects and not look.looks._wanted


def test_an_unknown_domain_is_not_looked_at_for_ever(look):
    """libvirt has it and gives no counters."""
    look.lose(misses=1)
    stats = look.libvirt.domainListGetStats
    look.libvirt.domainListGetStats = (
        lambda domains, groups, flags:
        stats(domains, groups, flags) if groups & 1 else [])
    look.run(60.0)
    assert look.job is None
    assert look.told[0].details == {'domain_state': 'running',
                                    'port': 'connected'}
    assert not look.looks._suspects


def test_libvirt_is_away(look):
    """It is asked again seldom, however many guests fall silent."""
    calls = []

    def away():
        calls.append(look.now)
        raise LibvirtError('away')

    connect, look.looks._get_connection = look.looks._get_connection, away
    for second in range(20):
        look.looks.suspect(UUID, second)
        look.run(1.0)
    assert all(later - earlier >= RETRY_S
               for earlier, later in zip(calls, calls[1:], strict=False))
    look.looks._get_connection = connect
    look.looks.suspect(UUID, 30.0)
    look.run(RETRY_S + LATER_S)
    assert look.looks.details(UUID)['domain_state'] == 'running'


def test_bounded(look, monkeypatch):
    monkeypatch.setattr(corroboration, 'MAX_SUSPECTS', 3)
    for number in range(9):
        look.looks.suspect(UUID[:-1] + str(number), 1.0)
    assert len(look.looks._suspects) == len(look.looks._wanted) == 3


def test_a_job_that_was_refused_is_asked_for_again(look):
    look.looks._submit = lambda *job: False
    look.looks.suspect(UUID, 1.0)
    look.looks._submit = look.submit
    look.now += 1.0
    look.looks.suspect(UUID, 2.0)
    look.run(1.0)
    assert look.looks.details(UUID)['domain_state'] == 'running'
