"""The base class of every task, and its two relatives: data that others make, and a bundle of tasks."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, cast, overload

import attrs

from kart_core import declaration, identity, parameters
from kart_core.construction import construct, setting, state_of
from kart_core.declaration import ParameterInfo, parameter, shape_of
from kart_core.errors import KartError, MissingDataError, ParameterError
from kart_core.nested import is_sequence, is_task
from kart_core.settings import SETTINGS, SettingInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Self, dataclass_transform

    from kart_core.target import Target

    Requirements: TypeAlias = "TaskOnKart[object] | Iterable[Requirements] | Mapping[str, Requirements] | None"
    Targets: TypeAlias = "Target | Sequence[Targets] | Mapping[str, Targets]"
else:

    def dataclass_transform(**_: Any) -> Callable[[type], type]:
        return lambda cls: cls


R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
K = TypeVar("K")
Other = TypeVar("Other", bound="TaskOnKart[object]")


class FrozenTaskError(ParameterError, AttributeError):
    """An attribute of a task was set."""


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=True, field_specifiers=(parameter,))
class _Fields:
    """Makes type checkers take the annotations of its subclasses, `TaskOnKart` included, for fields."""

    # Annotated here, where they make no fields.
    if TYPE_CHECKING:
        _kart_is_task: bool
        _kart_recorded: bool
        _kart_wraps: bool
        _kart_overrides_requires: bool
        _kart_identity: bytes | None
        _kart_digest: bytes
        _kart_insignificant: bool
        _kart_children: tuple[TaskOnKart[Any], ...]
        _kart_given: Mapping[str, Any]


class TaskOnKart(_Fields, Generic[R_co]):
    """A task: a class whose annotated fields are its parameters, and whose `run` makes its result.

    A field that holds a task, alone or in a tuple, list or mapping, is a requirement. A task is
    frozen, compared by what it is, and cheap to make; nothing runs until `kart_core.build`.

    Class keywords:
        version: changes the id of the task and of all that depends on it; raise it when `run` changes its result.
        uses: functions and classes of other packages whose code counts as the task's own.
        namespace: stands in ids and paths in place of the module's name.
        retries: how often a failed run is tried again.
        retry_wait: seconds before the first new try; before each further one it is twice as long.
        timeout: seconds after which a run is stopped and has failed. It runs in a process of its own.
        priority: of two tasks that could run, the one with the higher number runs first.
        resources: how much a run takes of what there is little of, by name: ``{"gpu": 1}``. How much there is
            stands in the section ``[resources]`` of the configuration; of a resource that is not there, 1.

    Args:
        workspace_directory: the folder or URL under which results are stored. A relative folder is
            relative to the working directory.
        local_temporary_directory: the folder for files on their way to or from a remote workspace.
        rerun: run again even if a result is stored.
        strict_check: complete only if everything upstream is complete too.
        modification_time_check: not complete if an input is not the one that the record says was read.
        fail_on_empty_dump: fail if an empty value is dumped.
        should_lock_run: take a lease, so that of all processes that want the result one runs the task. "auto": where
            several processes work, or the workspace is reached over a network.
        significant: whether the task takes part in the ids of the tasks that require it.
        serialized_task_definition_check: let the task's code take part in its unique id.
        fix_random_seed_value: the seed; by default one is made from the unique id.
        fix_random_seed_methods: the functions that are called with the seed before each run.

    Raises:
        ParameterError: an argument is missing, unknown or of the wrong type.

    Example:
        >>> import kart_core as kart
        >>> class Numbers(kart.TaskOnKart[list[int]]):
        ...     n: int = 10
        ...     def run(self) -> list[int]:
        ...         return list(range(self.n))
        >>> class Total(kart.TaskOnKart[int]):
        ...     numbers: Numbers
        ...     def run(self) -> None:
        ...         self.dump(sum(self.load(self.numbers)))
        >>> kart.build(Total(numbers=Numbers(n=5)))
        10
    """

    if TYPE_CHECKING:
        workspace_directory: str = parameter(default="./resources/")
        local_temporary_directory: str = ""
        rerun: bool = False
        strict_check: bool = False
        modification_time_check: bool = False
        fail_on_empty_dump: bool = False
        should_lock_run: bool | Literal["auto"] = "auto"
        significant: bool = True
        serialized_task_definition_check: bool = False
        fix_random_seed_value: int | None = None
        fix_random_seed_methods: Sequence[str] = ("random.seed", "numpy.random.seed")

        def __init_subclass__(
            cls,
            *,
            version: int | str | None = None,
            uses: Sequence[object] = (),
            namespace: str | None = None,
            retries: int = 0,
            retry_wait: float = 0.0,
            timeout: float | None = None,
            priority: int = 0,
            resources: Mapping[str, float] = ...,
        ) -> None: ...

    else:
        _kart_is_task = True
        _kart_recorded = True
        _kart_wraps = False
        _kart_shape = None
        _kart_overrides_requires = False
        _kart_identity = None
        _kart_insignificant = False
        _kart_children = ()
        _kart_given = {}

        def __init_subclass__(cls, **keywords: Any) -> None:
            super().__init_subclass__()
            if cls.__module__ == "__main__":
                from kart_core.naming import adopt_main

                adopt_main()
            declaration.declare(cls, keywords)

        def __init__(self, /, *arguments: Any, **given: Any) -> None:
            if arguments:
                raise ParameterError(
                    f"{type(self).__qualname__} takes its parameters by name; write "
                    f"{type(self).__qualname__}({', '.join(s.name + '=…' for s in shape_of(type(self)).slots) or ''})"
                )
            construct(self, given)

    @property
    def unique_id(self) -> str:
        """32 hex digits made from everything that decides the result; equal ids mean the same result."""
        return (self._kart_identity or identity.identity(self)).hex()

    def requires(self) -> Requirements:
        """The tasks that must be complete before this one runs: by default those that its fields hold.

        It may be overridden to give a task, or a list, tuple or mapping of tasks, which then replace
        the fields as requirements. It depends on fields and settings only and is called once.
        """
        return identity.fields_with_tasks(self)

    def run(self) -> R_co | Iterator[object] | None:
        """Makes the result: returns it, or gives it to `dump`.

        A `run` that is a generator may yield tasks, one or a list or mapping of them; they are built
        and their values sent back.
        """
        raise KartError(f"{type(self).__qualname__} has no run(); define one that returns the result or dumps it")

    def output(self) -> Targets:
        """Where the result goes: by default one pickle file named for the class and the unique id.

        It may be overridden to give other targets, alone or in a list, tuple or mapping.
        """
        return self.make_target()

    def make_target(self, path: str | None = None, *, use_unique_id: bool = True) -> Target:
        """A target of this task.

        Args:
            path: the file in the workspace, such as ``"model/best.json"``; its suffix chooses the format.
                By default the class's name in its module's folder, ``.pkl``.
            use_unique_id: whether the id is put into the file name. Without it the result is complete only
                while the file is the one that this task's record speaks of.

        Raises:
            ParameterError: the path leads out of the workspace.
        """
        from kart_core.target import Target

        return Target(*self._kart_place(path, use_unique_id), keyed=use_unique_id)

    def make_model_target(
        self,
        path: str,
        save_function: Callable[[Any, str], object],
        load_function: Callable[[str], Any],
        *,
        use_unique_id: bool = True,
    ) -> Target:
        """A target that two functions write and read by a local path, kept as one zip file.

        Args:
            path: the file in the workspace; end it with ``.zip``.
            save_function: takes the value and a local path, and writes a file or a folder there.
            load_function: takes such a path and gives the value.
            use_unique_id: as for `make_target`.
        """
        from kart_core.target import Target, model_serializer

        place = self._kart_place(path, use_unique_id)
        return Target(*place, keyed=use_unique_id, serializer=model_serializer(save_function, load_function))

    def make_large_data_target(self, path: str | None = None, *, use_unique_id: bool = True) -> Target:
        """A target for a large value: the same as `make_target`, whose files are streamed whatever their size."""
        return self.make_target(path, use_unique_id=use_unique_id)

    def _kart_place(self, path: str | None, use_unique_id: bool) -> tuple[Any, str]:
        from kart_core.records import workspace_of
        from kart_core.target import checked_path, keyed_path

        if path is None:
            path = state_of(shape_of(type(self))).result_path
            # Not by keyed_path: the dot of a nested class's name begins no suffix.
            return workspace_of(self), f"{path}_{self.unique_id}.pkl" if use_unique_id else f"{path}.pkl"
        path = checked_path(path, self)
        return workspace_of(self), keyed_path(path, self.unique_id) if use_unique_id else path

    def complete(self) -> bool:
        """Whether a whole result is stored, whatever `rerun` says. Looking changes nothing."""
        from kart_core import config
        from kart_core.completeness import is_complete

        config.refresh()
        return is_complete(self)

    @overload
    def load(self) -> Any: ...
    @overload
    def load(self, target: str | Target) -> Any: ...
    @overload
    def load(self, target: TaskOnKart[T]) -> T: ...
    @overload
    def load(self, target: Mapping[K, TaskOnKart[T]]) -> dict[K, T]: ...
    @overload
    def load(self, target: Sequence[TaskOnKart[T]]) -> list[T]: ...
    def load(self, target: Any = None) -> Any:
        """The stored value of a requirement.

        Args:
            target: a task; several, in a list, tuple or mapping; the name of a requirement; a target. By
                default all requirements, in the structure in which `requires()` gives them.

        Raises:
            MissingDataError: nothing is stored.
            CorruptResultError: what is stored is not what was written.
        """
        from kart_core.loading import load

        return load(self, target)

    @overload
    def load_generator(self) -> Iterator[Any]: ...
    @overload
    def load_generator(self, target: str | Target) -> Iterator[Any]: ...
    @overload
    def load_generator(self, target: TaskOnKart[Iterable[T]]) -> Iterator[T]: ...
    @overload
    def load_generator(self, target: Sequence[TaskOnKart[T]]) -> Iterator[T]: ...
    def load_generator(self, target: Any = None) -> Iterator[Any]:
        """The values of requirements, one at a time, so that only one need be in memory.

        Args:
            target: several tasks: the value of each in turn; one task: the items of what it dumped, one by
                one where its format can be read in parts. By default all requirements.
        """
        from kart_core.loading import load_parts

        return load_parts(self, target)

    # A covariant type in an argument: `self.dump(x)` is what a task says of its own result, so the
    # type is exact there, and a `TaskOnKart[bool]` stays usable as a `TaskOnKart[int]`.
    @overload
    def dump(self, value: R_co) -> None: ...  # type: ignore[misc]
    @overload
    def dump(self, value: object, target: str | Target) -> None: ...
    def dump(self, value: object, target: str | Target | None = None) -> None:
        """Gives a value to be stored as this task's result; called in `run`, instead of returning it.

        It is written when `run` has returned.

        Args:
            value: the value; for several outputs in the structure of `output()`.
            target: of several outputs the one that is meant: its name in the structure, or the target itself.

        Raises:
            SerializationError: the target's format cannot represent the value.
        """
        from kart_core.dumping import dump

        dump(self, value, target)

    @overload
    def clone(self, /, **changes: Any) -> Self: ...
    @overload
    def clone(self, cls: type[Other], /, **changes: Any) -> Other: ...
    def clone(self, cls: Any = None, /, **changes: Any) -> Any:
        """A task like this one.

        Args:
            cls: its class; by default this task's own. Of another class only the parameters that both have
                are taken over.
            changes: parameters and settings that are to differ.

        Raises:
            ParameterError: a change that the class does not know.
        """
        target: type[Any] = type(self) if cls is None else cls
        known = shape_of(target).by_name
        kept = {slot.name: self.__dict__[slot.name] for slot in shape_of(type(self)).slots if slot.name in known}
        return target(**{**kept, **self._kart_given, **changes})

    @classmethod
    def restore(cls, unique_id: str, workspace_directory: str | None = None) -> Self:
        """The task whose result is stored under an id, made anew from its record.

        Args:
            unique_id: the id.
            workspace_directory: where the record is; the task will have this setting. By default the
                configured workspace.

        Raises:
            MissingDataError: no record of this class has the id, or a part of the task is not in it.
        """
        from kart_core.restoring import restore

        return cast("Self", restore(cls, unique_id, workspace_directory))

    @property
    def task_log(self) -> dict[str, Any]:
        """Notes of the execution: in `run` a dictionary to write to, afterwards what stands in the record."""
        from kart_core import running
        from kart_core.records import fetch, record_path, workspace_of

        attempt = running.current()
        if attempt is not None and attempt.task == self:
            return attempt.log
        found = fetch(workspace_of(self), record_path(self))
        return {} if found is None else dict(found.log)

    # --- what a task is as a Python object -----------------------------------------------

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: object) -> None:
            raise FrozenTaskError(
                f"{type(self).__qualname__}.{name} cannot be set: a task does not change; keep it in a local variable, "
                "derive it with functools.cached_property, or make another task with clone()"
            )

        def __delattr__(self, name: str) -> None:
            raise FrozenTaskError(f"{type(self).__qualname__}.{name} cannot be deleted: a task does not change")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self._kart_digest == cast("TaskOnKart[Any]", other)._kart_digest

    def __hash__(self) -> int:
        return hash(self._kart_digest)

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{info.name}={_shown(info, self.__dict__.get(info.name))}" for info in shape_of(type(self)).infos
        )
        return f"{type(self).__qualname__}({shown})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> Any:
        from kart_core.specification import flatten, rebuild

        return rebuild, (flatten(self),)


def _shown(info: ParameterInfo, value: object) -> str:
    if info.private:
        return "***"
    text = _short(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _short(value: object) -> str:
    """A value without what is inside the tasks that it holds: a deep graph prints as one line."""
    if is_task(value):
        return f"{type(value).__qualname__}(…)"
    if is_sequence(value):
        items = [_short(item) for item in value[:5]] + (["…"] if len(value) > 5 else [])
        return f"[{', '.join(items)}]" if isinstance(value, list) else f"({', '.join(items)})"
    if isinstance(value, dict):
        first = list(islice(cast("dict[Any, Any]", value).items(), 6))
        pairs = [f"{key!r}: {_short(item)}" for key, item in first[:5]]
        return "{" + ", ".join(pairs + (["…"] if len(first) > 5 else [])) + "}"
    if isinstance(value, frozenset) and any(map(is_task, cast("frozenset[Any]", value))):
        return "frozenset({" + ", ".join(sorted(map(_short, cast("frozenset[Any]", value)))[:5]) + "})"
    return repr(cast("object", value))


class ExternalTask(TaskOnKart[R_co]):
    """Data that no task makes: it is there, or the build ends with `MissingDataError`.

    `output()` says where it is; it is read like any other result.

    Example:
        >>> import kart_core as kart
        >>> class Raw(kart.ExternalTask[str]):
        ...     def output(self) -> kart.Target:
        ...         return self.make_target("raw/input.txt", use_unique_id=False)
        >>> Raw().complete()
        False
    """

    if not TYPE_CHECKING:
        _kart_recorded = False

        def run(self) -> Any:
            raise MissingDataError(missing_sentence(self))


class WrapperTask(TaskOnKart[None]):
    """A bundle of tasks under one name: it is complete when they are, and stores nothing itself.

    Example:
        >>> import kart_core as kart
        >>> class Part(kart.TaskOnKart[int]):
        ...     i: int
        ...     def run(self) -> int:
        ...         return self.i
        >>> class Everything(kart.WrapperTask):
        ...     parts: tuple[Part, ...]
        >>> kart.build(Everything(parts=(Part(i=1), Part(i=2))))
        >>> Part(i=2).complete()
        True
    """

    if not TYPE_CHECKING:
        _kart_recorded = False
        _kart_wraps = True

    def run(self) -> None:
        """Nothing: the requirements are all there is."""

    def output(self) -> Targets:
        """No target."""
        return ()


def missing_sentence(task: TaskOnKart[Any]) -> str:
    """Why a build cannot go on without external data."""
    from kart_core.target import declared, flatten

    urls = ", ".join(target.url for target in flatten(declared(task), task).values()) or "its output"
    return f"{task!r} is external data, and {urls} is not there; put it there, or correct the path in output()"


class _Setting:
    """The attribute of a task that gives a setting: what the task was given, or what is configured."""

    def __init__(self, info: SettingInfo) -> None:
        self.info = info
        self.__doc__ = info.description

    def __get__(self, task: TaskOnKart[Any] | None, owner: type[Any]) -> Any:
        if task is None:
            return self
        given = task._kart_given
        if self.info.name in given:
            return given[self.info.name]
        shape = shape_of(owner)
        return setting(shape, state_of(shape), self.info.name)

    def __set__(self, task: TaskOnKart[Any], value: object) -> None:
        setattr(task, self.info.name, value)


attrs.define(TaskOnKart, init=False, eq=False, order=False, repr=False, slots=False, match_args=False)
for _name, _info in SETTINGS.items():
    setattr(TaskOnKart, _name, _Setting(_info))
_of_the_root: dict[str, Any] = {"_kart_settings": {}, "_kart_policy": declaration.Policy()}
for _name, _value in _of_the_root.items():
    setattr(TaskOnKart, _name, _value)


def task_classes() -> Iterator[type[TaskOnKart[Any]]]:
    """Every task class that is loaded, without the ones that kart itself defines."""
    return (cls for cls in declaration.classes_beside(TaskOnKart) if cls not in (ExternalTask, WrapperTask))


def fields_of(cls: type[TaskOnKart[Any]]) -> Sequence[ParameterInfo]:
    """The parameters of a task class in the order of their declaration."""
    return shape_of(cls).infos


def settings() -> Sequence[SettingInfo]:
    """The settings that every task has."""
    return tuple(SETTINGS.values())


def is_task_class(value: object) -> bool:
    """Whether a value, or the origin of a generic annotation, is a task class."""
    origin = getattr(value, "__origin__", value)
    return isinstance(origin, type) and issubclass(origin, TaskOnKart)


def _from_data(value: object, annotation: Any) -> object:
    from kart_core.specification import from_data

    return from_data(value, annotation)


def _to_data(task: TaskOnKart[Any]) -> object:
    from kart_core.plain_data import plain

    return plain(task)


parameters.register(is_task_class, from_data=_from_data, to_data=_to_data)
