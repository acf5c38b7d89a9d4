"""Read-only lists and dictionaries, which a task holds instead of the ones that it was given.

A task is compared, and named, by its values: were a list changed afterwards, its id would
name something else. `FrozenList` and `FrozenDict` read, compare, print, and turn to JSON as
``list`` and ``dict`` do; a copy of one, or one that went through pickle, is a plain one again.

Example:
    >>> names = freeze({"names": ["a", "b"]})
    >>> names == {"names": ["a", "b"]}
    True
    >>> names["names"].append("c")
    Traceback (most recent call last):
    TypeError: a list held by a task is read-only: change a copy, list(value)
    >>> thaw(names)["names"].append("c")
"""

from __future__ import annotations

from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEEPEST", "FrozenDict", "FrozenList", "freeze", "thaw"]

DEEPEST = 100
"""How deep values may be nested in one another."""

_Item = TypeVar("_Item")
_Key = TypeVar("_Key")


def _refuse_list(_self: object, *_arguments: object, **_keywords: object) -> NoReturn:
    raise TypeError("a list held by a task is read-only: change a copy, list(value)")


def _refuse_dict(_self: object, *_arguments: object, **_keywords: object) -> NoReturn:
    raise TypeError("a dict held by a task is read-only: change a copy, dict(value)")


class FrozenList(list[_Item]):
    """A list that refuses to be changed."""

    __slots__ = ()

    append = extend = insert = remove = pop = clear = sort = reverse = cast("Any", _refuse_list)
    __setitem__ = __delitem__ = __iadd__ = __imul__ = cast("Any", _refuse_list)

    def __copy__(self) -> list[_Item]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[_Item]:
        from copy import deepcopy

        return [deepcopy(item, memo) for item in self]

    def __reduce_ex__(self, protocol: object, /) -> tuple[type[list[Any]], tuple[list[_Item]]]:
        return list, (list(self),)


class FrozenDict(dict[_Key, _Item]):
    """A dictionary that refuses to be changed."""

    __slots__ = ()

    pop = popitem = clear = update = setdefault = cast("Any", _refuse_dict)
    __setitem__ = __delitem__ = __ior__ = cast("Any", _refuse_dict)

    def __copy__(self) -> dict[_Key, _Item]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[_Key, _Item]:
        from copy import deepcopy

        return {deepcopy(key, memo): deepcopy(item, memo) for key, item in self.items()}

    def __reduce_ex__(self, protocol: object, /) -> tuple[type[dict[Any, Any]], tuple[dict[_Key, _Item]]]:
        return dict, (dict(self),)


_ATOMS = frozenset({NoneType, bool, int, float, str, bytes, FrozenList, FrozenDict})
_STANDARD_DICTS = frozenset({"OrderedDict", "defaultdict", "Counter"})


def freeze(value: Any) -> Any:
    """The value with every list and dictionary in it read-only.

    Lists, dictionaries (those of `collections` and mapping proxies too), sets and bytearrays are
    copied; so are the tuples that hold one. Every other value is given back as it is.

    Args:
        value: anything; the same object comes back if there is nothing to freeze.

    Raises:
        ValueError: values are nested deeper than `DEEPEST`, perhaps because one holds itself.

    Example:
        >>> freeze([1, {"a": [2]}])[1]["a"].__class__.__name__
        'FrozenList'
        >>> freeze({1, 2})
        frozenset({1, 2})
    """
    return value if type(value) in _ATOMS else _freeze(value, 0)


def thaw(value: Any) -> Any:
    """The value with plain lists and dictionaries in place of read-only ones: a copy that may be changed.

    Example:
        >>> thaw(freeze(([1], {"a": [2]})))
        ([1], {'a': [2]})
    """
    kind = cast("type[Any]", type(value))
    if kind is FrozenList or kind is list:
        return [thaw(item) for item in value]
    if kind is FrozenDict or kind is dict:
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return _tuple_of(cast("tuple[Any, ...]", value), thaw)
    return value


def _freeze(value: Any, depth: int) -> Any:
    kind = cast("type[Any]", type(value))
    if kind in _ATOMS:
        return value
    if depth > DEEPEST:
        raise ValueError(f"values are nested deeper than {DEEPEST} levels, or one of them holds itself")
    if kind is list:
        return FrozenList([_freeze(item, depth + 1) for item in value])
    if kind is dict or kind is MappingProxyType or _is_standard_dict(kind):
        return FrozenDict({key: _freeze(item, depth + 1) for key, item in value.items()})
    if kind is set:
        return frozenset(value)
    if kind is bytearray:
        return bytes(value)
    if isinstance(value, tuple):
        return _tuple_of(cast("tuple[Any, ...]", value), lambda item: _freeze(item, depth + 1))
    return value


def _is_standard_dict(kind: type) -> bool:
    return kind.__name__ in _STANDARD_DICTS and kind.__module__ == "collections"


def _tuple_of(value: tuple[Any, ...], change: Callable[[Any], Any]) -> tuple[Any, ...]:
    items = [change(item) for item in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    if type(value) is tuple:
        return tuple(items)
    make = getattr(type(value), "_make", None)  # a named tuple's
    return value if make is None else make(items)
