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

"""Options of group [vmhealth_inspector] that are about Fenix."""

from oslo_config import cfg

OPTS = [
    cfg.ListOpt(
        'fenix_topics', default=[],
        help="""
Topics on which to listen for what Fenix says of hosts. Empty: to none.

Fenix sends ``maintenance.host`` to the topic ``notifications``. A host that it
says is IN_MAINTENANCE gets a maintenance window, which ends with its
MAINTENANCE_COMPLETE. All inspectors with the same ``fenix_pool`` share the
messages.
"""),
    cfg.StrOpt(
        'fenix_exchange', default='openstack',
        help="""
``control_exchange`` of Fenix.

Fenix has no default of its own for that option, so it is oslo.messaging's,
unless its configuration file says otherwise.
"""),
    cfg.StrOpt(
        'fenix_transport_url', secret=True,
        help="""
Message broker that Fenix sends to. Unset: the one of the notifications.
"""),
    cfg.StrOpt(
        'fenix_pool', default='nova-vmhealth-inspector',
        help="""
Name of the queue that the inspectors have for this: they get a copy of each
message and take none from Ceilometer.

Change it where several groups of inspectors, one for each cell, listen to one
Fenix. The broker keeps the queue when no inspector listens any more, so delete
it then.
"""),
    cfg.FloatOpt(
        'fenix_max_hours', default=24.0, min=0.1, max=31 * 24.0,
        help="""
When a window that Fenix has begun is over without its MAINTENANCE_COMPLETE, in
hours.

Fenix says nothing of a host any more when its session fails.
"""),
]
