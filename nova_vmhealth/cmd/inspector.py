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

"""The command ``nova-vmhealth-inspector``."""

import argparse
from importlib import metadata
import logging as python_logging
import os
import signal
import sys
import threading
import warnings

from oslo_config import cfg
from oslo_log import log as logging

from nova_vmhealth.conf import inspector as options
from nova_vmhealth import exception

LOG = logging.getLogger(__name__)
PROGRAM = 'nova-vmhealth-inspector'


def _parser():
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="""
Watches the beacons of all nova-computes of a cell, and acts when those of a
host stop: forces its compute service down and tells its instances. Run
several, on machines of their own; see the options of [vmhealth_inspector].""")
    parser.add_argument(
        '--config-file', metavar='FILE', action='append',
        help='a configuration file, with the transport_url of the cell and '
             '[vmhealth_inspector]; may be repeated, a later one goes before '
             'an earlier one (default: nova.conf and %(prog)s.conf in '
             '/etc/nova and other usual places)')
    parser.add_argument('--version', action='version', version=_version())
    return parser


def _version():
    try:
        return metadata.version('nova-vmhealth')
    except metadata.PackageNotFoundError:
        return 'from source'


def _load(config_files):
    # It imports oslo.messaging, which takes its time, and which warns.
    from nova_vmhealth import configuration

    def register(conf):
        options.register_opts(conf)
        logging.register_options(conf)
    files = config_files or cfg.find_config_files(
        project='nova', prog=PROGRAM)
    conf = configuration.load(files, register)
    # Where neither a file nor the journal is named, as for other programs.
    conf.set_default('use_stderr', True)
    options.validate(conf)
    return conf


def main(argv=None):
    """Run the inspector until it is told to end by SIGTERM or SIGINT.

    :param argv: arguments; None: those of the process
    :returns: exit status: 0, or 1 where it could not be started
    """
    # oslo.messaging's dependencies import eventlet where it is installed,
    # though nothing here uses it; its warning helps nobody.
    warnings.filterwarnings('ignore', message=r'\s*Eventlet is deprecated')
    arguments = _parser().parse_args(argv)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    try:
        inspector = _start(arguments.config_file)
    except (cfg.Error, exception.VMHealthError, ImportError,
            ValueError) as error:
        print(f'{PROGRAM}: {error}', file=sys.stderr)
        return 1
    over.wait()
    LOG.info('The inspector ends')
    inspector.stop()
    return 0


def _start(config_files):
    conf = _load(config_files)
    logging.setup(conf, PROGRAM)
    # Late, as it takes openstacksdk and tooz, which "--help" can do without.
    import oslo_messaging

    from nova_vmhealth.inspector import service
    try:
        inspector = service.Inspector(conf)
    except oslo_messaging.MessagingException as error:
        raise exception.VMHealthError(
            f'[DEFAULT]transport_url: {error}') from error
    inspector.start()
    return inspector


def run():
    """Run the command as a process of its own."""
    status = main()
    python_logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of oslo.messaging's that wait for a broker that hangs are no
    # reason to stay.
    os._exit(status)


if __name__ == '__main__':
    run()
