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

"""A process with the publisher of the driver, and nothing of Nova or libvirt.

One JSON object a line on stdin is a batch of events to submit and commit, one
a line on stdout is what the publisher counts then. All events of a process
name its host.
"""

import argparse
import json
import logging
import sys

from nova_vmhealth import configuration
from nova_vmhealth.core import vocabulary as v
from nova_vmhealth.notifications import identity
from nova_vmhealth.notifications import standalone


def _event(uuid, sequence, now):
    # What was raised is cleared next, so that none makes another superfluous.
    raised = sequence % 2 == 1
    condition = v.Condition(
        v.Cause.WATCHDOG_EXPIRED, '', v.Severity.CRITICAL, now, 1)
    return v.HealthEvent(
        event_id='%s-%012d' % (uuid[:23], sequence), sequence=sequence,
        instance_uuid=uuid,
        transition=v.Transition.RAISED if raised else v.Transition.CLEARED,
        cause=v.Cause.WATCHDOG_EXPIRED, subject='',
        severity=v.Severity.CRITICAL,
        health=v.Health.UNHEALTHY if raised else v.Health.HEALTHY,
        previous_health=v.Health.HEALTHY if raised else v.Health.UNHEALTHY,
        conditions=(condition,) if raised else (), occurred_at=now,
        detected_at=now, details={})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--config-file', required=True)
    parser.add_argument('--state-path', required=True)
    parser.add_argument('--host', required=True)
    args = parser.parse_args()
    conf = configuration.load([args.config_file])
    logging.basicConfig(level=logging.INFO,
                        format='%(asctime)s %(name)s %(message)s')
    subject = standalone.new_publisher(
        conf, 'nova-compute:' + args.host, args.state_path)
    subject.start()
    print(json.dumps(subject.statistics()), flush=True)
    for line in sys.stdin:
        batch = json.loads(line)
        for uuid, sequence in batch['events']:
            subject.submit(_event(uuid, sequence, batch['now']),
                           identity.InstanceIdentity(uuid, host=args.host),
                           None)
        subject.commit({})
        print(json.dumps(subject.statistics()), flush=True)
    subject.stop(5)


if __name__ == '__main__':
    main()
