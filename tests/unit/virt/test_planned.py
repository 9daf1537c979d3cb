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

"""The wrapper of the driver's methods tells the monitor, and nothing else."""

import inspect
import types

from nova.virt.libvirt import driver as libvirt_driver
import pytest

from nova_vmhealth.virt import planned

# What else of LibvirtDriver, and of its base class, takes an instance on any
# release, and why it is no operation.
CHANGES_NO_DOMAIN = frozenset({
    # looks only
    'block_stats', 'check_can_live_migrate_destination',
    'check_can_live_migrate_source', 'check_instance_shared_storage_local',
    'default_device_names_for_instance', 'default_root_device_name',
    'get_console_output', 'get_device_name_for_instance', 'get_diagnostics',
    'get_info', 'get_instance_diagnostics', 'get_instance_disk_info',
    'get_instance_driver_metadata', 'get_mks_console', 'get_serial_console',
    'get_spice_console', 'get_vnc_console', 'get_volume_connector',
    'instance_exists', 'instance_on_disk', 'network_binding_host_id',
    # decides on a migration, or writes what was decided into its record
    'check_source_migrate_data_at_dest', 'post_claim_migrate_data',
    # the host's files, interfaces and file systems
    'cleanup_lingering_instance_resources', 'delete_instance_files',
    'manage_image_cache', 'mount_share', 'plug_vifs', 'umount_share',
    'unplug_vifs',
    # a guest is asked by its agent, and goes on
    'set_admin_password',
    # does nothing: the waiting is part of reboot
    'poll_rebooting_instances',
    # checks, and takes note of what libvirt does not know, before anything
    # else is done
    'process_instances_at_startup',
    # not libvirt's: the base class passes or refuses. Nova rebuilds with
    # destroy and spawn, and keeps a server that is deleted softly off.
    'clean_networks_preparation', 'failed_spawn_cleanup',
    'inject_network_info', 'power_update_event', 'prepare_for_spawn',
    'prepare_networks_before_block_device_mapping', 'rebuild', 'restore',
    'soft_delete',
})


def methods_that_take_an_instance():
    for name, member in inspect.getmembers(libvirt_driver.LibvirtDriver,
                                           inspect.isroutine):
        if not name.startswith('_') and any(
                'instance' in argument
                for argument in inspect.signature(member).parameters):
            yield name


def test_each_method_of_this_release_is_decided_on():
    """A new one is wrapped, or named here with the reason why not."""
    known = CHANGES_NO_DOMAIN.union(planned.OPERATIONS)
    assert set(methods_that_take_an_instance()) - known == set()
    assert CHANGES_NO_DOMAIN.isdisjoint(planned.OPERATIONS)


@pytest.mark.parametrize('name', planned.OPERATIONS)
def test_each_operation_is_a_method_of_this_release(name):
    method = getattr(libvirt_driver.LibvirtDriver, name)
    assert 'instance' in inspect.signature(method).parameters


class Monitor:
    def __init__(self):
        self.calls = []

    def begin(self, instance, operation):
        self.calls.append(('begin', operation))

    def end(self, instance, operation, succeeded):
        self.calls.append(('end', operation, succeeded))


class Driver:
    vmhealth_monitor = None

    def destroy(self, context, instance, network_info, destroy_disks=True):
        """Destroy it."""
        return (context, instance, network_info, destroy_disks)

    def pause(self, instance):
        raise RuntimeError('libvirt says no')


def wrapped(name):
    return planned.wrap(name, getattr(Driver, name))


def instance():
    return types.SimpleNamespace(uuid='u')


def test_tells_the_beginning_and_the_end():
    driver = Driver()
    driver.vmhealth_monitor = Monitor()
    guest = instance()
    assert wrapped('destroy')(driver, 'ctx', guest, 'net',
                              destroy_disks=False) == (
        'ctx', guest, 'net', False)
    assert driver.vmhealth_monitor.calls == [
        ('begin', 'destroy'), ('end', 'destroy', True)]


class BrokenMonitor:
    def begin(self, instance, operation, succeeded=None):
        raise KeyError('a defect of ours')

    end = begin


def test_a_defect_of_the_monitor_fails_nothing(caplog):
    driver = Driver()
    driver.vmhealth_monitor = BrokenMonitor()
    assert wrapped('destroy')(driver, 1, instance(), 3)[0] == 1
    with pytest.raises(RuntimeError, match='libvirt says no'):
        wrapped('pause')(driver, instance())
    assert 'Cannot take note of destroy' in caplog.text


def test_instance_by_keyword():
    driver = Driver()
    driver.vmhealth_monitor = Monitor()
    wrapped('destroy')(driver, 'ctx', network_info=1, instance=instance())
    assert driver.vmhealth_monitor.calls[0] == ('begin', 'destroy')


def test_a_failure_passes_and_the_operation_ends():
    driver = Driver()
    driver.vmhealth_monitor = Monitor()
    with pytest.raises(RuntimeError, match='libvirt says no'):
        wrapped('pause')(driver, instance())
    assert driver.vmhealth_monitor.calls == [
        ('begin', 'pause'), ('end', 'pause', False)]


@pytest.mark.parametrize('killed', [
    KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_operation_ends_however_its_thread_does(killed):
    """A greenthread that is killed sees GreenletExit, no Exception."""
    driver = Driver()
    driver.vmhealth_monitor = Monitor()

    def pause(self, instance):
        raise killed
    with pytest.raises(killed):
        planned.wrap('pause', pause)(driver, instance())
    assert driver.vmhealth_monitor.calls[-1] == ('end', 'pause', False)


def test_one_within_another_ends_within_it():
    driver = Driver()
    driver.vmhealth_monitor = Monitor()
    inner = wrapped('destroy')

    def reboot(self, context, instance):
        inner(self, context, instance, 'net')
    planned.wrap('reboot', reboot)(driver, 'ctx', instance())
    assert driver.vmhealth_monitor.calls == [
        ('begin', 'reboot'), ('begin', 'destroy'), ('end', 'destroy', True),
        ('end', 'reboot', True)]


def test_without_a_monitor_it_is_the_method_itself():
    assert wrapped('destroy')(Driver(), 1, 2, 3) == (1, 2, 3, True)


def test_looks_like_the_method():
    assert wrapped('destroy').__doc__ == 'Destroy it.'
    assert wrapped('destroy').__wrapped__ is Driver.destroy
    assert inspect.getfullargspec(wrapped('destroy')) == \
        inspect.getfullargspec(Driver.destroy)
