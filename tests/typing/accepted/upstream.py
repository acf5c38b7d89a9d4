"""What a task loads, requires and writes."""

from collections.abc import Generator, Iterator, Mapping, Sequence

from newcomer import Numbers, Total
from typing_extensions import assert_type, override, reveal_type

import kart_core as kart


class Loads(kart.TaskOnKart[dict[str, int]]):
    numbers: Numbers
    total: Total
    any_numbers: kart.TaskOnKart[list[int]]
    maybe: Numbers | None = None
    parts: tuple[Total, ...] = ()
    named: Mapping[str, Total] = kart.parameter(factory=dict[str, Total])

    @override
    def run(self) -> None:
        numbers = self.load(self.numbers)
        assert_type(numbers, list[int])
        assert_type(self.load(self.any_numbers), list[int])
        assert_type(self.load(self.total), int)
        assert_type(self.load(self.parts), list[int])
        assert_type(self.load([self.numbers, self.numbers]), list[list[int]])
        assert_type(self.load(self.named), dict[str, int])
        if self.maybe is not None:
            assert_type(self.load(self.maybe), list[int])
        for number in self.load_generator(self.numbers):
            assert_type(number, int)
        for total in self.load_generator(self.parts):
            assert_type(total, int)
        reveal_type(self.load(self.total))
        self.task_log["count"] = len(numbers)
        self.dump({"total": sum(numbers)})


class RequiresOne(kart.TaskOnKart[int]):
    @override
    def requires(self) -> Numbers:
        return Numbers(n=3)

    @override
    def run(self) -> int:
        return 1


class RequiresByName(kart.TaskOnKart[int]):
    n: int = 3

    @override
    def requires(self) -> dict[str, kart.TaskOnKart[object]]:
        return {"total": Total(numbers=Numbers(n=self.n)), "numbers": Numbers()}

    @override
    def run(self) -> int:
        return 1


class RequiresMany(kart.TaskOnKart[int]):
    @override
    def requires(self) -> list[Numbers]:
        return [Numbers(n=i) for i in range(3)]

    @override
    def run(self) -> int:
        return 1


class RequiresNested(kart.TaskOnKart[int]):
    @override
    def requires(self) -> Mapping[str, Sequence[Numbers]]:
        return {"a": [Numbers()], "b": ()}

    @override
    def run(self) -> int:
        return 1


class Outputs(kart.TaskOnKart[dict[str, object]]):
    @override
    def output(self) -> dict[str, kart.Target]:
        return {"text": self.make_target("report.txt"), "data": self.make_target("data.json", use_unique_id=False)}

    @override
    def run(self) -> None:
        self.dump("all is well", "text")
        self.dump([1, 2], "data")


class OneOutput(kart.TaskOnKart[str]):
    @override
    def output(self) -> kart.Target:
        return self.make_target("words.txt")

    @override
    def run(self) -> str:
        return "words"


class Streamed(kart.TaskOnKart[list[int]]):
    def run(self) -> Iterator[Numbers]:
        yield Numbers()


class Dynamic(kart.TaskOnKart[list[int]]):
    def run(self) -> Generator[Numbers, list[int], None]:
        found = yield Numbers()
        self.dump(found)


class Raw(kart.ExternalTask[str]):
    @override
    def output(self) -> kart.Target:
        return self.make_target("raw.txt", use_unique_id=False)


class FromFile(kart.TaskOnKart[int]):
    source: kart.File
    raw: Raw

    @override
    def run(self) -> int:
        return len(self.load(self.raw))


class Everything(kart.WrapperTask):
    totals: tuple[Total, ...]
    others: tuple[kart.TaskOnKart[object], ...] = ()


everything = Everything(totals=(Total(numbers=Numbers()),), others=(Raw(), Numbers(), OneOutput()))
assert_type(kart.build(everything), None)
assert_type(kart.build(Raw()), str)
