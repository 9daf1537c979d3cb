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
"""Reports from outside: what a monitor calls when it sees that a host is ill.

For Zabbix, Nagios, collectd, Pacemaker and the like, in the manner of OPNFV
Doctor's inspector. It needs the message broker of the host's cell, and neither
Nova nor libvirt::

    from nova_vmhealth import client

    with client.connect(config_files=['/etc/nova/nova.conf']) as health:
        health.report_host_fault('compute-1', reason='PSU 1 and 2 failed')
        ...
        health.clear_host_fault('compute-1')
"""

from nova_vmhealth.client.health import connect
from nova_vmhealth.client.health import HealthClient
from nova_vmhealth.client.view import HostCondition
from nova_vmhealth.client.view import HostView

__all__ = ('HealthClient', 'HostCondition', 'HostView', 'connect')
