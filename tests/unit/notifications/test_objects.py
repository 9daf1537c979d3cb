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

"""The contract changes only together with its version.

A failure here says that an object's fields are not what they were: raise the
VERSION of the object and of each that contains it (a minor one for a field or
a word more, a major one for anything else), tell it in a release note, correct
the sample files, and only then the fingerprint.
"""

from oslo_versionedobjects import base
from oslo_versionedobjects import fixture
import pytest

from nova_vmhealth.core import vocabulary
from nova_vmhealth.notifications import objects

FINGERPRINTS = {
    'ConditionPayload': '1.1-d20f74e3a9be7a2f995cb3445c348ea0',
    'FlavorPayload': '1.0-b8433e442896c8411ce9041aba2afb0b',
    'HeartbeatPayload': '1.0-6571019c2291d82592ad601bb35cbe22',
    'HostHealthPayload': '1.2-2b41ee415627e021ca4cafd6a172ca64',
    'InstanceHealthPayload': '1.2-95390f46bab26fc933a9895a1445f720',
    'InstanceMaintenancePayload': '1.0-fe9afb6f990625f3c5228b5b7121b17c',
}


def payload_classes():
    return {
        name: [each] for name, each in vars(objects).items()
        if isinstance(each, type)
        and issubclass(each, objects.NotificationObject)
        and each is not objects.NotificationObject}


def test_fingerprints():
    checker = fixture.ObjectVersionChecker(payload_classes())
    expected, actual = checker.test_hashes(FINGERPRINTS)
    assert actual == expected


def test_a_new_cause_changes_the_fingerprint(monkeypatch):
    before = fixture.ObjectVersionChecker(payload_classes()).get_hashes()
    causes = [cause.value for cause in vocabulary.Cause]
    monkeypatch.setitem(
        objects.ConditionPayload.fields, 'cause',
        objects.fields.EnumField(valid_values=[*causes, 'moved_away']))
    after = fixture.ObjectVersionChecker(payload_classes()).get_hashes()
    assert after['ConditionPayload'] != before['ConditionPayload']


def test_nova_compute_does_not_see_them():
    registered = base.VersionedObjectRegistry.obj_classes()
    ours = {each for [each] in payload_classes().values()}
    assert not ours & {
        each for classes in registered.values() for each in classes}


@pytest.mark.parametrize('name, words', [
    ('cause', vocabulary.Cause),
    ('severity', vocabulary.Severity),
    ('transition', vocabulary.Transition),
    ('health', vocabulary.Health),
    ('previous_health', vocabulary.Health),
])
def test_words_come_from_closed_sets(name, words):
    for word in words:
        payload = objects.InstanceHealthPayload(**{name: word.value})
        assert getattr(payload, name) == word.value
    with pytest.raises(ValueError, match='feeling poorly'):
        objects.InstanceHealthPayload(**{name: 'feeling poorly'})


@pytest.mark.parametrize('name, words', [
    ('cause', vocabulary.HostCause),
    ('severity', vocabulary.Severity),
    ('transition', vocabulary.Transition),
    ('status', vocabulary.HostStatus),
    ('action', vocabulary.HostAction),
])
def test_words_of_hosts_come_from_closed_sets(name, words):
    for word in words:
        payload = objects.HostHealthPayload(**{name: word.value})
        assert getattr(payload, name) == word.value
    with pytest.raises(ValueError, match='haunted'):
        objects.HostHealthPayload(**{name: 'haunted'})


def test_stages_come_from_a_closed_set():
    for word in vocabulary.MaintenanceStage:
        payload = objects.InstanceMaintenancePayload(stage=word.value)
        assert payload.stage == word.value
    with pytest.raises(ValueError, match='postponed'):
        objects.InstanceMaintenancePayload(stage='postponed')
