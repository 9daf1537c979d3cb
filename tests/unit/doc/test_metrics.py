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

"""The list of metrics that operators see is the one that is served."""

import pathlib
import re

from nova_vmhealth.virt import metrics

PAGE = pathlib.Path(__file__).parents[3] / 'doc/source/admin/metrics.rst'


def test_every_metric_is_listed_and_no_other():
    served = {
        metric + ''.join('{%s="%s"}' % label for label in labels.items())
        for metric, labels, _text in metrics.METRICS.values()}
    listed = set(re.findall(r'``(vmhealth_[a-z_]+(?:\{[^}]*\})?)``',
                            PAGE.read_text()))
    assert listed == served
