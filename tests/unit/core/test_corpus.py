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


"""The fuzzer's corpus, run again with both decoders."""

import collections

import pytest

from nova_vmhealth.core import decoding
from tests.fuzz import corpus
from tests.fuzz import harness

FILES = sorted(path for path in corpus.FOLDER.rglob('*') if path.is_file())
# A find may be a whole line too long, not more.
MOST_BYTES = 8192


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_nothing_breaks_a_rule(path, monkeypatch):
    content = path.read_bytes()
    assert len(content) <= MOST_BYTES
    for load in harness.LOADERS:
        monkeypatch.setattr(decoding, 'load', load)
        harness.HARNESSES[path.parent.name](content)


def test_what_is_made_from_the_tables_is_current():
    """Make it anew with ``python -m tests.fuzz.corpus``."""
    for kind, name, content in corpus.made():
        assert (corpus.FOLDER / kind / name).read_bytes() == content


def test_every_step_and_every_outcome_is_in_the_corpus():
    scripts = [path.read_bytes() for path in FILES
               if path.parent.name == 'sessions']
    taken = {step for script in scripts
             for step, _ in harness._steps(script[1:])}
    assert taken >= {*harness.STEPS, b'{', b'x'}
    counts = sum((harness.check_session(script).counts
                  for script in scripts), start=collections.Counter())
    assert {'Established', 'Lost', 'Missed', 'Unheard', 'NotEstablished',
            'AgentExited', 'HealthChanged', 'Complaint', 'nack', 'init_ack',
            'challenge'} <= set(counts)
