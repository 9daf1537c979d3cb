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

"""The finder behind ``compute_driver = vmhealth.HealthLibvirtDriver``."""

import ast
import importlib.util
import pathlib
import subprocess
import sys
import types

import pytest

import nova_vmhealth
from nova_vmhealth import _finder
from nova_vmhealth import virt

ROOT = pathlib.Path(__file__).parents[2]

# Prints what one execution of the .pth line, given as the argument, has
# imported and added.
REPORT = """
import sys
before = set(sys.modules)
finders = len(sys.meta_path)
exec(sys.argv[1])
print(sorted(set(sys.modules) - before), len(sys.meta_path) - finders)
"""


def pth_line():
    """The line that setup.py puts into the .pth file."""
    for node in ast.parse((ROOT / 'setup.py').read_text()).body:
        if (isinstance(node, ast.Assign)
                and node.targets[0].id == 'PTH_LINE'):
            return ast.literal_eval(node.value)
    raise AssertionError('setup.py has no PTH_LINE')


def start_python(folder):
    """Run the .pth line in an interpreter that has ``folder`` on its path."""
    path = 'import sys; sys.path.insert(0, %r)' % str(folder)
    return subprocess.run(
        [sys.executable, '-I', '-S', '-c', path + REPORT, pth_line()],
        capture_output=True, text=True, check=True)


@pytest.mark.parametrize('name', [
    'nova', 'nova.virt', 'nova.virt.libvirt', 'nova.virt.vmhealth.driver',
    'nova.virt.vmhealth2', 'vmhealth', 'nova_vmhealth', '',
])
def test_other_modules_are_left_to_others(name):
    assert _finder.DriverFinder.find_spec(name) is None


def test_the_module_has_the_driver(monkeypatch):
    driver = types.ModuleType('nova_vmhealth.virt.driver')
    driver.HealthLibvirtDriver = object()
    monkeypatch.setitem(sys.modules, driver.__name__, driver)
    monkeypatch.setattr(virt, 'driver', driver, raising=False)

    spec = _finder.DriverFinder.find_spec('nova.virt.vmhealth')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.__name__ == 'nova.virt.vmhealth'
    assert module.HealthLibvirtDriver is driver.HealthLibvirtDriver


def test_installed_once_and_last(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [object()])
    _finder.install()
    _finder.install()
    assert sys.meta_path[1:] == [_finder.DriverFinder]


def test_the_pth_file_is_one_import_line():
    # site.py executes a line only if it begins so, and each line on its own.
    line = pth_line()
    assert line.startswith('import ')
    assert line.count('\n') == 1 and line.endswith('\n')


def test_start_of_python_imports_two_small_modules():
    done = start_python(pathlib.Path(nova_vmhealth.__file__).parents[1])
    assert done.stdout == "['nova_vmhealth', 'nova_vmhealth._finder'] 1\n"
    assert done.stderr == ''


@pytest.mark.parametrize('content', [None, 'import nowhere', '1 +'])
def test_start_of_python_survives(tmp_path, content):
    """The package is gone, lacks something, or is broken: not a word."""
    if content is not None:
        package = tmp_path / 'nova_vmhealth'
        package.mkdir()
        (package / '__init__.py').write_text('')
        (package / '_finder.py').write_text(content)
    done = start_python(tmp_path)
    assert done.stdout.endswith(' 0\n')
    assert done.stderr == ''
