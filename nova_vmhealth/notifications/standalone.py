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

"""A publisher for a process that has no Nova, and so no notifier of Nova's.

Listeners get its events as they get those of nova-compute.
"""

from oslo_context import context
import oslo_messaging

from nova_vmhealth import conf as health_conf
from nova_vmhealth.notifications import database
from nova_vmhealth.notifications import delivery
from nova_vmhealth.notifications import publisher

# The one with an envelope, which Nova's documentation asks for.
DRIVER = 'messagingv2'


def new_publisher(conf, publisher_id, state_path, *, transport_url=None,
                  topics=None):
    """Make the publisher of a process; nothing is connected to yet.

    Its options are those of nova-compute's in ``[vmhealth]``, and the drivers
    those of ``[oslo_messaging_notifications]``; where it names none, events go
    to the bus.

    :param conf: what nova_vmhealth.configuration.load() gives
    :param publisher_id: such as ``nova-vmhealth-inspector:controller-1``; no
        other process with this state_path has the same
    :param state_path: folder of what must outlive the process
    :param transport_url: of the broker; None: conf's
    :param topics: None: conf's
    :returns: a Publisher, to be started
    """
    health_conf.register_opts(conf)
    transport = oslo_messaging.get_notification_transport(
        conf, url=transport_url)
    drivers = conf.oslo_messaging_notifications.driver
    notifier = oslo_messaging.Notifier(
        transport, publisher_id=publisher_id,
        driver=None if drivers else DRIVER,
        topics=topics or conf.notifications.versioned_notifications_topics)
    return publisher.Publisher.configured(
        delivery.Delivery(notifier, request_context),
        database.path_of(state_path, publisher_id),
        conf[health_conf.GROUP])


def request_context(user_id, project_id):
    """Make the context of a notification, as Nova's comes over the bus.

    :param user_id: or None
    :param project_id: or None
    :returns: a dict
    """
    made = context.RequestContext(
        user_id=user_id, project_id=project_id, overwrite=False)
    # "user_id" is Nova's own; "tenant" is what "project" was in earlier
    # releases, and some readers go by it still.
    return {**made.to_dict(), 'user_id': user_id, 'tenant': project_id}
