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

"""Storage that fails: when it is at fault, and when it is well again."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_vmhealth.core import storage
from nova_vmhealth.core.storage import backend_of
from nova_vmhealth.core.storage import UNKNOWN
from nova_vmhealth import exception

NFS = 'nfs:nas:/export'
WINDOW_S, QUIET_S = 60.0, 20.0
PAUSED, REPORTED = True, False


def new_watch(instances=3):
    return storage.StorageWatch(instances, WINDOW_S, QUIET_S)


@pytest.fixture
def watch():
    return new_watch()


def fail(watch, uuids='abc', now=0.0, paused=PAUSED, backend=NFS):
    """Errors of several instances; what each of them said of the backend."""
    return [watch.failed(uuid, backend, paused, now) for uuid in uuids]


# -- at fault ----------------------------------------------------------------

@pytest.mark.parametrize('errors, at_fault', [
    # (instance, seconds)
    ([('a', 0), ('b', 0)], False),
    ([('a', 0), ('b', 0), ('c', 0)], True),
    ([('a', 0), ('a', 1), ('b', 2), ('b', 3), ('a', 4)], False),
    ([('a', 0), ('b', 30), ('c', 59)], True),
    ([('a', 0), ('b', 30), ('c', 60)], False),
    ([('a', 0), ('b', 30), ('c', 60), ('a', 89)], True),
    ([('a', 0), ('a', 50), ('b', 55), ('c', 109)], True),
])
@pytest.mark.parametrize('paused', [PAUSED, REPORTED])
def test_so_many_distinct_instances_within_the_window(
        watch, errors, at_fault, paused):
    said = [watch.failed(uuid, NFS, paused, now) for uuid, now in errors]
    assert said == [False] * (len(errors) - 1) + [at_fault]
    assert (watch.snapshot() is not None) is at_fault


def test_is_said_once(watch):
    assert fail(watch) == [False, False, True]
    assert fail(watch, 'abcd') == [False] * 4
    assert watch.failing(NFS) == list('abcd')


def test_each_backend_is_counted_by_itself(watch):
    assert fail(watch, 'ab') == [False, False]
    assert fail(watch, 'cd', backend='lvm:vg') == [False, False]
    assert fail(watch, 'c') == [True]
    assert fail(watch, 'e', backend='lvm:vg') == [True]
    assert watch.failing('lvm:vg') == list('cde')
    assert watch.failing('other') == []


@pytest.mark.parametrize('instances, said', [
    (0, [False] * 4), (1, [True, False, False, False]),
    (4, [False, False, False, True]),
])
def test_the_threshold_is_the_operators(instances, said):
    watch = new_watch(instances)
    assert fail(watch, 'abcd') == said
    assert watch.handle_timer(0.0) == []
    assert (watch.next_deadline() is None)


def test_keeps_so_many_failures(watch, monkeypatch):
    monkeypatch.setattr(storage, '_MAX_FAILURES', 4)
    fail(watch, 'abcdef')
    assert watch.failing(NFS) == list('abcd')


# -- well again --------------------------------------------------------------

def test_a_paused_instance_suffers_until_it_is_resumed(watch):
    fail(watch)
    assert watch.next_deadline() is None
    assert watch.handle_timer(1e6) == []
    watch.resumed('b')
    # Too few at once: there is nothing to wait for.
    assert watch.next_deadline() == -math.inf
    assert watch.handle_timer(1e6) == [NFS]
    assert watch.next_deadline() is None
    assert watch.handle_timer(1e6) == []
    assert watch.snapshot() is None
    # Two suffer still: another is a new fault, within the window.
    assert fail(watch, 'bac', now=1e6) == [False, False, True]


def test_an_error_that_was_reported_counts_for_a_quiet_time(watch):
    fail(watch, 'ab', paused=REPORTED)
    fail(watch, 'c', now=5.0, paused=REPORTED)
    assert watch.next_deadline() == QUIET_S
    watch.resumed('a')              # it was not paused for that
    fail(watch, 'a', now=10.0, paused=REPORTED)
    assert watch.handle_timer(QUIET_S - 0.1) == []
    assert watch.handle_timer(QUIET_S) == [NFS]
    assert watch.failing(NFS) == ['a', 'c']
    assert watch.next_deadline() == 5.0 + QUIET_S
    assert watch.handle_timer(99.0) == []
    assert watch.next_deadline() is None


def test_errors_under_way_when_it_was_paused_do_not_make_it_run(watch):
    fail(watch)
    fail(watch, now=1.0, paused=REPORTED)
    assert watch.handle_timer(1e6) == []
    assert watch.failing(NFS) == list('abc')


def test_an_instance_that_is_paused_later_suffers_until_it_is_resumed(watch):
    fail(watch, paused=REPORTED)
    fail(watch)
    assert watch.handle_timer(1e6) == []


def test_a_new_qemu_suffers_from_nothing(watch):
    fail(watch, 'ab')
    fail(watch, 'c', paused=REPORTED)
    for uuid in 'ac':
        watch.started(uuid)
    assert watch.handle_timer(0.0) == [NFS]
    assert watch.failing(NFS) == ['b']


def test_one_that_stopped_does_not_make_the_storage_well(watch):
    fail(watch)
    watch.stopped('a', 100.0)
    watch.stopped('x', 100.0)
    assert watch.next_deadline() == 100.0 + QUIET_S
    assert watch.handle_timer(100.0) == []
    assert watch.handle_timer(100.0 + QUIET_S) == [NFS]


def test_one_that_stopped_while_it_was_only_told_is_quiet_no_later(watch):
    fail(watch, paused=REPORTED)
    watch.stopped('a', 15.0)
    assert watch.handle_timer(QUIET_S) == [NFS]


def test_that_one_stops_is_no_error(watch):
    fail(watch, 'a')
    watch.stopped('a', WINDOW_S)
    assert fail(watch, 'bc', now=WINDOW_S) == [False, False]
    assert fail(watch, 'd', now=WINDOW_S) == [True]


def test_nor_is_a_restart(watch):
    fail(watch)
    other = again(watch)
    other.resumed('a')
    assert other.handle_timer(1000.0) == [NFS]
    assert fail(other, 'de', now=1000.0) == [False, False]
    assert fail(other, 'f', now=1000.0) == [True]


def test_an_instance_suffers_of_all_its_disks(watch):
    fail(watch)
    fail(watch, backend='lvm:vg')
    watch.resumed('a')
    watch.stopped('b', 1.0)
    assert sorted(watch.handle_timer(1.0)) == ['lvm:vg', NFS]


# -- over a restart ----------------------------------------------------------

def again(watch, instances=3, now=1000.0):
    """Another run's watch, with what this one has written down."""
    record = json.loads(json.dumps(watch.snapshot()))
    other = new_watch(instances)
    other.restore(record, now)
    return other


def test_what_is_at_fault_stays_so(watch):
    fail(watch, 'ab')
    fail(watch, 'c', paused=REPORTED)
    fail(watch, 'x', backend='lvm:vg')      # is not at fault
    other = again(watch)
    assert other.failing(NFS) == list('abc')
    assert other.failing('lvm:vg') == []
    assert fail(other, 'd') == [False]
    # Nobody listened: what goes by time has all of it again.
    assert other.next_deadline() == 1000.0 + QUIET_S
    assert other.handle_timer(1000.0 + QUIET_S) == []
    other.resumed('d')
    assert other.handle_timer(1000.0 + QUIET_S) == [NFS]


def test_what_had_become_well_is_well(watch):
    fail(watch)
    for uuid in 'abc':
        watch.resumed(uuid)
    other = again(watch)
    assert other.failing(NFS) == []
    assert other.next_deadline() == -math.inf
    assert other.handle_timer(1000.0) == [NFS]


@pytest.mark.parametrize('instances, well', [(2, []), (3, []), (4, [NFS])])
def test_the_threshold_may_be_another(watch, instances, well):
    fail(watch)
    assert again(watch, instances).handle_timer(1000.0) == well


def test_a_watch_that_is_turned_off_has_nothing_at_fault(watch):
    fail(watch)
    other = again(watch, instances=0)
    assert other.failing(NFS) == []
    assert other.snapshot() is None
    assert other.next_deadline() is None


@pytest.mark.parametrize('record', [
    None, [], 'x', 7, {NFS: []}, {NFS: None}, {NFS: {}, 'lvm:vg': ['a']},
])
def test_a_bad_record_changes_nothing(watch, record):
    fail(watch)
    with pytest.raises(exception.InvalidRecord):
        watch.restore(record, 1.0)
    assert watch.failing(NFS) == list('abc')


# -- whatever happens --------------------------------------------------------

instances = st.sampled_from('abcde')
operations = st.one_of(
    st.tuples(st.just('failed'), instances, st.sampled_from((NFS, 'lvm:vg')),
              st.booleans()),
    st.tuples(st.sampled_from(('resumed', 'started', 'stopped')), instances),
    st.tuples(st.just('restart')))
steps = st.lists(st.tuples(
    st.integers(0, 100).map(lambda quarters: quarters / 4), operations),
    max_size=60)


@given(steps, st.integers(1, 4))
def test_never_at_fault_with_fewer_and_always_over(story, fewest):
    watch, now, at_fault, errors = new_watch(fewest), 0.0, set(), []
    for pause, (name, *arguments) in story:
        now += pause
        if name == 'failed':
            uuid, backend, _paused = arguments
            errors.append((now, backend, uuid))
            if watch.failed(*arguments, now):
                recent = {uuid for at, where, uuid in errors
                          if where == backend and at > now - WINDOW_S}
                assert len(recent) >= fewest
                assert backend not in at_fault
                at_fault.add(backend)
        elif name == 'restart':
            if watch.snapshot() is not None:
                watch = again(watch, fewest, now)
        else:
            getattr(watch, name)(*arguments,
                                 *([now] if name == 'stopped' else []))
        well = watch.handle_timer(now)
        assert at_fault.issuperset(well)
        at_fault.difference_update(well)
        assert at_fault == set(watch.snapshot() or ())
        for backend in at_fault:
            assert len(watch.failing(backend)) >= fewest
        # What was due is done: nobody who waits for the next time spins.
        at = watch.next_deadline()
        assert at is None or at > now
    for uuid in 'abcde':
        watch.resumed(uuid)
    assert set(watch.handle_timer(now + QUIET_S)) == at_fault
    assert watch.next_deadline() is None
    assert not watch._failures      # nothing is kept for ever


# -- which storage -----------------------------------------------------------

MOUNTS = [
    ('/dev/sda1', '/', 'ext4'),
    ('/dev/sdb1', '/var/lib', 'xfs'),
    ('nas:/export', '/mnt/abc', 'nfs4'),
    ('nas:/export', '/mnt/def', 'nfs4'),
    ('tmpfs', '/run', 'tmpfs'),
    # an automounter's, and what it has mounted there
    ('systemd-1', '/srv', 'autofs'),
    ('nas:/srv', '/srv', 'nfs'),
]


@pytest.mark.parametrize('path, backend', [
    # files: the deepest mount that they are below
    ('/var/lib/nova/instances/x/disk', 'xfs:/var/lib'),
    ('/var/library/disk', 'ext4:/'),
    ('/disk', 'ext4:/'),
    ('/run/disk', 'tmpfs:/run'),
    # a network file system by what it is mounted from
    ('/mnt/abc/volume-1', 'nfs4:nas:/export'),
    ('/mnt/def/volume-2', 'nfs4:nas:/export'),
    # the last of several on one mount point
    ('/srv/volume-3', 'nfs:nas:/srv'),
    # devices
    ('/dev/vg/volume-1', 'lvm:vg'),
    ('/dev/rbd/volumes/volume-1', 'network:volumes'),
    ('/dev/rbd/volumes/namespace/volume-1', 'network:volumes'),
    ('/dev/disk/by-path/ip-10.0.0.1:3260-iscsi-iqn.2026:x-lun-1',
     'iscsi:10.0.0.1:3260'),
    ('/dev/disk/by-path/pci-0000:00:1f.2-ata-1', UNKNOWN),
    ('/dev/disk/by-id/dm-uuid-mpath-3600', UNKNOWN),
    ('/dev/disk/by-uuid', UNKNOWN),
    ('/dev/mapper/vg-volume', UNKNOWN),
    ('/dev/loop/0', UNKNOWN),
    ('/dev/dm-3', UNKNOWN),
    ('/dev/sda', UNKNOWN),
    ('/dev/rbd0', UNKNOWN),
    ('/dev/rbd/volume-1', UNKNOWN),
    ('/dev/', UNKNOWN),
    # network disks
    ('volumes/volume-1', 'network:volumes'),
    ('volumes/namespace/volume-1', 'network:volumes'),
    ('volume-1', UNKNOWN),
    ('', UNKNOWN),
])
def test_backend_of(path, backend):
    assert backend_of(path, iter(MOUNTS)) == backend


def test_nothing_is_known_of_a_file_when_nothing_is_known_to_be_mounted():
    assert backend_of('/var/lib/disk', []) == UNKNOWN
    assert backend_of('/dev/vg/volume', []) == 'lvm:vg'
