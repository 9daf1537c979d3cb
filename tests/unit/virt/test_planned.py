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

import pytest

from nova_vmhealth.virt import planned


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


def test_without_a_monitor_it_is_the_method_itself():
    assert wrapped('destroy')(Driver(), 1, 2, 3) == (1, 2, 3, True)


def test_looks_like_the_method():
    assert wrapped('destroy').__doc__ == 'Destroy it.'
    assert wrapped('destroy').__wrapped__ is Driver.destroy
    assert inspect.getfullargspec(wrapped('destroy')) == \
        inspect.getfullargspec(Driver.destroy)
