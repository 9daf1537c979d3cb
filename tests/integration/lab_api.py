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


"""What a user sees, and what an operator does, in the lab's real API."""

import contextlib
import http.client
import json
import threading
import time

from tests.integration import lab
from tests.integration import processes


class Api:
    """Nova's API by plain HTTP: the command line client takes a second."""

    _HEADERS = {'Content-Type': 'application/json',
                'OpenStack-API-Version': 'compute 2.96'}
    _LOGIN = {'auth': {
        'identity': {'methods': ['password'], 'password': {'user': {
            'name': 'admin', 'domain': {'id': 'default'},
            'password': 'secret'}}},
        'scope': {'project': {
            'name': 'admin', 'domain': {'id': 'default'}}}}}

    def __init__(self):
        self._connection = None
        answer, _ = self._request(lab.port(0), 'POST', '/v3/auth/tokens',
                                  self._LOGIN)
        self._token = answer.headers['X-Subject-Token']
        self._connection = None         # that was keystone's

    def get(self, path):
        return self._nova('GET', path)

    def put(self, path, body):
        return self._nova('PUT', path, body)

    def server(self, uuid):
        return self.get('/servers/' + uuid)['server']

    def service(self):
        """The record of the first host's nova-compute."""
        found = self.get('/os-services?binary=nova-compute')['services']
        service, = [each for each in found if each['host'] != lab.SECOND]
        return service

    def change_service(self, **fields):
        """Change the first host's record as an operator does.

        :param fields: of the API, such as status='disabled'
        """
        self.put('/os-services/' + self.service()['id'], fields)

    def _nova(self, method, path, body=None):
        answer, data = self._request(lab.port(4), method, '/v2.1' + path, body,
                                     {'X-Auth-Token': self._token})
        assert answer.status < 300, (method, path, answer.status, data)
        return json.loads(data) if data else None

    def _request(self, port, method, path, body=None, headers=None):
        # Once more where the server has closed a connection that was idle.
        for last in (False, True):
            if self._connection is None:
                self._connection = http.client.HTTPConnection(
                    '127.0.0.1', port, timeout=60)
            try:
                self._connection.request(
                    method, path, body and json.dumps(body),
                    {**self._HEADERS, **(headers or {})})
                answer = self._connection.getresponse()
                return answer, answer.read()
            except (http.client.HTTPException, OSError):
                self._connection.close()
                self._connection = None
                if last:
                    raise


class Watch:
    """Reads a server from the API again and again, on a thread of its own.

    :param read: gives what is watched, such as a host_status
    :ivar seen: (wall clock after the reading, what was read), where it was
        not what was read before
    :ivar slowest: the longest time between two readings, seconds
    """

    EVERY_S = 0.02

    def __init__(self, read):
        self._read = read
        self._stopping = threading.Event()
        self._failure = None
        self.seen = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            while not self._stopping.is_set():
                value = self._read()
                if not self.seen or self.seen[-1][1] != value:
                    self.seen.append((time.time(), value))
                self._stopping.wait(self.EVERY_S)
        except Exception as error:
            self._failure = error

    def wait(self, value, seconds, after=0.0):
        """When it was first read, wall clock, after a time on it."""
        def found():
            assert self._failure is None, self._failure
            return next((when for when, read in self.seen
                         if when >= after and read == value), None)
        try:
            return processes.wait_for(found, seconds, repr(value), 0.01)
        except AssertionError:
            raise AssertionError('no %r within %s s, but %s' % (
                value, seconds, self.seen)) from None

    @property
    def values(self):
        """Everything that was read, each change once."""
        assert self._failure is None, self._failure
        return [value for _, value in self.seen]

    def stop(self):
        self._stopping.set()
        self._thread.join()


@contextlib.contextmanager
def watching_host_status(uuid):
    """A Watch of what a user sees of a server's host."""
    api = Api()
    watch = Watch(lambda: api.server(uuid)['host_status'])
    try:
        processes.wait_for(lambda: watch.values, 10, 'reading')
        yield watch
    finally:
        watch.stop()
