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


"""Fuzz a harness with atheris: ``python -m tests.fuzz sessions [OPTION...]``.

The options are libFuzzer's. It begins with the corpus that is shipped; what it
finds worth keeping goes to the first folder that is named.
"""

import shlex
import sys

from tests.fuzz.corpus import FOLDER

USAGE = 'usage: python -m tests.fuzz {lines,sessions} [LIBFUZZER-ARGUMENT...]'


def main(arguments):
    """Fuzz until something breaks a rule, or an option says to stop."""
    if arguments[:1] not in (['lines'], ['sessions']):
        sys.exit(USAGE)
    try:
        import atheris
    except ImportError:
        sys.exit('atheris is not installed: pip install atheris')
    # What was imported already has no counters in it.
    for name in [name for name in sys.modules
                 if name.startswith(('nova_vmhealth', 'tests.fuzz.'))]:
        del sys.modules[name]
    with atheris.instrument_imports(include=['nova_vmhealth.core']):
        from tests.fuzz.harness import HARNESSES
    kind, *options = arguments
    check = HARNESSES[kind]
    # libFuzzer has a shell run its first argument again, to merge folders.
    myself = '%s -m tests.fuzz %s' % (shlex.quote(sys.executable), kind)
    atheris.Setup([myself, *options, str(FOLDER / kind)],
                  lambda data: check(data) and None)
    atheris.Fuzz()


if __name__ == '__main__':
    main(sys.argv[1:])
