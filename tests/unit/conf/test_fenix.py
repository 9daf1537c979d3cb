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

"""The options about Fenix, as its source has what they stand for."""

from oslo_config import cfg
import pytest

from nova_vmhealth.conf import fenix


@pytest.fixture
def group():
    conf = cfg.ConfigOpts()
    conf.register_opts(fenix.OPTS, group='x')
    conf([])
    return conf.x


def test_listens_to_nobody_by_default(group):
    assert group.fenix_topics == []
    assert group.fenix_exchange == 'openstack'
    assert group.fenix_transport_url is None


@pytest.mark.parametrize('hours', ['0', '-1', '10000', 'x'])
def test_a_window_has_a_bound(hours, tmp_path):
    path = tmp_path / 'x.conf'
    path.write_text(f'[x]\nfenix_max_hours={hours}\n')
    conf = cfg.ConfigOpts()
    conf.register_opts(fenix.OPTS, group='x')
    conf([], default_config_files=[str(path)])
    with pytest.raises(ValueError):
        assert conf.x.fenix_max_hours
