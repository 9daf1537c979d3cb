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

"""A compute service's record: whose word it is, and what may be changed."""

import dataclasses
import itertools

import pytest

from nova_vmhealth.core import host_record
from nova_vmhealth.core.host_record import Owner
from nova_vmhealth.core.host_record import ServiceRecord
from nova_vmhealth.core.vocabulary import HostAction
from nova_vmhealth.core.vocabulary import HostStatus

NONE, DISABLE, FORCE_DOWN = HostAction
BOTH = (False, True)
TEXT = 'storage_fault (nfs:nas:/export): I/O errors of 3 instances'
OURS = 'vmhealth: ' + TEXT

REASONS = {
    Owner.NOBODY: None,
    Owner.NOVA: 'AUTO: Connection to libvirt lost: 1',
    Owner.DRIVER: 'vmhealth: libvirt_lost: no connection to libvirt: eof',
    Owner.INSPECTOR: 'vmhealth-inspector: host_down: no beacons',
    Owner.OPERATOR: 'new fans, ticket 4711',
}

# What becomes of ``disabled`` and its reason: None for nothing.
WRITTEN = {'disabled_reason': OURS}
UNDONE = {'disabled': False, 'disabled_reason': None}
ANEW = 'disabled, but only when something has gone wrong since'
DISABLING = {
    #                 NONE    DISABLE  FORCE_DOWN
    Owner.NOBODY:    (None,   ANEW,    ANEW),
    Owner.NOVA:      (None,   WRITTEN, WRITTEN),
    Owner.DRIVER:    (UNDONE, WRITTEN, WRITTEN),
    Owner.INSPECTOR: (None,   None,    None),
    Owner.OPERATOR:  (None,   None,    None),
}
EVERY = list(itertools.product(Owner, HostAction, BOTH, BOTH, BOTH))


def record(owner, forced_down=False):
    return ServiceRecord(owner is not Owner.NOBODY, REASONS[owner],
                         forced_down)


def after(before, made):
    """The record once a change is written."""
    names = {'disabled_reason': 'reason'}
    return dataclasses.replace(before, **{
        names.get(name, name): value for name, value in made.items()})


def expected(owner, wanted, forced_down, forced, anew):
    row = DISABLING[owner][list(HostAction).index(wanted)]
    if row is ANEW:
        row = {'disabled': True, **WRITTEN} if anew else None
    made = dict(row or {})
    may_force = owner in (Owner.NOBODY, Owner.NOVA, Owner.DRIVER)
    if wanted is FORCE_DOWN and anew and may_force and not forced_down:
        made['forced_down'] = True
    # What this driver has set it takes back, whoever has disabled the host
    # since; what somebody else has set, never.
    if wanted is not FORCE_DOWN and forced and forced_down:
        made['forced_down'] = False
    return made


@pytest.mark.parametrize('owner, wanted, forced_down, forced, anew', EVERY)
def test_what_is_changed(owner, wanted, forced_down, forced, anew):
    assert host_record.change(
        record(owner, forced_down), wanted, TEXT, forced, anew=anew
    ) == expected(owner, wanted, forced_down, forced, anew)


@pytest.mark.parametrize('reason', [
    'new fans', '', None, 'auto: not by Nova', 'AUTO', 'vmhealth',
    'vmhealth:without a blank', ' vmhealth: not at the beginning',
    'vmhealth-inspector:', 'VMHEALTH: loud',
])
def test_an_operators_word_is_never_touched(reason):
    for wanted, forced_down, forced, anew in itertools.product(
            HostAction, BOTH, BOTH, BOTH):
        theirs = ServiceRecord(True, reason, forced_down)
        assert theirs.owner is Owner.OPERATOR
        made = host_record.change(theirs, wanted, TEXT, forced, anew=anew)
        assert not made.keys() & {'disabled', 'disabled_reason'}
        assert made in ({}, {'forced_down': False})
        assert forced or not made


@pytest.mark.parametrize('owner, wanted, forced_down, forced, anew', EVERY)
def test_once_it_is_written_there_is_nothing_more_to_change(
        owner, wanted, forced_down, forced, anew):
    before = record(owner, forced_down)
    made = host_record.change(before, wanted, TEXT, forced, anew=anew)
    forced = made.get('forced_down', forced)
    again = after(before, made)
    assert host_record.change(again, wanted, TEXT, forced, anew=False) == {}
    if owner in (Owner.NOBODY, Owner.NOVA, Owner.DRIVER):
        assert host_record.change(
            again, wanted, TEXT, forced, anew=anew) == {}


def test_a_reason_that_holds_is_not_written_again():
    ours = ServiceRecord(True, OURS, False)
    assert host_record.change(ours, DISABLE, TEXT, False, anew=True) == {}
    assert host_record.change(ours, DISABLE, 'more', False, anew=False) == {
        'disabled_reason': 'vmhealth: more'}


def test_what_an_operator_has_enabled_or_lifted_stays_so():
    for wanted in HostAction:
        assert host_record.change(
            record(Owner.NOBODY), wanted, TEXT, True, anew=False) == {}
        assert 'forced_down' not in host_record.change(
            record(Owner.DRIVER), wanted, TEXT, True, anew=False)


def test_a_reason_is_as_long_as_nova_takes_it():
    long = 'x' * 300
    made = host_record.change(
        record(Owner.NOBODY), DISABLE, long, False, anew=True)
    written = made['disabled_reason']
    assert len(written) == 255
    assert written.startswith('vmhealth: xxx')
    assert host_record.change(
        ServiceRecord(True, written, False), DISABLE, long, False,
        anew=True) == {}


@pytest.mark.parametrize('owner', Owner)
def test_the_reason_says_who(owner):
    assert record(owner).owner is owner


def test_what_is_not_disabled_is_nobodys_whatever_the_reason_says():
    assert ServiceRecord(False, 'vmhealth: old', True).owner is Owner.NOBODY


@pytest.mark.parametrize('disabled, forced_down, status', [
    (False, False, HostStatus.UP),
    (True, False, HostStatus.MAINTENANCE),
    (False, True, HostStatus.DOWN),
    (True, True, HostStatus.DOWN),
])
def test_status_as_novas_api_has_it(disabled, forced_down, status):
    assert ServiceRecord(disabled, 'x', forced_down).status is status


def test_nova_does_not_take_our_prefixes_for_its_own():
    for prefix in (host_record.DRIVER_PREFIX, host_record.INSPECTOR_PREFIX):
        assert not prefix.startswith(host_record.NOVA_PREFIX)
    # nor is one of ours the other
    assert not host_record.INSPECTOR_PREFIX.startswith(
        host_record.DRIVER_PREFIX)
