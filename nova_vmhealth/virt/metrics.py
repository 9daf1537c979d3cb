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

"""The counters of this host in Prometheus' text format, over HTTP.

``prometheus_client`` is asked for only where the operator wants it: it is no
dependency of a compute node that does not.
"""

from nova_vmhealth import exception

# Statistics -> metric, its labels, what it says. A name that ends in _total
# only grows. None of it names an instance: the number of series is fixed.
METRICS = {
    'watched': (
        'vmhealth_guests_watched', {},
        'Guests that asked for the heartbeat'),
    'established': (
        'vmhealth_guests_established', {},
        'Watched guests that have answered since they started'),
    'held': (
        'vmhealth_guests_held', {},
        'Watched guests that are not challenged, since they are paused or '
        'Nova is at work on them'),
    'lost': (
        'vmhealth_guests_lost', {},
        'Watched guests whose heartbeat is lost'),
    'exited': (
        'vmhealth_guests_exited', {},
        'Watched guests whose agent has exited'),
    'connected_socket': (
        'vmhealth_channels_open', {'way': 'socket'},
        'Heartbeat channels that are open, by the way they took'),
    'connected_libvirt': (
        'vmhealth_channels_open', {'way': 'libvirt'},
        'Heartbeat channels that are open, by the way they took'),
    'waiting': (
        'vmhealth_channels_closed', {},
        'Heartbeat channels that could not be opened yet'),
    'challenges': (
        'vmhealth_challenges_total', {},
        'Challenges sent to guests'),
    'reads': (
        'vmhealth_reads_total', {},
        'Reads of what guests wrote, about one for each answer'),
    'refused_lines': (
        'vmhealth_refused_lines_total', {},
        'Lines of guests that are no messages of the protocol'),
    'voided_rounds': (
        'vmhealth_voided_rounds_total', {},
        'Rounds in which a guest was not judged, since nova-compute got no '
        'processor'),
    'observations_waiting': (
        'vmhealth_observations_waiting', {},
        'Observations in the queue of the worker'),
    'observations_dropped': (
        'vmhealth_observations_dropped_total', {},
        'Repeated faults that found the queue of the worker full'),
    'notifications_waiting': (
        'vmhealth_notifications_waiting', {},
        'Events that wait for the broker'),
    'notifications_on_disk': (
        'vmhealth_outbox_on_disk', {},
        'Whether events that wait are on disk (1) or in memory only (0)'),
    'notifications_outage_s': (
        'vmhealth_broker_outage_seconds', {},
        'For how long the broker has taken no event; 0 while it does'),
    'notifications_sent': (
        'vmhealth_notifications_sent_total', {},
        'Events that the broker confirmed'),
    'notifications_failed': (
        'vmhealth_notifications_failed_total', {},
        'Events given up since they could not be sent'),
    'notifications_coalesced': (
        'vmhealth_notifications_coalesced_total', {},
        'Events dropped since too many waited, which a later one replaces'),
    **{f'notifications_dropped_{transition}': (
        'vmhealth_notifications_dropped_total', {'transition': transition},
        'Events dropped since too many waited for the broker')
       for transition in ('raised', 'updated', 'cleared')},
    'beacons_sent': (
        'vmhealth_beacons_total', {'result': 'sent'},
        'Beacons that this host tells the inspectors with that it lives'),
    'beacons_failed': (
        'vmhealth_beacons_total', {'result': 'failed'},
        'Beacons that this host tells the inspectors with that it lives'),
    'host_faults': (
        'vmhealth_host_faults', {},
        'Faults of the host itself that hold now'),
}


class Exporter:
    """Serves the statistics as they are when asked for.

    :param port: TCP port
    :param address: IP address or name to listen on
    :param statistics: called without arguments on a thread of its own,
        returns a mapping of the names in METRICS to numbers; others are left
        out
    """

    def __init__(self, port, address, statistics):
        self._port = port
        self._address = address
        self._statistics = statistics
        self._server = self._thread = None

    def start(self):
        """Listen.

        :raises nova_vmhealth.exception.InvalidConfiguration: the package
            prometheus_client is missing, or the address cannot be listened on
        """
        try:
            import prometheus_client as client
            from prometheus_client import core as families
        except ImportError as error:
            raise exception.InvalidConfiguration(
                option='metrics_port', reason='the Python package '
                'prometheus_client is missing; install nova-vmhealth[metrics] '
                'or set the option to 0') from error
        registry = client.CollectorRegistry()
        registry.register(_Collector(self._statistics, families))
        try:
            self._server, self._thread = client.start_http_server(
                self._port, self._address, registry)
        except OSError as error:
            raise exception.InvalidConfiguration(
                option='metrics_port', reason='cannot listen on %s port %d: %s'
                % (self._address, self._port, error)) from error

    def stop(self):
        """Listen no more; nothing happens when it does not."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None


class _Collector:
    """What prometheus_client asks for the metrics, once for each scrape."""

    def __init__(self, statistics, families):
        self._statistics = statistics
        self._families = families

    def collect(self):
        """Return the metric families, made of the statistics as of now."""
        found = {}
        for name, value in self._statistics().items():
            if name not in METRICS:
                continue
            metric, labels, text = METRICS[name]
            if metric not in found:
                family = (self._families.CounterMetricFamily
                          if metric.endswith('_total')
                          else self._families.GaugeMetricFamily)
                found[metric] = family(metric, text, labels=list(labels))
            found[metric].add_metric(list(labels.values()), value)
        return found.values()
