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

"""The compute driver: Nova's LibvirtDriver that also watches health."""

import nova.conf
from nova import context as nova_context
from nova import exception as nova_exception
from nova import rpc
from nova.virt.libvirt import driver
from nova.virt.libvirt import host
from nova.virt.libvirt import utils as libvirt_utils
from oslo_log import log as logging

from nova_vmhealth import conf
from nova_vmhealth import exception
from nova_vmhealth.notifications import database
from nova_vmhealth.notifications import delivery
from nova_vmhealth.notifications import publisher
from nova_vmhealth.virt import beacon
from nova_vmhealth.virt import channel
from nova_vmhealth.virt import collector
from nova_vmhealth.virt import host as health_host
from nova_vmhealth.virt import identity
from nova_vmhealth.virt import monitor
from nova_vmhealth.virt import native
from nova_vmhealth.virt import panic_device
from nova_vmhealth.virt import planned

LOG = logging.getLogger(__name__)
CONF = nova.conf.CONF

TRAIT = 'CUSTOM_VMHEALTH_HEARTBEAT'

conf.register_opts(CONF)


def _request_context(user_id, project_id):
    """Make the context of a notification: the instance's own project.

    Mistral and Ceilometer match on it. It never replaces the thread's
    current context.
    """
    return nova_context.RequestContext(
        user_id=user_id, project_id=project_id, overwrite=False)


@planned.planned_operations
class HealthLibvirtDriver(driver.LibvirtDriver):
    """LibvirtDriver that tells when an instance is not healthy.

    Set in nova.conf as ``compute_driver = vmhealth.HealthLibvirtDriver``.
    """

    # None until init_host(): whatever happens before is not ours to watch.
    vmhealth_monitor = None

    def __init__(self, virtapi, read_only=False):
        """See LibvirtDriver.

        :raises nova_vmhealth.exception.InvalidConfiguration: an option of
            [vmhealth] cannot be used; nova-compute does not start
        """
        conf.validate(CONF)
        super().__init__(virtapi, read_only)
        # Safe on Nova 31-34: all build the Host here and HealthHost adds no
        # state, while a second Host would mean a second event loop.
        if type(self._host) is host.Host:
            self._host.__class__ = health_host.HealthHost
            self._host.mend_lock()

    def init_host(self, host):
        # Safe on Nova 31-34: called once with the host's name before any
        # operation. The monitor stands before the first connection, so that
        # no event is missed, and works after it.
        self.vmhealth_monitor = self._new_monitor(host)
        super().init_host(host)
        for problem in conf.check_notifications(CONF):
            LOG.warning('No instance.health notification will be sent: %s',
                        problem)
        self.vmhealth_monitor.start()
        collector.spare()

    def _new_monitor(self, host):
        group = CONF[conf.GROUP]
        return monitor.HealthMonitor(
            self._host, host, group,
            identity.InstanceCache(conf.limits(CONF)),
            publisher.Publisher.configured(
                delivery.Delivery(
                    rpc.get_versioned_notifier(f'nova-compute:{host}'),
                    _request_context),
                database.path_of(CONF.state_path, host), group,
                new_thread=native.original('threading').Thread),
            self._update_compute_provider_status,
            beacon.sender(CONF, host, group.beacon_interval_ms))

    def cleanup_host(self, host):
        # Safe on Nova 31-34: called with the host's name when the service
        # stops.
        if self.vmhealth_monitor is not None:
            self.vmhealth_monitor.stop()
        super().cleanup_host(host)

    def emit_event(self, event):
        # Safe on Nova 31-34: the Host's only way to the driver. Called on
        # libvirt's event thread (native threads) or by the dispatching
        # greenthread (eventlet).
        if isinstance(event, health_host.ObservationEvent):
            if self.vmhealth_monitor is not None:
                self.vmhealth_monitor.observe(event.observation)
        elif isinstance(event, health_host.LogEvent):
            LOG.log(event.level, event.message)
        elif isinstance(event, health_host.RequestEvent):
            if self.vmhealth_monitor is not None:
                self.vmhealth_monitor.request(event.item)
        else:
            super().emit_event(event)

    def _set_qemu_guest_agent(self, guest, flavor, instance, image_meta):
        # Safe on Nova 31-34: same signature, called for QEMU and KVM only
        # whenever a guest's XML is made; puts our channel after the guest
        # agent's, which others take to be the first.
        super()._set_qemu_guest_agent(guest, flavor, instance, image_meta)
        policy = self._vmhealth_policy(flavor, instance)
        if policy.heartbeat:
            self._vmhealth_add_controller(guest, flavor, instance, image_meta)
            guest.add_device(channel.build(instance.name))
        if policy.panic_device:
            guest.add_device(
                panic_device.build(libvirt_utils.get_arch(image_meta)))

    def _vmhealth_add_controller(self, guest, flavor, instance, image_meta):
        # Nova 31-33 add the virtio-serial controller by hand where memory is
        # encrypted, as libvirt's own lacks the IOMMU driver, yet only with
        # the guest agent; Nova 34 has no such method and needs none.
        add = getattr(self, '_add_virtio_serial_controller', None)
        if add is None or any(
                getattr(device, 'type', None) == 'virtio-serial'
                for device in guest.devices):
            return
        encrypted = getattr(self, '_get_mem_encryption_config', None) \
            or self._sev_enabled        # its name in Nova 31
        if encrypted(flavor, image_meta):
            add(guest, instance)

    def _vmhealth_policy(self, flavor, instance):
        try:
            return identity.policy_of(instance, flavor, conf.limits(CONF))[0]
        except exception.InvalidPolicy as error:
            # Nova turns InvalidInput into an instance in ERROR at once,
            # without trying other hosts, and shows the text to the owner.
            raise nova_exception.InvalidInput(reason=str(error)) from error

    def set_host_enabled(self, enabled):
        # Safe on Nova 31-34: the compute manager calls it once an operator
        # has disabled or enabled the service by the API, and takes the
        # NotImplementedError that LibvirtDriver inherits for an answer.
        if self.vmhealth_monitor is not None:
            self.vmhealth_monitor.look_at_record()
        return super().set_host_enabled(enabled)

    def get_diagnostics(self, instance):
        # Safe on Nova 31-34: same signature, returns a dict of anything that
        # the API below microversion 2.48 passes through.
        found = super().get_diagnostics(instance)
        if self.vmhealth_monitor is not None:
            found.update(self.vmhealth_monitor.diagnostics(instance.uuid))
        return found

    def update_provider_tree(self, provider_tree, nodename, allocations=None):
        # Safe on Nova 31-34: same signature; traits that the driver adds here
        # are created in placement where they are custom.
        super().update_provider_tree(provider_tree, nodename,
                                     allocations=allocations)
        if CONF.libvirt.virt_type in ('kvm', 'qemu'):
            provider_tree.add_traits(nodename, TRAIT)
