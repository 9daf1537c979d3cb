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

"""Getting around a socket out of reach, and explaining a silent one."""

import pytest

from nova_vmhealth.virt import channel
from nova_vmhealth.virt import channel_trouble
from tests.unit.virt import fakes
from tests.unit.virt.fakes import OTHER
from tests.unit.virt.fakes import UUID

OUT_OF_REACH = channel_trouble.Unreachable(UUID, 1.0, '/the/path', 'EACCES')


class Refused(Exception):
    """What libvirt says no with."""


class Trouble:
    def __init__(self, open_stream='stream of %s'.__mod__, held=()):
        self.background = fakes.Background()
        self.heartbeat = fakes.Heartbeat()
        self.asked = []
        self.held = held
        self.trouble = channel_trouble.ChannelTrouble(
            self.background.submit, open_stream, self.heartbeat.offer,
            self._probe)

    def _probe(self, paths):
        self.asked.append(sorted(paths))
        return set(self.held) & set(paths)


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(channel_trouble.LOG, 'warning',
                        lambda text, values: lines.append(text % values))
    return lines


def test_libvirts_stream_in_the_sockets_place(warnings, monkeypatch):
    lines = []
    monkeypatch.setattr(channel_trouble.LOG, 'info',
                        lambda text, values: lines.append(text % values))
    parts = Trouble()
    parts.trouble.unreachable(OUT_OF_REACH)
    assert parts.heartbeat.calls == []          # a job, not the worker
    parts.background.run()
    parts.trouble.unreachable(OUT_OF_REACH)     # the stream has ended
    parts.background.run()
    assert parts.heartbeat.calls == [('offer', UUID, 'stream of ' + UUID)] * 2
    assert warnings == []
    (line,) = lines
    assert UUID in line and OUT_OF_REACH.reason in line


def test_the_way_that_it_took_is_told_once(monkeypatch):
    lines = []
    monkeypatch.setattr(channel_trouble.LOG, 'info',
                        lambda text, values: lines.append(text % values))
    parts = Trouble()
    for _ in range(2):
        parts.trouble.unreachable(OUT_OF_REACH)
        parts.background.run()
    (line,) = lines
    assert UUID in line and 'EACCES' in line


def test_off_where_the_operator_does_not_want_it():
    parts = Trouble(open_stream=None)
    parts.trouble.unreachable(OUT_OF_REACH)
    assert not parts.background.jobs


def test_a_refusal_is_told_once_until_it_changes(warnings):
    refusals = iter(['no', 'no', 'never', None, 'never'])

    def open_stream(uuid):
        refusal = next(refusals)
        if refusal:
            raise Refused(refusal)
        return 'stream'
    parts = Trouble(open_stream)
    for _ in range(5):
        parts.trouble.unreachable(OUT_OF_REACH)
        parts.background.run()
    assert [line.rsplit(': ')[-1] for line in warnings] == [
        'no', 'never', 'never']
    assert not parts.background.jobs        # the heartbeat asks again
    parts.trouble.forget(UUID)
    assert not parts.trouble._told


def test_one_look_for_all_that_are_not_heard(warnings):
    parts = Trouble(held=[channel.socket_path('instance-2')])
    parts.trouble.unheard(UUID, 'instance-1')
    parts.trouble.unheard(OTHER, 'instance-2')
    parts.background.run()
    assert parts.asked == [[channel.socket_path('instance-1'),
                            channel.socket_path('instance-2')]]
    (line,) = warnings
    assert OTHER in line and channel.socket_path('instance-2') in line
    parts.trouble.unheard(UUID, 'instance-1')
    parts.background.run()
    assert parts.asked[-1] == [channel.socket_path('instance-1')]
