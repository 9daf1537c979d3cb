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

"""Read what concerns the bus from Nova's configuration files.

Without Nova: a consumer's machine has a file with a transport_url at most, and
nova-compute's own file must be readable where nova is not installed.
"""

from oslo_config import cfg
from oslo_messaging import opts as messaging_opts

# Those of nova.conf.notifications, with its defaults.
_NOTIFICATIONS_OPTS = [
    cfg.StrOpt('notification_format', default='unversioned'),
    cfg.ListOpt('versioned_notifications_topics',
                default=['versioned_notifications']),
]

_MESSAGING_GROUPS = (None, 'oslo_messaging_notifications')


def load(config_files, register=None):
    """Read configuration files as Nova would.

    :param config_files: paths; a later one overrides an earlier one
    :param register: called with the ConfigOpts before the files are read, to
        register more options
    :returns: a ConfigOpts of its own, which knows the options of
        oslo.messaging and of ``[notifications]``
    :raises oslo_config.cfg.ConfigFilesNotFoundError: one is not there
    """
    conf = cfg.ConfigOpts()
    conf.register_opts(_NOTIFICATIONS_OPTS, group='notifications')
    for group, options in messaging_opts.list_opts():
        if group in _MESSAGING_GROUPS:
            conf.register_opts(options, group=group)
    # nova.config does the same; the library's default is "openstack".
    conf.set_default('control_exchange', 'nova')
    if register is not None:
        register(conf)
    conf(args=[], project='nova', default_config_files=config_files or [],
         default_config_dirs=[])
    return conf


def transport_url(conf):
    """Give the URL that notifications of this configuration go to.

    :returns: the URL; None where the files name none, and oslo.messaging would
        fall back on a broker on this machine
    """
    return conf.oslo_messaging_notifications.transport_url or rpc_url(conf)


def rpc_url(conf):
    """Give the URL that RPC of this configuration goes to.

    :returns: as :func:`transport_url`
    """
    location = conf.get_location('transport_url').location
    if location is cfg.Locations.opt_default:
        return None
    return conf.transport_url
