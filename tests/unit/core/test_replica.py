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

import json

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_vmhealth.core import replica
from nova_vmhealth import exception

WALL = 1_700_000_000.0
DAY = 24 * 3600.0
# Nothing that is dropped in a story is to be forgotten by then.
BEFORE = WALL - 2 * 3600


@pytest.fixture
def one():
    return replica.Replica('one')


def over_the_wire(records):
    return json.loads(json.dumps(records))


def sync(source, target, wall=WALL):
    return target.merge(over_the_wire(source.records()), wall)


def test_keeps_copies(one):
    value = {'a': [1]}
    assert one.put('window/a', value, WALL)
    value['a'].append(2)
    one.get('window/a')['a'].append(3)
    one.items('window/')['window/a']['a'].append(4)
    assert one.get('window/a') == {'a': [1]}
    assert one.get('window/b') is None


def test_lists_by_prefix(one):
    for key in ('window/a', 'window/b', 'mark/a'):
        one.put(key, {'key': key}, WALL)
    one.drop('window/b', WALL, WALL + DAY)
    assert one.items('window/') == {'window/a': {'key': 'window/a'}}


@pytest.mark.parametrize('value', [
    None, [], 'x', {'a': object()}, {'a': float('nan')}])
def test_refuses_what_is_no_value(one, value):
    with pytest.raises((TypeError, ValueError)):
        one.put('window/a', value, WALL)
    assert one.records() == {}


def test_what_was_written_last_holds_wherever(one):
    two = replica.Replica('two')
    one.put('window/a', {'by': 'one'}, WALL)
    two.put('window/a', {'by': 'two'}, WALL + 1)
    assert sync(one, two) == []
    assert sync(two, one) == ['window/a']
    assert one.get('window/a') == two.get('window/a') == {'by': 'two'}
    assert one.digest() == two.digest()


def test_a_member_whose_clock_is_behind_writes_over_what_it_knows(one):
    two = replica.Replica('two')
    one.put('window/a', {'by': 'one'}, WALL + 3600)
    sync(one, two)
    two.put('window/a', {'by': 'two'}, WALL)
    assert sync(two, one) == ['window/a']
    assert one.get('window/a') == {'by': 'two'}
    one.drop('window/a', WALL - 3600, WALL + DAY)
    sync(one, two)
    assert two.get('window/a') is None


def test_names_decide_between_writes_of_the_same_moment(one):
    two = replica.Replica('two')
    one.put('window/a', {'by': 'one'}, WALL)
    two.put('window/a', {'by': 'two'}, WALL)
    sync(one, two)
    sync(two, one)
    assert one.get('window/a') == two.get('window/a') == {'by': 'two'}


def test_a_dropped_key_stays_away_until_it_is_forgotten(one):
    two = replica.Replica('two')
    one.put('window/a', {}, WALL)
    sync(one, two)
    one.drop('window/a', WALL + 1, WALL + 10)
    assert one.get('window/a') is None
    assert one.dropped_at('window/a') == WALL + 1
    assert sync(two, one, WALL + 2) == []
    assert sync(one, two, WALL + 2) == ['window/a']
    one.expire(WALL + 9.9)
    assert one.dropped_at('window/a') is not None
    one.expire(WALL + 10)
    assert one.dropped_at('window/a') is None
    assert one.records() == {}
    # The other has not forgotten it yet, which brings nothing back.
    assert sync(two, one, WALL + 10) == []
    assert one.records() == {}


def test_a_drop_that_comes_late_still_counts(one):
    two = replica.Replica('two')
    one.put('window/a', {}, WALL)
    sync(one, two)
    one.drop('window/a', WALL + 1, WALL + 10)
    assert sync(one, two, WALL + 11) == ['window/a']
    assert two.get('window/a') is None


def test_drops_only_what_is_there(one):
    one.drop('window/a', WALL, WALL + 10)
    assert one.records() == {}
    one.put('window/a', {}, WALL)
    one.drop('window/a', WALL, WALL + 10)
    at = one.dropped_at('window/a')
    one.drop('window/a', WALL + 5, WALL + 15)
    assert one.dropped_at('window/a') == at


def test_nothing_is_remembered_without_end(one):
    one.put('window/a', {}, WALL)
    one.drop('window/a', WALL, float('inf'))
    json.dumps(one.records(), allow_nan=False)
    one.expire(WALL + replica.MAX_KEEP_S - 1)
    assert one.dropped_at('window/a') is not None
    one.expire(WALL + replica.MAX_KEEP_S + 1)
    assert one.dropped_at('window/a') is None


def test_the_digest_is_that_of_all_that_is_known(one):
    two = replica.Replica('two')
    seen = {one.digest()}
    for step in (lambda: one.put('mark/a', {}, WALL),
                 lambda: one.put('mark/a', {}, WALL),
                 lambda: one.put('mark/b', {}, WALL),
                 lambda: one.drop('mark/b', WALL, WALL + 9)):
        step()
        seen.add(one.digest())
    assert len(seen) == 5
    sync(one, two)
    assert two.digest() == one.digest()


def test_says_what_is_to_be_read_anew(one):
    one.put('mark/a', {}, WALL)
    one.put('window/a', {}, WALL)
    assert one.take_changed('mark/') == {'mark/a'}
    assert one.take_changed('mark/') == set()
    one.put('mark/b', {}, WALL)
    one.put('window/b', {}, WALL)
    one.put('mark', {}, WALL)
    one.drop('mark/a', WALL, WALL)
    assert one.take_changed('mark/') == {'mark/a', 'mark/b'}
    one.expire(WALL)
    assert one.take_changed('mark/') == {'mark/a'}
    assert one.take_changed('window/') == {'window/a', 'window/b'}


def test_says_what_is_to_be_written_down_anew(one):
    one.put('mark/a', {}, WALL)
    one.put('mark/b', {}, WALL)
    assert one.take_changes() == {'mark/a', 'mark/b'}
    assert one.take_changes() == set()
    one.drop('mark/a', WALL, WALL + 1)
    one.merge({'mark/c': {'at': 1, 'by': 'two', 'value': {}}}, WALL)
    assert one.take_changes() == {'mark/a', 'mark/c'}
    one.expire(WALL + 1)
    changes = one.take_changes()
    assert changes == {'mark/a'}
    assert one.records(changes) == {}
    assert set(one.records(['mark/b'])) == {'mark/b'}


def test_goes_on_after_a_restart(one):
    one.put('window/a', {'a': 1}, WALL)
    one.put('window/b', {}, WALL)
    one.drop('window/b', WALL, WALL + 9)
    again = replica.Replica('one')
    assert sync(one, again) == ['window/a']
    assert again.records() == one.records()
    assert again.ignored == 0


# -- what must not come in ----------------------------------------------------

@pytest.mark.parametrize('records', [None, [], 'x', 7])
def test_what_is_no_map_at_all(one, records):
    with pytest.raises(exception.InvalidRecord):
        one.merge(records, WALL)


GOOD = {'at': int(WALL * 1e6), 'by': 'two', 'value': {'a': 1}}
LONG = 'x' * (replica.MAX_KEY - 6)


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {'a': value}
    return value


def without(name):
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize('key, record', [
    ('', GOOD),
    ('mark/' + 'x' * replica.MAX_KEY, GOOD),
    ('mark/\ud800', GOOD),
    ('mark/a\nb', GOOD),
    (7, GOOD),
    ('mark/a', None),
    ('mark/a', []),
    ('mark/a', without('at')),
    ('mark/a', without('by')),
    ('mark/a', without('value')),
    ('mark/a', {**GOOD, 'at': 1.5}),
    ('mark/a', {**GOOD, 'at': True}),
    ('mark/a', {**GOOD, 'at': -1}),
    ('mark/a', {**GOOD, 'at': 2 ** 63}),
    ('mark/a', {**GOOD, 'at': '1'}),
    ('mark/a', {**GOOD, 'by': None}),
    ('mark/a', {**GOOD, 'by': 'x' * 256}),
    ('mark/a', {**GOOD, 'by': '\ud800'}),
    ('mark/a', {**GOOD, 'value': None}),
    ('mark/a', {**GOOD, 'value': [1]}),
    ('mark/a', {**GOOD, 'value': {'a': float('inf')}}),
    ('mark/a', {**GOOD, 'value': {'a': 'x' * replica.MAX_VALUE_BYTES}}),
    ('mark/a', {**GOOD, 'value': nested(100_000)}),
    ('mark/a', {**without('value'), 'until': 'x'}),
    ('mark/a', {**without('value'), 'until': float('nan')}),
    # A clock that is years ahead would win for years.
    ('mark/a', {**GOOD, 'at': int((WALL + 2 * DAY) * 1e6)}),
])
def test_ignores_what_is_no_record(one, key, record):
    one.put('mark/z', {}, WALL)
    before = one.records()
    assert one.merge({key: record}, WALL) == []
    assert one.records() == before
    assert one.ignored == 1


def test_one_bad_record_leaves_the_others_alone(one):
    assert one.merge({'mark/a': 7, 'mark/b': GOOD}, WALL) == ['mark/b']
    assert one.ignored == 1


def test_takes_records_of_a_release_that_knows_more(one):
    assert one.merge({'comet/a': {**GOOD, 'tail': 1}}, WALL) == ['comet/a']
    assert one.get('comet/a') == {'a': 1}


def test_a_stranger_cannot_have_a_drop_remembered_without_end(one):
    one.merge({'mark/a': {**without('value'), 'until': 2.0 ** 62}}, WALL)
    one.expire(WALL + replica.MAX_KEEP_S + 1)
    assert one.records() == {}


def test_has_room_for_so_many_keys(one, monkeypatch):
    monkeypatch.setattr(replica, 'MAX_KEYS', 2)
    assert one.put('mark/a', {}, WALL)
    assert one.put('mark/b', {}, WALL)
    assert not one.put('mark/c', {}, WALL)
    assert one.merge({'mark/d': GOOD}, WALL) == []
    assert one.ignored == 1
    assert set(one.records()) == {'mark/a', 'mark/b'}
    # What is there may change,
    assert one.put('mark/b', {'b': 1}, WALL)
    # and what was dropped makes room when its time has come.
    one.drop('mark/a', WALL, WALL + 5)
    assert not one.put('mark/c', {}, WALL + 4)
    assert one.put('mark/c', {}, WALL + 5)


def test_has_room_for_so_many_bytes(one, monkeypatch):
    monkeypatch.setattr(replica, 'MAX_BYTES', 30)
    assert one.put('mark/a', {'a': 'x' * 10}, WALL)
    assert not one.put('mark/b', {'a': 'x' * 10}, WALL)
    assert one.get('mark/b') is None
    assert not one.put('mark/a', {'a': 'x' * 30}, WALL)
    assert one.get('mark/a') == {'a': 'x' * 10}
    assert one.put('mark/a', {}, WALL)
    assert one.put('mark/b', {'a': 'x' * 10}, WALL)
    one.drop('mark/b', WALL, WALL + 5)
    assert one.put('mark/c', {'a': 'x' * 10}, WALL)


@pytest.mark.parametrize('key, value', [
    ('', {}), ('mark/' + 'x' * replica.MAX_KEY, {}), ('mark/\ud800', {}),
    ('mark/a', {'a': 'x' * replica.MAX_VALUE_BYTES})])
def test_says_that_it_does_not_fit(one, key, value):
    assert not one.put(key, value, WALL)
    assert one.records() == {}


# -- whatever happens, in whatever order --------------------------------------

names = st.sampled_from(('one', 'two', 'three'))
keys = st.sampled_from(('window/a', 'told/a', 'mark/b'))
# Clocks that are apart by up to an hour, and go back at times.
walls = st.integers(-3600, 3600).map(lambda s: WALL + s)
steps = st.one_of(
    st.tuples(st.just('put'), names, keys, walls, st.integers(0, 9)),
    st.tuples(st.just('drop'), names, keys, walls, st.integers(0, 7200)),
    st.tuples(st.just('sync'), names, names, walls))


def play(members, step):
    kind, name, other, wall, *rest = step
    member = members[name]
    if kind == 'sync':
        sync(member, members[other], wall)
    elif kind == 'put':
        member.put(other, {'n': rest[0]}, wall)
        assert member.get(other) == {'n': rest[0]}
    else:
        member.drop(other, wall, wall + rest[0])
        assert member.get(other) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=30), st.permutations(
    [(a, b) for a in ('one', 'two', 'three')
     for b in ('one', 'two', 'three') if a != b]), st.randoms())
def test_all_members_agree_in_the_end(story, order, random):
    members = {name: replica.Replica(name)
               for name in ('one', 'two', 'three')}
    for step in story:
        play(members, step)
    # Two rounds: what came to a neighbour late has to get to the next.
    for source, target in order * 2:
        records = list(members[source].records().items())
        random.shuffle(records)
        for key, record in records * 2:
            members[target].merge(over_the_wire({key: record}), BEFORE)
    assert len({member.digest() for member in members.values()}) == 1
    assert members['one'].records() == members['two'].records() \
        == members['three'].records()
    assert all(member.ignored == 0 for member in members.values())


records = st.dictionaries(keys, st.one_of(
    st.fixed_dictionaries({
        'at': st.integers(0, 3), 'by': st.sampled_from(('x', 'y')),
        'value': st.dictionaries(st.just('n'), st.integers(0, 2))}),
    st.fixed_dictionaries({
        'at': st.integers(0, 3), 'by': st.sampled_from(('x', 'y')),
        'until': st.floats(1, 3)})))


@settings(max_examples=300, deadline=None)
@given(st.lists(records, max_size=5), st.randoms())
def test_order_and_repeats_change_nothing_even_of_forged_records(
        parts, random):
    members = [replica.Replica('a'), replica.Replica('b')]
    for member in members:
        order = parts * 2
        random.shuffle(order)
        for part in order:
            member.merge(part, 0.0)
    assert members[0].records() == members[1].records()
    before = members[0].records()
    assert members[0].merge(before, 0.0) == []
    assert members[0].records() == before
