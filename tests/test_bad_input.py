"""What users get wrong: each mistake ends with its exit code and one message that says what, where and what next."""

from __future__ import annotations

import os
import string
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TASKS = """\
import enum
from pathlib import Path
from typing import Literal

import kart_core as kart


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Numbers(kart.TaskOnKart[list[int]]):
    n: int = 10
    flag: bool = False
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    colour: Colour = Colour.RED
    layers: list[int] = kart.parameter(default=[])
    weights: dict[str, float] = kart.parameter(default={})
    path: Path = Path(".")
    hidden: int = kart.parameter(default=1, private=True)

    def run(self) -> list[int]:
        return list(range(self.n))


class Total(kart.TaskOnKart[int]):
    numbers: Numbers

    def run(self) -> int:
        return sum(self.load(self.numbers))


class Needy(kart.TaskOnKart[int]):
    must: int
    also_this: str

    def run(self) -> int:
        return self.must


class Endless(kart.TaskOnKart[int]):
    above: "Endless"

    def run(self) -> int:
        return 1


class Fixed(kart.TaskOnKart[int]):
    def requires(self):
        return Numbers(n=3)

    def run(self) -> int:
        return 1


class Silent(kart.TaskOnKart[int]):
    def run(self) -> None:
        pass


class Raw(kart.ExternalTask[str]):
    def output(self):
        return self.make_target("raw.txt", use_unique_id=False)


class Cycle(kart.TaskOnKart[int]):
    def requires(self):
        return Cycle()

    def run(self) -> int:
        return 1


class Outside(kart.TaskOnKart[int]):
    def output(self):
        return self.make_target("../outside.txt")

    def run(self) -> int:
        return 1


class Unknown(kart.TaskOnKart[int]):
    def output(self):
        return self.make_target("x.parquett")

    def run(self) -> int:
        return 1


class NotText(kart.TaskOnKart[object]):
    def output(self):
        return self.make_target("x.txt")

    def run(self) -> object:
        return 1


class SameA(kart.TaskOnKart[int]):
    def output(self):
        return self.make_target("same.json", use_unique_id=False)

    def run(self) -> int:
        return 1


class SameB(SameA):
    pass


class Strange(kart.TaskOnKart[int]):
    thing: object = None

    def requires(self):
        return 7

    def run(self) -> int:
        return 1


def not_a_task() -> None:
    pass


something = 5
"""


@dataclass(frozen=True)
class Case:
    """A wrong input."""

    name: str
    words: str
    code: int
    facts: list[str]
    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def module(body: str) -> dict[str, str]:
    """A module of the user's whose task class is made wrongly."""
    return {"wrong.py": "import kart_core as kart\nfrom typing import ClassVar\n\n" + body}


RUN = "def run(self) -> int:\n        return 1\n"

COMMAND_LINE = [
    Case("an unknown command", "rum tasks:Total", 2, ["rum"]),
    Case("an unknown option of the program", "--nope", 2, ["--nope"]),
    Case("no task", "run", 2, ["MODULE:TASK"]),
    Case("no task for plan", "plan", 2, ["MODULE:TASK"]),
    Case("a word that is no task", "run Total", 2, ["'Total'", "MODULE:TASK"]),
    Case("a module that is not there", "run tassks:Total", 2, ["tassks", "looked in"]),
    Case("a file that is not there", "run tassks.py:Total", 2, ["tassks.py"]),
    Case("a file whose name is no name", "run my-file.py:Total", 2, ["my-file"], {"my-file.py": ""}),
    Case("a file named as another module", "run json.py:Total", 2, ["json.py", "rename"], {"json.py": ""}),
    Case("a task that is not there", "run tasks:Totl", 2, ["tasks", "Totl", "did you mean Total"]),
    Case("a function instead of a task", "run tasks:not_a_task", 2, ["not_a_task", "TaskOnKart"]),
    Case("a value instead of a task", "run tasks:something", 2, ["something", "TaskOnKart"]),
    Case("a class of kart itself", "run tasks:kart.TaskOnKart", 2, ["TaskOnKart"]),
    Case("an unknown parameter", "run tasks:Numbers --m 5", 2, ["--m", "did you mean --n"]),
    Case("a misspelt setting", "run tasks:Numbers --workspace-dir x", 2, ["--workspace-dir", "--workspace-directory"]),
    Case(
        "an unknown parameter of another class", "run tasks:Total --Numbers-layer 5", 2, ["Numbers", "--Numbers-layers"]
    ),
    Case("an unknown class", "run tasks:Total --Nmbers-n 5", 2, ["--Nmbers-n", "did you mean --Numbers-n"]),
    Case("a single dash", "run tasks:Numbers -n 5", 2, ["-n"]),
    Case("an option before any task", "run --n 5", 2, ["--n"]),
    Case("an option without its value", "run tasks:Numbers --n", 2, ["--n", "value"]),
    Case("an option whose value is an option", "run tasks:Numbers --n --flag", 2, ["--n", "value"]),
    Case("an option given twice", "run tasks:Numbers --n 5 --Numbers-n 5 --n 6", 2, ["--n", "twice"]),
    Case("a required parameter left out", "run tasks:Needy --must 1", 2, ["tasks.Needy", "also_this", "--also-this"]),
    Case("several required parameters left out", "run tasks:Needy", 2, ["must", "also_this", "int", "str"]),
    Case("a task that needs itself", "run tasks:Endless", 2, ["tasks.Endless", "above", "JSON"]),
    Case(
        "an option that changes nothing", "run tasks:Numbers --Total-workspace-directory x", 2, ["no effect", "Total"]
    ),
    Case("an option that the code decides", "run tasks:Fixed --Numbers-n 5", 2, ["no effect", "Numbers", "n"]),
    Case("a task to rerun from that is not there", "run tasks:Total --rerun-from Nmbers", 2, ["Nmbers", "Numbers"]),
    Case("a log level that is none", "run tasks:Total --log-level loud", 2, ["--log-level", "loud", "info"]),
    Case("a value to a switch of the command", "run tasks:Total --local-scheduler=yes", 2, ["--local-scheduler"]),
    Case("an id that is not stored", "show 0123456789abcdef0123456789abcdef", 20, ["0123456789abcdef", "resources"]),
    Case("a result that is not stored", "show tasks:Total", 20, ["Total", "resources"]),
    Case("two results to show", "show tasks:Total tasks:Numbers", 2, ["one result"]),
    Case("a number of workers that is none", "run tasks:Total --workers 0", 2, ["--workers", "from 1 on", "0"]),
    Case("a word for the workers", "plan tasks:Total --workers many", 2, ["--workers", "from 1 on", "'many'"]),
    Case(
        "a plan for workers that cannot see the workspace",
        "plan tasks:Total --workers 2 --workspace-directory memory://x",
        2,
        ["Numbers", "memory://x", "processes"],
    ),
    Case("a module that is misspelt", "run taskss:Total", 2, ["no module is named taskss", "did you mean tasks?"]),
    Case("an executor that is none", "run tasks:Total --executor process", 2, ["process", "did you mean", "processes"]),
    Case("a timeout that is none", "plugins --check --timeout 0", 2, ["--timeout"]),
    Case("a plugin that is not there", "plugins nobody", 2, ["nobody"]),
]

VALUES = [
    Case("a fraction for an int", "run tasks:Numbers --n 3.7", 2, ["--n", "int", "3.7"]),
    Case("a word for an int", "run tasks:Total --Numbers-n five", 2, ["--Numbers-n", "int", "five"]),
    Case("nothing for an int", "run tasks:Numbers --n=", 2, ["--n", "int"]),
    Case("a word for a float", "run tasks:Numbers --rate fast", 2, ["--rate", "float", "fast"]),
    Case("a word for a flag", "run tasks:Numbers --flag=maybe", 2, ["--flag", "maybe", "true"]),
    Case("a choice that is none", "run tasks:Numbers --kind c", 2, ["--kind", "'a'", "'b'", "c"]),
    Case("a member that is none", "run tasks:Numbers --colour GREEN", 2, ["--colour", "RED", "BLUE", "GREEN"]),
    Case("no JSON for a list", "run tasks:Numbers --layers 64,32", 2, ["--layers", "JSON", "list[int]"]),
    Case("a wrong item in a list", 'run tasks:Numbers --layers [1,"x"]', 2, ["--layers", "int"]),
    Case("a list for a mapping", "run tasks:Numbers --weights [1]", 2, ["--weights", "dict[str, float]"]),
    Case("no JSON for a task", "run tasks:Total --numbers five", 2, ["--numbers"]),
    Case("an unknown field in a task's JSON", 'run tasks:Total --numbers {"m":5}', 2, ["--numbers", "m"]),
    Case("a wrong value in a task's JSON", 'run tasks:Total --numbers {"n":"x"}', 2, ["--numbers", "n", "int"]),
    Case("a seed below zero", "run tasks:Numbers --fix-random-seed-value -1", 2, ["fix_random_seed_value", "-1"]),
    Case(
        "a seeding function that its module does not have",
        'run tasks:Numbers --fix-random-seed-methods ["random.sed"]',
        2,
        ["fix_random_seed_methods", "the module 'random' has no 'sed'", "did you mean 'random.seed'?"],
    ),
    Case(
        "a seeding function of a module that is not there",
        'run tasks:Numbers --fix-random-seed-methods ["randm.seed"]',
        2,
        ["randm is not installed", "did you mean 'random.seed'?"],
    ),
    Case(
        "a module for a seeding function",
        'run tasks:Numbers --fix-random-seed-methods ["random"]',
        2,
        ["random is a module", "did you mean 'random.seed'?"],
    ),
    Case(
        "a word for a list of words",
        "run tasks:Numbers --fix-random-seed-methods random.seed",
        2,
        ["JSON", """write '["random.seed"]'"""],
    ),
    Case("numbers for a list of them", "run tasks:Numbers --layers 64,32", 2, ["--layers", "write '[64,32]'"]),
    Case("a word for --rerun", "run tasks:Numbers --rerun=often", 2, ["--rerun", "often"]),
    Case("a private value that is wrong", "run tasks:Numbers --hidden hush", 2, ["--hidden", "int"]),
    Case("two faults at once", "run tasks:Numbers --n x --rate y", 2, ["--n", "--rate"]),
]

CONFIGURATION = [
    Case("a configuration file that is not there", "run tasks:Total --config no.toml", 2, ["no.toml"]),
    Case(
        "a configuration file of another kind",
        "run tasks:Total --config x.yaml",
        2,
        ["x.yaml", ".toml"],
        {"x.yaml": ""},
    ),
    Case("broken TOML", "run tasks:Total", 2, ["kart.toml", "line 1"], {"kart.toml": "n = = 3\n"}),
    Case("broken INI", "run tasks:Total --config x.ini", 2, ["x.ini", "1"], {"x.ini": "n = 3\n"}),
    Case(
        "an unknown key",
        "run tasks:Numbers",
        2,
        ["kart.toml", "Numbers", "m", "n"],
        {"kart.toml": "[Numbers]\nm = 3\n"},
    ),
    Case(
        "an unknown setting",
        "run tasks:Numbers",
        2,
        ["kart.toml", "workspace_dir", "workspace_directory"],
        {"kart.toml": '[TaskOnKart]\nworkspace_dir = "x"\n'},
    ),
    Case("a wrong type", "run tasks:Numbers", 2, ["kart.toml", "n", "int", "x"], {"kart.toml": '[Numbers]\nn = "x"\n'}),
    Case(
        "faults in sections of every kind",
        "run tasks:Numbers",
        2,
        ["workers", "from 1 on", "'executer'", "'executor'", "'m'", "how much there is of 'gpu'"],
        {"kart.toml": '[run]\nworkers = 0\nexecuter = "x"\n[Numbers]\nm = 1\n[resources]\ngpu = "a"\n'},
    ),
    Case(
        "faults in the sections about runs alone",
        "run tasks:Numbers",
        2,
        ["workers", "'executer'", "'gpu'"],
        {"kart.toml": '[run]\nworkers = 0\nexecuter = "x"\n[resources]\ngpu = "a"\n'},
    ),
    Case(
        "a whole section that is a value",
        "run tasks:Numbers",
        2,
        ["kart.toml", "Numbers"],
        {"kart.toml": "Numbers = 3\n"},
    ),
    Case(
        "an undefined variable",
        "run tasks:Numbers",
        2,
        ["kart.toml", "TaskOnKart", "workspace_directory", "NO_SUCH_PLACE"],
        {"kart.toml": '[TaskOnKart]\nworkspace_directory = "${NO_SUCH_PLACE}"\n'},
    ),
    Case(
        "a wrong type in the environment",
        "run tasks:Numbers",
        2,
        ["KART_NUMBERS__N", "int"],
        {},
        {"KART_NUMBERS__N": "x"},
    ),
    Case(
        "a variable of somebody else's",
        "run tasks:Numbers",
        2,
        ["environment KART_HOME", "'home'", "begin with KART_"],
        {},
        {"KART_HOME": "/opt/kart"},
    ),
    Case(
        "a wrong setting in the environment",
        "run tasks:Numbers",
        2,
        ["KART_RERUN", "often"],
        {},
        {"KART_RERUN": "often"},
    ),
]

CLASSES = [
    Case(
        "an attribute without annotation",
        "run wrong:T",
        2,
        ["n", "T", "n: int = 10"],
        module(f"class T(kart.TaskOnKart[int]):\n    n = 10\n    {RUN}"),
    ),
    Case(
        "a version without annotation",
        "run wrong:T",
        2,
        ["__version", "T"],
        module(f"class T(kart.TaskOnKart[int]):\n    __version = 1\n    {RUN}"),
    ),
    Case(
        "a mutable default",
        "run wrong:T",
        2,
        ["T", "list", "parameter"],
        module(f"class T(kart.TaskOnKart[int]):\n    n: list[int] = []\n    {RUN}"),
    ),
    Case(
        "a field that hides a method",
        "run wrong:T",
        2,
        ["T", "output"],
        module(f"class T(kart.TaskOnKart[int]):\n    output: str = 'x'\n    {RUN}"),
    ),
    Case(
        "a constructor of one's own",
        "run wrong:T",
        2,
        ["T", "__init__", "cached_property"],
        module(f"class T(kart.TaskOnKart[int]):\n    def __init__(self):\n        pass\n    {RUN}"),
    ),
    Case(
        "an unknown class keyword",
        "run wrong:T",
        2,
        ["T", "versoin", "version"],
        module(f"class T(kart.TaskOnKart[int], versoin=2):\n    {RUN}"),
    ),
    Case(
        "an override without annotation",
        "run wrong:T",
        2,
        ["T", "n"],
        module(f"class S(kart.TaskOnKart[int]):\n    n: int = 1\n    {RUN}\nclass T(S):\n    n = 2\n"),
    ),
    Case("a module that does not parse", "run wrong:T", 50, ["wrong", "SyntaxError"], {"wrong.py": "class T(:\n"}),
    Case(
        "a module whose import is missing",
        "run wrong:T",
        50,
        ["wrong", "no_such_package"],
        {"wrong.py": "import no_such_package\n"},
    ),
    Case(
        "a module that ends the process",
        "run wrong:T",
        50,
        ["wrong", "__main__"],
        {"wrong.py": "raise SystemExit(0)\n"},
    ),
    Case(
        "a script without its guard",
        "run wrong:T",
        2,
        ["wrong", "__main__"],
        module(f"class T(kart.TaskOnKart[int]):\n    {RUN}\nkart.run()\n"),
    ),
]

GRAPHS = [
    Case("a task that writes nothing", "run tasks:Silent", 40, ["tasks.Silent"]),
    Case("external data that is missing", "run tasks:Raw", 20, ["Raw", "raw.txt"]),
    Case("a cycle", "run tasks:Cycle", 50, ["Cycle"]),
    Case("requirements that are no tasks", "run tasks:Strange", 50, ["Strange", "requires"]),
    Case("two tasks with one path", "run tasks:SameA tasks:SameB", 50, ["SameA", "SameB", "same.json"]),
    Case("a value that the format cannot hold", "run tasks:NotText", 40, ["NotText", "txt", "int"]),
]

PLUGINS = [
    Case("a setting of a plugin that is not there", "run tasks:Numbers --set plugins.nobody.x=1", 70, ["nobody"]),
    Case("a --set of another form", "run tasks:Numbers --set x=1", 2, ["--set", "plugins.NAME.KEY=VALUE"]),
    Case("a plugin to do without that is not there", "run tasks:Numbers --no-plugin nobody", 2, ["nobody"]),
    Case(
        "a plugin of the project that cannot be imported",
        "run tasks:Numbers",
        70,
        ["no_such_module"],
        {"kart.toml": '[plugins]\nload = ["no_such_module:Mine"]\n'},
    ),
    Case(
        "a plugin of the project that is no plugin",
        "run tasks:Numbers",
        70,
        ["tasks:Numbers", "Plugin"],
        {"kart.toml": '[plugins]\nload = ["tasks:Numbers"]\n'},
    ),
    Case("a format that nobody provides", "run tasks:Unknown", 40, ["parquett"]),
]

WORKSPACES = [
    Case("a scheme that nobody provides", "run tasks:Numbers --workspace-directory nope://x", 70, ["nope://"]),
    Case(
        "a scheme of a plugin to install",
        "run tasks:Numbers --workspace-directory s3://bucket",
        70,
        ["s3", "pip install"],
    ),
    Case(
        "a file for a workspace",
        "run tasks:Numbers --workspace-directory file.txt",
        70,
        ["file.txt"],
        {"file.txt": "x"},
    ),
    Case("an empty workspace", "run tasks:Numbers --workspace-directory=", 2, ["workspace_directory"]),
    Case("a path that leads out of the workspace", "run tasks:Outside", 2, ["Outside", "../outside"]),
]

CASES = [*COMMAND_LINE, *VALUES, *CONFIGURATION, *CLASSES, *GRAPHS, *PLUGINS, *WORKSPACES]


def test_the_table_is_long_enough():
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_wrong_input_ends_with_its_code_and_says_the_facts(case, project, monkeypatch):
    project.write("tasks.py", TASKS)
    for name, text in case.files.items():
        project.write(name, text)
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    done = project.kart(*case.words.split())
    said = done.out + done.err
    assert (case.code, said) == (done.code, said)
    for fact in case.facts:
        assert fact in said
    assert "hush" not in said
    if case.code != 50 or "cannot be imported" not in said:
        assert "Traceback" not in said
    if case.code == 2:
        assert done.out == ""
        assert done.err.startswith("error: ")
        assert not os.path.exists("resources")


@pytest.mark.parametrize("case", CASES[:: len(CASES) // 8], ids=lambda case: case.name)
def test_it_is_the_same_in_a_process_of_its_own(case, project):
    project.write("tasks.py", TASKS)
    for name, text in case.files.items():
        project.write(name, text)
    done = project.shell(*case.words.split(), environment=case.environment)
    assert done.code == case.code
    assert "Traceback" not in done.err
    for fact in case.facts:
        assert fact in done.out + done.err


OPTION_NAMES = """
    --n --flag --rate --kind --colour --layers --weights --path --numbers --Numbers-n --Numbers-flag --must --also-this
    --rerun --strict-check --fix-random-seed-value --json --workspace-directory --Total-workspace-directory
    --rerun-from --set --no-plugin --config --local-scheduler --log-level --help -- - --= --Numbers- --tasks.Numbers-n
    -h -V
"""
OPTIONS = st.sampled_from(OPTION_NAMES.split())
TASK_WORDS = st.sampled_from(
    ["tasks:Numbers", "tasks:Total", "tasks:Needy", "tasks:", ":Total", "tasks.py:Total", "a:b"]
)
VALUE_WORDS = st.one_of(
    st.sampled_from(["5", "-1", "1e5", "nan", "true", "[1, 2]", '{"a": 1}', "none", "null", '"x"', "{", "RED", "[[[["]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    st.text(string.printable, max_size=8),
)
PAIRS = st.tuples(OPTIONS, VALUE_WORDS)
WORDS = st.one_of(
    st.lists(st.one_of(OPTIONS, TASK_WORDS, VALUE_WORDS, PAIRS.map("=".join)), max_size=6),
    # Closer to what is right: a task, and options that take a value.
    st.tuples(
        st.sampled_from(["tasks:Numbers", "tasks:Total", "tasks:Needy", "tasks:Strange"]),
        st.lists(PAIRS.map("=".join), max_size=2, unique_by=lambda pair: pair.partition("=")[0]),
    ).map(lambda both: [both[0], *both[1]]),
)
COMMANDS = st.sampled_from([["plan"], ["show"], ["config"], ["plugins"], []])

ORDINARY = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def ended_well(project, words) -> None:
    done = project.kart(*words)
    assert done.code in (0, 2, 20, 40, 50, 70), (words, done)
    assert "Traceback" not in done.err, (words, done.err)
    assert not done.code or done.err.strip(), words


@ORDINARY
@given(command=COMMANDS, words=WORDS)
def test_no_words_whatever_give_a_traceback(project, command, words):
    project.write("tasks.py", TASKS)
    ended_well(project, [*command, *words])


KEYS = ["n", "flag", "rate", "layers", "weights", "kind", "numbers", "hidden", "workspace_directory", "rerun"]
KEYS += ["fix_random_seed_value", "fix_random_seed_methods", "disable", "prefer", "x", "a.b", "", "N n"]
SECTIONS = ["Numbers", "tasks.Numbers", "TaskOnKart", "plugins", "plugins.s3", "plugins.prefer", "x", ""]
TOML_VALUES = [
    "3",
    "3.5",
    "true",
    '"3"',
    '""',
    "[1]",
    '["a", 2]',
    "{a = 1}",
    "{}",
    '"${NOPE}"',
    '"${"',
    '"${A:-5}"',
    "[[]]",
]
TOML_VALUES += ["1979-05-27", "07:32:00", "nan", "inf", "-0.0", "9999999999999999999", '"\\u0000"', '"x\\ny"']
TABLES = st.dictionaries(
    st.sampled_from(SECTIONS),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TOML_VALUES), max_size=3),
    max_size=3,
)


def as_toml(tables) -> str:
    """The tables, written with every name in quotation marks, so that it mostly is TOML."""
    lines = []
    for section, entries in tables.items():
        lines.append("[" + ".".join(f'"{part}"' for part in section.split(".")) + "]")
        lines += [f'"{key}" = {value}' for key, value in entries.items()]
    return "\n".join(lines) + "\n"


def as_ini(tables) -> str:
    """The tables as an INI file."""
    lines = []
    for section, entries in tables.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value}" for key, value in entries.items()]
    return "\n".join(lines) + "\n"


def cut_and_joined(text, place, junk) -> str:
    return text if junk is None else text[: place % (len(text) + 1)] + junk + text[place % (len(text) + 1) :]


TEXTS = st.builds(
    cut_and_joined,
    st.one_of(TABLES.map(as_toml), TABLES.map(as_toml), TABLES.map(as_ini)),
    st.integers(0, 200),
    st.one_of(st.none(), st.none(), VALUE_WORDS),
)


@ORDINARY
@given(text=TEXTS, name=st.sampled_from(["kart.toml", "given.toml", "given.ini", "pyproject.toml"]))
def test_no_configuration_whatever_gives_a_traceback(project, text, name):
    project.write("tasks.py", TASKS)
    for stale in ("kart.toml", "pyproject.toml"):
        if os.path.exists(stale):
            os.remove(stale)
    project.write(name, text.replace("[", "[tool.kart.", 1) if name == "pyproject.toml" else text)
    given_file = ["--config", name] if name.startswith("given") else []
    for words in (["plan", "tasks:Total"], ["plan", "tasks:Numbers", "--json"], ["config", "tasks:Total"], ["plugins"]):
        ended_well(project, [*words, *given_file])
