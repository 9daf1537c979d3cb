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


import itertools
import json

import pytest

from nova_vmhealth.core import host_page
from nova_vmhealth.core.vocabulary import HostCause
from nova_vmhealth.core.vocabulary import HostEvent
from nova_vmhealth.core.vocabulary import Severity
from nova_vmhealth.core.vocabulary import Transition
from nova_vmhealth import exception

LOST, MANY = HostCause.LIBVIRT_LOST, HostCause.MANY_GUESTS_LOST


@pytest.fixture
def page():
    numbers = itertools.count(1)
    return host_page.HostPage(lambda: 'id-%d' % next(numbers))


def raise_it(page):
    return page.number(page.raising(LOST, 4.0, 5.0, ['a', 'b'],
                                    {'reason': 'eof'}))


def test_raises_once_and_clears_once(page):
    event = raise_it(page)
    assert event == HostEvent(
        'id-1', 1, Transition.RAISED, LOST, Severity.CRITICAL, 4.0, 5.0,
        ('a', 'b'), {'reason': 'eof', 'host_event': 'id-1'}, 2)
    assert page.raising(LOST, 6.0, 6.0, [], {}) is None
    event = page.number(page.clearing(LOST, 9.0, ['a'], {}))
    assert (event.sequence, event.transition) == (2, Transition.CLEARED)
    assert event.details == {'host_event': 'id-1'}
    assert page.clearing(LOST, 9.0, [], {}) is None


def test_numbers_the_events_of_other_parts_among_its_own(page):
    raise_it(page)
    other = HostEvent('x', 1, Transition.RAISED, MANY, Severity.CRITICAL,
                      1.0, 1.0)
    assert page.number(other).sequence == 2
    assert page.raising(MANY, 6.0, 6.0, [], {}) is None


def test_names_so_many_instances_and_counts_all(page):
    event = page.raising(LOST, 1.0, 1.0, [str(n) for n in range(1500)], {})
    assert len(event.instance_uuids) == host_page.MAX_NAMED
    assert event.instance_count == 1500


def test_nothing_is_kept_before_there_is_something(page):
    assert page.snapshot() is None


def test_goes_on_after_a_restart(page):
    raise_it(page)
    record = json.loads(json.dumps(page.snapshot()))
    again = host_page.HostPage(lambda: 'id-9')
    again.restore(record)
    event = again.number(again.clearing(LOST, 9.0, [], {}))
    assert event.sequence == 2
    assert event.details == {'host_event': 'id-1'}


@pytest.mark.parametrize('record', [
    None, [], {}, {'sequence': 1}, {'sequence': '1', 'active': {}},
    {'sequence': True, 'active': {}}, {'sequence': -1, 'active': {}},
    {'sequence': 1, 'active': []},
])
def test_a_bad_record_changes_nothing(page, record):
    with pytest.raises(exception.InvalidRecord):
        page.restore(record)
    assert page.snapshot() is None


def test_what_only_a_later_release_knows_costs_nothing_else(page):
    page.restore({'sequence': 7, 'active': {'host_on_fire': 'id-6',
                                            'libvirt_lost': 'id-7'}})
    event = page.number(page.clearing(LOST, 9.0, [], {}))
    assert (event.sequence, event.details) == (8, {'host_event': 'id-7'})
    assert page.snapshot() == {'sequence': 8, 'active': {}}
