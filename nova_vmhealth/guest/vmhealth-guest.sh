#!/bin/sh
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

# The smallest guest agent: answers challenges, says goodbye, runs no audits.
# Usage: vmhealth-guest.sh [PORT]. Needs a POSIX shell, busybox will do.

channel=org.openstack.vmhealth.0
port=${1:-/dev/virtio-ports/$channel}
# Told to stop, it says so: the silence that follows is on purpose. There is no
# descriptor 3 while no port is open.
trap '{ printf "{\"type\":\"exit\",\"reason\":\"terminated\"}\n" >&3; } 2>/dev/null
      exit 0' TERM INT
while :; do
    if [ ! -e "$port" ]; then    # no udev: find the port by its name
        named=$(grep -lx "$channel" /sys/class/virtio-ports/*/name 2>/dev/null)
        named=${named%/name}
        [ -n "$named" ] && port=/dev/${named##*/}
    fi
    # An end of file only says that no host client is connected now: hence
    # the outer loop. The test is for -c: opening a name must not create it.
    [ -c "$port" ] && while IFS= read -r line; do
        case $line in *'"nonce"'*) ;; *) continue ;; esac
        sequence=${line#*\"sequence\"*:}
        sequence=${sequence%%[,\}]*}
        nonce=${line#*\"nonce\"*:*\"}
        printf '{"type":"challenge_response","sequence":%s,"nonce":"%s"}\n' \
            "$sequence" "${nonce%%\"*}" >&3
    done 3<>"$port" <&3
    sleep 1
done
