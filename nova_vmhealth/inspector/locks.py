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

"""Which inspector acts: locks that all of them share."""

import contextlib
import hashlib
import threading
from urllib import parse

from oslo_log import log as logging
from tooz import coordination

from nova_vmhealth import exception

LOG = logging.getLogger(__name__)

# Of a lock's name: it may become that of a file, and those of more than 255
# bytes are none.
_MAX_NAME = 200
# The backends let a lock go that nobody holds any more after half a minute and
# more. Whoever has had it for longer than this, seconds, may have lost it
# without a word, while this process was not run.
GOOD_FOR_S = 10.0


class Locks:
    """Locks by name, at a backend of tooz; for all threads.

    :param url: of the backend
    :param member: name of this inspector
    """

    def __init__(self, url, member):
        self._url = url
        self._member = member.encode()
        self._guard = threading.Lock()
        self._coordinator = None

    def hold(self, name):
        """Take a lock if nobody has it.

        :param name: of the lock
        :returns: a context manager that lets it go at its end; None where
            somebody else has it
        :raises nova_vmhealth.exception.CoordinationFailed: the backend does
            not say
        """
        coordinator = self._connected()
        try:
            lock = coordinator.get_lock(lock_name(name))
            if not lock.acquire(blocking=False):
                return None
        # Drivers let errors of their libraries through.
        except Exception as error:
            self._give_up(coordinator)
            raise exception.CoordinationFailed(
                url=_shown(self._url), reason=error) from error
        return self._held(lock)

    @contextlib.contextmanager
    def _held(self, lock):
        try:
            yield
        finally:
            try:
                lock.release()
            except Exception as error:
                # It goes by itself when its time is over.
                LOG.warning('Lock %(name)s is not let go: %(error)s',
                            {'name': lock.name, 'error': error})

    def close(self):
        """Let go of everything."""
        with self._guard:
            coordinator, self._coordinator = self._coordinator, None
        _stop(coordinator)

    def _connected(self):
        with self._guard:
            if self._coordinator is None:
                try:
                    coordinator = coordination.get_coordinator(
                        self._url, self._member)
                    coordinator.start(start_heart=True)
                except Exception as error:
                    raise exception.CoordinationFailed(
                        url=_shown(self._url), reason=error) from error
                self._coordinator = coordinator
            return self._coordinator

    def _give_up(self, coordinator):
        """Connect anew for the next lock."""
        with self._guard:
            if self._coordinator is coordinator:
                self._coordinator = None
        # It may take long where the backend is away.
        threading.Thread(target=_stop, args=(coordinator,), daemon=True,
                         name='vmhealth-coordinator').start()


def lock_name(name):
    """Give a name as all backends take it, as bytes."""
    text = 'vmhealth-' + parse.quote(name, safe='')
    if len(text) > _MAX_NAME:
        text = 'vmhealth-' + hashlib.sha256(name.encode()).hexdigest()
    return text.encode()


def _stop(coordinator):
    if coordinator is None:
        return
    try:
        coordinator.stop()
    # tooz's own, and those of each driver's library.
    except Exception as error:
        LOG.debug('%s', error)


def _shown(url):
    """Leave the password out of a URL."""
    parts = parse.urlsplit(url)
    host = parts.netloc.rpartition('@')[2]
    return f'{parts.scheme}://{host}{parts.path}'


