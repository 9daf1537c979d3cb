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

"""Imports run one way between the rooms of the package.

A room may import what its row names, and the standard library. That is what
lets a consumer install the listener without nova and libvirt, and the core be
tested without a clock.
"""

import ast
import pathlib
import sys

import pytest

import nova_vmhealth

PACKAGE = pathlib.Path(nova_vmhealth.__file__).parent

OURS = 'nova_vmhealth.'
OSLO = (
    'oslo_config', 'oslo_context', 'oslo_log', 'oslo_messaging',
    'oslo_serialization', 'oslo_utils', 'oslo_versionedobjects',
)

ALLOWED = {
    '__init__': (),
    '_finder': (OURS + 'virt.driver',),
    'exception': (),
    'core': (OURS + 'core', OURS + 'exception'),
    # The agent is copied into guests that have nothing else of ours.
    'guest': (OURS + 'guest',),
    # The bus, for every process of ours.
    'configuration': OSLO,
    'broker': (OURS + 'exception', *OSLO),
    'rpcapi': OSLO,
    'conf': (OURS + 'conf', OURS + 'core', OURS + 'exception', *OSLO),
    'extra_specs': (
        OURS + 'conf', OURS + 'core', OURS + 'exception',
        OURS + 'extra_specs', 'nova.api', 'nova.exception', *OSLO,
    ),
    'notifications': (
        OURS + 'broker', OURS + 'conf', OURS + 'core', OURS + 'exception',
        OURS + 'notifications', *OSLO,
    ),
    'virt': (
        OURS + 'broker', OURS + 'conf', OURS + 'core', OURS + 'exception',
        OURS + 'notifications', OURS + 'rpcapi', OURS + 'virt',
        # Never libvirt: Nova's tests put their own in its place.
        'nova', *OSLO,
    ),
    'bridges': (
        OURS + 'bridges', OURS + 'conf', OURS + 'core', OURS + 'exception',
        OURS + 'notifications.listener', *OSLO,
    ),
    # Monitors report by this, and have neither nova nor libvirt.
    'client': (
        OURS + 'broker', OURS + 'client', OURS + 'configuration',
        OURS + 'core', OURS + 'exception', OURS + 'rpcapi', *OSLO,
    ),
    # Runs on a machine that has neither nova nor libvirt.
    'inspector': (
        OURS + 'broker', OURS + 'conf', OURS + 'configuration', OURS + 'core',
        OURS + 'exception', OURS + 'inspector', OURS + 'notifications',
        OURS + 'rpcapi', 'openstack', 'tooz', *OSLO,
    ),
    # Whoever writes an agent needs this and nothing else of ours.
    'conformance': (
        OURS + 'conformance', OURS + 'core', OURS + 'exception',
    ),
    # Neither nova nor what needs it: the command line is for consumers too.
    'cmd': (
        OURS + 'bridges', OURS + 'broker', OURS + 'client', OURS + 'cmd',
        OURS + 'conf', OURS + 'configuration', OURS + 'core',
        OURS + 'exception', OURS + 'guest', OURS + 'inspector',
        OURS + 'notifications', OURS + 'rpcapi', 'cliff', *OSLO,
    ),
}

# What a single module may import besides, and has to do without.
OPTIONAL = {
    'core/decoding.py': ('orjson',),
    'virt/metrics.py': ('prometheus_client',),
}


def imported_names(source, package):
    """Yield the full dotted name of everything that the source imports.

    Imports within functions count: a late import is still a direction.

    :param source: the text of a module
    :param package: the dotted name of the package that the module lies in
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parents = package.split('.')
                parents = parents[:len(parents) + 1 - node.level]
                base = '.'.join([*parents, base]).rstrip('.')
            for alias in node.names:
                yield '%s.%s' % (base, alias.name)


def is_allowed(name, allowed):
    """Whether the name is in the standard library or below a row's entry."""
    return name.split('.')[0] in sys.stdlib_module_names or any(
        name == entry or name.startswith(entry + '.') for entry in allowed)


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def modules():
    return sorted(PACKAGE.rglob('*.py'))


@pytest.mark.parametrize(
    'path', modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    assert room_of(path) in ALLOWED, 'a new room needs a row in ALLOWED'
    package = '.'.join(path.relative_to(PACKAGE.parent).parent.parts)
    allowed = (ALLOWED[room_of(path)]
               + OPTIONAL.get(str(path.relative_to(PACKAGE)), ()))
    wrong = [name for name in imported_names(path.read_text(), package)
             if not is_allowed(name, allowed)]
    assert wrong == []


@pytest.mark.parametrize('room, source, wrong', [
    ('core', 'import nova', True),
    ('core', 'import os, oslo_log.log', True),
    ('core', 'import orjson', True),
    ('core', 'from nova_vmhealth import exception', False),
    ('core', 'from nova_vmhealth import virt', True),
    ('core', 'def late():\n    from nova_vmhealth.virt import host', True),
    ('core', 'from . import vocabulary', False),
    ('core', 'from .. import virt', True),
    ('core', 'from ..virt import host', True),
    ('guest', 'import json, os.path', False),
    ('guest', 'from nova_vmhealth.core import protocol', True),
    ('bridges', 'from nova_vmhealth.notifications import listener', False),
    ('bridges', 'from nova_vmhealth.notifications import publisher', True),
    ('extra_specs', 'from nova.api.validation import extra_specs', False),
    ('extra_specs', 'from nova import objects', True),
    ('cmd', 'import libvirt', True),
    ('conf', 'import oslo_configuration', True),
])
def test_the_check_itself(room, source, wrong):
    names = imported_names(source, 'nova_vmhealth.' + room)
    assert wrong == any(
        not is_allowed(name, ALLOWED[room]) for name in names)


def test_start_of_python_stays_cheap():
    """The .pth file makes every interpreter import these two."""
    assert list(imported_names(
        (PACKAGE / '__init__.py').read_text(), 'nova_vmhealth')) == []
    tree = ast.parse((PACKAGE / '_finder.py').read_text())
    at_start = [node for node in tree.body
                if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node) for node in at_start] == ['import sys']
