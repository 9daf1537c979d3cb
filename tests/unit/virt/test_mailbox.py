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


"""What is put into a mailbox wakes its thread and is taken in order."""

import pytest

from nova_vmhealth.virt import mailbox
from nova_vmhealth.virt import native

# The mailbox is a native thread's, in both modes.
select = native.original('select')
threading = native.original('threading')


@pytest.fixture
def poll():
    with select.epoll() as poll:
        yield poll


@pytest.fixture
def box(poll):
    box = mailbox.Mailbox(poll)
    yield box
    box.close()


def test_what_is_put_on_any_thread_wakes_and_is_taken_in_order(box, poll):
    assert not box and poll.poll(0) == []
    putter = threading.Thread(
        target=lambda: [box.put(print, number) for number in range(3)])
    putter.start()
    putter.join()
    assert poll.poll(5) == [(box.fileno(), select.EPOLLIN)]
    box.drain()
    assert poll.poll(0) == []
    assert [box.take() for _ in range(len(box))] == [
        (print, (number,)) for number in range(3)]
    with pytest.raises(IndexError):
        box.take()


def test_a_full_one_wakes_all_the_same_and_never_blocks(box, poll):
    for _ in range(100000):
        box.wake()
    assert poll.poll(0) == [(box.fileno(), select.EPOLLIN)]
    while poll.poll(0):
        box.drain()
    box.drain()             # nothing is there, and that is no error
    box.put(print)
    assert poll.poll(0) and len(box) == 1


def test_one_that_is_closed_takes_no_harm(poll):
    box = mailbox.Mailbox(poll)
    box.close()
    box.put(print)
    assert len(box) == 1
