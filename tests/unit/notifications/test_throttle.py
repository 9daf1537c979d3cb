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

"""One pass in each period."""

import pytest

from nova_vmhealth.notifications import throttle


@pytest.mark.parametrize('asked_at, answers', [
    ([0], [True]),
    ([1000], [True]),
    ([0, 0, 59.9], [True, False, False]),
    ([0, 60, 61], [True, True, False]),
    # the period runs from the last pass, not from the last question
    ([0, 59, 60], [True, False, True]),
    ([0, 200, 259], [True, True, False]),
])
def test_one_pass_in_each_period(asked_at, answers):
    clock = iter(asked_at)
    gate = throttle.Throttle(60, clock=lambda: next(clock))
    assert [gate.ready() for _ in asked_at] == answers
