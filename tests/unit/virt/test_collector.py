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



"""What the garbage collector is spared."""

import gc

import pytest

from nova_vmhealth.virt import collector


@pytest.fixture
def thawed(monkeypatch):
    monkeypatch.setattr(collector, '_spared', False)
    yield
    gc.unfreeze()


def test_what_is_there_is_spared_once(thawed):
    collector.spare()
    spared = gc.get_freeze_count()
    assert spared > 1000
    kept = [[] for _ in range(1000)]
    collector.spare()
    assert gc.get_freeze_count() <= spared
    assert len(kept) == 1000


def test_garbage_is_not_kept(thawed):
    class Knot:
        gone = 0

        def __del__(self):
            Knot.gone += 1

    knot = Knot()
    knot.itself = knot
    del knot
    collector.spare()
    assert Knot.gone == 1
