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

"""The compute service record: it follows what is wished, and who else writes.

The job runs as the background thread runs it, with its retries, on a clock
that the test turns; Nova's database is a dict.
"""

import types

from nova import exception as nova_exception
import pytest

from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.virt import background
from nova_vmhealth.virt import host_status
from nova_vmhealth.virt.host_status import LOOK_AGAIN_S
from nova_vmhealth.virt.host_status import LOOK_EVERY_S
from nova_vmhealth.virt.host_status import LOOK_SOON_S
from nova_vmhealth.virt.host_status import Settled

NONE, DISABLE, FORCE_DOWN = HostAction
TEXT = 'libvirt_lost: eof'
OURS = 'vmhealth: ' + TEXT
NOVAS = 'AUTO: Connection to libvirt lost: 1'
# disabled, disabled_reason, forced_down
UP = (False, None, False)
BY_US, BY_NOVA = (True, OURS, False), (True, NOVAS, False)
BY_OPERATOR = (True, 'new fans', False)
FORCED = (True, OURS, True)


class Conductor:
    """Nova's database, and the way to it.

    :ivar record: None where there is none yet
    :ivar broken: None, 'away', 'save' (nothing is written), or 'answer' (it
        is written, which nobody learns)
    """

    def __init__(self):
        self.record = UP
        self.broken = None
        self.reads = self.saves = 0
        self.during_save = lambda: None

    def get_by_compute_host(self, context, host):
        assert host == 'compute1'
        assert context.is_admin
        self.reads += 1
        if self.broken == 'away':
            raise RuntimeError('no answer')
        if self.record is None:
            raise nova_exception.ComputeHostNotFound(host=host)
        disabled, reason, forced_down = self.record
        service = types.SimpleNamespace(
            disabled=disabled, disabled_reason=reason,
            forced_down=forced_down)
        service.save = lambda: self.save(service)
        return service

    def save(self, service):
        if self.broken == 'save':
            raise RuntimeError('no answer')
        self.saves += 1
        self.record = (service.disabled, service.disabled_reason,
                       service.forced_down)
        self.during_save()
        if self.broken == 'answer':
            raise RuntimeError('no answer')


class World:
    """A keeper, its thread's queue, and a clock."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self.nova = Conductor()
        monkeypatch.setattr(host_status, 'objects',
                            types.SimpleNamespace(Service=self.nova))
        self.background = background.Background('x', lambda: self.now)
        # what the keeper has said, and to whom
        self.said = []
        self.keeper = host_status.RecordKeeper(
            'compute1', self.background.submit,
            lambda settled: self.said.append(settled),
            lambda context, service: self.said.append(
                ('placement', service.disabled)))

    def run(self, seconds=0.0):
        """Let so much time pass, and do each job when it is due."""
        until = self.now + seconds
        while True:
            job, wait = self.background.next_job(self.now)
            if job is not None:
                self.background._do(*job)
            elif wait is None or self.now + wait > until:
                break
            else:
                self.now += wait
        self.now = until

    def begin(self, forced=False, action=NONE, text='', anew=False):
        number = self.keeper.begin(forced, action, text, anew)
        self.run()
        return number

    def wish(self, action, text=TEXT, anew=True):
        """Wish, and have it followed at once."""
        number = self.keeper.wish(action, text, anew)
        self.run()
        return number

    @property
    def settled(self):
        """What was settled last: number, record, forced."""
        (*_, last) = [each for each in self.said
                      if isinstance(each, Settled)]
        record = last.record and (last.record.disabled, last.record.reason,
                                  last.record.forced_down)
        return last.number, record, last.forced


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


# -- following ---------------------------------------------------------------

def test_says_how_the_record_is_at_the_start(world):
    world.nova.record = BY_OPERATOR
    assert world.begin() == 1
    assert world.said == [
        Settled(1, ServiceRecord(True, 'new fans', False), False)]
    assert world.nova.saves == 0


@pytest.mark.parametrize('before, action, after', [
    (UP, NONE, UP), (UP, DISABLE, BY_US), (UP, FORCE_DOWN, FORCED),
    (BY_NOVA, NONE, BY_NOVA), (BY_NOVA, DISABLE, BY_US),
    (BY_NOVA, FORCE_DOWN, FORCED),
    ((True, 'vmhealth: old', False), NONE, UP),
    ((True, 'vmhealth: old', False), DISABLE, BY_US),
    (BY_OPERATOR, DISABLE, BY_OPERATOR),
    (BY_OPERATOR, FORCE_DOWN, BY_OPERATOR),
])
def test_the_record_follows_a_wish(world, before, action, after):
    world.begin()
    world.nova.record = before
    assert world.wish(action) == 2
    assert world.nova.record == after
    assert world.settled == (2, after, after == FORCED)


def test_the_last_wish_holds(world):
    world.begin()
    world.keeper.wish(DISABLE, TEXT, True)
    world.keeper.wish(FORCE_DOWN, TEXT, False)
    world.run()
    assert world.settled == (3, FORCED, True)
    assert world.nova.saves == 1


def test_is_undone(world):
    world.begin()
    world.wish(FORCE_DOWN)
    world.wish(NONE, '', anew=False)
    assert world.nova.record == UP
    assert world.settled == (3, UP, False)


def test_what_is_as_it_should_be_is_not_written(world):
    world.begin()
    world.wish(DISABLE)
    world.wish(DISABLE)
    world.run(10 * LOOK_EVERY_S)
    assert world.nova.saves == 1


# -- others write it too -----------------------------------------------------

def test_an_operators_disable_survives_everything(world):
    world.nova.record = BY_OPERATOR
    world.begin(action=DISABLE, text=TEXT, anew=True)
    for action in (DISABLE, FORCE_DOWN, NONE, FORCE_DOWN):
        world.wish(action)
        world.run(2 * LOOK_EVERY_S)
        world.keeper.look()
        world.run()
        assert world.nova.record == BY_OPERATOR
    assert world.nova.saves == 0


def test_an_operator_who_disables_what_we_disabled_keeps_it(world):
    world.begin()
    world.wish(DISABLE)
    world.nova.record = BY_OPERATOR
    world.keeper.look()
    world.run()
    assert world.settled == (2, BY_OPERATOR, False)
    world.wish(NONE, '', anew=False)
    world.run(2 * LOOK_EVERY_S)
    assert world.nova.record == BY_OPERATOR


@pytest.mark.parametrize('before, after', [
    ((True, 'vmhealth-inspector: smoke', False), BY_US), (BY_OPERATOR, UP)])
def test_what_an_inspector_takes_back_is_no_word_of_an_operator(
        world, before, after):
    world.nova.record = before
    world.begin()
    world.wish(DISABLE)
    world.run(LOOK_AGAIN_S)
    assert world.nova.record == before
    world.nova.record = UP
    world.keeper.look()
    world.run(2 * LOOK_EVERY_S)
    assert world.nova.record == after


def test_an_operator_who_enables_while_it_is_wrong_is_not_overruled(world):
    world.begin()
    world.wish(DISABLE)
    world.nova.record = UP
    world.keeper.look()
    world.run(2 * LOOK_EVERY_S)
    world.wish(DISABLE, anew=False)     # another fault is over
    assert world.nova.record == UP
    world.wish(DISABLE, 'storage_fault: eio')       # but this is news
    assert world.nova.record == (True, 'vmhealth: storage_fault: eio', False)


def test_an_operator_who_lifts_a_forced_down_is_not_overruled(world):
    world.begin()
    world.wish(FORCE_DOWN)
    world.nova.record = BY_US
    world.run(2 * LOOK_EVERY_S)
    assert world.nova.record == BY_US
    assert world.settled == (2, BY_US, False)
    # What they force down later is theirs.
    world.nova.record = (True, OURS, True)
    world.wish(NONE, '', anew=False)
    assert world.nova.record == (False, None, True)


def test_what_nova_writes_at_the_same_time_is_taken_over_soon(world):
    world.begin()
    world.run(LOOK_AGAIN_S)
    # Nova has read the record before, and writes it after us.
    world.nova.during_save = lambda: setattr(world.nova, 'record', BY_NOVA)
    world.wish(DISABLE)
    world.nova.during_save = lambda: None
    assert world.nova.record == BY_NOVA
    world.run(LOOK_SOON_S)
    assert world.nova.record == BY_US
    # Nova may take longer.
    world.nova.record = BY_NOVA
    world.run(LOOK_AGAIN_S)
    assert world.nova.record == BY_US
    world.wish(NONE, '', anew=False)
    assert world.nova.record == UP


def test_what_others_write_is_seen_within_a_minute(world):
    world.begin()
    for record in (BY_OPERATOR, UP, BY_NOVA):
        world.nova.record = record
        world.run(LOOK_EVERY_S)
        assert world.settled == (1, record, False)


def test_nova_conductor_is_asked_no_more_often(world):
    world.begin()
    world.wish(DISABLE)
    world.run(LOOK_AGAIN_S)
    before = world.nova.reads
    world.run(10 * LOOK_EVERY_S)
    assert world.nova.reads == before + 10


def test_and_at_once_when_nova_says_so(world):
    world.begin()
    world.nova.record = BY_OPERATOR
    world.keeper.look()
    world.run()
    assert world.settled == (1, BY_OPERATOR, False)


def test_a_look_that_is_asked_for_while_one_runs_comes_at_once(world):
    world.begin()

    def operator_writes():
        world.nova.record = BY_OPERATOR
        world.keeper.look()

    world.nova.during_save = operator_writes
    world.wish(DISABLE)
    assert world.settled == (2, BY_OPERATOR, False)


# -- what was forced down ----------------------------------------------------

@pytest.mark.parametrize('forced, after', [
    (True, (False, None, False)),
    (False, (False, None, True)),      # somebody else did that
])
def test_what_an_earlier_run_forced_down_is_lifted(world, forced, after):
    world.nova.record = FORCED
    world.begin(forced=forced)
    assert world.nova.record == after
    assert world.settled == (1, after, False)


def test_less_than_forced_down_is_disabled(world):
    world.begin()
    world.wish(FORCE_DOWN)
    world.wish(DISABLE, anew=False)
    assert world.nova.record == BY_US
    assert world.settled == (3, BY_US, False)


# -- nova-conductor ----------------------------------------------------------

@pytest.mark.parametrize('broken', ['away', 'save', 'answer'])
def test_a_wish_is_followed_once_nova_conductor_is_back(world, broken):
    world.begin()
    world.nova.broken = broken
    number = world.wish(FORCE_DOWN)
    assert world.settled[0] == 1        # that it cannot be done is no answer
    world.nova.broken = None
    world.run(background.RETRY_S)
    assert world.settled == (number, FORCED, True)
    assert world.nova.record == FORCED
    world.wish(NONE, '', anew=False)
    assert world.nova.record == UP


def test_however_long_that_takes(world):
    world.begin()
    world.nova.broken = 'away'
    number = world.wish(DISABLE)
    world.run(20 * background.RETRY_S)
    assert world.settled[0] == 1
    world.nova.broken = None
    world.run(background.RETRY_S)
    assert world.settled == (number, BY_US, False)


@pytest.mark.parametrize('broken', ['away', 'save', 'answer'])
def test_and_so_is_the_end_of_it(world, broken):
    world.begin()
    world.wish(FORCE_DOWN)
    world.nova.broken = broken
    number = world.wish(NONE, '', anew=False)
    world.nova.broken = None
    world.run(background.RETRY_S)
    assert world.settled == (number, UP, False)
    assert world.nova.record == UP


def test_the_first_look_does_not_wait_a_minute_for_its_second_try(world):
    world.nova.broken = 'away'
    world.begin(action=DISABLE, text=TEXT, anew=True)
    assert world.said == []
    world.nova.broken = None
    world.run(background.RETRY_S)
    assert world.settled == (1, BY_US, False)


def test_a_wish_while_the_last_is_followed_is_followed_too(world):
    world.begin()

    def wish_more():
        world.nova.during_save = lambda: None
        world.keeper.wish(FORCE_DOWN, TEXT, True)

    world.nova.during_save = wish_more
    world.wish(DISABLE)
    assert [each.number for each in world.said
            if isinstance(each, Settled)] == [1, 2, 3]
    assert world.nova.record == FORCED


def test_a_job_that_comes_back_late_does_not_make_old_faults_new(world):
    world.begin()

    def another_thread_goes_on():
        world.nova.during_save = lambda: None
        world.keeper.wish(DISABLE, TEXT, True)
        world.run()
        world.nova.record = UP              # by an operator

    world.nova.during_save = another_thread_goes_on
    world.wish(DISABLE)
    world.run(2 * LOOK_EVERY_S)
    assert world.nova.record == UP


def test_a_host_that_nova_does_not_know_yet(world):
    world.nova.record = None
    world.begin(action=DISABLE, text=TEXT, anew=True)
    assert world.settled == (1, None, False)
    world.run(5 * LOOK_AGAIN_S)
    world.nova.record = UP              # Nova has written it
    world.run(LOOK_AGAIN_S)
    assert world.settled == (1, BY_US, False)
    # and from then on it is looked at as ever
    world.nova.record = BY_OPERATOR
    world.run(LOOK_EVERY_S)
    assert world.settled == (1, BY_OPERATOR, False)


# -- placement ---------------------------------------------------------------

def test_placement_is_told_after_the_answer(world):
    world.begin()
    world.said.clear()
    world.wish(DISABLE)
    assert world.said == [
        Settled(2, ServiceRecord(True, OURS, False), False),
        ('placement', True)]
    world.said.clear()
    world.wish(NONE, '', anew=False)
    assert world.said == [Settled(3, ServiceRecord(False, None, False), False),
                          ('placement', False)]


@pytest.mark.parametrize('before, action, after', [
    (BY_NOVA, DISABLE, BY_US), (BY_US, FORCE_DOWN, FORCED),
    (BY_OPERATOR, DISABLE, BY_OPERATOR),
])
def test_and_only_when_the_host_is_disabled_or_enabled(
        world, before, action, after):
    world.begin()
    world.nova.record = before
    world.wish(action)
    assert world.nova.record == after
    assert all(isinstance(each, Settled) for each in world.said)


def test_the_log_says_what_was_changed(world, caplog):
    world.begin()
    world.wish(DISABLE)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == ('The compute service record was changed: disabled = True, '
                    f"disabled_reason = '{OURS}'")
