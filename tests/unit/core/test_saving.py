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

"""A ledger that is saved and restored goes on as one that was not."""

import dataclasses
import itertools
import json
import math

from hypothesis import given
from hypothesis import settings
import pytest

from nova_vmhealth.core import ledger
from nova_vmhealth.core import page
from nova_vmhealth.core import protocol
from nova_vmhealth.core import saving
from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Health
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth import exception
from tests.unit.core import story
from tests.unit.core.story import begun
from tests.unit.core.story import ended
from tests.unit.core.story import fault
from tests.unit.core.story import recovered
from tests.unit.core.story import saw
from tests.unit.core import test_ledger_properties as properties

EPOCH = story.EPOCH
# One run's monotonic clock has nothing to do with another's.
REBOOTED_S = 512.0


class Disk:
    """What an earlier run wrote down, as JSON."""

    def __init__(self):
        self.pages = {}

    def write(self, book, now, wall):
        """Keep what has changed; return of which instances."""
        changed = {}
        for uuid in book.touched():
            changed.update(book.changed(uuid, now, wall))
        for uuid, record in changed.items():
            if record is None:
                self.pages.pop(uuid, None)
            else:
                self.pages[uuid] = json.dumps(record)
        return set(changed)

    def read(self, book, now, wall):
        for uuid, text in self.pages.items():
            book.restore(uuid, json.loads(text), now, wall)


class Run(story.Story):
    """A story that goes on in another process."""

    def __init__(self, wanted=story.ALL, **settings):
        super().__init__(wanted, **settings)
        self.disk = Disk()
        self._settings = settings

    def save(self):
        return self.disk.write(self.ledger, self.now, EPOCH + self.now)

    def restart(self, away_s=0.0, wall_set_by_s=0.0, **settings):
        """Be killed after what is on disk, and start again.

        :param wall_set_by_s: by how much the wall clock was set meanwhile
        """
        self.save()
        self.ledger = ledger.Ledger(
            ledger.Settings(**{**self._settings, **settings}),
            ('again-%d' % n for n in itertools.count(1)).__next__)
        self.now += away_s
        self.disk.read(self.ledger, self.now,
                       EPOCH + self.now + wall_set_by_s)


@pytest.fixture
def run():
    return Run(planned_grace_s=10.0, flap_flips=0)


# -- as if there had been no restart ------------------------------------------

def _all_of(events):
    """What is told and when, but for ids, which are made anew."""
    return [(dataclasses.replace(event, event_id=''), at)
            for event, at in events]


def _without_counts(events):
    return [(event.instance_uuid, event.sequence, event.transition,
             event.cause, event.subject, event.health, event.previous_health,
             at) for event, at in events]


class Restarting:
    """A ledger that is written down and read again before each step.

    :param whole: whether all of it is, or only what has changed
    """

    def __init__(self, whole):
        self._whole = whole
        self._offset = 0.0
        self._disk = Disk()
        self.book = properties._ledger()

    def _anew(self, now):
        if self._whole:
            self.book.rewrite_all()
        self._disk.write(self.book, now + self._offset, EPOCH + now)
        self._offset += REBOOTED_S
        self.book = properties._ledger()
        self._disk.read(self.book, now + self._offset, EPOCH + now)

    def observe(self, obs, now, wall, wanted):
        self._anew(now)
        return self.book.observe(obs, now + self._offset, wall, wanted)

    def handle_timer(self, now, wall):
        self._anew(now)
        return self.book.handle_timer(now + self._offset, wall)

    def next_deadline(self):
        deadline = self.book.next_deadline()
        return None if deadline is None else deadline - self._offset

    def is_planned(self, uuid):
        return self.book.is_planned(uuid)


def _told(book, steps, left_out):
    """Run a story without some of it."""
    return properties._run(book, [
        (pause, None if obs is not None and left_out(obs) else obs)
        for pause, obs in steps])


def _of_an_operation(obs):
    return obs.kind in (Kind.PLANNED_BEGUN, Kind.PLANNED_ENDED)


def _of_what_begins_anew(obs):
    # When an error is over hangs on who was listening.
    return _of_an_operation(obs) or obs.cause is Cause.IO_ERROR


@settings(max_examples=100, deadline=None)
@given(properties.steps)
def test_a_restart_at_any_point_changes_nothing(steps):
    left_out = _of_what_begins_anew
    told = _all_of(_told(properties._ledger(), steps, left_out))
    assert told == _all_of(_told(Restarting(True), steps, left_out))


@settings(max_examples=100, deadline=None)
@given(properties.steps)
def test_what_is_not_written_down_at_once_is_a_count(steps):
    left_out = _of_what_begins_anew
    told = _without_counts(_told(properties._ledger(), steps, left_out))
    assert told == _without_counts(_told(Restarting(False), steps, left_out))


# What each of these restarts must not forget: what was seen before, what is
# seen after, and what is told of that.
REMEMBERED = {
    'what is raised': (
        [fault('watchdog_expired')], [saw('started')],
        ['cleared watchdog_expired']),
    'what is held': (
        [begun(), fault('not_running')], [ended()], []),
    'that the error had paused the guest': (
        [fault('io_error', 'vda', action='pause')], [story.RESUMED],
        ['cleared io_error vda']),
    'that it only reported one': (
        [fault('io_error', 'vda', action='report')], [story.RESUMED], []),
    'that it was resumed since': (
        [fault('watchdog_expired', action='none'), story.RESUMED],
        [story.BEATS], ['cleared watchdog_expired']),
    'that it is off': (
        [saw('stopped', reason='migrated')], [fault('heartbeat_lost')], []),
    'that it shut itself down': (
        [saw('shutdown_by_guest')], [story.SHUT_DOWN],
        ['raised guest_shutdown']),
    'that it was beating': (
        [story.BEATS], [saw('agent_disconnected', channel=story.CHANNEL)],
        ['raised agent_exited']),
    'that it crashed': (
        [fault('guest_crashed')], [story.SHUT_DOWN], []),
    'how unwell it is': (
        [fault('guest_degraded', 'db')], [fault('guest_unhealthy', 'db')],
        ['cleared guest_degraded db', 'raised guest_unhealthy db']),
}


@pytest.mark.parametrize('before,after,told', REMEMBERED.values(),
                         ids=REMEMBERED)
def test_a_restart_remembers(run, before, after, told):
    run.tell(*before)
    run.restart()
    assert run.tell(*after) == told


def test_the_sequence_goes_on_and_nothing_is_told_twice(run):
    run.tell(fault('io_error', 'vda'), fault('heartbeat_lost'))
    run.restart(away_s=5.0)
    assert run.wait(4.0) == []
    [event] = run.see(recovered('heartbeat_lost'))
    assert (event.sequence, event.previous_health, event.health) == (
        3, Health.UNHEALTHY, Health.UNHEALTHY)
    assert run.active() == ['io_error vda']


def test_an_update_that_was_due_is_told(run):
    run.tell(fault('io_error', 'vda'), fault('io_error', 'vda'))
    run.restart(away_s=5.0)
    assert run.wait(0) == ['updated io_error vda x2']


# -- what is over -------------------------------------------------------------

def test_an_operation_that_was_on_has_its_grace_left(run):
    run.tell(begun('reboot'))
    run.restart(away_s=100.0)
    assert run.ledger.is_planned('vm')
    # Nobody will end it, or it ends twice.
    assert run.tell(story.SHUT_DOWN, ended('reboot')) == []
    run.wait(10.0)
    assert not run.ledger.is_planned('vm')
    assert run.tell(story.STARTED, story.SHUT_DOWN) == [
        'raised stopped_unexpectedly']


def test_a_grace_goes_on(run):
    run.tell(begun(), ended())
    run.restart(away_s=4.0)
    assert run.ledger.is_planned('vm')
    run.wait(6.0)
    assert not run.ledger.is_planned('vm')


def test_one_that_is_over_meanwhile_is_over(run):
    run.tell(begun(), ended())
    run.restart(away_s=60.0)
    run.wait(0)
    assert run.tell(story.SHUT_DOWN) == ['raised stopped_unexpectedly']


# -- clocks -------------------------------------------------------------------

HOUR_S = 3600.0


@pytest.mark.parametrize('by_s', [-HOUR_S, HOUR_S])
def test_a_wall_clock_that_was_set_makes_nobody_wait_for_long(by_s):
    run = Run(flap_flips=2, flap_window_s=60.0, flap_quiet_s=60.0)
    for _ in range(3):
        run.tell(fault('heartbeat_lost'))
        run.wait(1.0)
        run.tell(story.BEATS)
    run.tell(fault('io_error', 'vda', action='report'), begun(), ended())
    assert set(run.active()) == {'flapping heartbeat', 'io_error vda'}
    run.restart(wall_set_by_s=by_s)
    # no longer than if it had begun at the restart
    run.wait(60.0)
    assert run.active() == []
    assert not run.ledger.is_planned('vm')


def test_what_has_happened_is_never_to_come():
    times = saving.Times(now=50.0, wall=1000.0)
    assert times.past(2000.0) == 50.0
    assert times.past(990.0) == 40.0
    assert times.past(None) == -math.inf
    assert times.until(2000.0, most_s=10.0) == 60.0
    assert times.until(990.0, most_s=10.0) == 40.0
    assert times.until(None, most_s=10.0) is None
    assert times.save(-math.inf) is times.save(None) is None
    assert times.save(40.0) == 990.0


@pytest.mark.parametrize('away_s', [1.0, HOUR_S])
def test_nobody_heard_whether_there_was_another_error(run, away_s):
    """One that did not pause the guest: it has all of its time again."""
    run.tell(fault('io_error', 'vda', action='report'))
    run.wait(50.0)
    run.restart(away_s=away_s)
    assert run.wait(59.0) == []
    assert run.wait(1.0) == ['cleared io_error vda']


def test_other_settings_hold_from_the_restart_on(run):
    run.tell(fault('io_error', 'vda', action='report'))
    run.restart(io_error_quiet_s=5.0)
    assert run.wait(5.0) == ['cleared io_error vda']


def test_what_flaps_ends_though_nothing_is_damped_any_more():
    run = Run(flap_flips=1, flap_quiet_s=20.0)
    for _ in range(2):
        run.tell(fault('heartbeat_lost'))
        run.wait(1.0)
        run.tell(story.BEATS)
    assert run.active() == ['flapping heartbeat']
    run.restart(flap_flips=0)
    assert run.wait(20.0) == ['cleared flapping heartbeat']


# -- what is written down, and when -------------------------------------------

QUIET = [saw('heartbeat_missed'), saw('heartbeat_unheard'),
         saw('agent_connected', channel=story.CHANNEL),
         recovered('io_error'), saw('planned_ended', operation='none')]


def test_what_changes_nothing_is_not_written_down(run):
    run.tell(story.BEATS)
    assert run.save() == {'vm'}
    for seen in QUIET:
        run.tell(seen)
        assert run.save() == set()


def test_a_burst_is_not_written_down_each_time(run):
    """Only that there is more to tell, and then what is told."""
    written = 0
    for _ in range(1000):
        run.tell(fault('io_error', 'vda'))
        written += len(run.save())
    assert written == 2
    assert run.wait(1.0) == ['updated io_error vda x1000']
    assert run.save() == {'vm'}
    run.restart()
    assert run.ledger.conditions('vm')[0].count == 1000


def test_what_is_forgotten_is_dropped(run):
    run.tell(fault('io_error', 'vda'))
    run.save()
    run.tell(saw('forgotten'))
    assert run.disk.pages and run.save() == {'vm'}
    assert run.disk.pages == {}


def test_a_restart_alone_writes_nothing(run):
    run.tell(story.BEATS, fault('io_error', 'vda'))
    run.restart()
    assert run.save() == set()


def test_a_guest_cannot_make_a_record_grow(run):
    """As many audits as there is room for, with the longest texts."""
    name, message = '\N{PILE OF POO}' * protocol.MAX_NAME, \
        '\N{PILE OF POO}' * protocol.MAX_MESSAGE
    for number in range(1000):
        run.tell(fault('guest_unhealthy', '%s%d' % (name[:-4], number),
                       message=message))
    assert len(run.active()) <= page.MAX_CONDITIONS
    run.save()
    record = json.loads(run.disk.pages['vm'])
    text = json.dumps(record, ensure_ascii=False).encode()
    assert len(text) < 128 * 1024


# -- how the heartbeat goes on ------------------------------------------------

STANDS = [
    ([], Guest.WAITING),
    ([story.BEATS], Guest.BEATING),
    ([story.BEATS, saw('heartbeat_unreachable')], Guest.BEATING),
    ([fault('heartbeat_not_established')], Guest.OVERDUE),
    ([fault('heartbeat_not_established'), story.BEATS], Guest.BEATING),
    ([story.BEATS, fault('heartbeat_lost')], Guest.LOST),
    ([story.BEATS, fault('heartbeat_lost'), story.BEATS], Guest.BEATING),
    ([story.BEATS, begun(), fault('heartbeat_lost')], Guest.LOST),
    ([story.BEATS, fault('agent_exited')], Guest.EXITED),
    ([story.BEATS, saw('agent_disconnected', channel=story.CHANNEL)],
     Guest.EXITED),
    ([story.BEATS, saw('agent_disconnected', channel='another')],
     Guest.BEATING),
    ([story.BEATS, saw('paused', reason='ioerror'), story.RESUMED],
     Guest.BEATING),
    ([story.BEATS, story.STARTED], Guest.WAITING),
    ([story.BEATS, story.REBOOTED], Guest.WAITING),
    ([story.BEATS, story.DESTROYED], Guest.WAITING),
]


@pytest.mark.parametrize('seen,guest', STANDS)
@pytest.mark.parametrize('wanted', [story.ALL, frozenset()])
def test_the_heartbeat_goes_on_where_it_was_left(seen, guest, wanted):
    """Whatever of it is told to the owner."""
    run = Run(wanted)
    run.tell(*seen)
    run.restart()
    assert run.ledger.guest('vm') is guest


REBOOTS = [
    ([story.REBOOTED], False),
    ([story.BEATS, story.REBOOTED], True),
    ([story.BEATS, fault('heartbeat_lost'), story.REBOOTED], True),
    ([story.BEATS, story.REBOOTED, story.REBOOTED], True),
    ([story.BEATS, begun(), story.REBOOTED], False),
    ([story.BEATS, begun('attach_volume'), story.REBOOTED], True),
    ([story.BEATS, begun('snapshot'), story.REBOOTED], True),
    ([story.BEATS, story.REBOOTED, story.BEATS], False),
    ([story.BEATS, story.REBOOTED, story.STARTED], False),
    ([story.BEATS, story.REBOOTED, story.DESTROYED], False),
]


@pytest.mark.parametrize('seen,rebooted', REBOOTS)
def test_a_guest_that_reboots_is_to_answer_again(run, seen, rebooted):
    run.tell(*seen)
    run.restart()
    assert run.ledger.rebooted('vm') is rebooted
    assert not run.ledger.rebooted('another')


SAVED = saw('stopped', reason='saved')
SAVES = [
    ([story.BEATS, SAVED], True),
    ([story.BEATS, fault('heartbeat_lost'), SAVED], True),
    # found again by a comparison
    ([story.BEATS, SAVED, SAVED], True),
    ([SAVED], False),
    ([story.BEATS, story.REBOOTED, SAVED], False),
    ([story.BEATS, story.DESTROYED], False),
    ([story.BEATS, SAVED, saw('started', reason='restored')], False),
    ([story.BEATS, SAVED, story.STARTED, SAVED], False),
    ([story.BEATS, SAVED, story.STARTED, story.BEATS, SAVED], True),
]


@pytest.mark.parametrize('seen,beat', SAVES)
def test_a_guest_that_beat_when_it_was_saved_is_known(run, seen, beat):
    run.tell(*seen)
    run.restart()
    assert run.ledger.beat_when_saved('vm') is beat
    assert not run.ledger.beat_when_saved('another')


def test_what_the_guest_said_is_known(run):
    run.tell(fault('guest_unhealthy', 'db'), fault('guest_degraded', 'disk'),
             fault('guest_degraded'), fault('io_error', 'vda'),
             fault('guest_unhealthy', 'net'),
             recovered('guest_unhealthy', 'net'))
    run.restart()
    assert run.ledger.said('vm') == {
        'db': Health.UNHEALTHY, 'disk': Health.DEGRADED, '': Health.DEGRADED}
    assert run.ledger.said('another') == {}
    assert run.ledger.guest('another') is Guest.WAITING


# -- bad records --------------------------------------------------------------

def _record():
    run = Run(flap_flips=1)
    run.tell(story.BEATS, begun())
    run.tell(ended())
    for _ in range(3):
        run.tell(fault('guest_degraded', 'db'))
        run.wait(1.0)
        run.tell(recovered('guest_degraded', 'db'))
        run.wait(10.0)
    run.save()
    return json.loads(run.disk.pages['vm'])


def _paths(value, path=()):
    """Yield the way to each value within."""
    items = []
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, each in items:
        yield path + (key,)
        yield from _paths(each, path + (key,))


def _put(record, path, value):
    *way, last = path
    for key in way:
        record = record[key]
    record[last] = value


@pytest.mark.parametrize('bad', [None, [], 'x', -1, math.nan, 10 ** 400, {},
                                 [None]])
def test_a_bad_record_is_refused_and_changes_nothing(bad):
    refused = 0
    for path in _paths(_record()):
        record = _record()
        _put(record, path, bad)
        run = Run()
        try:
            run.ledger.restore('vm', record, run.now, EPOCH)
        except exception.InvalidRecord:
            refused += 1
            assert run.ledger.guest('vm') is Guest.WAITING
            assert run.save() == set()
        else:
            # what is of the right type all the same does no harm
            run.wait(1000.0)
            run.tell(fault('io_error', 'vda'))
            run.restart()
    assert refused > 20


@pytest.mark.parametrize('record', [
    None, [], 'text', 7, {}, {'version': saving.VERSION},
    {**_record(), 'flapping': {}},
    {**_record(), 'flapping': {'heartbeat': 'heartbeat'}},
    {**_record(), 'sources': {}},
])
def test_a_foreign_record_is_refused(record, run):
    with pytest.raises(exception.InvalidRecord):
        run.ledger.restore('vm', record, run.now, EPOCH)


# -- another release ----------------------------------------------------------

def test_the_sequence_goes_on_whatever_the_form_of_the_rest(run):
    record = {'version': saving.VERSION + 1, 'sequence': 7, 'entries': 'new'}
    assert not run.ledger.restore('vm', record, run.now, EPOCH)
    assert run.active() == []
    [event] = run.see(fault('heartbeat_lost'))
    assert event.sequence == 8


def test_a_cause_that_is_not_known_is_left_out_alone(run):
    run.tell(fault('heartbeat_lost'), fault('io_error', 'vda'))
    run.save()
    record = json.loads(run.disk.pages['vm'])
    record['entries'].insert(0, {'cause': 'of another release', 'new': 1})
    again = Run()
    assert not again.ledger.restore('vm', record, again.now, EPOCH)
    assert again.active() == ['heartbeat_lost', 'io_error vda']
    [event] = again.see(fault('watchdog_expired'))
    assert event.sequence == 3


def test_a_record_of_before_a_field_is_read(run):
    run.tell(story.BEATS)
    run.save()
    record = json.loads(run.disk.pages['vm'])
    del record['beat_when_saved']
    assert Run().ledger.restore('vm', record, run.now, EPOCH)


# -- what the disk has lost ---------------------------------------------------

def test_all_is_written_again_where_it_is_asked_for(run):
    run.tell(story.BEATS)
    run.save()
    run.ledger.rewrite_all()
    assert run.save() == {'vm'}
    assert run.save() == set()


def test_a_page_of_which_no_record_can_be_made_is_tried_again(
        run, monkeypatch):
    run.tell(fault('heartbeat_lost'))
    with monkeypatch.context() as broken:
        broken.setattr(page.Page, 'save', None)
        with pytest.raises(TypeError):
            run.save()
    assert run.save() == {'vm'}
