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

"""What the ledger knows, on disk and back.

A record is a line of JSON: an instance's page, and who the instance is, so
that the end of its conditions can be told when it has left meanwhile and
nova-conductor does not know it any more. Other parts of the driver keep
records of their own beside them.
"""

import json

from oslo_log import log as logging

from nova_vmhealth.core import saving
from nova_vmhealth import exception
from nova_vmhealth.virt import identity_record

LOG = logging.getLogger(__name__)

# The name of the record that says which run of the host's kernel it was.
_BOOT = 'boot'
_BOOT_ID = '/proc/sys/kernel/random/boot_id'


class SavedLedger:
    """Called on the worker only, but for :meth:`restore` before it starts.

    :param ledger: nova_vmhealth.core.ledger.Ledger
    :param cache: nova_vmhealth.virt.identity.InstanceCache
    :param boot: stands for this run of the host's kernel
    """

    def __init__(self, ledger, cache, boot=None):
        self._ledger = ledger
        self._cache = cache
        self._boot = _boot() if boot is None else boot
        # instances whose page was taken up
        self._restored = set()
        # name -> what gives the record of another part now
        self._snapshots = {_BOOT: lambda: self._boot}
        # name -> text of another part's record on disk
        self._kept = {}
        # what changes() has to return, name -> text, None to drop it
        self._texts = {}
        # names of the records that could not be made when last tried
        self._failing = set()

    # -- at the start --------------------------------------------------------

    def restore(self, records, now, wall):
        """Take up what an earlier run wrote down.

        :param records: instance uuid or name -> text that :meth:`changes`
            gave
        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        """
        # Where the kernel does not say so it may be another boot.
        same_boot = self._boot and records.get(_BOOT) in (
            None, _text({'kept': self._boot}))
        for name, text in records.items():
            try:
                self._restore(name, text, now, wall, same_boot)
            except (TypeError, ValueError, RecursionError,
                    exception.InvalidRecord) as error:
                self._texts[name] = None
                LOG.warning('What was saved of %(name)s is not used: '
                            '%(error)s', {'name': name, 'error': error})

    def _restore(self, name, text, now, wall, same_boot):
        record = json.loads(text)
        if not isinstance(record, dict):
            raise exception.InvalidRecord(reason='it is no object')
        if 'kept' in record:
            self._kept[name] = text
            return
        entry = identity_record.restored(record.get('instance'))
        page = record.get('page')
        if not same_boot:
            page = saving.of_another_boot(page)
        if not self._ledger.restore(name, page, now, wall):
            LOG.warning('What was saved of %(name)s is used in part only: '
                        'another release wrote it', {'name': name})
        if not same_boot:
            self._ledger.rewrite(name)
        self._cache.restore(name, entry)
        self._restored.add(name)

    def go_on_after(self, records):
        """Number what is told from now on after the events of an earlier run.

        Its records could not be read at the start. What else they know is not
        taken up: the ledger has gone on without it.

        :param records: as for :meth:`restore`
        :returns: what was kept back for another host's number, in order
        """
        events = []
        for name, text in records.items():
            # Only what is written once more stays.
            self._texts[name] = None
            try:
                page = saving.Record(json.loads(text)['page'])
                events += self._ledger.adopt(name, page.count('sequence'))
            except (KeyError, TypeError, ValueError, RecursionError,
                    exception.InvalidRecord):
                continue            # another part's, or none of ours
        return events

    def instances(self):
        """Return the instances that were taken up and not dropped since.

        From any thread.

        :returns: their uuids
        """
        return frozenset(self._restored)

    def session_of(self, uuid):
        """Return how the heartbeat of a guest that runs has to begin.

        :returns: nova_vmhealth.core.session_table.Guest
        """
        return self._ledger.guest(uuid)

    def rebooted(self, uuid):
        """Say whether a guest had answered, and rebooted by itself since."""
        return self._ledger.rebooted(uuid)

    def beat_when_saved(self, uuid):
        """Say whether a guest had answered when Nova saved it to disk."""
        return self._ledger.beat_when_saved(uuid)

    def said_of(self, uuid):
        """Return what a guest said that is not well and was told.

        :returns: name of the audit, empty for the guest as a whole -> Health
        """
        return self._ledger.said(uuid)

    # -- other parts ---------------------------------------------------------

    def keep(self, name, snapshot):
        """Write down a record of another part, too, whenever it changes.

        :param name: of the record; no instance's uuid
        :param snapshot: called after each of the worker's turns, returns what
            JSON can write down, None for nothing; has to be quick
        """
        self._snapshots[name] = snapshot

    def kept(self, name):
        """Return what was written down for :meth:`keep` last.

        :returns: what the snapshot was; None where there is none
        """
        text = self._kept.get(name)
        return None if text is None else json.loads(text)['kept']

    # -- after each turn of the worker ---------------------------------------

    def changes(self, now, wall):
        """Return what has changed since the last call.

        :param now: monotonic time, seconds
        :param wall: seconds since the epoch
        :returns: instance uuid or name -> text to write down, None for what
            is to be dropped
        """
        for uuid in self._ledger.touched():
            if not self._safely(self._take_page, uuid, now, wall):
                self._ledger.rewrite(uuid)
        for name in self._snapshots:
            self._safely(self._take_part, name)
        texts, self._texts = self._texts, {}
        return texts

    def rewrite_all(self):
        """Have :meth:`changes` return everything: nothing of it is saved."""
        self._ledger.rewrite_all()
        self._kept.clear()

    def _safely(self, take, name, *times):
        try:
            take(name, *times)
        except Exception:
            # A defect in one record must not keep the others from the disk.
            # It is tried again each time, and told once.
            if name not in self._failing:
                self._failing.add(name)
                LOG.exception('The record of %s cannot be made', name)
            return False
        self._failing.discard(name)
        return True

    def _take_page(self, uuid, now, wall):
        for page in self._ledger.changed(uuid, now, wall).values():
            entry = self._cache.get(uuid)
            # A page of nobody is about to be forgotten.
            if page is None or entry is None:
                self._texts[uuid] = None
                self._restored.discard(uuid)
            else:
                self._texts[uuid] = _text({
                    'page': page,
                    'instance': identity_record.record_of(entry)})

    def _take_part(self, name):
        record = self._snapshots[name]()
        text = None if record is None else _text({'kept': record})
        if text != self._kept.get(name):
            self._kept[name] = self._texts[name] = text


def _boot():
    """Return what stands for this run of the kernel, empty if none does."""
    try:
        with open(_BOOT_ID) as source:
            return source.read().strip()
    except OSError as error:
        LOG.warning('No boot of this host is told from another: %s', error)
        return ''


def _text(record):
    """Write down a record, in as few bytes as JSON allows."""
    text = json.dumps(record, ensure_ascii=False, separators=(',', ':'))
    # Half a character, as a tenant may have written it into some metadata,
    # must not keep all the others from the disk.
    return text.encode('utf-8', 'replace').decode()
