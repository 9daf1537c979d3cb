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

"""The demo: a guest breaks in four ways, and a listener hears of each.

Run by tools/demo, which brings up the lab first and passes the lab's
settings in the environment. Prints a timeline for each fault, relative to
the moment of the fault, all times by this machine's one clock.
"""

import argparse
import errno
import os
import signal
import subprocess
import sys
import time

import dead_host
import openstack
import watchers

LAB = os.environ['R']
INSTANCES = os.path.join(LAB, 'instances')
FILLER = os.path.join(INSTANCES, 'filler')
COMPUTE_LOG = os.path.join(LAB, 'log', 'compute.log')
NOVA_VMHEALTH = os.path.join(os.environ['VL'], 'bin', 'nova-vmhealth')
SERVER = 'vmhealth-demo'
# TCG on a busy machine: these are limits for giving up, not measures.
BOOT_S = 180
EVENT_S = 60

BEGAN = time.monotonic() - int(os.environ.get('SECONDS', 0))


def say(text):
    print('%5ds  %s' % (time.monotonic() - BEGAN, text), flush=True)


def show_timeline(title, rows):
    """Print what happened when.

    :param rows: (seconds since the epoch, text); the first is the fault
    """
    zero = rows[0][0]
    print('\n        %s' % title)
    for when, text in rows:
        print('        %+9.1f ms  %s' % ((when - zero) * 1000, text))
    print(flush=True)


def virsh(*arguments):
    return subprocess.run(
        ['virsh', '-q', *arguments], check=True, text=True,
        stdout=subprocess.PIPE).stdout.strip()


class Demo:
    """One guest, and everything that watches it."""

    def __init__(self, cloud):
        self._cloud = cloud
        self._listener = watchers.bus_listener(
            LAB, NOVA_VMHEALTH, os.environ['RABBIT_URL'])
        self._qemu = watchers.qemu_events(LAB)
        self._dead_host = dead_host.DeadHost(LAB, cloud)
        self._server = None
        self._console = None
        self._domain = None

    def stop(self):
        self._dead_host.stop()
        self._listener.stop()
        self._qemu.stop()

    def inspect(self):
        say('an inspector watches over the host from now on')
        self._dead_host.inspect()

    # ---- the guest -----------------------------------------------------

    def boot(self):
        """Boot the guest; return when its heartbeat is there."""
        self._remove_older()
        log = watchers.LogFile('nova-compute', COMPUTE_LOG)
        say('booting a guest: flavor vmhealth, image vmhealth-guest')
        compute = self._cloud.compute
        asked = time.time()
        server = compute.create_server(
            name=SERVER, networks='none',
            flavor_id=compute.find_flavor('vmhealth').id,
            image_id=self._cloud.image.find_image('vmhealth-guest').id)
        self._server = compute.wait_for_server(
            server, interval=0.5, wait=BOOT_S)
        say('ACTIVE after %.1f s; the guest boots without KVM, which '
            'takes a moment' % (time.time() - asked))
        self._domain = self._server.instance_name
        self._meet(log, asked)

    def _remove_older(self):
        compute = self._cloud.compute
        for server in list(compute.servers(name='^%s$' % SERVER)):
            say('removing the guest of an earlier run')
            compute.delete_server(server)
            compute.wait_for_delete(server, interval=0.5, wait=60)

    def _meet(self, log, asked):
        """Wait until a guest that has just begun to boot beats."""
        self._console = watchers.Console(
            virsh('ttyconsole', self._domain))
        boot = watchers.LogFile(
            'guest console', os.path.join(
                INSTANCES, self._server.id, 'console.log'), from_end=False)
        boot.wait('GUEST-UP', BOOT_S)
        say('the guest is up')
        boot.wait('AGENT-UP', BOOT_S)
        say('its agent is up')
        line = log.wait(
            '.*%s.*heartbeat established' % self._server.id, EVENT_S)
        say('first heartbeat, %.1f s after the request; nova-compute '
            'says:' % (time.time() - asked))
        print('        ' + line[0][:150], flush=True)

    def reboot(self):
        """Have Nova reboot the guest hard, as an operator would."""
        say('hard reboot by Nova')
        log = watchers.LogFile('nova-compute', COMPUTE_LOG)
        asked = time.time()
        compute = self._cloud.compute
        compute.reboot_server(self._server, 'HARD')
        self._wait_rebooted()
        self._meet(log, asked)

    def _wait_rebooted(self):
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            server = self._cloud.compute.get_server(self._server)
            if server.status == 'ACTIVE' and not server.task_state:
                return
            time.sleep(0.5)
        raise watchers.TimedOut('nova: no end of the reboot')

    # ---- what is said of it --------------------------------------------

    def _await_event(self, cause, transition, after, timeout_s=EVENT_S):
        """Give the event of this guest from the listener, as a dict."""
        def fits(event):
            return (event.get('uuid') == self._server.id
                    and event.get('cause') == cause
                    and event.get('transition') == transition)
        return self._listener.lines.wait(
            fits, timeout_s, after, '%s %s' % (cause, transition))[1]

    def _event_rows(self, event):
        """Give the way of an event to its listener as timeline rows."""
        return [
            (watchers.seconds_of(event['detected_at']),
             'detected: %s (%s), health %s -> %s%s' % (
                 event['cause'], event['severity'],
                 event['previous_health'], event['health'],
                 self._details(event))),
            (watchers.seconds_of(event['timestamp']),
             'on the bus: instance.health, %s' % event['transition']),
            (watchers.seconds_of(event['received_at']),
             'a listener in another process had it'),
        ]

    @staticmethod
    def _details(event):
        shown = ['%s=%s' % (key, value)
                 for key, value in sorted(event['details'].items())
                 if key in ('action', 'reason', 'device', 'misses')]
        return '; ' + ', '.join(shown) if shown else ''

    def _tell_fault(self, title, rows, cause, after):
        event = self._await_event(cause, 'raised', after)
        show_timeline(title, rows + self._event_rows(event))

    def _tell_cleared(self, cause, after, since, what):
        event = self._await_event(cause, 'cleared', after)
        say('%s cleared %.0f ms after %s; health %s -> %s' % (
            cause, (watchers.seconds_of(event['received_at']) - since) * 1000,
            what, event['previous_health'], event['health']))

    def _qemu_time(self, name, after, timeout_s):
        """Wait for an event of QEMU about this guest; give its time."""
        return self._qemu.lines.wait(
            lambda event: event[0] == name and event[2] == self._domain,
            timeout_s, after, name)[1][1]

    # ---- the faults ----------------------------------------------------

    def hang(self):
        say('(a) the guest hangs: its agent stops answering')
        mark = self._listener.lines.mark()
        fault = self._console.order('hang-agent')
        self._tell_fault(
            '(a) the guest hangs (interval 1 s, 3 misses)',
            [(fault, 'the agent stopped answering')], 'heartbeat_lost', mark)
        resumed = self._console.order('resume-agent')
        self._tell_cleared(
            'heartbeat_lost', mark, resumed, 'the agent went on')

    def watchdog(self):
        say('(b) the guest arms its watchdog and never resets it')
        mark = self._listener.lines.mark()
        qemu_mark = self._qemu.lines.mark()
        self._console.order('arm-watchdog')
        fault = self._qemu_time('WATCHDOG', qemu_mark, 120)
        self._tell_fault(
            "(b) the guest's watchdog expires",
            [(fault, 'the watchdog expired (time of the event in QEMU)')],
            'watchdog_expired', mark)
        mark = self._listener.lines.mark()
        rebooted = time.time()
        self.reboot()
        self._tell_cleared(
            'watchdog_expired', mark, rebooted, 'the order to reboot')

    def disk(self):
        say("(c) the file system under the guest's disk is filled")
        mark = self._listener.lines.mark()
        qemu_mark = self._qemu.lines.mark()
        console_mark = self._console.lines.mark()
        fill()
        command = 'write-disk 8'
        told = self._console.tell(command)
        failed = self._qemu_time('BLOCK_IO_ERROR', qemu_mark, EVENT_S)
        self._tell_fault(
            '(c) its disk fails',
            [(told, 'the guest was told to write'),
             (failed, 'the write failed, QEMU paused the guest (time of '
                      'the event in QEMU)')],
            'io_error', mark)
        os.unlink(FILLER)
        say('space is free again; virsh resume')
        resumed = time.time()
        virsh('resume', self._domain)
        for cause in ('io_error', 'paused_unexpectedly'):
            self._tell_cleared(cause, mark, resumed, 'virsh resume')
        self._console.done(command, EVENT_S, console_mark)
        say('the guest has finished its write')

    def panic(self):
        say("(d) the guest's kernel panics")
        mark = self._listener.lines.mark()
        qemu_mark = self._qemu.lines.mark()
        self._console.tell('panic')
        fault = self._qemu_time('GUEST_PANICKED', qemu_mark, EVENT_S)
        self._tell_fault(
            "(d) the guest's kernel panics",
            [(fault, 'the panic device told QEMU')], 'guest_crashed', mark)
        mark = self._listener.lines.mark()
        rebooted = time.time()
        self.reboot()
        self._tell_cleared(
            'guest_crashed', mark, rebooted, 'the order to reboot')

    def host(self):
        say('(e) nova-compute is killed; the guest runs on')
        self._dead_host.wait_until_it_judges()
        mark = self._listener.lines.mark()
        killed = self._dead_host.kill()
        down = self._dead_host.wait_status(self._server, 'DOWN')
        _, event = self._listener.lines.wait(
            lambda event: event.get('cause') == 'host_down'
            and event['transition'] == 'raised', EVENT_S, mark, 'host_down')
        show_timeline('(e) the host is missed (500 ms, 3 beacons)', sorted([
            (killed, 'nova-compute was killed'),
            (watchers.seconds_of(event['detected_at']),
             'the inspector has forced the service down'),
            (down, "GET /servers/{id} shows host_status DOWN"),
            (watchers.seconds_of(event['received_at']),
             'host.health: a listener in another process had it')]))
        fault = self._await_event('host_fault', 'raised', mark)
        say('instance.health: host_fault (%s), health %s, host_status %s' % (
            fault['subject'], fault['health'], fault['host_status']))
        say('nova-compute is started again; nova-vmhealth host clear')
        mended = time.time()
        self._dead_host.mend(event['host'], NOVA_VMHEALTH,
                             os.environ['RABBIT_URL'])
        up = self._dead_host.wait_status(self._server, 'UP')
        say('host_status UP %.1f s later' % (up - mended))


def fill():
    """Leave no free byte in the file system of the instances."""
    with open(FILLER, 'wb') as filler:
        offset = 0
        for step in (1 << 20, 1 << 12):
            while True:
                try:
                    os.posix_fallocate(filler.fileno(), offset, step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
                offset += step


def empty():
    if os.path.exists(FILLER):
        os.unlink(FILLER)

FAULTS = ('hang', 'watchdog', 'disk', 'panic', 'host')


def main():
    parser = argparse.ArgumentParser(prog='tools/demo')
    parser.add_argument('faults', nargs='*', metavar='FAULT')
    chosen = parser.parse_args().faults or FAULTS
    # As Ctrl-C does: through the "finally" below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('demo: terminated'))
    demo = Demo(openstack.connect())
    try:
        if 'host' in chosen:
            demo.inspect()
        demo.boot()
        for name in chosen:
            getattr(demo, name)()
    except (watchers.TimedOut, openstack.exceptions.SDKException,
            subprocess.CalledProcessError) as error:
        sys.exit('demo: %s' % error)
    except KeyboardInterrupt:
        sys.exit('demo: interrupted')
    finally:
        empty()
        demo.stop()


if __name__ == '__main__':
    main()
