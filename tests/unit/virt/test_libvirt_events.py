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

"""Every libvirt event that means something, as a table."""

import importlib
import importlib.util

import pytest

from nova_vmhealth.core.vocabulary import Cause
from nova_vmhealth.core.vocabulary import Kind
from nova_vmhealth.virt import libvirt_events as events

UUID = 'e5a1b6a2-1f0f-4a53-9c29-9a8f6d6f9e11'
NOW = 1790000000.25


def kind_and_details(observation):
    return (observation.kind, observation.cause, observation.subject,
            dict(observation.details))


@pytest.mark.parametrize('translate, arguments, expected', [
    (events.watchdog, (0,),
     (Kind.FAULT, Cause.WATCHDOG_EXPIRED, '', {'action': 'none'})),
    (events.watchdog, (6,),
     (Kind.FAULT, Cause.WATCHDOG_EXPIRED, '', {'action': 'inject-nmi'})),
    (events.watchdog, (99,),
     (Kind.FAULT, Cause.WATCHDOG_EXPIRED, '', {'action': 'unknown (99)'})),
    (events.io_error_reason, ('/disk', 'virtio-disk0', 1, 'enospc'),
     (Kind.FAULT, Cause.IO_ERROR, 'virtio-disk0',
      {'path': '/disk', 'device': 'virtio-disk0', 'action': 'pause',
       'reason': 'enospc'})),
    (events.io_error_reason, (None, None, 2, None),
     (Kind.FAULT, Cause.IO_ERROR, '',
      {'path': '', 'device': '', 'action': 'report', 'reason': ''})),
    (events.control_error, (), (Kind.FAULT, Cause.CONTROL_ERROR, '', {})),
    (events.memory_failure, (0, 2, 3),
     (Kind.FAULT, Cause.MEMORY_FAILURE, '',
      {'recipient': 'hypervisor', 'action': 'fatal',
       'flags': 'action_required,recursive'})),
    (events.memory_failure, (1, 1, 0),
     (Kind.FAULT, Cause.MEMORY_FAILURE, '',
      {'recipient': 'guest', 'action': 'inject', 'flags': ''})),
    (events.reboot, (), (Kind.REBOOTED, None, '', {})),
    (events.agent_lifecycle, (2, 1),
     (Kind.AGENT_DISCONNECTED, None, '',
      {'channel': 'org.qemu.guest_agent.0'})),
    (events.channel_lifecycle, ('org.openstack.vmhealth.0', 1, 0),
     (Kind.AGENT_CONNECTED, None, '',
      {'channel': 'org.openstack.vmhealth.0'})),
    (events.lifecycle, (2, 0),
     (Kind.STARTED, None, '', {'reason': 'booted'})),
    (events.lifecycle, (2, 4),
     (Kind.RESUMED, None, '', {'reason': 'wakeup'})),
    (events.lifecycle, (3, 2),
     (Kind.PAUSED, None, '', {'reason': 'ioerror'})),
    (events.lifecycle, (3, 8),
     (Kind.PAUSED, None, '', {'reason': 'postcopy_failed'})),
    (events.lifecycle, (4, 0),
     (Kind.RESUMED, None, '', {'reason': 'unpaused'})),
    (events.lifecycle, (5, 1),
     (Kind.STOPPED, None, '', {'reason': 'destroyed'})),
    (events.lifecycle, (5, 2),
     (Kind.STOPPED, None, '', {'reason': 'crashed'})),
    (events.lifecycle, (5, 5),
     (Kind.STOPPED, None, '', {'reason': 'failed'})),
    (events.lifecycle, (6, 1), (Kind.SHUTDOWN_BY_GUEST, None, '', {})),
    (events.lifecycle, (6, 2), (Kind.SHUTDOWN_BY_HOST, None, '', {})),
    (events.lifecycle, (7, 0),
     (Kind.PAUSED, None, '', {'reason': 'pmsuspended'})),
    (events.lifecycle, (8, 0),
     (Kind.FAULT, Cause.GUEST_CRASHED, '', {'reason': 'panicked'})),
    (events.lifecycle, (8, 1),
     (Kind.FAULT, Cause.GUEST_CRASHED, '', {'reason': 'crashloaded'})),
])
def test_translation(translate, arguments, expected):
    observation = translate(UUID, NOW, *arguments)
    assert kind_and_details(observation) == expected
    assert observation.instance_uuid == UUID
    assert observation.occurred_at == NOW


@pytest.mark.parametrize('translate, arguments', [
    (events.lifecycle, (0, 0)),         # defined
    (events.lifecycle, (1, 0)),         # undefined
    (events.lifecycle, (99, 0)),
    (events.agent_lifecycle, (0, 0)),
    (events.channel_lifecycle, ('x', 7, 0)),
])
def test_means_nothing(translate, arguments):
    assert translate(UUID, NOW, *arguments) is None


def test_text_of_any_length_is_bounded():
    observation = events.io_error_reason(UUID, NOW, 'p' * 10 ** 6,
                                         'a' * 10 ** 6, 1, 'r' * 10 ** 6)
    assert all(len(value) <= 255 for value in observation.details.values())
    assert len(observation.subject) <= 255


def test_every_fault_event_of_the_design_is_subscribed_to():
    names = {s.event_id.removeprefix('VIR_DOMAIN_EVENT_ID_')
             for s in events.SUBSCRIPTIONS}
    assert names == {'WATCHDOG', 'IO_ERROR_REASON',
                     'CONTROL_ERROR', 'MEMORY_FAILURE', 'REBOOT',
                     'AGENT_LIFECYCLE', 'CHANNEL_LIFECYCLE'}


def test_names_agree_with_the_libvirt_binding(require):
    """The tables spell out libvirt's numbers; the binding has the names."""
    require(importlib.util.find_spec('libvirt'), 'needs libvirt-python')
    libvirt = importlib.import_module('libvirt')
    for prefix, names in (
            ('VIR_DOMAIN_EVENT_WATCHDOG_', events.WATCHDOG_ACTIONS),
            ('VIR_DOMAIN_EVENT_IO_ERROR_', events.IO_ERROR_ACTIONS),
            ('VIR_DOMAIN_EVENT_STOPPED_', events.STOPPED_DETAILS),
            ('VIR_DOMAIN_EVENT_SUSPENDED_', events.SUSPENDED_DETAILS),
            ('VIR_DOMAIN_EVENT_RESUMED_', events.RESUMED_DETAILS),
            ('VIR_DOMAIN_EVENT_CRASHED_', events.CRASHED_DETAILS),
            ('VIR_DOMAIN_EVENT_MEMORY_FAILURE_ACTION_',
             events.MEMORY_ACTIONS)):
        for number, name in enumerate(names):
            words = name.upper()
            known = [getattr(libvirt, prefix + spelling)
                     for spelling in (words.replace('-', ''), words)
                     if hasattr(libvirt, prefix + spelling)]
            # An older binding lacks the newest names, never the first ones.
            assert known or number, prefix
            assert set(known) <= {number}, prefix + words
