#!/usr/bin/env python3
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


"""Make the documentation's table of the heartbeat session's transitions.

Usage: tools/session_diagram.py, from anywhere, after a change of
nova_vmhealth/core/session_table.py. A unit test tells when it is due.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nova_vmhealth.core import session_table    # noqa: E402

TARGET = ROOT / 'doc' / 'source' / 'contributor' / 'session_table.rst'

HEAD = """\
..
   Made by tools/session_diagram.py from nova_vmhealth/core/session_table.py:
   change that table, not this file.

==============================
The heartbeat session's states
==============================

Two machines make a session: the channel, and what the host knows of the
guest. An event that is not in a state's rows is refused there and changes
nothing: that is a programming error of the host, and nothing that a guest
sends can cause it.
"""

MACHINES = ((session_table.Link, 'The channel'),
            (session_table.Guest, 'The guest'))


def render():
    """Return the text of the page."""
    parts = [HEAD]
    for states, title in MACHINES:
        parts.append('\n%s\n%s\n\n' % (title, '-' * len(title)))
        parts.append('.. list-table::\n   :header-rows: 1\n\n'
                     '   * - State\n     - Event\n     - Next state\n')
        for state in states:
            for event, following in session_table.TRANSITIONS[state].items():
                parts.append('   * - %s\n     - %s\n     - %s\n' % (
                    state.value, event.value, following.value))
    return ''.join(parts)


if __name__ == '__main__':
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(render(), encoding='utf-8')
