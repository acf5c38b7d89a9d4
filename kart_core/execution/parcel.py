"""How tasks travel to a worker process: as flat entries, each once per worker.

A task is sent as its class, its values and the places of the tasks that its fields hold, which went
before it. So a chain of 20,000 is 20,000 small entries for a worker, and never a nest.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from kart_core.declaration import Factory, shape_of
from kart_core.errors import KartError, ParameterError
from kart_core.frozen import freeze
from kart_core.identity import canonical, identity, requirements, state_of, tasks_in
from kart_core.nested import is_task
from kart_core.plugin import Secret
from kart_core.specification import Place, exchanged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kart_core.declaration import Shape
    from kart_core.execution.leases import Seen
    from kart_core.plugin import Stat
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

_PLAIN: Final = frozenset({int, str, float, bool, type(None), bytes, Place})


class Order(NamedTuple):
    """One task that a worker is to run."""

    number: int
    """Of the attempt, within the run."""
    place: int
    """Where the task stands among those that the worker was sent."""
    replaces: bool
    """Whether a record may be there that the attempt replaces."""
    timed: bool
    """Whether the coordinator must hear at once that it begins."""
    required: Any
    """What an overridden `requires()` gave, with places for tasks; None where nothing is overridden."""
    planned: Stat | None
    """What the plan saw of the task's record."""
    expired: Seen | None
    """The lease of another that is to be taken over."""


class Sender:
    """Makes parcels of tasks for one worker."""

    def __init__(self) -> None:
        self._places: dict[type[Any], dict[bytes, int]] = {}
        self._classes: dict[type[Any], int] = {}
        self._count = 0
        self._new_classes: list[bytes] = []
        self._entries: list[tuple[Any, ...]] = []
        self._orders: list[Order] = []

    def add(
        self,
        task: AnyTask,
        number: int,
        replaces: bool,
        timed: bool,
        planned: Stat | None = None,
        expired: Seen | None = None,
    ) -> None:
        """Adds an order to the next parcel; see `Order`.

        Raises:
            KartError: something that the task holds cannot go to another process.
        """
        required = None
        if type(task)._kart_overrides_requires:
            found = requirements(task)
            for one in tasks_in(found, task):
                self._place(one)
            required = (exchanged(found, self._place_of),)
        self._orders.append(Order(number, self._place(task), replaces, timed, required, planned, expired))

    def parcel(self) -> bytes:
        """What was added since the last one, as bytes for `Receiver.open`."""
        body = pickle.dumps((self._new_classes, self._entries, self._orders), protocol=5)
        numbers = [order.number for order in self._orders]
        self._new_classes, self._entries, self._orders = [], [], []
        return pickle.dumps((numbers, body), protocol=5)

    def tasks(self, tasks: Iterable[AnyTask]) -> bytes:
        """Tasks without orders, as bytes for `Receiver.tasks`; to one that has received nothing before.

        Raises:
            KartError: something that one of them holds cannot go to another process.
        """
        places = [self._place(task) for task in tasks]
        return pickle.dumps((self._new_classes, self._entries, places), protocol=5)

    def _place_of(self, value: Any) -> Any:
        return Place(self._places[type(value)][value._kart_digest]) if is_task(value) else value

    def _place(self, root: AnyTask) -> int:
        """Where a task stands among those that the worker knows; what is new goes into the parcel."""
        known = self._places.get(type(root), {}).get(root._kart_digest)
        if known is not None:
            return known
        stack: list[tuple[AnyTask, bool]] = [(root, False)]
        while stack:
            task, ready = stack.pop()
            places = self._places.setdefault(type(task), {})
            if task._kart_digest in places:
                continue
            if not ready and task._kart_children:
                stack.append((task, True))
                stack.extend((child, False) for child in task._kart_children)
                continue
            self._entries.append(self._entry(task))
            places[task._kart_digest] = self._count
            self._count += 1
        return self._count - 1

    def _entry(self, task: AnyTask) -> tuple[Any, ...]:
        cls = type(task)
        shape = shape_of(cls)
        number = self._classes.get(cls)
        if number is None:
            from kart_core.execution import by_value  # of use to who sends alone

            self._new_classes.append(by_value.dumps(cls))
            number = self._classes[cls] = len(self._classes)
        held = task.__dict__
        values: Any = [held[slot.name] for slot in shape.slots]
        if not shape.all_scalars:
            values = [self._sendable(shape, slot.name, value) for slot, value in zip(shape.slots, values, strict=True)]
            if not all(map(_is_plain, values)):
                values = _by_value(task, values)
        return number, values, dict(task._kart_given) or None, identity(task)

    def _sendable(self, shape: Shape, name: str, value: Any) -> Any:
        if type(value) is Secret:
            own = state_of(shape).values[name]
            if isinstance(own, Factory):
                own = own.make()
            if value != own:
                raise ParameterError(
                    f"the secret {name!r} of {shape.name} was given in Python, and secrets do not travel to other "
                    "processes; set it in the environment or the configuration, where a worker finds it, or run "
                    "without workers"
                )
            return _LEFT_OUT
        return exchanged(value, self._place_of)


class _LeftOut:
    """Stands for a secret, which the worker finds for itself."""

    def __reduce__(self) -> str:
        return "_LEFT_OUT"


_LEFT_OUT: Final = _LeftOut()


def _by_value(task: AnyTask, values: list[Any]) -> bytes:
    from kart_core.execution import by_value

    try:
        return by_value.dumps(values)
    except KartError:
        raise
    except Exception as error:
        raise ParameterError(
            f"{task!r} holds a value that cannot go to another process ({type(error).__name__}: {error}); let a task "
            "make it, or run without workers"
        ) from error


def _is_plain(value: Any) -> bool:
    if type(value) in _PLAIN:
        return True
    if type(value) in (list, tuple):
        return all(map(_is_plain, cast("list[Any]", value)))
    if type(value) is dict:
        items = cast("dict[Any, Any]", value)
        return all(map(_is_plain, items)) and all(map(_is_plain, items.values()))
    return False


class Receiver:
    """Opens the parcels of one coordinating process; keeps the tasks, which later ones refer to."""

    def __init__(self) -> None:
        self._classes: list[type[AnyTask] | Exception] = []
        self._tasks: list[AnyTask | Exception] = []

    def open(self, body: bytes) -> list[Order]:
        """Takes a parcel in; gives its orders."""
        classes, entries, orders = pickle.loads(body)
        self._classes.extend(map(class_of, classes))
        for entry in entries:
            self._tasks.append(self._made(*entry))
        return orders

    def tasks(self, body: bytes) -> list[AnyTask]:
        """The tasks of which `Sender.tasks` made the bytes.

        Raises:
            Exception: why one of them could not be made here.
        """
        classes, entries, places = pickle.loads(body)
        self._classes.extend(map(pickle.loads, classes))
        for entry in entries:
            self._tasks.append(self._made(*entry))
        return [self._known(Place(place)) for place in places]

    def task(self, order: Order) -> AnyTask:
        """The task of an order.

        Raises:
            Exception: why it could not be made here.
        """
        task = self._known(Place(order.place))
        if order.required is not None and "_kart_requires" not in task.__dict__:
            required = freeze(exchanged(order.required[0], self._known))
            canonical(task).__dict__["_kart_requires"] = task.__dict__["_kart_requires"] = required
        return task

    def _known(self, value: Any) -> Any:
        if type(value) is not Place:
            return value
        task = self._tasks[value]
        if isinstance(task, Exception):
            raise task
        return task

    def _made(
        self, number: int, values: list[Any] | bytes, given: Mapping[str, Any] | None, unique: bytes
    ) -> AnyTask | Exception:
        cls = self._classes[number]
        if isinstance(cls, Exception):
            return cls
        try:
            held: list[Any] = pickle.loads(values) if isinstance(values, bytes) else values
            task = cls(**dict(self._fields(shape_of(cls), held)), **(given or {}))
            # It was fixed when the task was made, maybe under another configuration than this run's. Whether a file
            # that the task holds has changed since is seen when it runs. An equal task that `run` makes has it too.
            if task._kart_identity is None:
                canonical(task).__dict__["_kart_identity"] = unique
            task.__dict__["_kart_identity"] = unique
        except Exception as error:
            return error
        return task

    def _fields(self, shape: Shape, values: list[Any]) -> Iterator[tuple[str, Any]]:
        for slot, value in zip(shape.slots, values, strict=True):
            if value is not _LEFT_OUT:
                yield slot.name, value if slot.exact is not None else exchanged(value, self._known)


def class_of(data: bytes) -> type[AnyTask] | Exception:
    """A class as it was sent, or why it cannot be had here."""
    try:
        return pickle.loads(data)
    except KartError as error:
        return error  # it says what is wrong, and what to do
    except Exception as error:
        from kart_core.errors import PluginError

        failure = PluginError(
            f"a worker cannot import what the task needs ({type(error).__name__}: {error}); what the process that "
            "builds can import, every worker must be able to import: install it there, or have the executor bring the "
            "project's modules (kart-dask: --dask-ship)"
        )
        failure.__cause__ = error
        return failure
