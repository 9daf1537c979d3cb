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

"""A process that may not write to a guest's socket, and its heartbeat.

Run it in libvirtd's mount namespace; it prints what the heartbeat says as one
JSON object a line, and ends when its stdin does. With ``--eventlet`` it is
what nova-compute is by default up to Nova 33.
"""

import sys

EVENTLET = '--eventlet' in sys.argv
if EVENTLET:
    import eventlet
    eventlet.monkey_patch()

import argparse  # noqa: E402
import inspect  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import queue  # noqa: E402

import libvirt  # noqa: E402
from nova.virt.libvirt import host  # noqa: E402

from nova_vmhealth.core import policy  # noqa: E402
from nova_vmhealth.virt import channel  # noqa: E402
from nova_vmhealth.virt import heartbeat  # noqa: E402
from nova_vmhealth.virt import native  # noqa: E402
from nova_vmhealth.virt import stream_channel  # noqa: E402

NOBODY = 65534
LIMITS = policy.Limits(
    interval_ms=policy.Bounds(100, 10000), timeout_ms=policy.Bounds(100, 9999),
    misses=policy.Bounds(1, 10), boot_deadline_s=policy.Bounds(0, 100),
    default_events=frozenset())


def _connect(uri):
    """A connection as Nova's Host has it, and libvirt's event thread."""
    host.libvirt = libvirt
    libvirt.virEventRegisterDefaultImpl()

    def run():
        while True:
            libvirt.virEventRunDefaultImpl()
    native.original('threading').Thread(target=run, daemon=True).start()
    if not EVENTLET:
        return libvirt.open(uri)
    from eventlet import tpool
    wrapped = tuple(kind for name, kind in inspect.getmembers(
        libvirt, inspect.isclass) if name.startswith('vir'))
    return tpool.Proxy(libvirt, autowrap=wrapped).open(uri)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--uri', required=True)
    parser.add_argument('--uuid', required=True)
    parser.add_argument('--name', required=True)
    parser.add_argument('--eventlet', action='store_true')
    args = parser.parse_args()

    def say(**what):
        os.write(1, json.dumps(what).encode() + b'\n')

    connection = _connect(args.uri)
    os.seteuid(NOBODY)
    # of the native kind: the heartbeat's thread is one
    requests = native.original('queue').Queue()
    streams = stream_channel.StreamChannels(
        lambda: connection, lambda _level, text: say(log=text))
    watch = heartbeat.HeartbeatMonitor(
        lambda seen: say(kind=seen.kind.value, details=dict(seen.details)),
        log=lambda _level, text: say(log=text),
        second_way=lambda *request: requests.put(request))
    watch.start()
    watch.watch(args.uuid, channel.socket_path(args.name), policy.parse(
        {'vmhealth:heartbeat': 'true'}, {}, LIMITS)[0])
    # Native too: reading stdin would hold up every greenthread.
    threading = native.original('threading')
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()),
                     daemon=True).start()
    while not ended.wait(0.05):
        try:
            uuid, _path, _reason = requests.get_nowait()
        except queue.Empty:
            continue
        watch.offer(uuid, streams.open(uuid))
    watch.stop(5)
    streams.close()
    say(left=sorted(
        thread.name for thread in threading.enumerate()
        if thread.name.startswith('vmhealth')))


if __name__ == '__main__':
    main()
