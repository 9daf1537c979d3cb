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

"""The command ``nova-vmhealth``."""

from importlib import metadata
import logging
import sys
import warnings

from cliff import app
from cliff import commandmanager

# Loaded when called: ``--help`` and ``check`` need not wait for the bus.
COMMANDS = {
    'check': 'nova_vmhealth.cmd.check:Check',
    'host clear': 'nova_vmhealth.cmd.host:Clear',
    'host fault': 'nova_vmhealth.cmd.host:Fault',
    'host show': 'nova_vmhealth.cmd.host:Show',
    'listen': 'nova_vmhealth.cmd.listen:Listen',
    'maintenance list': 'nova_vmhealth.cmd.maintenance:List',
    'maintenance set': 'nova_vmhealth.cmd.maintenance:Set',
    'maintenance show': 'nova_vmhealth.cmd.maintenance:Show',
    'maintenance unset': 'nova_vmhealth.cmd.maintenance:Unset',
}


def _version():
    try:
        return metadata.version('nova-vmhealth')
    except metadata.PackageNotFoundError:
        return 'from source'


class HealthApp(app.App):
    """Health of Nova instances: listen to it, check that it can be told."""

    def __init__(self, **kwargs):
        manager = commandmanager.CommandManager()
        for name, target in COMMANDS.items():
            manager.commands[name] = metadata.EntryPoint(
                name, target, 'nova_vmhealth')
        super().__init__(
            description=self.__doc__, version=_version(),
            command_manager=manager, deferred_help=True, **kwargs)

    def configure_logging(self):
        super().configure_logging()
        # It announces on each start which backend it loads.
        logging.getLogger('oslo_service').setLevel(logging.WARNING)
        # It remarks on each message that comes while a channel is closed.
        logging.getLogger('amqp').setLevel(logging.ERROR)


def main(argv=None):
    """Run the command.

    :param argv: its arguments; None: those of the process
    :returns: its exit status: 0 for success, 1 when it failed or found
        something wrong, 2 for wrong usage
    """
    # oslo.messaging's dependencies import eventlet where it is installed,
    # though nothing here uses it; its warning helps nobody.
    warnings.filterwarnings('ignore', message=r'\s*Eventlet is deprecated')
    argv = sys.argv[1:] if argv is None else argv
    # Without arguments cliff would open a shell of its own.
    return HealthApp().run(argv or ['--help'])


if __name__ == '__main__':
    sys.exit(main())
