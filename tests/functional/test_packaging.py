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

"""The package as it is installed: wheel, editable, beside another's nova."""

import email
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PARTS = ('nova_vmhealth', 'LICENSE', 'README.rst', 'pyproject.toml',
         'setup.cfg', 'setup.py')

# What nova.virt.driver.load_compute_driver does with the option's value.
LOAD = """
import sys
left = sorted(name for name in sys.modules if name.split('.')[0] == 'nova')
assert not left, left
from oslo_utils import importutils
import nova.conf
print(importutils.import_class('nova.virt.vmhealth.HealthLibvirtDriver'))
"""
LOADED = "<class 'nova_vmhealth.virt.driver.HealthLibvirtDriver'>\n"

# A consumer's machine, where whatever asks for these is told no.
CONSUMER = """
import sys
for name in 'nova', 'libvirt', 'openstack', 'tooz':
    sys.modules[name] = None
import %(module)s as module
%(call)s
"""


def run(*args, **kwargs):
    """Run a command; a failure shows what it said."""
    done = subprocess.run(
        [str(arg) for arg in args], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*args):
    # Away from this tree, whose egg-info pip would take for an installation.
    return run(sys.executable, '-m', 'pip', '--disable-pip-version-check',
               *args, cwd=tempfile.gettempdir())


@pytest.fixture(scope='module')
def tree(require, tmp_path_factory):
    """A copy of the project without git: a build leaves folders behind."""
    setuptools = importlib.metadata.version('setuptools')
    require(int(setuptools.split('.')[0]) >= 77,
            'a build needs setuptools 77, not %s' % setuptools)
    folder = tmp_path_factory.mktemp('tree')
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name,
                            ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(source, folder)
    return folder


@pytest.fixture(scope='module')
def wheel(tree):
    """The path of the wheel built from this tree."""
    pip('wheel', '--no-deps', '--no-build-isolation', '--no-index',
        '-w', tree / 'dist', tree)
    return next((tree / 'dist').glob('*.whl'))


@pytest.fixture(scope='module')
def content(wheel):
    """What the wheel holds: a dict from a path to its text."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name).decode()
                for name in archive.namelist()}


@pytest.fixture
def beside(tmp_path):
    """An environment of its own that finds nova in another folder.

    So it is where a distribution packages nova and pip installs us.
    """
    folder = tmp_path / 'venv'
    venv.create(folder, with_pip=False)
    site_packages = next(folder.glob('lib/python*/site-packages'))
    other = pathlib.Path(importlib.metadata.distribution('nova').locate_file(
        ''))
    (site_packages / 'zz_other.pth').write_text('%s\n' % other)
    return folder / 'bin' / 'python', site_packages


def part(content, suffix):
    """The text of the one file of the wheel's metadata that ends so."""
    return next(text for name, text in content.items()
                if name.endswith('.dist-info/' + suffix))


def test_pth_file_is_at_the_top(content):
    assert 'nova_vmhealth._finder' in content['nova_vmhealth.pth']
    assert 'nova_vmhealth.pth,' in part(content, 'RECORD')


def test_every_module_and_the_guests_files_are_in(content):
    missing = [str(path.relative_to(ROOT))
               for path in (ROOT / 'nova_vmhealth').rglob('*')
               if path.is_file() and path.suffix != '.pyc'
               and str(path.relative_to(ROOT)) not in content]
    assert missing == []


def test_base_needs_neither_nova_nor_libvirt(content):
    needs = email.message_from_string(
        part(content, 'METADATA')).get_all('Requires-Dist')
    base = [need for need in needs if 'extra ==' not in need]
    assert base
    assert not [need for need in base if re.match('nova|libvirt', need)]
    assert any(re.match('nova>=.*extra == "compute"', need)
               for need in needs)
    assert any(re.match('libvirt-python>=.*extra == "compute"', need)
               for need in needs)


def test_entry_points_name_what_is_there(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    points = next(importlib.metadata.distributions(
        path=[str(tmp_path)])).entry_points
    assert {point.name for point in points.select(
        group='console_scripts')} == {
            'nova-vmhealth', 'nova-vmhealth-inspector', 'vmhealth-guest',
            'vmhealth-guest-conformance'}
    assert points.select(group='nova.api.extra_spec_validators')
    assert points.select(group='oslo.config.opts')
    for point in points:
        point.load()


@pytest.mark.parametrize('module, call', [
    ('nova_vmhealth.cmd.main', "module.main(['--help'])"),
    ('nova_vmhealth.cmd.main', "module.main(['listen', '--help'])"),
    ('nova_vmhealth.cmd.main', "module.main(['host', 'fault', '--help'])"),
    ('nova_vmhealth.client', 'module.connect'),
    ('nova_vmhealth.conformance.main', "module.main(['--list'])"),
    ('nova_vmhealth.notifications.listener', 'module.Listener'),
    ('nova_vmhealth.conf.opts', 'module.list_opts()'),
])
def test_consumers_need_neither_nova_nor_libvirt(module, call):
    code = CONSUMER % {'module': module, 'call': call}
    run(sys.executable, '-c', code, cwd=ROOT)


def test_guest_agent_needs_the_standard_library_only(tmp_path):
    """Also not its own package: in a guest it is one copied file."""
    agent = tmp_path / 'vmhealth-guest'
    run(sys.executable, '-m', 'nova_vmhealth.guest.bundle', agent, cwd=ROOT)
    out = run(sys.executable, '-I', '-S', agent, '--help', cwd=tmp_path)
    assert 'usage' in out.lower()


# The wheel is there already; pip builds each of the others on its own.
@pytest.mark.parametrize('how', [
    'wheel',
    pytest.param('editable', marks=pytest.mark.slow),
    pytest.param('editable strict', marks=pytest.mark.slow)])
def test_nova_finds_the_driver(beside, tree, wheel, how):
    """Nova finds it in another folder than its own, until it is removed."""
    python, site_packages = beside
    before = set(os.listdir(site_packages))
    options = {
        'wheel': [wheel],
        'editable': ['-e', tree],
        'editable strict': [
            '--config-settings', 'editable_mode=strict', '-e', tree],
    }[how]
    pip('--python', python, 'install', '--no-deps', '--no-index',
        *([] if how == 'wheel' else ['--no-build-isolation']), *options)
    assert run(python, '-W', 'ignore', '-c', LOAD,
               cwd=site_packages).endswith(LOADED)
    pip('--python', python, 'uninstall', '-y', 'nova-vmhealth')
    assert set(os.listdir(site_packages)) == before
