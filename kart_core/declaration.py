"""What a task class declares: its parameters, its policy, and the mistakes that are caught when it is made."""

from __future__ import annotations

import inspect
import json
import sys
from functools import cached_property
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

import attrs

from kart_core import code
from kart_core.errors import ParameterError
from kart_core.frozen import freeze
from kart_core.naming import module_name, qualified_name
from kart_core.nested import is_mapping, is_sequence
from kart_core.parameters import checker, scalar_type
from kart_core.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RESERVED: Final = frozenset(
    {
        *("unique_id", "requires", "run", "output", "complete", "load", "load_generator", "dump"),
        *("make_target", "make_model_target", "make_large_data_target", "clone", "restore", "task_log"),
    }
)
"""The names that a task has of its own; with the settings they are all that a field must not take."""

MISSING: Final = attrs.NOTHING

_FORBIDDEN_METHODS = ("__init__", "__new__", "__setattr__", "__delattr__", "__eq__", "__hash__")
_METADATA = "kart"

T = TypeVar("T")


@attrs.frozen
class Options:
    """What `parameter` says of a field besides its default."""

    significant: bool = True
    omit_default: bool = False
    description: str = ""
    private: bool = False


class Factory:
    """Makes a default anew for each task that is given none."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    @cached_property
    def example(self) -> Any:
        """A default for what is not about one task: help, and what `omit_default` compares with."""
        return self.make()


@attrs.frozen
class ParameterInfo:
    """What is known of one parameter of a task class."""

    name: str
    annotation: Any
    """The annotation, resolved where its names can be found; otherwise its text."""
    given_default: Any
    """The default as the class gives it: a value, a `Factory`, or `MISSING`."""
    options: Options

    @property
    def default(self) -> Any:
        """The default, or `MISSING`; of a factory one that it made."""
        return self.given_default.example if isinstance(self.given_default, Factory) else self.given_default

    @property
    def significant(self) -> bool:
        """Whether it takes part in the unique id."""
        return self.options.significant

    @property
    def description(self) -> str:
        """What it means, for help and reports."""
        return self.options.description

    @property
    def private(self) -> bool:
        """Whether its value is kept out of what people are shown."""
        return self.options.private

    @property
    def told_by_type(self) -> bool:
        """Whether messages say of a wrong value only its type: where it is private, or stands in a secret's place."""
        return self.private or "Secret" in str(self.annotation)


@attrs.frozen
class Policy:
    """What the class keywords say."""

    version: int | str | None = None
    uses: tuple[Any, ...] = ()
    namespace: str | None = None
    retries: int = 0
    retry_wait: float = 0.0
    """Seconds before the first new try; before each further one it is twice as long."""
    timeout: float | None = None
    """Seconds."""
    priority: int = 0
    resources: Mapping[str, float] = attrs.field(factory=dict[str, float])
    """How much of each named resource a run takes."""


@attrs.frozen(eq=False)
class Body:
    """What a class was written as, for who makes it again in another process."""

    names: Mapping[str, Any]
    """What the class body bound."""
    annotations: Mapping[str, Any]
    keywords: Mapping[str, Any]
    """The class keywords."""
    made: frozenset[str]
    """What the class had when it was declared; what it has besides was put there later."""


@overload
def parameter(
    *, default: T, significant: bool = ..., omit_default: bool = ..., description: str = ..., private: bool = ...
) -> T: ...
@overload
def parameter(
    *,
    factory: Callable[[], T],
    significant: bool = ...,
    omit_default: bool = ...,
    description: str = ...,
    private: bool = ...,
) -> T: ...
@overload
def parameter(*, significant: bool = ..., description: str = ..., private: bool = ...) -> Any: ...
def parameter(
    *,
    default: Any = MISSING,
    factory: Callable[[], Any] | None = None,
    significant: bool = True,
    omit_default: bool = False,
    description: str = "",
    private: bool = False,
) -> Any:
    """Says more of a parameter than its annotation.

    Args:
        default: its value where none is given; a list or dict is kept read-only.
        factory: makes the default, instead of `default`, anew for each task that is given none.
        significant: whether it takes part in the unique id.
        omit_default: leaves it out of the id while it equals its default, so that a parameter can be
            added to a class and the results that are stored keep their ids.
        description: what it means; shown by ``--help`` and in reports.
        private: keeps its value out of repr, records and reports.

    Example:
        >>> import kart_core as kart
        >>> class Train(kart.TaskOnKart[float]):
        ...     rate: float = kart.parameter(default=0.1, description="the learning rate")
        ...     verbose: bool = kart.parameter(default=False, significant=False)
        >>> Train(verbose=True).unique_id == Train().unique_id
        True
    """
    if factory is not None:
        if default is not MISSING:
            raise ParameterError("parameter() takes a default or a factory, not both")
        default = attrs.Factory(factory)
    if omit_default and default is MISSING:
        raise ParameterError("parameter(omit_default=True) needs a default to leave out")
    options = Options(significant, omit_default, description, private)
    return attrs.field(default=default, metadata={_METADATA: options}, kw_only=True)


class Slot:
    """One parameter as construction uses it: flat, and quick to walk."""

    __slots__ = ("as_json", "check", "exact", "info", "key", "name", "omit_default", "significant")

    def __init__(self, info: ParameterInfo) -> None:
        self.info = info
        self.name = info.name
        encoded = info.name.encode()
        self.key = b"%d:%b" % (len(encoded), encoded)
        self.as_json = "" if info.private else json.dumps(info.name, ensure_ascii=False) + ":"
        self.exact = scalar_type(info.annotation)
        self.check = checker(info.annotation)
        self.significant = info.significant
        self.omit_default = info.options.omit_default


class Shape:
    """A task class, resolved: made once, when its first task is made.

    Attributes:
        cls: the class.
        slots: its parameters by name order, so that the order of fields never enters an id.
        policy: its class keywords, with those of its bases.
        needs: how much of which resources a run takes, by name.
        sections: the sections of the configuration that speak of it, most specific first.
        defaults: of its settings, where the class redeclares one.
    """

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls
        self.infos = tuple(_infos(cls))
        self.slots = tuple(Slot(info) for info in sorted(self.infos, key=lambda info: info.name))
        self.by_name = {slot.name: slot for slot in self.slots}
        self.policy: Policy = cls.__dict__["_kart_policy"]
        self.needs = tuple(sorted(self.policy.resources.items()))
        self.name = qualified_name(cls)
        self.module = self.policy.namespace or module_name(cls.__module__)
        self.sections = tuple(_sections(cls))
        self.defaults: Mapping[str, Any] = _setting_defaults(cls)
        self.all_scalars = all(slot.exact is not None for slot in self.slots)
        self.all_significant = all(slot.significant for slot in self.slots)
        root = root_of(cls)
        self.plain_output = _first_to_define(cls, "output") is root is _first_to_define(cls, "make_target")
        self.code: Any = MISSING
        self.state: Any = None


def root_of(cls: type) -> type[Any]:
    """The class of which all task classes are made, found without its name: users have a ``TaskOnKart`` too."""
    return next(base for base in cls.__mro__ if "_kart_is_task" in base.__dict__)


def _first_to_define(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in base.__dict__)


def shape_of(cls: type[Any]) -> Shape:
    """The shape of a task class."""
    shape: Shape | None = cls._kart_shape
    if shape is None or shape.cls is not cls:  # none yet: it is that of a base class
        shape = Shape(cls)
        type.__setattr__(cls, "_kart_shape", shape)
    return shape


def declare(cls: type[Any], keywords: Mapping[str, Any]) -> None:
    """Takes a new task class in: checks its body, collects its fields, keeps its policy.

    Raises:
        ParameterError: for each mistake that can be seen in the class body, with the way out.
    """
    body = dict(vars(cls))
    annotated = _annotated(cls)
    written = dict(annotated)
    _refuse_methods(cls, body)
    for name, value in body.items():
        if name in annotated or name.startswith("__"):
            _refuse_foreign(cls, name, value)
            continue
        _refuse_unannotated(cls, name, value)
    settings = _take_settings(cls, annotated)
    for name in annotated:
        if name == "self":
            raise ParameterError(
                f"a field of {cls.__qualname__} is named 'self', which is the task; choose another name"
            )
        if name in RESERVED:
            raise ParameterError(
                f"the field {name!r} of {cls.__qualname__} hides a name that every task has; choose another name"
            )
    for name in annotated:
        if name in body and name not in settings and "ClassVar" not in str(annotated[name]):
            _freeze_default(cls, name, body[name])
    attrs.define(
        cls,
        init=False,
        eq=False,
        order=False,
        repr=False,
        slots=False,
        frozen=False,
        match_args=False,
        field_transformer=_under_their_names,
    )
    # attrs leaves an annotated default on the class only where it has none; what is left hides nothing.
    type.__setattr__(cls, "_kart_settings", settings)
    type.__setattr__(cls, "_kart_policy", _policy(cls, keywords))
    type.__setattr__(cls, "_kart_overrides_requires", cls.requires is not root_of(cls).requires)
    type.__setattr__(cls, "_kart_body", Body(body, written, keywords, frozenset(vars(cls))))
    code.remember(cls.__module__)


def _under_their_names(_cls: type, fields: list[Any]) -> list[Any]:
    # attrs takes leading underscores off, and then has two arguments `n` for `_n` and `n`.
    return [field.evolve(alias=field.name) for field in fields]


# --- the mistakes -----------------------------------------------------------------------


def _refuse_methods(cls: type, body: Mapping[str, Any]) -> None:
    for name in _FORBIDDEN_METHODS:
        if name in body:
            raise ParameterError(
                f"{cls.__qualname__} defines {name}, which is kart's own: a task is made from its fields alone; "
                "for a derived value use functools.cached_property"
            )


def _refuse_foreign(cls: type, name: str, value: Any) -> None:
    family = next((c for c in type(value).__mro__ if c.__module__.split(".")[0] in ("luigi", "gokart")), None)
    if family is None or isinstance(value, type) or not type(value).__name__.endswith("Parameter"):
        return
    types = {"Int": "int", "Float": "float", "Bool": "bool", "List": "list[str]", "Dict": "dict[str, str]"}
    kind = type(value).__name__.removesuffix("Parameter")
    kind = types.get(kind, "SomeTask" if "Task" in kind else "str")
    raise ParameterError(
        f"{name!r} of {cls.__qualname__} is a {type(value).__name__} of {family.__module__.split('.')[0]}; "
        f"in kart an annotated field is a parameter: `{name}: {kind}`, with a default `{name}: {kind} = …`"
    )


def _refuse_unannotated(cls: type, name: str, value: object) -> None:
    _refuse_foreign(cls, name, value)
    written = name.removeprefix(f"_{cls.__name__.lstrip('_')}") if name.startswith("_") else name
    if isinstance(value, _field_maker()):
        raise ParameterError(
            f"{written!r} of {cls.__qualname__} is a parameter without a type; write `{written}: int = parameter(…)`"
        )
    if hasattr(type(value), "__get__") or isinstance(value, (type, FunctionType, ModuleType)) or callable(value):
        return
    if name.startswith(("_abc_", "_kart_")) or (name.startswith("__") and name.endswith("__")):
        return
    if hasattr(value, "__set__") or hasattr(value, "func"):
        return
    kind = "None" if value is None else type(value).__name__
    if any(name in _annotated(base) for base in cls.__mro__[1:]):
        raise ParameterError(
            f"{cls.__qualname__} gives {written!r} a new default without its type; "
            f"write `{written}: {kind} = {value!r}`"
        )
    raise ParameterError(
        f"{written!r} of {cls.__qualname__} looks like a parameter but has no annotation; write "
        f"`{written}: {kind} = {value!r}`, or `{written}: ClassVar[{kind}] = {value!r}` for a constant of the class"
    )


def _freeze_default(cls: type[Any], name: str, value: Any) -> None:
    if isinstance(value, (list, dict, set, bytearray)):
        raise ParameterError(
            f"the default of {name!r} of {cls.__qualname__} is a {type(value).__name__}, which all tasks would share; "  # pyright: ignore[reportUnknownArgumentType]
            f"write `{name}: … = parameter(default={value!r})`, which keeps it read-only"
        )


def _field_maker() -> type[Any]:
    return cast("type[Any]", type(attrs.field()))


# --- collecting -------------------------------------------------------------------------


def _annotated(cls: type) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):  # the class body holds no __annotations__ there, and names may not exist yet
        import annotationlib  # pyright: ignore[reportMissingImports, reportUnreachable]

        return annotationlib.get_annotations(cls, format=annotationlib.Format.STRING)
    return inspect.get_annotations(cls)


def _take_settings(cls: type[Any], annotated: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings whose default the class redeclares; they are taken out of its fields."""
    settings: dict[str, Any] = {}
    for name in [name for name in annotated if name in SETTINGS]:
        if name not in cls.__dict__:
            raise ParameterError(
                f"{cls.__qualname__} redeclares the setting {name!r} without a default; write `{name}: … = value`"
            )
        value = cls.__dict__[name]
        if isinstance(value, _field_maker()):
            value = value._default
        settings[name] = freeze(value)
        type.__delattr__(cls, name)
        del cls.__annotations__[name]
    return settings


def _setting_defaults(cls: type) -> Mapping[str, Any]:
    merged: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        merged.update(base.__dict__.get("_kart_settings", {}))
    return merged


def _policy(cls: type[Any], keywords: Mapping[str, Any]) -> Policy:
    names = attrs.fields_dict(Policy)
    unknown = sorted(set(keywords) - set(names))
    if unknown:
        from kart_core.config import nearest

        near = nearest(unknown[0], names)
        raise ParameterError(
            f"{cls.__qualname__} has the class keyword {unknown[0]!r}, which kart does not know"
            + (f"; did you mean {near!r}?" if near else f"; there are {', '.join(names)}")
        )
    inherited: Policy = next(
        (b.__dict__["_kart_policy"] for b in cls.__mro__[1:] if "_kart_policy" in b.__dict__), Policy()
    )
    given = dict(keywords)
    if "uses" in given:
        uses = given["uses"]
        given["uses"] = inherited.uses + (tuple(uses) if is_sequence(uses) else (uses,))
    for name, kinds in _KEYWORDS.items():
        value = given.get(name)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ParameterError(f"the class keyword {name}={value!r} of {cls.__qualname__} is no {expected}")
    for name in ("retries", "retry_wait"):
        if not given.get(name, 0) >= 0:
            raise ParameterError(f"the class keyword {name}={given[name]!r} of {cls.__qualname__} is below 0")
    if given.get("timeout") is not None and not given["timeout"] > 0:
        raise ParameterError(
            f"the class keyword timeout={given['timeout']!r} of {cls.__qualname__} is not above 0; it is in seconds"
        )
    if "resources" in given:
        given["resources"] = _resources(cls, given["resources"])
    return attrs.evolve(inherited, **given)


_KEYWORDS: Final[Mapping[str, tuple[type, ...]]] = {
    "version": (int, str),
    "namespace": (str,),
    "retries": (int,),
    "retry_wait": (int, float),
    "timeout": (int, float),
    "priority": (int,),
}


def _resources(cls: type, given: Any) -> Mapping[str, float]:
    if not is_mapping(given):
        raise ParameterError(
            f"the class keyword resources={given!r} of {cls.__qualname__} is no mapping; write resources={{'gpu': 1}}"
        )
    for name, amount in given.items():
        whole = isinstance(name, str) and isinstance(amount, (int, float)) and not isinstance(amount, bool)
        if not whole or not 0 < amount < float("inf"):
            raise ParameterError(
                f"the class keyword resources of {cls.__qualname__} says {name!r}: {amount!r}; a resource has a name, "
                "and an amount above 0"
            )
    return dict(given)


def _sections(cls: type) -> Iterator[str]:
    root = root_of(cls)
    for base in cls.__mro__:
        if "_kart_policy" in base.__dict__ and base is not root:
            yield qualified_name(base)
            if base.__name__ != root.__name__:
                yield base.__name__
    yield "TaskOnKart"


def _infos(cls: type[Any]) -> Iterator[ParameterInfo]:
    for attribute in attrs.fields(cls):
        owner = next(base for base in cls.__mro__ if attribute.name in _annotated(base))
        if owner is not cls:
            info = next((i for i in shape_of(owner).infos if i.name == attribute.name), None)
            if info is not None:
                yield info
                continue
        options: Options = attribute.metadata.get(_METADATA, Options())
        default: Any = attribute.default
        if isinstance(default, cast("type[Any]", attrs.Factory)):  # a class at run time, a function to type checkers
            default = Factory(default.factory)
        yield ParameterInfo(attribute.name, resolve(owner, attribute.type), default, options)


def resolve(owner: type, annotation: Any) -> Any:
    """An annotation of a class; where it is text, what the text means, or the text where a name in it means nothing."""
    if not isinstance(annotation, str):
        return annotation
    module = sys.modules.get(owner.__module__)
    names = {**vars(module)} if module is not None else {}
    try:
        return eval(annotation, names, {owner.__name__: owner, **vars(owner)})
    except Exception:
        # A name that only type checkers see, or one local to a function: the value is taken as it is.
        return annotation


def classes_beside(cls: type[Any]) -> Iterator[type[Any]]:
    """Every task class that is loaded, found by asking the root of a task class for its subclasses."""
    pending = root_of(cls).__subclasses__()
    seen: set[type[Any]] = set()
    while pending:
        found = pending.pop(0)
        if found not in seen:
            seen.add(found)
            yield found
            pending.extend(found.__subclasses__())
