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


"""A short soak: everything restarts, and each fault is told once."""

import os

import pytest

from tests.soak import run

GUESTS, SECONDS, RESTART_EVERY_S = 60, 40, 4
SEED = 3


@pytest.mark.usefixtures('machine')
def test_soak(folder):
    said = []
    soak = run.Soak(os.path.join(folder, 'soak'), GUESTS, SECONDS,
                    RESTART_EVERY_S, SEED, said.append)
    told = '\n'.join(soak.run())
    assert not soak.world.tally.problems, '\n'.join([*said, told])
    # The machine's speed decides how many there are.
    assert sum(soak.world.tally.stories.values()) > GUESTS / 2, told
    assert sum(soak.world.tally.restarts.values()) >= 3, told
