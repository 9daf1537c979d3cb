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


"""What the ledger knows, on disk and back."""


class SavedLedger:
    """Called on the worker only, but for :meth:`restore` before it starts.

    :param ledger: nova_vmhealth.core.ledger.Ledger
    :param entry_of: gives the identity.Entry of an instance, or None
    """

    def __init__(self, ledger, entry_of):
        self._ledger = ledger
        self._entry_of = entry_of

    def restore(self, pages, now, wall):
        """Take up what an earlier run wrote down.

        :param pages: instance uuid -> text that :meth:`changes` gave
        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        """

    def changes(self, now, wall):
        """Return what has changed since the last call.

        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        :returns: instance uuid -> text to write down, None for an instance
            that nothing is known of any more
        """
        return {}
