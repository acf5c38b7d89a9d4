"""An exception of another process arrives as what it was; what cannot arrive takes nothing else with it."""

from __future__ import annotations

import errno
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kart_core as kart
from kart_core.declaration import ParameterInfo
from kart_core.errors import BuildError, MissingDataError, ParameterError
from kart_core.execution.error_parts import MOST_TEXT
from kart_core.execution.travelling import pack, unpack
from kart_core.plugin import Secret
from kart_core.report.failures import raised_in, trimmed
from tests.elsewhere import Elsewhere

if sys.version_info < (3, 11):
    ExceptionGroup = None


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def raised(make: Callable[[], BaseException]) -> tuple[bytes, str, str]:
    """Raises over there; gives the exception packed, with the traceback and the trimmed one that it had."""
    try:
        raise make()
    except BaseException as error:
        return pack(error), text_of(error), trimmed(error)


@pytest.fixture(scope="module")
def call() -> Any:
    with Elsewhere() as call:
        yield call


@pytest.fixture
def arrives(call: Elsewhere) -> Callable[[Callable[[], BaseException]], Any]:
    """What arrives of an exception that a function makes; its traceback is the one that was printed there."""

    def arrives(make: Callable[[], BaseException]) -> Any:
        data, text, short = call(raised, make)
        error = unpack(data)
        assert text_of(error) == text
        assert trimmed(error) == short
        return error

    return arrives


# Made over there; they stand in a module, so that both sides can import them.


class TwoArguments(Exception):
    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name} has {number}")
        self.name = name
        self.number = number


class Repeats(Exception):
    """Its __init__ takes what it gave for a message, and makes another of it."""

    def __init__(self, what: str, *, times: int = 2) -> None:
        super().__init__(what * times)


class KeywordsAlone(ValueError):
    def __init__(self, *, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class Holds(Exception):
    """Holds what cannot be sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()
        self.function = lambda: 1
        self.number = 5
        self.parts = [1, threading.Lock(), 2]


class SaysItsLock(Exception):
    def __str__(self) -> str:
        return f"locked: {self.lock.locked()}"  # type: ignore[attr-defined]


class HostileReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no")


class OwnReduce(Exception):
    def __init__(self, word: str, other: str) -> None:
        super().__init__(word, other, object)
        self.word = word

    def __reduce__(self) -> Any:
        return OwnReduce, (self.word, "again")


class EndlessReduce(Exception):
    def __reduce__(self) -> Any:
        def endless() -> Any:
            while True:
                yield bytes(100_000)

        return list, (), None, endless()


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("nothing to say")

    __repr__ = __str__


class Quits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    def __reduce__(self) -> Any:
        raise SystemExit(3)


class Slotted(Exception):
    __slots__ = ("place",)


class NotFound(FileNotFoundError):
    def __init__(self, file: str) -> None:
        super().__init__(errno.ENOENT, "is not there", file)
        self.why = "gone"


class Failing(kart.TaskOnKart[int]):
    n: int = 1


# --- what it was


BUILTIN: list[Callable[[], BaseException]] = [
    lambda: ValueError("plain"),
    lambda: ValueError(),
    lambda: ValueError("one", 2, {"three": [3]}),
    lambda: KeyError("missing"),
    lambda: KeyError(("a", 1)),
    lambda: OSError(errno.ENOENT, "is not there", "file.txt"),
    lambda: OSError("says this"),
    lambda: OSError(errno.EXDEV, "two", "a", None, "b"),
    lambda: SystemExit(3),
    lambda: KeyboardInterrupt(),
    lambda: StopIteration(5),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "wrong"),
    lambda: SyntaxError("wrong", ("file.py", 3, 5, "a b c\n")),
    lambda: ImportError("no", name="module", path="here"),
    lambda: RecursionError("too deep"),
    lambda: ParameterError("wrong"),
    lambda: kart.KartError("ä\ud800 \0"),
]


@pytest.mark.parametrize("number", range(len(BUILTIN)))
def test_an_exception_arrives_whole(number: int, arrives: Any) -> None:
    original, error = BUILTIN[number](), arrives(BUILTIN[number])
    assert type(error) is type(original)
    assert error.args == original.args
    assert str(error) == str(original)
    assert repr(error) == repr(original)
    for name in ("errno", "strerror", "filename", "filename2", "code", "value", "start", "lineno", "text", "name"):
        assert getattr(error, name, None) == getattr(original, name, None)


@given(st.lists(st.integers() | st.text() | st.tuples(st.binary(), st.none())), st.text(), st.booleans())
@settings(max_examples=50)
def test_arguments_attributes_and_notes_arrive(arguments: list[Any], word: str, group: bool) -> None:
    for cls in (ValueError, KeyError, TwoArguments, OSError, UnicodeError):
        error = cls.__new__(cls, *arguments)
        error.args = tuple(arguments)
        error.word = word
        error.__notes__ = [word]
        back: Any = unpack(pack(error))
        assert type(back) is cls
        assert (back.args, str(back), vars(back)) == (error.args, str(error), vars(error))


def test_an_init_of_another_form_is_no_hindrance(arrives: Any) -> None:
    error = arrives(lambda: TwoArguments("x", 3))
    assert type(error) is TwoArguments
    assert (str(error), error.name, error.number) == ("x has 3", "x", 3)
    error = arrives(lambda: Repeats("ab", times=3))
    assert (type(error), str(error)) == (Repeats, "ababab")
    error = arrives(lambda: KeywordsAlone(code=7))
    assert (type(error), str(error), error.code) == (KeywordsAlone, "code 7", 7)
    error = arrives(lambda: NotFound("a.txt"))
    assert (type(error), error.filename, error.errno, error.why) == (NotFound, "a.txt", errno.ENOENT, "gone")


def test_an_exception_with_a_reduce_of_its_own_is_made_by_it(arrives: Any) -> None:
    def make() -> BaseException:
        return OwnReduce("a", "again")

    error = arrives(make)
    assert (type(error), error.word, error.args) == (OwnReduce, "a", ("a", "again", object))


def test_slots_arrive(arrives: Any) -> None:
    def make() -> BaseException:
        error = Slotted("text")
        error.place = [1]
        return error

    assert arrives(make).place == [1]


def test_notes_cause_and_context_arrive(arrives: Any) -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise KeyError("inner")

    def make() -> BaseException:
        try:
            try:
                deep(3)
            except KeyError as inner:
                raise TypeError("middle") from inner
        except TypeError as middle:
            outer = ValueError("outer")
            if sys.version_info >= (3, 11):
                outer.add_note("a note")
            try:
                try:
                    raise middle
                finally:
                    raise outer from None
            except ValueError as error:
                return error
        raise AssertionError

    error = arrives(make)
    assert error.__suppress_context__
    assert error.__cause__ is None
    assert str(error.__context__) == "middle"
    assert type(error.__context__.__cause__) is KeyError
    assert len(list(traceback.walk_tb(error.__context__.__cause__.__traceback__))) > 4


def test_a_circle_in_the_chain_arrives_as_a_circle(arrives: Any) -> None:
    def make() -> BaseException:
        one, two = ValueError("one"), ValueError("two")
        one.__context__, two.__context__ = two, one
        one.itself = one  # type: ignore[attr-defined]
        return one

    error = arrives(make)
    assert error.__context__.__context__ is error
    assert error.itself is error


def test_a_chain_of_thousands_ends_somewhere() -> None:
    error = ValueError(0)
    for number in range(5000):
        before, error = error, ValueError(number)
        error.__cause__ = before
    back = unpack(pack(error))
    assert back.args == (4999,)
    assert back.__cause__ is not None
    assert back.__cause__.args == (4998,)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no exception groups before Python 3.11")
def test_the_members_of_a_group_arrive(arrives: Any) -> None:
    def make() -> BaseException:
        try:
            raise KeyError("in it")
        except KeyError as error:
            member = error
        inner = ExceptionGroup("inner", [TwoArguments("x", 1), member])
        group = ExceptionGroup("outer", [ValueError("v"), inner, Holds("held")])
        member.group = group  # type: ignore[attr-defined]
        return group

    error = arrives(make)
    assert (type(error), error.message) == (ExceptionGroup, "outer")
    assert [type(one) for one in error.exceptions] == [ValueError, ExceptionGroup, Holds]
    assert [type(one) for one in error.exceptions[1].exceptions] == [TwoArguments, KeyError]
    assert error.exceptions[1].exceptions[1].group is error
    assert error.exceptions[1].exceptions[1].__traceback__ is not None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no exception groups before Python 3.11")
def test_a_group_of_a_local_class_arrives_as_a_group_of_that_name() -> None:
    class Local(ExceptionGroup):
        pass

    back: Any = unpack(pack(Local("some", [ValueError(1)])))
    assert isinstance(back, ExceptionGroup)
    assert (type(back).__qualname__, str(back)) == (Local.__qualname__, "some (1 sub-exception)")
    assert [one.args for one in back.exceptions] == [(1,)]


def test_the_failures_of_a_build_arrive_with_their_tasks(arrives: Any) -> None:
    def make() -> BaseException:
        return BuildError("two failed", {Failing(n=1): Holds("x"), Failing(n=2): MissingDataError("y")})

    error = arrives(make)
    assert type(error) is BuildError
    assert [(task, type(one), str(one)) for task, one in error.failures.items()] == [
        (Failing(n=1), Holds, "x"),
        (Failing(n=2), MissingDataError, "y"),
    ]
    assert error.exit_code == 40
    missing = arrives(lambda: BuildError("one failed", {Failing(n=2): MissingDataError("y")}))
    assert missing.exit_code == 20


def test_the_failures_of_tasks_without_a_module_arrive_too(arrives: Any) -> None:
    class Local(kart.TaskOnKart[int]):
        n: int = 1

    class LocalError(Exception):
        pass

    error = arrives(lambda: BuildError("failed", {Local(n=3): LocalError("x")}))
    assert list(error.failures) == [Local(n=3)]
    assert type(error.failures[Local(n=3)]) is LocalError


def test_an_error_of_a_class_that_was_sent_is_of_that_class(call: Elsewhere) -> None:
    class LocalError(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} {b}")
            self.lock = threading.Lock()

    def fail() -> None:
        raise LocalError(1, 2)

    with pytest.raises(LocalError, match="1 2"):
        call(fail)


# --- its traceback


def test_the_traceback_is_the_one_that_was_printed_there(call: Elsewhere) -> None:
    with pytest.raises(ZeroDivisionError) as raising:
        call(divide, {"a": [1, 2]})
    printed = text_of(raising.value)
    assert 'return 1 + values["a"][0] / 0' in printed
    if sys.version_info >= (3, 11):
        assert "~~~~~~~~~~~~~~~^~~" in printed
    assert raised_in(raising.value) is not None


def divide(values: dict[str, Any]) -> float:
    return 1 + values["a"][0] / 0


def test_a_deep_recursion_is_printed_as_it_was(arrives: Any) -> None:
    def make() -> BaseException:
        def down(n: int) -> None:
            down(n + 1)

        try:
            down(0)
        except RecursionError as error:
            return error
        raise AssertionError

    assert type(arrives(make)) is RecursionError


def test_a_name_that_may_have_been_meant_is_told(arrives: Any) -> None:
    class Thing:
        colour = 1

        def method(self) -> None:
            colur  # type: ignore[name-defined]  # noqa: B018, F821

    def name() -> BaseException:
        values_of_it = 1
        try:
            value_of_it  # type: ignore[name-defined]  # noqa: B018
        except NameError as error:
            assert values_of_it
            return error
        raise AssertionError

    def attribute() -> BaseException:
        try:
            Thing().colur  # type: ignore[attr-defined]  # noqa: B018
        except AttributeError as error:
            return error
        raise AssertionError

    def of_self() -> BaseException:
        try:
            Thing().method()
        except NameError as error:
            return error
        raise AssertionError

    for make in (name, attribute, of_self):
        arrives(make)


def test_a_traceback_among_the_attributes_arrives(arrives: Any) -> None:
    def make() -> BaseException:
        try:
            raise KeyError(1)
        except KeyError as error:
            outer = ValueError("x")
            outer.trace = error.__traceback__  # type: ignore[attr-defined]
            return outer

    assert isinstance(arrives(make).trace, TracebackType)


# --- what cannot arrive


def test_what_cannot_be_sent_is_left_out_and_the_rest_arrives(arrives: Any) -> None:
    error = arrives(lambda: Holds("message"))
    assert type(error) is Holds
    assert (str(error), error.number, error.parts) == ("message", 5, [1, 2])
    assert not hasattr(error, "lock")
    assert not hasattr(error, "function")


def test_an_argument_that_cannot_be_sent_is_shown_as_the_message_shows_it(arrives: Any) -> None:
    for make in (
        lambda: ValueError("a", threading.Lock()),
        lambda: ValueError(lambda: 1),
        lambda: KeyError(print, len),
    ):
        assert isinstance(arrives(make), (ValueError, KeyError))


def test_a_message_that_needs_what_cannot_be_sent_arrives_all_the_same(arrives: Any) -> None:
    def make() -> BaseException:
        error = SaysItsLock("x")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        return error

    error = arrives(make)
    assert isinstance(error, SaysItsLock)
    assert str(error) == "locked: False"


@pytest.mark.parametrize("cls", [HostileReduce, EndlessReduce, Silent, Quits])
def test_a_class_that_does_harm_does_none_here(cls: type[BaseException], arrives: Any) -> None:
    assert isinstance(arrives(lambda: cls("text")), cls)


def test_a_class_that_cannot_be_had_here_is_one_of_its_name_below_the_nearest_base(call: Elsewhere) -> None:
    data, text, _ = call(raised_locally)
    error: Any = unpack(data)
    assert isinstance(error, TwoArguments)
    assert type(error).__qualname__ == "raised_locally.<locals>.LocalError"
    assert type(error).__module__ == __name__
    assert (str(error), error.name, text_of(error)) == ("said x has 3", "x", text)


def raised_locally() -> Any:
    class Plain:
        pass

    class LocalError(Plain, TwoArguments):
        def __str__(self) -> str:
            return f"said {super().__str__()}"

    return raised(lambda: LocalError("x", 3))


def test_what_is_no_such_class_here_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(TwoArguments("x", 3))
    monkeypatch.setitem(globals(), "TwoArguments", ParameterInfo)
    back = unpack(data)
    assert (type(back).__name__, str(back), isinstance(back, Exception)) == ("TwoArguments", "x has 3", True)


def test_what_is_too_long_is_cut() -> None:
    back = unpack(pack(ValueError("a", bytes(1 << 25))))
    assert back.args[0] == "a"
    data = pack(ValueError("x" * (1 << 26)))
    assert len(data) < 4 * MOST_TEXT
    assert str(unpack(data)).endswith(f"xx … ({(1 << 26) - MOST_TEXT} characters more)")
    error = ValueError("short")
    error.big = bytes(1 << 25)  # type: ignore[attr-defined]
    assert str(unpack(pack(error))) == "short"


def test_no_secret_is_shown_that_was_not_in_the_message() -> None:
    class Discreet(Exception):
        def __str__(self) -> str:
            return "wrong password"

    class Key:
        def __repr__(self) -> str:
            return "hunter2"

        def __reduce__(self) -> Any:
            raise TypeError

    error = Discreet(Key(), Secret("hunter2"))
    back = unpack(pack(error))
    assert "hunter2" not in text_of(back)
    assert "hunter2" not in repr(back)


def test_bytes_that_are_none_of_ours_give_an_error_and_raise_none() -> None:
    for data in (b"", b"x", pickle.dumps([1]), pickle.dumps([])):
        assert isinstance(unpack(data), kart.KartError)
