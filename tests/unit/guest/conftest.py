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


"""Fixtures of the agent's tests."""

import logging
import os
import tty

import pytest


@pytest.fixture(autouse=True)
def levels(caplog):
    """The agent's level: other tests of the process change the root's."""
    caplog.set_level(logging.WARNING, 'vmhealth-guest')


@pytest.fixture
def host():
    """A pseudo-terminal in the port's place: its master is the host."""
    master, slave = os.openpty()
    tty.setraw(slave)
    path = os.ttyname(slave)
    yield master, path
    os.close(slave)
    os.close(master)


@pytest.fixture
def program(tmp_path):
    """A function that writes an executable into tmp_path."""
    def write(name, text='#!/bin/sh\n', mode=0o755):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return path

    return write
