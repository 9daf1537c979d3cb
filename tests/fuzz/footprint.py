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


"""How much memory something holds, without knowing how it is built."""

import gc
import sys
import types

# What is shared by everybody, and leads to everything else.
_SHARED = (type, types.ModuleType, types.FunctionType, types.MethodType,
           types.BuiltinFunctionType)


def footprint(root, besides=()):
    """Return the size of everything that can be reached, bytes.

    :param root: any object
    :param besides: objects that are not its own
    """
    seen = {id(thing) for thing in besides}
    waiting = [root]
    total = 0
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, _SHARED):
            continue
        seen.add(id(thing))
        total += sys.getsizeof(thing)
        waiting.extend(gc.get_referents(thing))
    return total
