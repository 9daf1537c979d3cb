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

"""What people and programs read of a run."""

import io
import json

from nova_vmhealth.conformance.check import Check
from nova_vmhealth.conformance import output
from nova_vmhealth.conformance import suite
from nova_vmhealth.conformance.suite import Result
from nova_vmhealth.conformance.suite import Status
from nova_vmhealth.core import protocol

MUST = Check('must', 'it must', lambda host: None)
MAY = Check('may', 'it should', lambda host: None, required=False)
RESULTS = [
    Result(MUST, Status.FAILED, 'no answer', 1.25),
    Result(MAY, Status.WARNING, 'no word', 0.5),
    Result(MUST, Status.SKIPPED, 'not here', 0.0),
    Result(MAY, Status.UNMADE, 'the agent is lost', 0.0),
    Result(MUST, Status.OK, '', 0.1),
]

TEXT = """\
Guest heartbeat protocol, version 1, over thin air
must            FAILED    no answer
                (it must)
may             warning   no word
                (it should)
must            skipped   not here
may             not made  the agent is lost
must            ok
5 checks: 1 ok, 1 failed, 1 warning, 1 skipped, 1 not made
The agent does not conform.
"""


def test_text():
    stream = io.StringIO()
    progress = output.Progress(stream)
    progress.begin('thin air')
    for result in RESULTS:
        progress.starting(result.check)
        progress.done(result)
    progress.end(RESULTS)
    assert stream.getvalue() == TEXT


def test_text_of_an_agent_that_conforms():
    stream = io.StringIO()
    output.Progress(stream).end(RESULTS[1:3])
    assert stream.getvalue().endswith('\nThe agent conforms.\n')


def test_results_as_json():
    text = output.results_json(RESULTS, 'thin air', protocol.Init('a/1'))
    told = json.loads(text)
    checks = told.pop('checks')
    assert told == {'protocol': 1, 'conforms': False,
                    'transport': 'thin air', 'agent': 'a/1'}
    assert checks[0] == {
        'name': 'must', 'required': True, 'why': 'it must',
        'status': 'failed', 'detail': 'no answer', 'seconds': 1.25}
    assert len(checks) == len(RESULTS)


def test_results_as_json_without_init():
    told = json.loads(output.results_json(RESULTS[4:], 'thin air', None))
    assert told['agent'] is None
    assert told['conforms'] is True


def test_list():
    lines = output.list_text(suite.CHECKS).splitlines()
    assert len(lines) == len(suite.CHECKS)
    assert lines[0].split()[:2] == ['answers', 'required']
    assert lines[-1].split()[:2] == ['sigterm', 'recommended']


def test_list_as_json():
    assert json.loads(output.list_json([MUST, MAY])) == [
        {'name': 'must', 'required': True, 'why': 'it must'},
        {'name': 'may', 'required': False, 'why': 'it should'}]
