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

"""Nova's API is asked now and then, and said of what has changed."""

import logging

import pytest

from nova_vmhealth import exception
from nova_vmhealth.inspector import warmth


class Api:
    fails = False

    def services(self):
        if self.fails:
            raise exception.NovaFailed(what='list', reason='it is away')
        return {'compute-1': object(), 'compute-2': object()}


@pytest.fixture
def api():
    return Api()


def test_only_what_has_changed_is_said(api, caplog):
    caplog.set_level(logging.INFO)
    told = []
    warm = warmth.Warmth(api, told.append)
    for fails in (True, True, False, False, True, False):
        api.fails = fails
        warm.ask()
    assert [(record.levelname, 'it is away' in record.getMessage())
            for record in caplog.records] == [
        ('ERROR', True), ('INFO', False), ('ERROR', True), ('INFO', False)]
    assert '2 compute services' in caplog.text
    assert told == [frozenset({'compute-1', 'compute-2'})] * 3


def test_it_ends(api):
    warm = warmth.Warmth(api, lambda hosts: warm.stop())
    warm._run()
