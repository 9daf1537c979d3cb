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

"""Who an event is about: the instance as its notification names it."""

from collections.abc import Mapping
import dataclasses
import types
from typing import Optional


def _empty():
    return types.MappingProxyType({})


@dataclasses.dataclass(frozen=True, slots=True)
class InstanceIdentity:
    """What Nova knows of an instance, as far as a notification tells it.

    The words are those of Nova's own InstancePayload, its ``display_name``
    being ``name`` here. It is a snapshot: whoever makes it decides how old it
    may be.

    :ivar host: name of the compute service
    :ivar node: name of the hypervisor
    :ivar extra_specs: the flavor's
    :ivar state: Nova's vm_state, such as ``active``
    :ivar power_state: as Nova's notifications spell it, such as ``running``
    :ivar host_status: as the API tells it, such as ``UP``; None where the
        one who made the snapshot did not ask
    """

    uuid: str
    name: Optional[str] = None
    tenant_id: Optional[str] = None
    user_id: Optional[str] = None
    host: Optional[str] = None
    node: Optional[str] = None
    availability_zone: Optional[str] = None
    flavor_name: Optional[str] = None
    extra_specs: Mapping[str, str] = dataclasses.field(default_factory=_empty)
    image_uuid: Optional[str] = None
    state: Optional[str] = None
    power_state: Optional[str] = None
    task_state: Optional[str] = None
    metadata: Mapping[str, str] = dataclasses.field(default_factory=_empty)
    host_status: Optional[str] = None
