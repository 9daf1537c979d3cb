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

"""Nova's configuration files, read without Nova."""

from oslo_config import cfg
import oslo_messaging
import pytest

from nova_vmhealth import configuration

BROKER = 'rabbit://guest:secret@broker:5672/'
OTHER = 'rabbit://guest:secret@other:5672/'


@pytest.mark.parametrize('texts, url', [
    ([], None),
    ([''], None),
    ([f'[DEFAULT]\ntransport_url={BROKER}'], BROKER),
    ([f'[oslo_messaging_notifications]\ntransport_url={OTHER}'], OTHER),
    ([f'[DEFAULT]\ntransport_url={BROKER}\n'
      f'[oslo_messaging_notifications]\ntransport_url={OTHER}'], OTHER),
    ([f'[DEFAULT]\ntransport_url={BROKER}',
      f'[DEFAULT]\ntransport_url={OTHER}'], OTHER),
])
def test_transport_url(texts, url, tmp_path):
    paths = []
    for number, text in enumerate(texts):
        paths.append(tmp_path / str(number))
        paths[-1].write_text(text)
    assert configuration.transport_url(configuration.load(paths)) == url


@pytest.mark.parametrize('text, url', [
    ('', None),
    (f'[DEFAULT]\ntransport_url={BROKER}', BROKER),
    (f'[oslo_messaging_notifications]\ntransport_url={OTHER}', None),
    (f'[DEFAULT]\ntransport_url={BROKER}\n'
     f'[oslo_messaging_notifications]\ntransport_url={OTHER}', BROKER),
])
def test_rpc_url(text, url, tmp_path):
    path = tmp_path / 'nova.conf'
    path.write_text(text)
    assert configuration.rpc_url(configuration.load([path])) == url


def test_defaults_are_those_of_nova():
    conf = configuration.load(None)
    assert conf.control_exchange == 'nova'
    assert conf.notifications.notification_format == 'unversioned'
    assert conf.notifications.versioned_notifications_topics == [
        'versioned_notifications']


def test_oslo_messaging_can_use_it():
    conf = configuration.load([])
    oslo_messaging.get_notification_transport(conf, url='fake://')
    assert conf.control_exchange == 'nova'


def test_a_file_that_is_not_there():
    with pytest.raises(cfg.ConfigFilesNotFoundError):
        configuration.load(['/nonexistent'])
