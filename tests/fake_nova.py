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

"""A compute API with what an inspector asks of it; it counts what it does.

Another process can be told of it by a ``clouds.yaml`` without any login.
"""

import http.server
import json
import os
import re
import threading
import time
from urllib import parse

PROJECT = '6f70656e737461636b20342065766572'
CLOUD = 'fake'

_CLOUDS = """\
clouds:
  fake:
    auth_type: none
    auth: {{endpoint: "{url}"}}
    compute_endpoint_override: "{url}"
    region_name: here
"""
_SERVICE = re.compile(r'/os-services/(.+)')
_SERVER = re.compile(r'/servers/([0-9a-f-]{36})')


class FakeNova:
    """Serves on a port of the loopback until :meth:`stop`.

    :param hosts: name of the host -> uuids of its servers
    :ivar changes: (host, fields) of each change of a service, as they begin
    :ivar put_s: how long a change takes until it has an effect, seconds
    :ivar list_s: how long a list of servers takes, seconds
    :ivar fails: answers everything with an error
    """

    def __init__(self, hosts):
        self.services = {
            host: {'id': f'id-of-{host}', 'host': host,
                   'binary': 'nova-compute', 'status': 'enabled',
                   'disabled_reason': None, 'forced_down': False}
            for host in hosts}
        self.servers = {uuid: host for host, uuids in hosts.items()
                        for uuid in uuids}
        self.changes = []
        self.resets = []
        self.put_s = self.list_s = 0.0
        self.fails = False
        self._lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            nova = outer

        self._server = http.server.ThreadingHTTPServer(
            ('127.0.0.1', 0), Handler)
        self._server.daemon_threads = True
        self.url = 'http://127.0.0.1:%d' % self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,),
                         daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def write_clouds(self, folder):
        """Write a clouds.yaml; the environment that names it."""
        path = os.path.join(folder, 'clouds.yaml')
        with open(path, 'w') as f:
            f.write(_CLOUDS.format(url=self.url))
        return {'OS_CLIENT_CONFIG_FILE': path, 'no_proxy': '127.0.0.1'}

    def forced(self, host):
        """How often a host was forced down."""
        return sum(each == host and fields.get('forced_down') is True
                   for each, fields in self.changes)

    def change(self, host, fields):
        """Change a service, as an operator or an inspector does."""
        with self._lock:
            self.changes.append((host, fields))
        # It has its effect though nobody waits for the answer any more.
        time.sleep(self.put_s)
        with self._lock:
            service = self.services[host]
            service.update(fields)
            if service['status'] == 'enabled':
                service['disabled_reason'] = None
            return dict(service)

    # what is answered

    def get(self, path, query):
        if path == '/':
            return {'version': {
                'id': 'v2.1', 'status': 'CURRENT', 'version': '2.96',
                'min_version': '2.1',
                'links': [{'rel': 'self', 'href': self.url}]}}
        if path == '/os-services':
            wanted = query.get('host')
            return {'services': [
                dict(service) for host, service in self.services.items()
                if wanted in (None, [host])]}
        if path == '/servers/detail':
            time.sleep(self.list_s)
            return {'servers': self._page(query)}
        found = _SERVER.fullmatch(path)
        if found and found[1] in self.servers:
            return {'server': self._server_of(found[1])}
        return None

    def put(self, path, body):
        found = _SERVICE.fullmatch(path)
        host = found and found[1].removeprefix('id-of-')
        if host not in self.services:
            return None
        return {'service': self.change(host, body)}

    def post(self, path, body):
        self.resets.append((path, body))
        return {}

    def _page(self, query):
        uuids = sorted(uuid for uuid, host in self.servers.items()
                       if [host] == query['host'])
        after = query.get('marker', [''])[0]
        uuids = [uuid for uuid in uuids if uuid > after]
        return [self._server_of(uuid)
                for uuid in uuids[:int(query['limit'][0])]]

    def _server_of(self, uuid):
        host = self.servers[uuid]
        return {
            'id': uuid, 'name': 'server', 'tenant_id': PROJECT,
            'user_id': 'user', 'metadata': {'role': 'primary'},
            'image': {'id': '155d900f-4e14-4e4c-a73d-069cbf4541e6'},
            'flavor': {'original_name': 'm1.tiny',
                       'extra_specs': {'vmhealth:heartbeat': 'true'}},
            'OS-EXT-SRV-ATTR:host': host,
            'OS-EXT-SRV-ATTR:hypervisor_hostname': host + '.example.org',
            'OS-EXT-AZ:availability_zone': 'nova',
            'OS-EXT-STS:vm_state': 'active', 'OS-EXT-STS:power_state': 1,
            'OS-EXT-STS:task_state': None}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass                    # who asked has died

    def _answer(self, method, *arguments):
        url = parse.urlsplit(self.path)
        status, body = 200, None
        if self.nova.fails:
            status, body = 503, {'error': {'message': 'it is away'}}
        else:
            body = method(url.path, *arguments or [
                parse.parse_qs(url.query)])
            if body is None:
                status, body = 404, {'error': {'message': 'not found'}}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self):
        return json.loads(self.rfile.read(
            int(self.headers['Content-Length'])))

    def do_GET(self):
        self._answer(self.nova.get)

    def do_PUT(self):
        self._answer(self.nova.put, self._body())

    def do_POST(self):
        self._answer(self.nova.post, self._body())

    def log_message(self, *_):
        pass
