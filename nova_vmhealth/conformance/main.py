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

"""The command ``vmhealth-guest-conformance``."""

import argparse
import contextlib
import signal
import sys

from nova_vmhealth.conformance import host as hosts
from nova_vmhealth.conformance import links
from nova_vmhealth.conformance import output
from nova_vmhealth.conformance import process
from nova_vmhealth.conformance import suite

_EPILOG = """\
examples:
  vmhealth-guest-conformance --pty -- ./my-agent --port {port}
      start an agent on a pseudo terminal and check it
  vmhealth-guest-conformance --socket /run/agent.sock --listen
      wait for an agent that connects to this socket
  vmhealth-guest-conformance --socket /path/of/qemu's/channel.sock
      check the agent in a running guest, in nova-compute's place

exit status: 0 the agent conforms, 1 it does not, 2 the suite could not be run
"""


def _seconds(text):
    value = float(text)
    if not 0.01 <= value <= 3600:
        raise ValueError(text)
    return value


_seconds.__name__ = 'number of seconds'    # argparse shows it


def parse_args(argv):
    """Return the options and the agent's command, [] for none."""
    parser = argparse.ArgumentParser(
        prog='vmhealth-guest-conformance', epilog=_EPILOG,
        usage='%(prog)s (--socket PATH [--listen | --connect] | --pty) '
              '[OPTION...] [-- COMMAND...]',
        description='Check whether a guest agent conforms to the heartbeat '
                    'protocol of nova-vmhealth.',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    way = parser.add_mutually_exclusive_group()
    way.add_argument('--socket', metavar='PATH',
                     help='reach the agent over a unix socket')
    way.add_argument('--pty', action='store_true',
                     help='reach the agent over a pseudo terminal')
    side = parser.add_mutually_exclusive_group()
    side.add_argument('--connect', action='store_true',
                      help='connect to the socket (the default), as '
                           'nova-compute does')
    side.add_argument('--listen', action='store_true',
                      help='listen on the socket, as QEMU does')
    parser.add_argument('--timeout', type=_seconds, default=1.0, metavar='S',
                        help='seconds that an answer may take '
                             '(default: %(default)g)')
    parser.add_argument('--wait', type=_seconds, default=10.0, metavar='S',
                        help='seconds to wait for the agent to come, or to '
                             'come back (default: %(default)g)')
    parser.add_argument('--only', action='append', default=[], metavar='NAME',
                        help='make only this check; may be repeated')
    parser.add_argument('--list', action='store_true',
                        help='say what the checks are, and why')
    parser.add_argument('--json', action='store_true',
                        help='write JSON instead of text')
    parser.add_argument('command', nargs='*', metavar='COMMAND',
                        help='starts the agent; {port} in it becomes the path '
                             'of the socket or pty')
    options = parser.parse_args(argv)
    _check(parser, options)
    return options


def _check(parser, options):
    try:
        options.checks = suite.choose(options.only)
    except KeyError as error:
        parser.error('there is no check %s; see --list' % error)
    if options.list:
        return
    if not options.pty and options.socket is None:
        parser.error('one of --socket and --pty is needed')
    if options.pty and (options.listen or options.connect):
        parser.error('--listen and --connect belong to --socket')


def _make_link(options):
    if options.pty:
        return links.Pty()
    kind = links.Listener if options.listen else links.Connector
    return kind(options.socket)


def _run(options, stack):
    link = _make_link(options)
    stack.callback(link.end)
    agent = None
    if options.command:
        agent = process.Process(options.command, link.port)
        stack.callback(agent.stop)
    progress = output.Progress(sys.stderr if options.json else sys.stdout)
    progress.begin(link)
    host = hosts.Host(link, agent, options.timeout, options.wait)
    results = []
    for result in suite.run(options.checks, host, progress.starting):
        progress.done(result)
        results.append(result)
    progress.end(results)
    if options.json:
        sys.stdout.write(output.results_json(
            results, link, host.record.last_init))
    return 0 if suite.conforms(results) else 1


def main(argv=None):
    """Run the command.

    :param argv: its arguments; None: those of the process
    :returns: its exit status: 0 when the agent conforms, 1 when it does not,
        2 when the suite could not be run
    """
    options = parse_args(argv)
    if options.list:
        text = output.list_json if options.json else output.list_text
        sys.stdout.write(text(options.checks))
        return 0
    try:
        with contextlib.ExitStack() as stack:
            # Like Ctrl-C, so that an agent of ours is not left behind.
            stack.callback(signal.signal, signal.SIGTERM, signal.signal(
                signal.SIGTERM, signal.default_int_handler))
            return _run(options, stack)
    except links.Unavailable as error:
        sys.stderr.write('vmhealth-guest-conformance: %s\n' % error)
    except KeyboardInterrupt:
        sys.stderr.write('vmhealth-guest-conformance: interrupted\n')
    return 2


if __name__ == '__main__':
    sys.exit(main())
