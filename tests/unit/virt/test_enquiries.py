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

"""The questions to nova-conductor and libvirt, and their answers."""

import types

from nova import exception as nova_exception
import pytest

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import enquiries
from tests.unit.virt import fakes
from tests.unit.virt.fakes import OTHER
from tests.unit.virt.fakes import UUID


class Asked:
    def __init__(self):
        self.cache = fakes.Cache()
        self.cache.entries[UUID] = fakes.entry(UUID)
        self.conductor, self.libvirt = fakes.Background(), fakes.Background()
        self.answers = []
        self.probed = []
        self.away = False
        self.enquiries = enquiries.Enquiries(
            self.connect, 'compute1', self.cache, self.conductor.submit,
            self.libvirt.submit, self.answers.append)

    def connect(self):
        if self.away:
            raise nova_exception.HypervisorUnavailable()
        return types.SimpleNamespace(
            lookupByUUIDString=lambda uuid: types.SimpleNamespace(
                info=lambda: self.probed.append(uuid)))


@pytest.fixture
def asked():
    return Asked()


@pytest.mark.parametrize('found', [True, False])
def test_look_up(asked, found):
    if found:
        asked.cache.loadable[OTHER] = fakes.entry(OTHER)
    assert asked.enquiries.look_up(OTHER)
    asked.conductor.run()
    assert asked.answers == [enquiries.Looked(OTHER, found)]
    asked.conductor.full = True
    assert not asked.enquiries.look_up(OTHER)


def test_who_left_is_forgotten(asked):
    asked.enquiries.refresh_later(UUID)
    asked.conductor.run()
    (answer,) = asked.answers
    assert (answer.kind, answer.instance_uuid) == (Kind.FORGOTTEN, UUID)


def test_who_is_here_is_not(asked):
    asked.cache.loadable[UUID] = fakes.entry(UUID)
    asked.enquiries.refresh_later(UUID)
    asked.conductor.run()
    assert asked.answers == [] and not asked.conductor.jobs


def test_nobody_is_forgotten_while_nova_is_at_work(asked):
    asked.cache.busy = True
    asked.enquiries.refresh_later(UUID)
    asked.conductor.run()
    assert asked.answers == []
    assert list(asked.conductor.jobs) == [f'reading instance {UUID}']


def test_who_is_forgotten_already_is_not_asked_for(asked):
    asked.enquiries.refresh_later(OTHER)
    asked.enquiries.probe_later(OTHER)
    asked.conductor.run()
    asked.libvirt.run()
    assert asked.answers == [] and asked.probed == []


def test_a_control_error_ends_when_the_domain_answers(asked):
    asked.enquiries.probe_later(UUID)
    assert not asked.conductor.jobs
    asked.libvirt.run()
    (answer,) = asked.answers
    assert (answer.kind, answer.cause) == (Kind.RECOVERED,
                                           Cause.CONTROL_ERROR)
    assert asked.probed == [UUID]


def test_nothing_is_made_of_a_libvirt_that_is_away(asked):
    """Background would log each attempt."""
    asked.away = True
    asked.enquiries.probe_later(UUID)
    asked.libvirt.run()
    assert asked.answers == [] and asked.probed == []
    asked.away = False
    asked.libvirt.run()
    assert asked.probed == [UUID]
