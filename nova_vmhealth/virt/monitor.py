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

"""Wires the parts: observations in, ledger, notifications out.

Everything that sees something, libvirt's event thread, the heartbeat's
thread, Nova's own threads, puts it into the worker's inbox and goes on; RPC
and libvirt calls are made by background threads, sending by the publisher's.
"""

import time

from oslo_utils import uuidutils

from nova_vmhealth.core import host_standing
from nova_vmhealth.core import ledger
from nova_vmhealth.core import maintenance
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.core.vocabulary import Observation
from nova_vmhealth.virt import answers
from nova_vmhealth.virt import arrivals
from nova_vmhealth.virt import background
from nova_vmhealth.virt import channel_trouble
from nova_vmhealth.virt import diagnostics
from nova_vmhealth.virt import enquiries
from nova_vmhealth.virt import guest_notices
from nova_vmhealth.virt import heartbeat
from nova_vmhealth.virt import host as host_lib
from nova_vmhealth.virt import host_faults
from nova_vmhealth.virt import host_status
from nova_vmhealth.virt import inbox
from nova_vmhealth.virt import libvirt_link
from nova_vmhealth.virt import losses
from nova_vmhealth.virt import metrics
from nova_vmhealth.virt import passport
from nova_vmhealth.virt import reconcile
from nova_vmhealth.virt import reconcile_jobs
from nova_vmhealth.virt import reporting
from nova_vmhealth.virt import saved_ledger
from nova_vmhealth.virt import steering
from nova_vmhealth.virt import stream_channel
from nova_vmhealth.virt import worker

# An API request waits for the worker so long at most, seconds: it takes some
# milliseconds even in a burst.
DIAGNOSTICS_S = 2.0


class HealthMonitor:
    """Health of all instances of one compute host.

    :param host: HealthHost
    :param compute_host: this host's name, as instances carry it
    :param options: the option group [vmhealth]
    :param cache: nova_vmhealth.virt.identity.InstanceCache
    :param publisher: nova_vmhealth.notifications.publisher.Publisher
    :param tell_placement: called with a context and Nova's Service when that
        was disabled or enabled
    :param beacon: nova_vmhealth.virt.beacon.BeaconSender
    """

    def __init__(self, host, compute_host, options, cache, publisher,
                 tell_placement, beacon):
        self._host = host
        self._cache = cache
        self._publisher = publisher
        self._beacon = beacon
        self._inbox = inbox.Inbox(options.event_queue_size)
        self._ledger = ledger.Ledger(
            ledger.Settings(update_interval_s=options.update_interval_s,
                            planned_grace_s=options.planned_grace_s,
                            io_error_quiet_s=options.io_error_quiet_s,
                            flap_flips=options.flap_flips,
                            flap_window_s=options.flap_window_s,
                            flap_quiet_s=options.flap_quiet_s),
            uuidutils.generate_uuid)
        self._standing = host_standing.HostStanding()
        # Apart from each other: a guest that hangs is acted upon while
        # nova-conductor is away, or while some other QEMU gives no answer.
        self._conductor = background.Background('vmhealth-conductor')
        self._libvirt = background.Background(
            'vmhealth-libvirt', stuck_s=background.STUCK_S)
        self._looks = background.Background(
            'vmhealth-looks', stuck_s=background.STUCK_S)
        # Apart from the looks, which ask QEMU: all the rest of libvirt is to
        # be heard of while one hangs.
        self._states = background.Background(
            'vmhealth-states', stuck_s=background.STUCK_S)
        self._openings = background.Background('vmhealth-openings')
        # Apart from the other RPC: it has a second, of which reading all
        # instances of a big host may take more.
        self._records = background.Background(
            'vmhealth-record', stuck_s=background.STUCK_S)
        self._backgrounds = (self._conductor, self._libvirt, self._looks,
                             self._states, self._openings, self._records)
        self._heartbeat = heartbeat.HeartbeatMonitor(
            self._deliver, log=self._log_from_native_thread,
            recover_beats=options.recover_beats,
            second_way=self._ask_for_second_way)
        self._saved = saved_ledger.SavedLedger(self._ledger, cache)
        self._steering = steering.Steering(self._heartbeat, self._saved)
        self._reporter = reporting.Reporter(
            publisher, compute_host, cache.get, self._heartbeat.status,
            self._standing)
        self._record = host_status.RecordKeeper(
            compute_host, self._records.submit, self._inbox.put,
            tell_placement)
        self._faults = host_faults.build(
            options, self._standing, self._record, cache, self._ledger,
            self._reporter.tell_host)
        self._notices = guest_notices.GuestNotices(
            self._heartbeat, self._steering, options.notice_timeout_ms)
        self._link = libvirt_link.LibvirtLink(
            host, self._faults, self._states.submit, self._inbox.put)
        self._enquiries = enquiries.Enquiries(
            self._link.get_connection, compute_host, cache,
            self._conductor.submit, self._libvirt.submit, self._inbox.put)
        self._arrivals = arrivals.Arrivals(self._enquiries.look_up)
        self._losses = losses.build(
            options, self._ledger, self._heartbeat, self._steering,
            self._link.get_connection, self._libvirt.submit,
            self._looks.submit,
            self.observe, self._faults.storm,
            wake=lambda: self._inbox.put(None))
        self._reconciler = reconcile.Reconciler(
            self._link, compute_host, cache, self._ledger, self._steering,
            self._last_seen_at, reconcile_jobs.Jobs(
                self._link, compute_host, cache, self._saved,
                self._conductor.submit, self._states.submit,
                self._looks.submit, self._inbox.put),
            options.reconcile_interval_s)
        self._streams = stream_channel.StreamChannels(
            self._link.get_connection, self._log_from_native_thread)
        self._trouble = channel_trouble.ChannelTrouble(
            self._openings.submit,
            self._streams.open if options.open_channel else None,
            self._heartbeat.offer)
        self._exporter = metrics.Exporter(
            options.metrics_port, options.metrics_address, self.statistics)
        self._serves_metrics = bool(options.metrics_port)
        self._worker = worker.Worker(
            worker.Parts(
                inbox=self._inbox, cache=cache, ledger=self._ledger,
                saved=self._saved, publisher=publisher,
                reporter=self._reporter, steering=self._steering,
                enquiries=self._enquiries, reconciler=self._reconciler,
                arrivals=self._arrivals, losses=self._losses,
                notices=self._notices, trouble=self._trouble,
                host_faults=self._faults, backgrounds=self._backgrounds),
            compute_host, options.planned_grace_s)
        self._server = answers.Server(compute_host, answers.Answers(
            compute_host, self._faults, self._standing, self._ledger.health,
            cache.uuids, self._worker.call))
        self._passports = passport.PassportControl(
            self._ledger, self._steering, cache, self._worker, compute_host)

    # -- called by the driver ------------------------------------------------

    def start(self):
        """Start the threads and look up what runs on this host.

        :raises nova_vmhealth.exception.InvalidConfiguration: the metrics
            cannot be served
        """
        if self._serves_metrics:
            self._exporter.start()
        self._publisher.start()
        self._saved.restore(self._publisher.saved_pages(), time.monotonic(),
                            time.time())
        self._faults.restore(self._saved, time.monotonic())
        self._heartbeat.start()
        for thread in self._backgrounds:
            thread.start()
        self._faults.begin(time.monotonic())
        self._worker.start()
        self._reconciler.start()
        self._server.start()
        self._beacon.start(
            lambda: maintenance.digest(self._standing.windows))

    def stop(self, timeout_s=5.0):
        """Stop the threads; one that hangs is left behind.

        All are told before any is waited for.

        :param timeout_s: longest wait for all of them together, seconds
        """
        until = time.monotonic() + timeout_s

        def left_s():
            return max(0.0, until - time.monotonic())

        self._exporter.stop()
        for thread in (self._server, self._heartbeat, *self._backgrounds):
            thread.stop(0.0)
        self._beacon.stop(left_s())
        # In this order: what one has seen last the next one writes down, and
        # who may wait for libvirt comes after all of them.
        self._heartbeat.stop(left_s())
        self._worker.stop(left_s())
        self._publisher.stop(left_s())
        self._streams.close(left_s())
        for thread in (self._server, *self._backgrounds):
            thread.stop(left_s())

    def statistics(self):
        """Return the counters of this host, all numbers, by name."""
        found = {
            **self._heartbeat.statistics(),
            'observations_waiting': self._inbox.depth,
            'observations_dropped': self._inbox.dropped,
            'beacons_sent': self._beacon.sent,
            'beacons_failed': self._beacon.failed,
            'host_faults': len(self._faults.view()),
            **self._publisher.statistics(),
        }
        found['notifications_failed'] += self._worker.given_up
        return found

    def observe(self, observation):
        """Take in an observation; returns at once, from any thread.

        :param observation: nova_vmhealth.core.vocabulary.Observation
        """
        self._inbox.put_observation(observation)

    def request(self, item):
        """Take in what a native thread asks for or tells; returns at once.

        :param item: what the worker's step() takes
        """
        self._inbox.put(item)

    def begin(self, instance, operation):
        """Nova begins to change an instance: what follows is no fault.

        It may wait for the guest, where the operator wants that.

        :param instance: nova.objects.Instance
        :param operation: name of the driver's method
        """
        # In this order: what is held is not forgotten, and what a guest does
        # because it was told is planned already.
        outermost = self._steering.hold(instance.uuid, operation)
        self._cache.put(instance)
        self._passports.before(instance, operation)
        self._inbox.put(Observation(
            Kind.PLANNED_BEGUN, instance.uuid, time.time(),
            details={'operation': operation}))
        self._steering.wait_for_action(instance.uuid)
        if outermost:
            self._notices.before(instance.uuid, operation)

    def end(self, instance, operation, succeeded):
        """Nova is done with what begin() announced.

        Whether the instance is still here only nova-conductor knows, once
        Nova has written down what it did.

        :param instance: nova.objects.Instance
        :param operation: name of the driver's method
        :param succeeded: whether it returned
        """
        details = {'operation': operation}
        if not succeeded:
            details['outcome'] = 'failed'
        self._inbox.put(Observation(
            Kind.PLANNED_ENDED, instance.uuid, time.time(), details=details))
        self._steering.release(instance.uuid, operation)
        if succeeded:
            self._notices.after(instance.uuid, operation)
            self._passports.after(instance, operation)
        self._enquiries.refresh_later(instance.uuid)

    def look_at_record(self):
        """An operator may have changed the compute service record."""
        self._record.look()

    def diagnostics(self, uuid):
        """Say how an instance is, for people; from Nova's own threads.

        :param uuid: the instance's
        :returns: name -> text or number; empty when there is no answer in time
        """
        return self._worker.call(
            lambda: diagnostics.of(self._ledger, uuid,
                                   self._heartbeat.status(uuid),
                                   self._standing.status),
            DIAGNOSTICS_S) or {}

    def _last_seen_at(self, uuid):
        status = self._heartbeat.status(uuid)
        return None if status is None else status.last_seen_at

    # -- called on native threads --------------------------------------------

    def _deliver(self, observation):
        self._host.queue_event(host_lib.ObservationEvent(observation))

    def _log_from_native_thread(self, level, message):
        self._host.queue_event(host_lib.LogEvent(level, message))

    def _ask_for_second_way(self, uuid, path, reason):
        self._host.queue_event(host_lib.RequestEvent(
            channel_trouble.Unreachable(uuid, time.time(), path, reason)))
