"""How tasks travel to workers that an engine chooses: each once, although nobody knows who gets the next piece.

A piece holds the tasks that no earlier piece held. A process that lacks some of the others runs nothing
and says what it has: the same piece then goes to that process again, with what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kart_core import running
from kart_core.errors import PluginError
from kart_core.execution.parcel import Order, Receiver, Sender, class_of
from kart_core.identity import requirements, tasks_in
from kart_core.planning import code_of_class
from kart_core.specification import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


class Goods(NamedTuple):
    """The tasks of a piece, as they travel."""

    classes: Sequence[tuple[int, bytes, str | None]]
    """The number of each class of the entries, the class, and the digest of its code."""
    entries: Sequence[tuple[int, tuple[Any, ...]]]
    """Each task's place, and what `Sender` says of it; those that others hold before them."""
    orders: Sequence[Order]


class Ledger(Sender):
    """The coordinating process's side: which tasks have a place, and so were sent to somebody."""

    def __init__(self) -> None:
        super().__init__()
        self._described: list[tuple[int, bytes, str | None]] = []

    def goods(self) -> Goods:
        """The orders that were added since the last time, with the tasks that were not sent yet."""
        # Each new entry has the place after the one before.
        entries = list(enumerate(self._entries, self._count - len(self._entries)))
        orders, self._entries, self._orders = self._orders, [], []
        return self._with_classes(entries, orders)

    def lacking(self, tasks: Iterable[AnyTask], orders: Sequence[Order], has: bytes) -> Goods:
        """What a process lacks to run orders that were made before.

        Args:
            tasks: the tasks of the orders.
            orders: as they were sent.
            has: what the process has, as `Shelf.has` says it.
        """
        present = int.from_bytes(has, "little")
        entries: list[tuple[int, tuple[Any, ...]]] = []
        done: set[int] = set()
        stack = [(root, False) for task in tasks for root in _roots(task)]
        while stack:
            task, ready = stack.pop()
            place = self._places[type(task)][task._kart_digest]
            if place in done or present >> place & 1:
                continue
            if not ready and task._kart_children:
                stack.append((task, True))
                stack.extend((child, False) for child in task._kart_children)
                continue
            done.add(place)
            entries.append((place, self._entry(task)))
        return self._with_classes(entries, orders)

    def _with_classes(self, entries: Sequence[tuple[int, tuple[Any, ...]]], orders: Sequence[Order]) -> Goods:
        for data, cls in zip(self._new_classes, list(self._classes)[len(self._described) :], strict=True):
            self._described.append((self._classes[cls], data, code_of_class(cls)))
        self._new_classes = []
        return Goods([self._described[number] for number in {entry[0] for _, entry in entries}], entries, orders)


def _roots(task: AnyTask) -> list[AnyTask]:
    return [task, *tasks_in(requirements(task), task)] if type(task)._kart_overrides_requires else [task]


class Lacking(Exception):
    """A task that was not sent to this process."""


class Shelf(Receiver):
    """A worker process's side: the tasks of one run that it was sent."""

    def take(self, goods: Goods, where: str) -> bool:
        """Takes goods in.

        Args:
            goods: what came.
            where: how messages name this process.

        Returns:
            Whether the orders can be run; otherwise something is lacking.
        """
        running.imports_code = True
        try:
            for number, data, code in goods.classes:
                _put(self._classes, number, _checked(class_of(data), code, where))
        finally:
            running.imports_code = False
        for place, entry in goods.entries:
            _put(self._tasks, place, self._made(*entry))
        return all(map(self._has_all, goods.orders))

    def has(self) -> bytes:
        """Which places hold a task here: a bit for each, the first place's the lowest."""
        bits = bytearray(len(self._tasks) // 8 + 1)
        for place, task in enumerate(self._tasks):
            if not isinstance(task, Lacking):
                bits[place >> 3] |= 1 << (place & 7)
        return bytes(bits)

    def _has_all(self, order: Order) -> bool:
        try:
            self.task(order)
        except Lacking:
            return False
        except Exception:
            return True  # it is told when the order is run
        return True

    def task(self, order: Order) -> AnyTask:
        """The task of an order.

        Raises:
            Lacking: it, or one of those that it requires, was not sent to this process.
            Exception: why it could not be made here.
        """
        if order.place >= len(self._tasks):
            raise Lacking
        return super().task(order)

    def _known(self, value: Any) -> Any:
        if type(value) is Place and value >= len(self._tasks):
            raise Lacking
        return super()._known(value)


def _put(shelf: list[Any], place: int, what: Any) -> None:
    shelf.extend(Lacking() for _ in range(place + 1 - len(shelf)))
    shelf[place] = what


def _checked(cls: type[AnyTask] | Exception, code: str | None, where: str) -> type[AnyTask] | Exception:
    """The class, if it is of the same code as in the process that builds."""
    here = None if isinstance(cls, Exception) else code_of_class(cls)
    if code is None or here is None or here == code:
        return cls
    assert isinstance(cls, type)
    return PluginError(
        f"the code of {cls.__module__}.{cls.__qualname__} on {where} is not that of the process that builds (digest "
        f"{here[:8]} there, {code[:8]} here); bring the same code to all workers (kart-dask: --dask-ship), and start "
        "those anew that have imported the old"
    )
