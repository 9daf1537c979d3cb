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

"""The inspector as a whole: its parts, and what joins them."""

import fcntl
import gc
import os
import threading
import time
from urllib import parse

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_vmhealth import broker
from nova_vmhealth.conf import inspector as options_lib
from nova_vmhealth import configuration
from nova_vmhealth.core import checks as checks_lib
from nova_vmhealth.core import fleet
from nova_vmhealth.core import fleet_words
from nova_vmhealth.core import replica
from nova_vmhealth import exception
from nova_vmhealth.inspector import acting
from nova_vmhealth.inspector import aftermath
from nova_vmhealth.inspector import cases
from nova_vmhealth.inspector import checks
from nova_vmhealth.inspector import courier
from nova_vmhealth.inspector import crew
from nova_vmhealth.inspector import desk
from nova_vmhealth.inspector import endpoint
from nova_vmhealth.inspector import fenix
from nova_vmhealth.inspector import footing
from nova_vmhealth.inspector import herald
from nova_vmhealth.inspector import inbox
from nova_vmhealth.inspector import keeping
from nova_vmhealth.inspector import locks
from nova_vmhealth.inspector import loop
from nova_vmhealth.inspector import maintenance
from nova_vmhealth.inspector import marks
from nova_vmhealth.inspector import nova_api
from nova_vmhealth.inspector import reports
from nova_vmhealth.inspector import voice
from nova_vmhealth.inspector import warmth
from nova_vmhealth.notifications import standalone

LOG = logging.getLogger(__name__)

# At a time: hosts that are acted upon, other jobs about hosts, checks, lists
# of servers, windows whose projects are looked up, servers that are reset.
_ACTORS = 16
_FOLLOWERS = 16
_CHECKS = 64
_LISTS = 16
_ENQUIRIES = 8
_RESETS = 4
# Longest waits at the end, seconds, for each of some threads.
_STOP_S = 2.0
_PUBLISHER = 'nova-vmhealth-inspector'


class Inspector:
    """One inspector; it does nothing until it is started.

    :param conf: what nova_vmhealth.configuration.load() gives, with the
        options of [vmhealth_inspector], validated
    :raises nova_vmhealth.exception.BrokerUnreachable: conf names no broker
    """

    def __init__(self, conf):
        self._conf = conf
        self._options = conf[options_lib.GROUP]
        self._name = options_lib.name_of(self._options)
        self._url = configuration.rpc_url(conf)
        if self._url is None:
            raise exception.BrokerUnreachable(
                'No message broker: set [DEFAULT]transport_url')
        self._lock_file = None
        self._build_core()
        self._build_means()
        self._build_loop()
        self._build_doors()

    def start(self):
        """Begin; returns at once, whether the broker is there or not.

        :raises nova_vmhealth.exception.InvalidConfiguration: another
            inspector on this machine has the same name
        """
        self._lock_name()
        self._publisher.start()
        self._keeping.restore(self._publisher.saved_pages(), time.time())
        self._voice.start()
        self._loop.start()
        self._warmth.start()
        # oslo.messaging tries until there is a broker.
        threading.Thread(
            target=endpoint.start, args=(self._server,), daemon=True,
            name='vmhealth-server-start').start()
        if self._fenix is not None:
            self._fenix.start()
        # What is there now stays: it need not be looked through again and
        # again, which would stop the loop for a while.
        gc.freeze()
        LOG.info('Inspector %(name)s watches by %(broker)s',
                 {'name': self._name, 'broker': broker.shown(
                     self._transport._driver._url)})

    def stop(self):
        """End, within some seconds; what was told is on disk or sent."""
        self._warmth.stop()
        _within(_STOP_S, self._server.stop)
        if self._fenix is not None:
            _within(_STOP_S, self._fenix.stop)
        self._loop.stop(_STOP_S)
        self._voice.stop(_STOP_S)
        self._publisher.stop(_STOP_S)
        _within(_STOP_S, self._locks.close)

    # -- the parts -----------------------------------------------------------

    def _build_core(self):
        """What is known."""
        options = self._options
        self._incarnation = uuidutils.generate_uuid(dashed=False)
        self._watch = fleet.BeaconWatch(
            fleet_words.Settings(
                misses=options.beacon_misses,
                recover_beacons=options.recover_beacons,
                grace_s=options.grace_s, percent=options.max_down_percent,
                window_s=options.max_down_window_s),
            self._name, self._incarnation, options.beacon_interval_ms / 1000)
        self._replica = replica.Replica(self._name)
        self._marks = marks.Marks(self._replica)

    def _build_means(self):
        """What is done with it, and by whom."""
        options = self._options
        self._api = nova_api.NovaApi(options.cloud, options.api_timeout_s)
        self._warmth = warmth.Warmth(self._api, self._census)
        self._locks = locks.Locks(
            options_lib.coordination_url_of(options), self._name)
        self._resets = crew.Crew('vmhealth-reset', _RESETS)
        self._lists = crew.Crew('vmhealth-list', _LISTS)
        self._voice = voice.Voice(self._connect, self._name)
        self._publisher = standalone.new_publisher(
            self._conf, f'{_PUBLISHER}:{self._name}', options.state_path,
            transport_url=configuration.transport_url(self._conf))
        self._keeper = maintenance.MaintenanceKeeper(
            self._replica, self._publisher.submit_maintenance,
            self._api.servers_of,
            crew.Crew('vmhealth-enquiry', _ENQUIRIES).submit,
            self._locks.hold)

    def _build_loop(self):
        """What holds it."""
        options = self._options
        wanted = [checks_lib.parse(text) for text in options.checks]
        quorum = any(check.kind is checks_lib.Kind.QUORUM for check in wanted)
        self._inbox = inbox.Inbox()
        self._keeping = keeping.Keeping(
            self._replica, self._marks, self._watch, self._voice, self._name)
        self._footing = footing.Footing(
            desk.Desk(self._name, self._watch, self._marks, self._keeper,
                      self._publisher), self._on_loop, self._locks)
        self._herald = herald.Herald(self._footing, self._api, self._lists,
                                     self._reset)
        after = aftermath.Aftermath(self._footing, self._api, self._herald,
                                    options.unforce)
        actor = acting.Actor(
            acting.Wishes(
                misses=options.beacon_misses, quorum=quorum,
                check_interval_s=options.check_interval_s),
            self._name, self._footing, self._api,
            checks.Checks(wanted, crew.Crew('vmhealth-check', _CHECKS),
                          options.check_timeout_s, self._address_of),
            self._herald, after.forget)
        self._cases = cases.Cases(
            self._name, self._watch, self._marks, actor, after, quorum,
            self._posting(crew.Crew('vmhealth-actor', _ACTORS)),
            self._posting(crew.Crew('vmhealth-aftermath', _FOLLOWERS)),
            self._is_idle)
        self._loop = loop.Loop(
            loop.Parts(
                inbox=self._inbox, watch=self._watch, kept=self._replica,
                keeping=self._keeping, keeper=self._keeper,
                courier=courier.WindowCourier(
                    self._keeper, self._voice.set_windows),
                cases=self._cases,
                voice=self._voice, publisher=self._publisher),
            self._name, self._incarnation, options.beacon_interval_ms)

    def _build_doors(self):
        """What others reach it by."""
        windows = reports.WindowCalls(self._keeper, self._on_loop)
        answers = reports.Reports(self._footing, self._api, self._herald,
                                  windows)
        self._transport = self._connect()
        self._server = endpoint.new_server(
            self._transport, self._name,
            endpoint.Endpoint(self._inbox, answers, windows))
        self._fenix = None
        if self._options.fenix_topics:
            self._fenix = fenix.FenixListener(
                self._conf, self._options, windows.begin, windows.end,
                transport_url=configuration.transport_url(self._conf))

    # -- what joins them -----------------------------------------------------

    def _connect(self):
        return broker.rpc_transport(self._conf, self._url)

    def _on_loop(self, function):
        return self._loop.call(function)

    def _posting(self, workers):
        """Make what has a job done, and its result looked at on the loop."""
        def submit(job, done):
            def work():
                result = job()
                self._loop.post(lambda: done(result))
            return workers.submit(work) is not None
        return submit

    def _reset(self, instances):
        if not self._options.reset_state:
            return
        for each in instances:
            self._resets.submit(lambda uuid=each.uuid: self._reset_one(uuid))

    def _reset_one(self, uuid):
        try:
            self._api.reset_state(uuid)
        except exception.NovaFailed as error:
            LOG.error('%s', error)

    def _census(self, hosts):
        self._loop.post(lambda: self._cases.census(hosts))

    def _is_idle(self):
        return not (self._publisher.is_behind or
                    self._publisher.statistics()['notifications_waiting'])

    def _address_of(self, host):
        address = self._options.check_addresses.get(host)
        return address or self._options.check_address % {'host': host}

    def _lock_name(self):
        """See to it that there is one of this name on this machine."""
        folder = os.path.join(self._options.state_path, 'vmhealth')
        path = os.path.join(
            folder, parse.quote(self._name, safe='') + '.lock')
        try:
            os.makedirs(folder, exist_ok=True)
            self._lock_file = open(path, 'w')
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise options_lib.invalid(
                'name', f'another inspector on this machine is called '
                        f'{self._name} too') from None
        except OSError as error:
            raise options_lib.invalid('state_path', str(error)) from error


def _within(seconds, function):
    """Call what may wait for ever, and do not wait for ever."""
    def call():
        try:
            function()
        # The process ends, whatever a library meets on its way out.
        except Exception as error:
            LOG.debug('At the end: %s', error)
    thread = threading.Thread(target=call, daemon=True,
                              name='vmhealth-stop')
    thread.start()
    thread.join(seconds)
