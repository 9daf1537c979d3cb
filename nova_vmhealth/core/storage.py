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

"""Storage that fails: I/O errors of several instances, by storage backend.

One instance's I/O error may be its own volume. When enough instances have some
within one window, and their disks lie on the same storage as far as can be
told, the storage is at fault, or the host's way to it. That is over when fewer
than so many still suffer.

An instance suffers from its last error on until it is resumed or started anew,
where QEMU has paused it for that, or for a quiet time, where the error was
only reported to the guest. One that stops or leaves suffers for a quiet time
more: it tells nothing of the storage any more, which does not make that well.
"""

import dataclasses
import math
from typing import Any, Iterable, Mapping, Optional

from nova_vmhealth import exception

# No host has nearly as many instances; it only keeps a caller's mistake from
# filling the memory.
_MAX_FAILURES = 100_000

# A backend that is not known: all such disks count as on one.
UNKNOWN = ''


@dataclasses.dataclass(slots=True)
class _Failure:
    """The I/O errors of one instance on one backend.

    :ivar seen_now: of the last one, monotonic seconds; minus infinity for one
        of an earlier run
    :ivar since_now: when its quiet time began, monotonic seconds
    :ivar paused: whether it is paused for it
    """

    seen_now: float
    since_now: float
    paused: bool


class StorageWatch:
    """Counts who suffers; it is not thread safe.

    Arguments named ``now`` are the caller's monotonic clock, seconds.

    :param instances: fewest instances with an error within the window that
        make a fault; 0: none ever
    :param window_s: seconds
    :param quiet_s: an error that paused nobody is over after so long without
        another, seconds
    """

    def __init__(
        self, instances: int, window_s: float, quiet_s: float,
    ) -> None:
        self._instances = instances
        self._window_s = window_s
        self._quiet_s = quiet_s
        # backend -> instance uuid -> its failure
        self._failures: dict[str, dict[str, _Failure]] = {}
        # backends that are at fault
        self._faulty: set[str] = set()

    # What happens to instances

    def failed(
        self, uuid: str, backend: str, paused: bool, now: float,
    ) -> bool:
        """Take in an I/O error.

        :param backend: of the disk; UNKNOWN where it cannot be told
        :param paused: whether QEMU has paused the instance for it
        :returns: whether the backend is at fault, and was not before
        """
        if not self._instances:
            return False
        failures = self._failures.setdefault(backend, {})
        failure = failures.get(uuid)
        if failure is not None:
            failure.seen_now = failure.since_now = now
            # Errors that were under way when it was paused are only reported.
            failure.paused |= paused
        elif len(failures) < _MAX_FAILURES:
            failures[uuid] = _Failure(now, now, paused)
        if backend in self._faulty or not self._is_enough(failures, now):
            return False
        self._faulty.add(backend)
        return True

    def resumed(self, uuid: str) -> None:
        """Take in that an instance that was paused runs again."""
        for failures in self._failures.values():
            if uuid in failures and failures[uuid].paused:
                del failures[uuid]

    def started(self, uuid: str) -> None:
        """Take in that an instance runs with a new QEMU."""
        for failures in self._failures.values():
            failures.pop(uuid, None)

    def stopped(self, uuid: str, now: float) -> None:
        """Take in that an instance stopped or left: it tells no more."""
        for failures in self._failures.values():
            if uuid in failures and failures[uuid].paused:
                failures[uuid].since_now = now
                failures[uuid].paused = False

    # What others may ask

    def failing(self, backend: str) -> list[str]:
        """Return the instances that suffer from a backend."""
        return list(self._failures.get(backend, ()))

    def next_deadline(self) -> Optional[float]:
        """Return when to call :meth:`handle_timer`; None for never."""
        times = [failure.since_now + self._quiet_s
                 for failures in self._failures.values()
                 for failure in failures.values() if not failure.paused]
        # A resume leaves too few at once.
        times += [-math.inf for backend in self._faulty
                  if self._is_over(backend)]
        return min(times, default=None)

    def handle_timer(self, now: float) -> list[str]:
        """Drop what is over; harmless when called too early.

        :returns: backends that were at fault, and are well
        """
        for backend, failures in list(self._failures.items()):
            for uuid, failure in list(failures.items()):
                if not failure.paused \
                        and failure.since_now + self._quiet_s <= now:
                    del failures[uuid]
            if not failures:
                del self._failures[backend]
        well = [each for each in self._faulty if self._is_over(each)]
        self._faulty.difference_update(well)
        return well

    # Over a restart

    def snapshot(self) -> Optional[dict[str, Any]]:
        """Return what JSON can write down of what is at fault."""
        if not self._faulty:
            return None
        return {backend: {uuid: failure.paused for uuid, failure
                          in self._failures.get(backend, {}).items()}
                for backend in self._faulty}

    def restore(self, record: Any, now: float) -> None:
        """Take up what :meth:`snapshot` gave in an earlier run.

        Nobody listened meanwhile: what is over by itself has all of its time
        again. Where the watch is turned off since, nothing is at fault.

        :raises nova_vmhealth.exception.InvalidRecord: it did not; nothing is
            changed
        """
        if not isinstance(record, Mapping) or not all(
                isinstance(failures, Mapping)
                for failures in record.values()):
            raise exception.InvalidRecord(reason='no faults of storage')
        if not self._instances:
            return
        self._failures = {
            str(backend): {str(uuid): _Failure(-math.inf, now, bool(paused))
                           for uuid, paused in failures.items()}
            for backend, failures in record.items()}
        self._faulty = set(self._failures)

    # Counting

    def _is_enough(
        self, failures: Mapping[str, _Failure], now: float,
    ) -> bool:
        begin = now - self._window_s
        recent = sum(failure.seen_now > begin
                     for failure in failures.values())
        return recent >= self._instances

    def _is_over(self, backend: str) -> bool:
        return len(self._failures.get(backend, ())) < self._instances


def backend_of(path: str, mounts: Iterable[tuple[str, str, str]]) -> str:
    """Say on which storage a disk lies, by the path that libvirt gives.

    :param path: of an I/O error event: of a file or a block device, or the
        name of a network disk, such as ``pool/image``
    :param mounts: (source, mount point, type) of each mounted file system
    :returns: for example ``nfs:server:/export``, ``ext4:/var/lib``,
        ``lvm:vg``, ``network:pool``; UNKNOWN where it cannot be told
    """
    if not path:
        return UNKNOWN
    if path.startswith('/dev/'):
        return _device_backend(path)
    if not path.startswith('/'):
        pool, slash, _image = path.partition('/')
        return f'network:{pool}' if slash and pool else UNKNOWN
    # Of several on one mount point only the last is seen.
    found = max(
        reversed([mount for mount in mounts if _is_below(path, mount[1])]),
        key=lambda mount: len(mount[1]), default=None)
    if found is None:
        return UNKNOWN
    source, point, kind = found
    # What a network file system is mounted from says more than where.
    where = source if ':' in source else point
    return f'{kind}:{where}'


def _device_backend(path: str) -> str:
    # /dev/VG/LV is LVM's, as far as it is no folder of the kernel's or udev's.
    parts = path.split('/')[2:]
    if parts[0] == 'disk' and len(parts) > 2 and '-iscsi-' in parts[2]:
        # ip-ADDRESS:PORT-iscsi-TARGET-lun-N
        return 'iscsi:' + parts[2].partition('-iscsi-')[0].removeprefix('ip-')
    if parts[0] == 'rbd' and len(parts) > 2:
        return f'network:{parts[1]}'
    if len(parts) == 2 and parts[0] not in ('disk', 'mapper', 'loop',
                                            'rbd'):
        return f'lvm:{parts[0]}'
    return UNKNOWN


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip('/') + '/')
