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

"""The counters as Prometheus reads them."""

import socket
import sys
import urllib.request

import pytest

from nova_vmhealth import exception
from nova_vmhealth.virt import heartbeat
from nova_vmhealth.virt import metrics


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture
def exporters():
    made = []
    yield made
    for exporter in made:
        exporter.stop()


def scrape(port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open('http://127.0.0.1:%d/metrics' % port) as answer:
        return [line for line in answer.read().decode().splitlines()
                if not line.startswith('#')]


def test_what_is_served_is_what_is_now(port, exporters):
    numbers = {'lost': 1, 'connected_socket': 5, 'connected_libvirt': 2,
               'challenges': 7, 'unheard of': 1}
    exporter = metrics.Exporter(port, '127.0.0.1', lambda: numbers)
    exporters.append(exporter)
    exporter.start()
    assert scrape(port) == [
        'vmhealth_guests_lost 1.0',
        'vmhealth_channels_open{way="socket"} 5.0',
        'vmhealth_channels_open{way="libvirt"} 2.0',
        'vmhealth_challenges_total 7.0']
    numbers['lost'] = 0
    assert scrape(port)[0] == 'vmhealth_guests_lost 0.0'
    exporter.stop()
    with pytest.raises(OSError):
        scrape(port)


def test_every_statistic_of_the_heartbeat_has_a_metric():
    watch = heartbeat.HeartbeatMonitor(lambda observation: None)
    try:
        assert set(watch.statistics()) <= set(metrics.METRICS)
    finally:
        watch.stop(1)


def test_without_the_package(port, monkeypatch):
    monkeypatch.setitem(sys.modules, 'prometheus_client', None)
    with pytest.raises(exception.InvalidConfiguration,
                       match=r'metrics_port: .*nova-vmhealth\[metrics\]'):
        metrics.Exporter(port, '127.0.0.1', dict).start()


def test_port_in_use(port, exporters):
    for _ in range(2):
        exporters.append(metrics.Exporter(port, '127.0.0.1', dict))
    exporters[0].start()
    with pytest.raises(exception.InvalidConfiguration,
                       match='127.0.0.1 port %d' % port):
        exporters[1].start()
