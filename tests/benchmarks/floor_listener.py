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


"""The floor's listener: nothing but oslo.messaging; a JSON line an event."""

import json
import sys
import time

from oslo_config import cfg
import oslo_messaging


class _Endpoint:
    filter_rule = oslo_messaging.NotificationFilter(
        event_type='^benchmark.floor$')

    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        print(json.dumps({'number': payload['number'], 'seconds':
                          time.time() - payload['occurred_at']}), flush=True)


def main():
    transport = oslo_messaging.get_notification_transport(
        cfg.ConfigOpts(), url=sys.argv[1])
    listener = oslo_messaging.get_notification_listener(
        transport, [oslo_messaging.Target(topic='versioned_notifications',
                                          exchange='nova')],
        [_Endpoint()], executor='threading', pool='benchmark-floor')
    listener.start()
    print('ready', flush=True)
    listener.wait()


if __name__ == '__main__':
    main()
