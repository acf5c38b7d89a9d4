"""The promises of the read-only lists and dictionaries that tasks hold."""

from __future__ import annotations

import copy
import json
import pickle
from collections import Counter, OrderedDict, defaultdict
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kart_core.frozen import DEEPEST, FrozenDict, FrozenList, freeze, thaw

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)


class Pair(NamedTuple):
    left: Any
    right: Any


def kinds(value: Any) -> set[type]:
    """The types of every list, dictionary and tuple in a value."""
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, (list, tuple)):
        inner = list(value)
    else:
        return set()
    return {type(value)}.union(*map(kinds, inner))


@given(VALUES)
def test_a_frozen_value_equals_prints_and_encodes_as_the_plain_one(value: Any) -> None:
    frozen = freeze(value)
    assert frozen == value
    assert repr(frozen) == repr(value)
    assert json.dumps(frozen) == json.dumps(value)
    assert not kinds(frozen) & {list, dict}


@given(VALUES)
def test_every_way_out_gives_a_plain_value(value: Any) -> None:
    frozen = freeze(value)
    for plain in (thaw(frozen), pickle.loads(pickle.dumps(frozen)), copy.deepcopy(frozen)):
        assert plain == value
        assert kinds(plain) == kinds(value)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_name_nothing_of_kart(protocol: int) -> None:
    assert b"kart" not in pickle.dumps(freeze([{"a": [1]}]), protocol)


def test_copies_can_be_changed() -> None:
    items = freeze([1, {"a": 2}])
    for changeable in (copy.copy(items), items.copy(), list(items), [*items], items[:], thaw(items)):
        changeable.append(3)
    for changeable in (copy.copy(items[1]), items[1].copy(), dict(items[1]), items[1] | {}, thaw(items[1])):
        changeable["b"] = 3
    assert items == [1, {"a": 2}]


def test_nothing_changes_a_frozen_list() -> None:
    def add(value: list[int]) -> None:
        value += [4]

    def multiply(value: list[int]) -> None:
        value *= 2

    def delete(value: list[int]) -> None:
        del value[0]

    ways: list[Any] = [
        add,
        multiply,
        delete,
        lambda v: v.append(1),
        lambda v: v.extend([1]),
        lambda v: v.insert(0, 1),
        lambda v: v.remove(1),
        lambda v: v.pop(),
        lambda v: v.clear(),
        lambda v: v.sort(key=lambda item: -item),
        lambda v: v.reverse(),
        lambda v: v.__setitem__(0, 5),
        lambda v: v.__setitem__(slice(None), []),
    ]
    value = freeze([1, 2, 3])
    for way in ways:
        with pytest.raises(TypeError, match=r"read-only: change a copy, list\(value\)"):
            way(value)
        assert value == [1, 2, 3]


def test_nothing_changes_a_frozen_dict() -> None:
    def merge(value: dict[str, int]) -> None:
        value |= {"b": 2}

    def delete(value: dict[str, int]) -> None:
        del value["a"]

    ways: list[Any] = [
        merge,
        delete,
        lambda v: v.__setitem__("a", 2),
        lambda v: v.update(a=2),
        lambda v: v.setdefault("b", 2),
        lambda v: v.pop("a"),
        lambda v: v.popitem(),
        lambda v: v.clear(),
    ]
    value = freeze({"a": 1})
    for way in ways:
        with pytest.raises(TypeError, match=r"read-only: change a copy, dict\(value\)"):
            way(value)
        assert value == {"a": 1}


def test_every_mutator_of_this_python_is_refused() -> None:
    readers = {
        *("copy", "count", "index", "get", "items", "keys", "values", "fromkeys"),
        *("__init__", "__new__", "__class__", "__init_subclass__", "__setattr__", "__delattr__", "__setstate__"),
    }
    for frozen, plain in ((FrozenList, list), (FrozenDict, dict)):
        left = {name for name in vars(plain) if name not in vars(frozen)} - readers
        assert not [name for name in left if not name.startswith("__")]
        assert not left & {"__setitem__", "__delitem__", "__iadd__", "__imul__", "__ior__"}


@pytest.mark.parametrize(
    "value",
    [OrderedDict(a=[1]), defaultdict(list, a=[1]), MappingProxyType({"a": [1]})],
    ids=lambda value: type(value).__name__,
)
def test_pythons_other_dictionaries_become_read_only_ones(value: Any) -> None:
    frozen = freeze(value)
    assert (type(frozen), type(frozen["a"])) == (FrozenDict, FrozenList)
    assert type(freeze(Counter("aab"))) is FrozenDict


def test_sets_and_bytearrays_become_their_read_only_kin() -> None:
    assert freeze(({1}, bytearray(b"a"))) == (frozenset({1}), b"a")
    assert type(freeze(bytearray(b"a"))) is bytes


def test_named_tuples_stay_what_they_are() -> None:
    frozen = freeze(Pair([1], {"a": 1}))
    assert (type(frozen), type(frozen.left), type(frozen.right)) == (Pair, FrozenList, FrozenDict)
    assert type(thaw(frozen).left) is list


def test_what_has_nothing_to_freeze_is_given_back_as_it_is() -> None:
    frozen = freeze([1])
    for value in (1, "a", (1, (2, "b")), Pair(1, 2), frozen, object(), frozenset({1})):
        assert freeze(value) is value


def test_a_value_that_holds_itself_or_is_nested_too_deep_is_an_error() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(DEEPEST + 1):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(ValueError, match="deeper than 100 levels"):
            freeze(value)
    freeze(deep[0])
