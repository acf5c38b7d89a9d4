"""The user's module of these tests, as text."""

PIPE = """\
import logging
import os
import random
import signal
import time
from pathlib import Path

import kart_core as kart


def ran(name):
    with open("ran.txt", "a") as file:
        file.write(f"{name} {os.getpid()}\\n")


def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.02)


class Leaf(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        ran(f"leaf{self.i}")
        return random.randint(0, 10**6) + self.i


class Total(kart.TaskOnKart[int]):
    n: int = 20

    def requires(self):
        return [Leaf(i=i) for i in range(self.n)]

    def run(self) -> int:
        return sum(self.load())


class Plain(kart.TaskOnKart[int]):
    "Leaves nothing in the working directory."

    i: int

    def run(self) -> int:
        return random.randint(0, 10**6) + self.i


class PlainTotal(kart.TaskOnKart[int]):
    n: int = 200

    def requires(self):
        return [Plain(i=i) for i in range(self.n)]

    def run(self) -> int:
        return sum(self.load())


class Deep(kart.TaskOnKart[int]):
    before: "Deep | None" = None

    def run(self) -> int:
        return 1 if self.before is None else 1 + self.load(self.before)


class Killed(kart.TaskOnKart[int], retries=1):
    times: int = 1

    def run(self) -> int:
        ran("killed")
        time.sleep(0.5)
        if Path("ran.txt").read_text().count("killed") <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return 7


class KilledForGood(Killed, retries=0):
    pass


class Waits(kart.TaskOnKart[int]):
    name: str = "go"

    def run(self) -> int:
        ran("waits")
        Path(f"begun-{self.name}-{os.getpid()}").touch()
        wait_for(self.name)
        return 1


class WaitsAgain(Waits, retries=1):
    pass


class WaitsWithin(Waits, timeout=100, retries=1):
    pass


class Sleeps(kart.TaskOnKart[int], timeout=1.0):
    def run(self) -> int:
        time.sleep(60)
        return 1


class AsksWithin(kart.TaskOnKart[int], timeout=100):
    def run(self):
        Path("holder.txt").write_text(str(os.getpid()))
        return (yield Waits())


class Chatty(kart.TaskOnKart[int]):
    def run(self) -> int:
        print("printed by the task", flush=True)
        logging.getLogger("pipe").warning("logged by the task")
        wait_for("heard")
        return 1


class Grow(kart.TaskOnKart[float]):
    "Asks for as many tasks as its input says, three levels deep."

    n: int = 2
    depth: int = 3

    def run(self):
        ran(f"grow{self.depth}")
        if self.depth == 0:
            if Path("slow").exists():
                time.sleep(0.2)
            return self.n + random.random()
        first = random.random()
        size = yield Size(n=self.n)
        got = yield [Grow(n=self.n + k, depth=self.depth - 1) for k in range(size)]
        return sum(got) + random.random() + first


class Size(kart.TaskOnKart[int]):
    n: int

    def run(self) -> int:
        ran("size")
        return 2 + self.n % 2


class Counted(kart.TaskOnKart[int]):
    "Says that it has run, in a file that workers of all clusters share."

    i: int

    def run(self) -> int:
        ran(f"counted{self.i}")
        time.sleep(0.15)  # both clusters are to come to it, also on a machine that is busy
        return self.i


class CountedGroup(kart.TaskOnKart[int]):
    first: int

    def requires(self):
        return [Counted(i=self.first + i) for i in range(9)]

    def run(self) -> int:
        ran(f"group{self.first}")
        return sum(self.load())


class CountedTotal(kart.TaskOnKart[int]):
    "One of 61 tasks."

    def requires(self):
        return [CountedGroup(first=9 * i) for i in range(6)]

    def run(self) -> int:
        return sum(self.load())


class CountedGrowth(kart.TaskOnKart[int]):
    def run(self):
        ran("growth-begins")
        got = yield [Counted(i=1000 + i) for i in range(8)]
        ran("growth-goes-on")
        return sum(got)


class OnGpu(kart.TaskOnKart[str], resources={"GPU": 1}):
    i: int

    def run(self) -> str:
        return os.environ["TEST_WORKER"]


class OnOne(kart.TaskOnKart[int], resources={"one": 1}):
    "Runs on the one worker of two."

    i: int
    seconds: float = 0.0

    def run(self) -> int:
        ran(f"one{self.i}")
        time.sleep(self.seconds)
        return self.i


class OnTwo(kart.TaskOnKart[int], resources={"two": 1}):
    "Runs on the other one."

    def run(self) -> int:
        Path("begun-two").touch()
        wait_for("go")
        return 2


class HeldOnOne(kart.TaskOnKart[int], resources={"one": 1}):
    def run(self):
        Path("holder.txt").write_text(str(os.getpid()))
        return (yield OnTwo())


class OnGpuLater(kart.TaskOnKart[str], resources={"GPU": 1}):
    i: int

    def requires(self):
        return Waits()

    def run(self) -> str:
        return os.environ["TEST_WORKER"]


class Where(kart.TaskOnKart[str]):
    i: int

    def run(self) -> str:
        return os.getcwd()
"""
