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

"""Which audits of a guest have a place on the board."""

import math

from nova_vmhealth.core import audits
from nova_vmhealth.core.protocol import AuditReport
from nova_vmhealth.core.vocabulary import Health

H, U = Health.HEALTHY, Health.UNHEALTHY
FULL = [AuditReport('a%02d' % n, H, '') for n in range(audits.MAX_AUDITS)]
NEW = AuditReport('new', U, '')


def test_one_that_waits_for_a_place_gives_the_session_something_to_do():
    """A session that has nothing to do compares answers, and reads none."""
    board = audits.AuditBoard()
    board.take(None, FULL, 100.0)

    assert board.take(None, [NEW], 100.5) == []
    assert board.next_deadline() == 101.0
    assert board.flush(101.0) == []
    assert board.take(None, [NEW], 101.0) == [
        audits.HealthChanged('new', U, '')]
    assert board.next_deadline() == math.inf
    assert board.ignored == 0


def test_what_the_message_mentions_makes_no_way():
    board = audits.AuditBoard()
    board.take(None, FULL, 100.0)

    assert board.take(None, [NEW, *FULL], 102.0) == []
    assert board.take(None, [*FULL, NEW], 104.0) == []
    assert board.ignored == 2


def test_what_was_not_told_to_be_healthy_makes_no_way():
    board = audits.AuditBoard()
    board.take(None, [AuditReport(each.name, U, '') for each in FULL], 100.0)
    board.take(None, FULL, 100.5)

    # They wait for their time: it must be told first that they are well.
    assert board.take(None, [NEW], 101.0) == []
    assert [change.audit for change in board.flush(101.0)] == [
        each.name for each in FULL]
    assert [change.audit for change in board.take(None, [NEW], 102.0)] == [
        'new']


def test_the_guest_as_a_whole_makes_no_way():
    board = audits.AuditBoard()
    board.take(H, FULL, 100.0)

    board.take(None, [NEW], 102.0)

    assert board.take(H, [], 104.0) == [audits.HealthChanged('new', H, '')]
