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



"""What a consumer can tell from the sequence."""

import types

import pytest

from nova_vmhealth.notifications import gaps


def event(uuid, sequence):
    return types.SimpleNamespace(uuid=uuid, sequence=sequence)


@pytest.mark.parametrize('sequences, missed', [
    ([1, 2, 3], [0, 0, 0]),
    ([7, 8], [0, 0]),               # who comes late has missed nothing
    ([1, 3, 4, 8], [0, 1, 0, 3]),
    ([1, 1, 2], [0, 0, 0]),         # a repeat
    ([5, 1, 2, 4], [0, 0, 0, 1]),   # it began anew
    # on the host's behalf, who does not know its count
    ([0, 7, 0, 8, 0, 0, 10], [0, 0, 0, 0, 0, 0, 1]),
])
def test_of_one_instance(sequences, missed):
    subject = gaps.Gaps()
    assert [subject.missed(event('a', each)) for each in sequences] == missed


def test_each_instance_has_its_own():
    subject = gaps.Gaps()
    assert [subject.missed(event(*each)) for each in (
        ('a', 1), ('b', 5), ('a', 2), ('b', 7))] == [0, 0, 0, 1]


def test_who_was_quiet_for_longest_is_forgotten():
    subject = gaps.Gaps(most=2)
    for each in (('a', 1), ('b', 1), ('a', 2), ('c', 1)):
        subject.missed(event(*each))
    assert subject.missed(event('a', 4)) == 1
    assert subject.missed(event('b', 9)) == 0


def test_what_is_told_on_behalf_makes_nobody_forgotten():
    subject = gaps.Gaps(most=1)
    for each in (('a', 1), ('b', 0), ('c', 0)):
        subject.missed(event(*each))
    assert subject.missed(event('a', 4)) == 2
