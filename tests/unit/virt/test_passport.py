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

"""What an instance takes along, and when it is written and read."""

from nova.compute import task_states
from nova import context
from nova import objects
import pytest

from nova_vmhealth.core.session_table import Guest
from nova_vmhealth.virt import passport
from nova_vmhealth.virt.passport import Passport
from tests.unit.virt.fakes import UUID


def instance(task_state=None, **system_metadata):
    return objects.Instance(
        context.get_admin_context(), uuid=UUID, task_state=task_state,
        system_metadata=system_metadata)


class Worker:
    """Runs at once what it is given."""

    def __init__(self):
        self.told = []
        self.is_slow = False

    def call(self, function, timeout_s):
        return None if self.is_slow else function()

    def post(self, function):
        function()

    def tell(self, events):
        self.told += events


class Ledger:
    """Takes note of what it is asked."""

    def __init__(self):
        self.asked = []
        self.stands = Guest.BEATING

    def guest(self, uuid):
        # as after leave() nothing is known any more
        return Guest.WAITING if self.asked else self.stands

    def leave(self, uuid, now, wall):
        self.asked.append('leave')
        return ['cleared'], 7

    def defer(self, uuid):
        self.asked.append('defer')

    def adopt(self, uuid, sequence):
        self.asked.append(('adopt', sequence))
        return ['kept']


class Control:
    """A PassportControl among stand-ins."""

    def __init__(self):
        self.ledger, self.worker, self.heard = Ledger(), Worker(), []
        self.here = None
        self.control = passport.PassportControl(
            self.ledger, self, self, self.worker, 'compute1')
        self.before, self.after = self.control.before, self.control.after

    def get(self, uuid):
        return 'entry'

    def arrived(self, uuid, host):
        self.here = uuid, host

    def was_heard(self, uuid, entry):
        self.heard.append((uuid, entry))


@pytest.fixture
def control():
    return Control()


# -- its form ----------------------------------------------------------------

@pytest.mark.parametrize('given', [
    Passport(0, False), Passport(7, True), Passport(10 ** 18 - 1, False)])
def test_what_is_written_is_read(given):
    vm = instance()
    passport.write(vm, given)
    assert len(vm.system_metadata[passport.KEY]) < 255
    assert passport.read(vm) == given
    assert 'system_metadata' in vm.obj_what_changed()


@pytest.mark.parametrize('text', [
    '', 'v1', 'v2 7 1', 'v1 7 2', 'v1 -7 1', 'v1 7 1 1', 'v1 7 1\n',
    'v1 \u0667 1', 'v1 ' + '9' * 19 + ' 1'])
def test_what_is_none_is_not_read(text):
    assert passport.read(instance(**{passport.KEY: text})) is None


def test_numbers_do_not_go_back():
    vm = instance(**{passport.KEY: 'v1 9 1'})
    passport.write(vm, Passport(3, False))
    assert passport.read(vm) == Passport(9, False)


def test_nothing_is_loaded_for_it():
    vm = objects.Instance(uuid=UUID)
    passport.write(vm, Passport(7, True))
    assert passport.read(vm) is None
    assert 'system_metadata' not in vm


# -- where it leaves ---------------------------------------------------------

@pytest.mark.parametrize('operation, task_state, leaves', [
    ('post_live_migration', task_states.MIGRATING, True),
    ('migrate_disk_and_power_off', task_states.RESIZE_MIGRATING, True),
    ('destroy', task_states.SHELVING_OFFLOADING, True),
    ('destroy', task_states.SHELVING, True),
    ('destroy', task_states.RESIZE_REVERTING, True),
    ('destroy', task_states.DELETING, False),
    ('destroy', task_states.REBUILDING, False),
    ('destroy', None, False),
    ('power_off', task_states.SHELVING, False),
    ('live_migration', task_states.MIGRATING, False),
])
def test_who_leaves_gets_a_passport(control, operation, task_state, leaves):
    vm = instance(task_state)
    control.after(vm, operation)
    assert passport.read(vm) == (Passport(7, True) if leaves else None)
    assert control.worker.told == (['cleared'] if leaves else [])


@pytest.mark.parametrize('stands, heard', [
    (Guest.WAITING, False), (Guest.OVERDUE, False), (Guest.BEATING, True),
    (Guest.LOST, True), (Guest.EXITED, False)])
def test_a_guest_that_answered_is_known_as_such(control, stands, heard):
    control.ledger.stands = stands
    vm = instance()
    control.after(vm, 'post_live_migration')
    assert passport.read(vm).heard is heard


def test_nova_does_not_wait_for_long(control, caplog):
    control.worker.is_slow = True
    vm = instance()
    control.after(vm, 'post_live_migration')
    assert passport.read(vm) is None
    assert 'No passport after post_live_migration' in caplog.text


# -- where it comes to -------------------------------------------------------

def test_who_is_expected_is_waited_for(control):
    control.before(instance(**{passport.KEY: 'v1 3 1'}),
                   'pre_live_migration')
    assert control.ledger.asked == ['defer']


@pytest.mark.parametrize('operation', [
    'post_live_migration_at_destination', 'finish_migration',
    'finish_revert_migration', 'spawn'])
@pytest.mark.parametrize('text, sequence, heard', [
    ('v1 7 1', 7, True), ('v1 7 0', 7, False), ('', 0, False)])
def test_who_comes_shows_it(control, operation, text, sequence, heard):
    control.before(instance(**{passport.KEY: text}), operation)
    assert control.ledger.asked == [('adopt', sequence)]
    assert control.here == (UUID, 'compute1')
    assert control.worker.told == ['kept']
    assert control.heard == ([(UUID, 'entry')] if heard else [])


@pytest.mark.parametrize('operation', ['reboot', 'power_on', 'resume'])
def test_who_is_here_does_not(control, operation):
    control.before(instance(**{passport.KEY: 'v1 7 1'}), operation)
    assert control.ledger.asked == []
