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


"""Makes the file in which the agent is shipped: ``vmhealth-guest``.

``python3 -m nova_vmhealth.guest.bundle OUTPUT`` writes one executable file
that needs nothing but a Python 3.6: a zip archive of the agent's modules. The
same modules always give the same bytes. With ``--cloud-init`` it writes user
data that install it.
"""

import argparse
import base64
import gzip
import io
import os
import pathlib
import sys
import zipfile

HERE = pathlib.Path(__file__).parent
SHEBANG = b'#!/usr/bin/env python3\n'
# The agent's package bears another name in the file, as the host's package
# may be in the same interpreter, in another version, and imported before.
PACKAGE, BUNDLED = 'nova_vmhealth.guest', 'vmhealth_guest'
NOT_BUNDLED = ('__init__.py', 'bundle.py')
MAIN = ('import sys\n\nfrom %s import agent\n\nsys.exit(agent.main())\n'
        % BUNDLED)
# What the user data's template has in the agent's place.
PLACE = 'AGENT_GZ_B64'


def modules():
    """Return the text of each file in the archive, by its name there."""
    found = {'__main__.py': MAIN, BUNDLED + '/__init__.py': ''}
    for path in HERE.glob('*.py'):
        if path.name not in NOT_BUNDLED:
            text = path.read_text(encoding='utf-8')
            found['%s/%s' % (BUNDLED, path.name)] = text.replace(
                'from %s' % PACKAGE, 'from %s' % BUNDLED)
    return found


def make():
    """Return the bytes of the file."""
    output = io.BytesIO()
    output.write(SHEBANG)
    # Not compressed: how tight that is depends on the version of zlib. Where
    # size matters, the whole file can be.
    with zipfile.ZipFile(output, 'a', zipfile.ZIP_STORED) as archive:
        for name, text in sorted(modules().items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text.encode('utf-8'))
    return output.getvalue()


def make_user_data():
    """Return user data for cloud-init that install and start the agent."""
    packed = gzip.compress(make(), mtime=0)
    text = (HERE / 'cloud-init.yaml').read_text(encoding='utf-8')
    return text.replace(PLACE, base64.b64encode(packed).decode('ascii'))


def main(argv=None):
    """Write what the arguments ask for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog='python3 -m %s.bundle' % PACKAGE,
        description='Writes the guest agent as one file.')
    parser.add_argument('output', metavar='OUTPUT')
    parser.add_argument('--cloud-init', action='store_true',
                        help='write user data for cloud-init that install it')
    options = parser.parse_args(argv)
    if options.cloud_init:
        with open(options.output, 'w', encoding='utf-8') as output:
            output.write(make_user_data())
    else:
        with open(options.output, 'wb') as output:
            output.write(make())
        os.chmod(options.output, 0o755)
    return 0


if __name__ == '__main__':
    sys.exit(main())
