"""Seeding: the named generators are fixed before a task runs, and given back to the caller afterwards.

A library that is not imported yet is seeded by an import hook, so that nobody pays for
numpy or torch who does not use it, and who imports it inside `run()` is not too late.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from kart_core import host, running
from kart_core.config import nearest
from kart_core.errors import ConfigError
from kart_core.plugin import Seeder
from kart_core.settings import DEFAULT_SEED_METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# The pairs by which libraries read and set the state of a global generator.
_STATE_PAIRS: Final = (("get_state", "set_state"), ("getstate", "setstate"), ("get_rng_state", "set_rng_state"))

# Held by the build whose tasks draw.
_log = logging.getLogger("kart_core.build")

_taken: Final = threading.Lock()
_PATIENCE: Final = 10.0


class Generators:
    """The global random generators during one build.

    As a context manager it gives each generator that was seeded back as it was found, at the
    end; within the build only tasks draw from them, so nothing is saved between two tasks that
    name the same methods. A task that does not name a method finds what the method sets as the
    caller left it, whatever ran before. Builds of other threads wait: what one gives back would
    break into the stream of the other's task.

    Args:
        needed: whether any task will run.
    """

    def __init__(self, needed: bool = True) -> None:
        self._needed = needed
        self._takes = False
        self._outer: Generators | None = None
        self._seeders: dict[str, Seeder] = {}
        self._methods: Sequence[str] = ()
        self._sorted = False
        self._seed_calls: list[Callable[[int], object]] = []
        self._waiting: list[Seeder] = []
        self._saved: dict[str, tuple[Seeder, Any]] = {}  # by the methods called, in their order
        self._suspended: list[tuple[Seeder, Any]] = []
        self._watcher: _Watcher | None = None
        self._armed: _Watcher | None = None

    def __enter__(self) -> Generators:
        global _innermost
        if self._needed:
            if not running.is_inside():
                self._takes = _taken.acquire(timeout=_PATIENCE)
                if not self._takes:
                    _log.warning(
                        "another build of this process is still running, and one must wait for the other, since global "
                        "random generators are shared by threads; a task that waits in its run() for a thread that "
                        "builds waits for ever: build there without a thread, or yield the tasks"
                    )
                    self._takes = _taken.acquire()
            elif _innermost is not None:
                # What is built inside a task finds what it would find outside.
                self._outer = _innermost
                _innermost._suspend()
            _innermost = self
        return self

    def __exit__(self, *_: object) -> None:
        global _innermost
        if not self._needed:
            return
        try:
            self.release()
            self._give_back()
        finally:
            _innermost = self._outer
            if self._outer is not None:
                self._outer._resume()
            if self._takes:
                _taken.release()

    def _give_back(self, but: Container[str] = ()) -> None:
        """Gives back, last saved first, until what is left need not be."""
        self._sorted = False
        names = list(self._saved)
        others = (i for i, name in enumerate(names) if name not in but)
        with ExitStack() as stack:  # one that fails keeps none of the others from being given back
            for name in names[next(others, len(names)) :]:
                seeder, state = self._saved.pop(name)
                stack.callback(seeder.restore, state)

    def _suspend(self) -> None:
        if self._watcher is not None:
            _disarm(self._watcher)
        for seeder, state in reversed(self._saved.values()):
            self._suspended.append((seeder, seeder.save()))
            seeder.restore(state)

    def _resume(self) -> None:
        with ExitStack() as stack:
            for seeder, state in self._suspended:
                stack.callback(seeder.restore, state)
            self._suspended.clear()
        if self._watcher is not None:
            sys.meta_path.insert(0, self._watcher)
            self._watcher.catch_up()  # what the inner build imported is not yet seeded for the task around it

    def check(self, methods: Sequence[str], named: bool, owner: object) -> None:
        """Makes sure, before anything runs, that the methods can be called.

        Args:
            methods: the names.
            named: whether the user gave them; of the default list, what is not installed is passed over.
            owner: the task for which they were given.

        Raises:
            ConfigError: a method that the user named and that cannot be called.
        """
        if not named:
            return
        for method in methods:
            seeder = self._seeder(method)
            library = seeder.module.partition(".")[0]
            if library not in sys.modules and not _findable(library):
                raise _not_installed(method, owner, library)
            known = method in DEFAULT_SEED_METHODS or host.current().seeder(method) is not None
            if not known and _Dotted.find(method, load=True) is None:
                raise _no_function(method, owner, seeder.module)

    def fix(self, methods: Sequence[str], value: int) -> None:
        """Calls each method with `value`: now where its library is imported, otherwise as soon as it is.

        Args:
            methods: the names.
            value: the seed, 0 to 2**32 - 1.
        """
        if methods != self._methods:
            self._give_back(but=methods)
            self._methods = methods
        if not self._sorted:
            self._sort()
        for seed in self._seed_calls:
            seed(value)
        for seeder in self._waiting:
            if seeder.module in sys.modules and self._seed(seeder, value):
                self._sort()
        if self._waiting:
            if self._armed is None or self._armed.seeders is not self._waiting:
                self._armed = _Watcher(self._waiting, self._seed)
            self._armed.value = value
            self._watcher = self._armed
            sys.meta_path.insert(0, self._watcher)

    def release(self) -> None:
        """Ends the waiting for imports: the task has run."""
        if self._watcher is not None:
            _disarm(self._watcher)
            self._watcher = None

    def put_away(self) -> Sequence[tuple[Seeder, Any]]:
        """Ends a task's turn before its end; others may run until `take_up`.

        Returns:
            How far its generators have come.
        """
        self.release()
        states = [(seeder, seeder.save()) for seeder, _ in self._saved.values()]
        self._give_back()
        return states

    def take_up(self, methods: Sequence[str], value: int, states: Iterable[tuple[Seeder, Any]]) -> None:
        """Goes on with a task that was put away.

        Args:
            methods: those of the task, which need not have been called yet: it may import a library later.
            value: the task's seed.
            states: what `put_away` gave.
        """
        self.fix(methods, value)
        for seeder, state in states:
            seeder.restore(state)

    def _sort(self) -> None:
        """Finds out, and keeps, which methods are called and which wait for their library."""
        self._sorted = True
        self._seed_calls = [self._seeder(method).seed for method in self._methods if method in self._saved]
        self._waiting = [self._seeder(method) for method in self._methods if method not in self._saved]

    def _seed(self, seeder: Seeder, value: int, done: str = "") -> bool:
        if seeder.method in self._saved:
            return True
        if not _imported(seeder.module, done):
            return False
        self._saved[seeder.method] = (seeder, seeder.save())
        self._sorted = False
        seeder.seed(value)
        return True

    def _seeder(self, method: str) -> Seeder:
        if method not in self._seeders:
            known = host.current().seeder(method)
            self._seeders[method] = known if known is not None else _Dotted(method).seeder()
        return self._seeders[method]


def _imported(module: str, done: str = "") -> bool:
    """Whether a module and the packages around it have been imported to their end; `done` has just been."""
    found: ModuleType | None = sys.modules.get(module)
    if found is None:
        return False
    name = module
    while name:
        found = sys.modules.get(name)
        spec = getattr(found, "__spec__", None)
        if name != done and getattr(spec, "_initializing", False):
            return False
        name = name.rpartition(".")[0]
    return True


def _findable(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def _not_installed(method: str, owner: object, library: str) -> ConfigError:
    near = nearest(method, DEFAULT_SEED_METHODS)
    meant = f"did you mean {near!r}? Otherwise " if near else ""
    return ConfigError(
        f"fix_random_seed_methods of {owner!r} names {method!r}, but {library} is not installed; {meant}install "
        f"{library}{_hint(method)}, or take the name out of the list"
    )


def _no_function(method: str, owner: object, module: str) -> ConfigError:
    """The error of a name whose library is there, but no such function in it."""
    name = method.rpartition(".")[2]
    found = sys.modules.get(module)
    names = [f"{module}.{one}" for one in dir(found) if not one.startswith("_") and callable(getattr(found, one, None))]
    if found is None:
        why = f"there is no module {module!r}"
    elif module == method:
        why = f"{method} is a module"
    elif hasattr(found, name):
        why = f"{method} cannot be called"
    else:
        why = f"the module {module!r} has no {name!r}"
    near = nearest(method, dict.fromkeys((*names, *DEFAULT_SEED_METHODS)))
    hint = f"; did you mean {near!r}?" if near else "; write it as module.function, or take it out of the list"
    return ConfigError(f"fix_random_seed_methods of {owner!r} names {method!r}, but {why}{hint}{_hint(method)}")


def _hint(method: str) -> str:
    said = str(host.current().missing("kart_seeders", method))
    if "— " in said:
        return f" (the plugin for it: {said.partition('— ')[2]})"
    return f" ({said})" if "provided by the plugin" in said else ""


_innermost: Generators | None = None  # those of the build whose tasks run


class _Dotted:
    """A method that no plugin provides: any function that its dotted name leads to."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.owner, _, self.name = method.rpartition(".")

    def seeder(self) -> Seeder:
        return Seeder(
            self.method, module=self.owner or self.method, seed=self._call, save=self._save, restore=self._restore
        )

    def _call(self, value: int) -> None:
        function = self.find(self.method, load=False)
        if function is None:
            raise ConfigError(
                f"fix_random_seed_methods names {self.method!r}, but {self.owner} has no function {self.name!r}; "
                "correct the name, or take it out of the list"
            )
        try:
            function(value)
        except TypeError as error:
            raise ConfigError(
                f"fix_random_seed_methods names {self.method!r}, which cannot be called with a seed: {error}; "
                f"take the name out of the list{_hint(self.method)}"
            ) from error

    def _state_pair(self) -> tuple[Callable[[], Any], Callable[[Any], Any]] | None:
        module = sys.modules[self.owner]
        for get, set_ in _STATE_PAIRS:
            if callable(getattr(module, get, None)) and callable(getattr(module, set_, None)):
                return getattr(module, get), getattr(module, set_)
        return None

    def _save(self) -> Any:
        pair = self._state_pair()
        try:
            return None if pair is None else pair[0]()
        except Exception as error:
            raise ConfigError(
                f"fix_random_seed_methods names {self.method!r}, but the state of its generator, which is given back "
                f"after the build, cannot be read: {error}; take the name out of the list{_hint(self.method)}"
            ) from error

    def _restore(self, state: Any) -> None:
        pair = self._state_pair()
        if pair is not None and state is not None:
            pair[1](state)

    @staticmethod
    def find(method: str, *, load: bool) -> Callable[[int], object] | None:
        """The function of a dotted name; with `load` its module is imported for it."""
        owner, _, name = method.rpartition(".")
        if load and owner:
            try:
                importlib.import_module(owner)
            except ImportError:
                return None
        function = getattr(sys.modules.get(owner), name, None)
        return function if callable(function) else None


class _Watcher:
    """A finder, first on `sys.meta_path` while a task runs, that seeds a library as soon as it has been imported."""

    def __init__(self, seeders: list[Seeder], seed: Callable[[Seeder, int, str], object]) -> None:
        self.seeders = seeders
        self.value = 0
        self._seed = seed
        self._names = {name for seeder in seeders for name in _prefixes(seeder.module)}

    def catch_up(self) -> None:
        """Seeds what has been imported without this finder being asked."""
        for seeder in self.seeders:
            self._seed(seeder, self.value, "")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self._names:
            return None
        for finder in list(sys.meta_path):
            find: Any = getattr(finder, "find_spec", None)
            if isinstance(finder, _Watcher) or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _TellingLoader(spec.loader, self._imported)  # pyright: ignore[reportAttributeAccessIssue]
                return spec
        return None

    def _imported(self, name: str) -> None:
        for seeder in self.seeders:
            if name in _prefixes(seeder.module):
                self._seed(seeder, self.value, name)


def _disarm(watcher: _Watcher) -> None:
    if sys.meta_path and sys.meta_path[0] is watcher:
        del sys.meta_path[0]
    elif watcher in sys.meta_path:  # a task may have put the list in order itself
        sys.meta_path.remove(watcher)


class _TellingLoader:
    """A loader that does what another does, and tells when a module has been imported."""

    def __init__(self, loader: Any, tell: Callable[[str], None]) -> None:
        self._loader = loader
        self._tell = tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module keeps its own loader: it is asked for its source and its resources later.
        spec: Any = module.__spec__
        spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._tell(module.__name__)


def _prefixes(module: str) -> Iterator[str]:
    while module:
        yield module
        module = module.rpartition(".")[0]
