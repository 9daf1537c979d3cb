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

"""What a check of the suite is."""

import dataclasses
from typing import Callable, Optional

from nova_vmhealth.conformance import host


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that an agent must, or should, do.

    :ivar name: how it is called on the command line
    :ivar why: why it matters, one sentence
    :ivar run: makes it; returns words to show, or None; raises
        :class:`host.Failed` or :class:`host.Skipped`
    :ivar required: whether an agent that fails it does not conform
    """

    name: str
    why: str
    run: Callable[[host.Host], Optional[str]]
    required: bool = True
