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

"""A plugin of pytest that sums up what other runs of it have reported.

A full run of tools/test is several runs of pytest, on two releases of Nova and
partly side by side. Each leaves ``NAME.xml``, a JUnit report, and
``NAME.status``, its exit status; this plugin makes a test of every test in
them, which ends as that one did. A leg that failed in another way, or left no
report, is a failure too.
"""

import xml.etree.ElementTree as ElementTree

import pytest

NO_TEST_COLLECTED = 5
NO_REPORT = -1


class Leg(pytest.File):
    """One leg: its status file, with the report beside it."""

    def collect(self):
        status = int(self.path.read_text())
        report = self.path.with_suffix('.xml')
        failed = False
        cases = ()
        if report.exists():
            cases = ElementTree.parse(report).getroot().iter('testcase')
        elif not status:
            status = NO_REPORT
        for case in cases:
            item = Ended.from_parent(
                self, name='%s::%s' % (case.get('classname'),
                                       case.get('name')), case=case)
            failed = failed or item.trouble() is not None
            yield item
        # Nothing to do is no failure where the caller has selected tests.
        if status not in (0, NO_TEST_COLLECTED) and not failed:
            yield Broken.from_parent(self, name='status', status=status)


class Ended(pytest.Item):
    """A test that has ended elsewhere.

    :param case: its element in the report
    """

    def __init__(self, case, **kwargs):
        super().__init__(**kwargs)
        self._case = case

    def trouble(self):
        """The text of its failure or error; None for none."""
        for kind in ('failure', 'error'):
            found = self._case.find(kind)
            if found is not None:
                return found.text or found.get('message', kind)
        return None

    def runtest(self):
        skipped = self._case.find('skipped')
        if self.trouble() is not None:
            pytest.fail(self.trouble(), pytrace=False)
        if skipped is not None:
            pytest.skip(skipped.get('message', ''))

    def reportinfo(self):
        return self.path, None, '%s: %s' % (self.path.stem, self.name)


class Broken(pytest.Item):
    """A leg that ended badly without saying why in a test."""

    def __init__(self, status, **kwargs):
        super().__init__(**kwargs)
        self._status = status

    def runtest(self):
        pytest.fail('%s ended with %d' % (self.path.stem, self._status),
                    pytrace=False)

    def reportinfo(self):
        return self.path, None, self.path.stem


def pytest_collect_file(file_path, parent):
    if file_path.suffix == '.status':
        return Leg.from_parent(parent, path=file_path)
    return None
