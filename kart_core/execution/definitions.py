"""Classes and functions that travel with their definition, since the other process cannot import them.

cloudpickle does it for functions and plain classes. A task class needs more: it is declared when it is
made, from a body that is complete, and its tasks are made from a class that is declared. But what
its methods use may well be the class itself, a class below it, or a task of it. So a class comes
in two steps: first it is bare, and anything may refer to it; when the outermost of the classes
that are under way has all that it uses, they are all declared, bases first, and then the
tasks that were met on the way get their parameters.

What a notebook defines is put into a module of the same name over there, so that a value made of it
is pickled by that name, as it would be in the notebook.
"""

from __future__ import annotations

import abc
import importlib
import io
import os
import pickle
import sys
import weakref
from functools import cached_property
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cloudpickle import cloudpickle as _untyped  # pyright: ignore[reportMissingTypeStubs]

from kart_core import code
from kart_core.declaration import declare, resolve
from kart_core.execution.reference import can_import, reduced, reference_to
from kart_core.naming import module_name
from kart_core.nested import is_task
from kart_core.specification import flatten, rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kart_core.declaration import Body

    class _Pickler(pickle.Pickler):
        """What of cloudpickle's is used here."""

        def reducer_override(self, obj: Any, /) -> Any: ...
        def _dynamic_function_reduce(self, func: FunctionType) -> Any: ...
        def _function_getnewargs(self, func: FunctionType) -> Any: ...

else:
    _Pickler = _untyped.Pickler

_inner = cast("Any", _untyped)
_THIS_PROCESS = os.urandom(8)

# Python keeps these of a class itself.
_PYTHONS = frozenset(
    {
        *("__dict__", "__weakref__", "__module__", "__qualname__", "__annotations__", "__annotate__"),
        *("__annotate_func__", "__annotations_cache__", "_abc_impl", "__abstractmethods__", "__firstlineno__"),
    }
)


def dumps(value: object) -> bytes:
    """A value with the definitions of what in it cannot be imported; `pickle.loads` gives it back.

    Raises:
        Exception: something in it that no other process can have.
    """
    file = io.BytesIO()
    _Definer(file, pickle.HIGHEST_PROTOCOL).dump(_Opened(value))
    return file.getvalue()


def id_of(cls: type) -> str | None:
    """The id under which a class went from one process to another, or None."""
    return _inner._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(cls)


def class_with(tracked: str) -> type | None:
    """The class that has such an id in this process."""
    return _inner._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracked)


# --- going out


class _Opened:
    """What is pickled as a whole."""

    def __init__(self, value: object) -> None:
        self.value = value


class _Closed:
    """Stands last in the state of a task class: when it is pickled, all else of the class has been."""


class _Definer(_Pickler):
    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol=protocol)
        self._under_way = 0
        self._pending = _Pending()

    def reducer_override(self, obj: Any, /) -> Any:
        kind = cast("Any", type(obj))
        if issubclass(kind, (type, FunctionType)):
            reference = reference_to(obj)
            if reference is not None:
                return reduced(obj, reference)
            if getattr(obj, "_kart_is_task", False) is True:
                return self._task_class(obj)
            return _with_place(obj, self._defined(obj))
        if kind is cached_property:  # it holds a lock before Python 3.12
            return _cached_property, (obj.func, obj.attrname, obj.__doc__)
        if kind is _Opened:
            return _opened, (_Process(), obj.value)
        if kind is _Closed:
            self._under_way -= 1
            return tuple, ()
        if self._under_way and is_task(obj):
            return _bare_task, (kind, obj._kart_digest), (self._pending, flatten(obj)), None, None, _set_task
        return super().reducer_override(obj)

    def _defined(self, obj: Any) -> Any:
        way = super().reducer_override(obj)
        if way is not NotImplemented:
            return way
        # cloudpickle takes every loaded module for one that can be imported.
        if isinstance(obj, FunctionType):
            return self._dynamic_function_reduce(obj)
        return _inner._dynamic_class_reduce(obj)

    def _function_getnewargs(self, func: FunctionType) -> Any:
        arguments: Any = super()._function_getnewargs(func)
        names: dict[str, Any] = arguments[1]
        if names.get("__name__") in ("__main__", "__mp_main__"):
            names["__name__"] = module_name("__main__")  # a class that it makes gets its module from here
        return arguments

    def _task_class(self, cls: type[Any]) -> Any:
        outermost = self._under_way == 0
        if outermost:
            self._pending = _Pending()
        self._under_way += 1
        written: Body = cls.__dict__["_kart_body"]
        now = vars(cls)
        state = _State(
            body={name: value for name, value in written.names.items() if name not in _PYTHONS},
            annotations={name: resolve(cls, annotation) for name, annotation in written.annotations.items()},
            keywords=written.keywords,
            later={
                name: value
                for name, value in now.items()
                if name not in _PYTHONS
                and not name.startswith("_kart_")
                and (value is not written.names[name] if name in written.names else name not in written.made)
            },
            code=code.digest(cls, now["_kart_policy"].uses),
            place=_place_of(cls),
        )
        own = {"__qualname__": cls.__qualname__, "__module__": module_name(cls.__module__)}
        tracked = _inner._get_or_create_tracker_id(cls)
        return (
            _bare_class,
            (type(cls), cls.__name__, own, tracked),  # the bases may use the class, which must be there before them
            (cls.__bases__, state, self._pending, outermost, _Closed()),
            None,
            None,
            _set_class,
        )


def _with_place(obj: Any, way: Any) -> Any:
    if len(way) != 6:
        return way  # one of Python's own without a name
    make, arguments, state, _, _, set_state = way
    if isinstance(obj, type):
        make, arguments = _class_once, (make, *arguments)
    return make, arguments, (state, set_state, _place_of(obj)), None, None, _set_defined


class _Place(NamedTuple):
    """How a class or function is called, and whether pickle finds it so, which it must there as well."""

    module: str
    name: str
    found: bool
    importable: bool


def _place_of(obj: Any) -> _Place:
    module = module_name(str(getattr(obj, "__module__", None)))
    holder: Any = sys.modules.get(module)
    if holder is None or getattr(holder, obj.__qualname__, None) is not obj:
        return _Place(module, obj.__qualname__, False, False)
    return _Place(module, obj.__qualname__, True, can_import(module, holder))


# --- coming in


class _Process:
    """Where a pickle was made; first in it, so that the rest finds the ``__main__`` that it had there."""

    def __reduce__(self) -> Any:
        return _take_main, (_THIS_PROCESS, module_name("__main__") == "__main__")


class _State:
    """The body of a task class."""

    def __init__(
        self,
        body: Mapping[str, Any],
        annotations: Mapping[str, Any],
        keywords: Mapping[str, Any],
        later: Mapping[str, Any],
        code: str | None,
        place: _Place,
    ) -> None:
        self.body = body
        self.annotations = annotations
        self.keywords = keywords
        self.later = later
        self.code = code
        self.place = place


class _Pending:
    """Classes that are still to be declared, and tasks that wait for them."""

    def __init__(self) -> None:
        self.classes: dict[type[Any], _State] = {}
        self.tasks: list[tuple[Any, Any]] = []

    def __reduce__(self) -> Any:
        return _Pending, ()

    def settle(self) -> None:
        classes, self.classes = self.classes, {}
        for cls, state in sorted(classes.items(), key=lambda item: len(item[0].__mro__)):
            _declare(cls, state)
        tasks, self.tasks = self.tasks, []
        for task, flat in tasks:
            task.__dict__.update(rebuild(flat).__dict__)


_received: weakref.WeakSet[type] = weakref.WeakSet()
_stand_ins: dict[str, ModuleType] = {}
"""The modules that are here for what came with its definition alone."""


def _take_main(process: bytes, without_name: bool) -> None:
    if without_name and process != _THIS_PROCESS and "__main__" not in _stand_ins:
        # Nothing of this process's own main module is to be found, or overwritten, under this name.
        _stand_ins["__main__"] = sys.modules["__main__"] = ModuleType("__main__")


def _opened(_process: None, value: Any) -> Any:
    return value


def _bare_class(kind: Any, name: str, own: dict[str, Any], tracked: str) -> type:
    known = class_with(tracked)
    if known is not None:
        return known
    # Below its bases at once, it would be declared, and taken in by every other __init_subclass__, while it is empty.
    make = abc.ABCMeta.__new__ if issubclass(kind, abc.ABCMeta) else type.__new__
    cls: type = make(kind, name, (_Bare,), own)
    _received.add(cls)
    return _inner._lookup_class_or_track(tracked, cls)


class _Bare:
    """Stands for the bases of a class until they are there; its tasks may be keys already."""

    _kart_digest: bytes

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._kart_digest == cast("_Bare", other)._kart_digest

    def __hash__(self) -> int:
        return hash(self._kart_digest)


def _set_class(cls: type[Any], parts: tuple[tuple[type, ...], _State, _Pending, bool, Any]) -> None:
    bases, state, pending, outermost, _ = parts
    if cls in _received:
        if "_kart_body" in cls.__dict__:
            _renew(cls, state)
        else:
            cls.__bases__ = bases
            pending.classes.setdefault(cls, state)
    if outermost:
        pending.settle()


def _declare(cls: type[Any], state: _State) -> None:
    for name, value in state.body.items():
        type.__setattr__(cls, name, value)
    cls.__annotations__ = dict(state.annotations)
    declare(cls, state.keywords)
    for name, value in state.later.items():
        type.__setattr__(cls, name, value)
    abc.update_abstractmethods(cls)
    code.tell(cls, state.code)
    _put_in_place(cls, state.place)


def _renew(cls: type[Any], state: _State) -> None:
    """Gives a class that came before what its methods see now: a global variable may have changed."""
    for name, value in {**state.body, **state.later}.items():
        if name not in state.annotations and name in cls.__dict__:
            type.__setattr__(cls, name, value)
    code.tell(cls, state.code)
    _put_in_place(cls, state.place)


def _bare_task(cls: type[Any], digest: bytes) -> Any:
    task: Any = object.__new__(cls)
    task.__dict__["_kart_digest"] = digest
    return task


def _set_task(task: Any, state: tuple[_Pending, Any]) -> None:
    pending, flat = state
    pending.tasks.append((task, flat))


def _class_once(make: Callable[..., type], *arguments: Any) -> type:
    known = class_with(arguments[-2])
    if known is not None:
        return known
    cls = make(*arguments)
    _received.add(cls)
    return cls


def _set_defined(obj: Any, parts: tuple[Any, Callable[[Any, Any], object], _Place]) -> None:
    state, set_state, place = parts
    if isinstance(obj, type) and obj not in _received:
        return  # it came back to where it was defined
    set_state(obj, state)
    if getattr(obj, "__module__", None) == "__main__":
        obj.__module__ = place.module
    obj.__qualname__ = place.name  # which cloudpickle leaves out of a class
    _put_in_place(obj, place)


def _put_in_place(obj: Any, place: _Place) -> None:
    if not place.found:
        return
    if place.importable:  # a script binds it when it runs, and not when it is imported
        module = importlib.import_module(place.module)
        if getattr(module, place.name, None) in (None, *_received):
            setattr(module, place.name, obj)
        return
    if place.module not in sys.modules:
        _stand_ins[place.module] = sys.modules[place.module] = ModuleType(place.module)
    if sys.modules[place.module] is _stand_ins.get(place.module):
        setattr(sys.modules[place.module], place.name, obj)


def _cached_property(function: Any, name: str | None, doc: str | None) -> cached_property[Any]:
    made = cached_property[Any](function)
    made.attrname, made.__doc__ = name, doc
    return made
