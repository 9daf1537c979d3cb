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


"""A thread that comes late, and deadlines that do not count the time."""

import time

import pytest

from nova_vmhealth.guest import stall


@pytest.mark.parametrize('times, late', [
    ([], []),
    ([100.0], [0]),
    ([100.0, 101.0, 102.0], [0, 0, 0]),
    # A tick and what still counts as busy.
    ([100.0, 103.0, 106.0], [0, 0, 0]),
    ([100.0, 103.5, 104.5], [0, 2.5, 0]),
    ([100.0, 100.1, 3700.1], [0, 0, 3599]),
])
def test_lateness(times, late):
    punctuality = stall.Punctuality()

    assert [punctuality.came(now) for now in times] == pytest.approx(late)


@pytest.mark.parametrize('times, left', [
    ([10.0, 10.5, 11.0], [5.0, 4.5, 4.0]),
    ([10.0, 14.0, 16.0], [5.0, 4.0, 2.0]),
    ([10.0, 1011.0, 1015.0], [5.0, 4.0, 3.0]),
])
def test_a_deadline_waits_for_who_did_not_run(times, left):
    deadline = stall.Deadline(15.0)

    assert [deadline.left(now) for now in times] == pytest.approx(left)


def test_the_clock_counts_the_guests_sleep():
    assert stall.boottime() >= time.monotonic() - 1
