"""The host keeps its rules, with distributions that pip has really installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kart_core.builtin import Builtin
from kart_core.catalogue import BUILTIN
from kart_core.config import Config
from kart_core.errors import PluginError
from kart_core.host import Host, current, using
from kart_core.known_plugin import GROUP_HOOKS
from kart_core.plugin import GROUPS, Event, Plugin, Secret, Serializer, hookimpl
from kart_core.registration import Fault, register

DISTRIBUTIONS = Path(__file__).parent / "plugins_for_tests"
Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed every distribution of ``plugins_for_tests``."""
    folder = tmp_path_factory.mktemp("plugins") / "site"
    distributions = sorted(str(path) for path in DISTRIBUTIONS.iterdir() if (path / "pyproject.toml").exists())
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), *distributions]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def ask(site: Path, tmp_path: Path) -> Ask:
    """Runs code in another process, which sees the plugins, and gives what it assigned to ``answer``."""

    def ask(code: str, toml: str = "", environment: Mapping[str, str] | None = None) -> Any:
        (tmp_path / "kart.toml").write_text(textwrap.dedent(toml))
        done = run(code, site, tmp_path, environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return ask


PREAMBLE = """
import json, sys
from kart_core.config import load_default
from kart_core.errors import KartError
from kart_core.host import Host

def told(ask):
    try:
        return ask()
    except KartError as error:
        return [type(error).__name__, str(error)]

def imported():
    return [name for name in sys.modules if name.startswith("kart_") and not name.startswith("kart_core")]

host = Host(load_default())
"""


def run(
    code: str, site: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    script = PREAMBLE + textwrap.dedent(code) + "\nprint(json.dumps(answer))\n"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KART_")}
    path = os.pathsep.join([str(site), str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    everything = {**inherited, "PYTHONPATH": path, **(environment or {})}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=folder, env=everything, capture_output=True, text=True, check=False)


STATES = "answer = {state.name: [state.state, state.why] for state in host.states()}"


def test_what_the_host_calls_built_in_is_what_the_built_in_plugin_gives() -> None:
    registration = register(Builtin(), "builtin", None)
    assert {hook: set(names) for hook, names in BUILTIN.items() if names} == {
        hook: set(records) for hook, records in registration.records.items()
    }
    host = Host(Config())
    for suffix in BUILTIN["kart_serializers"]:
        assert host.serializer(suffix) is registration.records["kart_serializers"][suffix]
    assert set(BUILTIN) == set(GROUPS)
    assert {hook: group for group, hook in GROUP_HOOKS.items()} == GROUPS


def test_a_built_in_name_is_looked_up_without_a_look_at_what_is_installed(ask: Ask) -> None:
    assert ask(
        """
        opened = []
        sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
        suffix = host.serializer("json").suffix
        answer = [suffix, [path for path in opened if "entry_points" in path], "numpy" in sys.modules]
        """
    ) == ["json", [], False]


def test_importing_the_host_imports_neither_pluggy_nor_metadata_nor_cattrs(ask: Ask) -> None:
    heavy = ["pluggy", "importlib.metadata", "cattrs", "fsspec", "numpy"]
    assert ask(f"answer = [name for name in {heavy} if name in sys.modules]") == []


# -- outside plugins


@pytest.mark.parametrize("name", ["csv", "scratch", "addresses", "dice"])
def test_an_outside_plugin_is_short(name: str) -> None:
    module = DISTRIBUTIONS / f"kart-{name}" / f"kart_{name}.py"
    assert len(module.read_text().splitlines()) < 30


def test_an_outside_serializer_writes_and_reads(ask: Ask) -> None:
    assert ask(
        """
        import io
        record, file = host.serializer("csv"), io.BytesIO()
        record.dump([["a", "b"], ["1", "2"]], file)
        answer = record.load(io.BytesIO(file.getvalue()))
        """
    ) == [["a", "b"], ["1", "2"]]


def test_an_outside_storage_scheme_keeps_files(ask: Ask, tmp_path: Path) -> None:
    code = """
        record = host.storage("SCRATCH")
        store = record.open("scratch://here")
        store.put("a.txt", b"kart")
        answer = [record.shared, store.read("a.txt").decode(), store.local_path("a.txt")]
        """
    answer = ask(code, environment={"TMPDIR": str(tmp_path)})
    assert answer == ["machine", "kart", str(tmp_path / "here" / "a.txt")]


def test_an_outside_hasher_takes_its_type_and_subclasses(ask: Ask) -> None:
    assert ask(
        """
        from ipaddress import IPv4Address
        class Mine(IPv4Address): pass
        records = [host.hasher(IPv4Address), host.hasher(Mine), host.hasher(dict)]
        answer = [record and record.encode(IPv4Address("127.0.0.1")).decode() for record in records]
        """
    ) == ["127.0.0.1", "127.0.0.1", None]


def test_an_outside_seeder_fixes_and_gives_back(ask: Ask) -> None:
    assert ask(
        """
        import dice
        record = host.seeder("dice.seed")
        before = record.save()
        record.seed(5)
        answer = [dice.roll(), dice.roll()]
        record.restore(before)
        answer.append(dice.roll())
        """
    ) == [6, 7, 1]


PIPELINE = """
from ipaddress import IPv4Address
import kart_core as kart

class Rows(kart.TaskOnKart[list[list[str]]]):
    address: IPv4Address

    def output(self) -> kart.Target:
        return self.make_target("rows.csv")

    def run(self) -> list[list[str]]:
        import dice
        return [[str(self.address), str(dice.roll())]]
"""


def test_outside_plugins_take_part_in_a_run_and_stand_in_its_record(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    code = """
        import kart_core as kart
        from ipaddress import IPv4Address
        from pipeline import Rows
        task = Rows(address=IPv4Address("127.0.0.1"), fix_random_seed_methods=["dice.seed"], fix_random_seed_value=5)
        answer = [kart.build(task), sorted(kart.record(task).plugins), imported()]
        """
    toml = '[TaskOnKart]\nworkspace_directory = "scratch://here"'
    rows, plugins, modules = ask(code, toml, {"TMPDIR": str(tmp_path)})
    assert rows == [["127.0.0.1", "6"]]
    assert {"kart-addresses", "kart-csv", "kart-dice", "kart-scratch"} <= set(plugins)
    assert "kart_slow" not in modules


def test_only_the_plugin_of_a_name_in_use_is_imported_and_remembered(ask: Ask) -> None:
    answer = ask("host.serializer('csv'), host.serializer('json'); answer = [imported(), host.used()]")
    assert answer == [["kart_csv"], {"kart-csv": "1.0"}]


def test_two_classes_of_a_distribution_are_two_plugins(ask: Ask) -> None:
    answer = ask(
        """
        import kart_many
        from kart_core.plugin import Event
        listeners = host.listeners()
        for listener in listeners:
            listener(Event("run_started", run="r1", time=0.0))
        states = {state.name: state.state for state in host.states()}
        answer = [host.serializer("many2").suffix, kart_many.SecondOfMany.kinds, states]
        """
    )
    assert answer[:2] == ["many2", ["run_started"]]
    assert answer[2]["many_second_of_many"] == "ready"


def test_looking_at_plugins_imports_none(ask: Ask) -> None:
    started = time.monotonic()
    answer = ask(STATES.replace("answer =", "states =") + "; answer = [imported(), 'pluggy' in sys.modules, states]")
    assert time.monotonic() - started < 3, "the plugin that takes three seconds was imported"
    assert answer[:2] == [[], False]
    assert answer[2]["csv"] == ["found", ""]
    assert answer[2]["builtin"] == ["ready", ""]


# -- rules 1 and 5: broken plugins


@pytest.mark.parametrize(
    ("suffix", "facts"),
    [
        ("unimportable", ["a_library_that_nobody_has", "kart_unimportable.py, line 3"]),
        ("misspelt", ["kart_serialisers", "did you mean kart_serializers?"]),
        ("unmarked", ["kart_unmarked.Unmarked.kart_serializers", "@hookimpl"]),
        ("promised", ["'promised'", "kart_core.serializers", "no such record"]),
        ("object", ["kart_objects:Objects", "no subclass of kart_core.Plugin"]),
    ],
)
def test_a_run_that_needs_a_broken_plugin_stops_with_its_reason(ask: Ask, suffix: str, facts: list[str]) -> None:
    kind, message = ask(f"answer = told(lambda: host.serializer({suffix!r}))")
    assert kind == "PluginError"
    assert "\n" not in message
    assert "is broken" in message
    assert "disable" in message
    for fact in facts:
        assert fact in message


def test_a_broken_plugin_stays_broken_and_the_others_work(ask: Ask) -> None:
    first, second, suffix, states = ask(
        """
        answer = [told(lambda: host.serializer("misspelt")), told(lambda: host.serializer("misspelt"))]
        answer += [host.serializer("csv").suffix, {state.name: [state.state, state.why] for state in host.states()}]
        """
    )
    assert first == second
    assert suffix == "csv"
    assert states["misspelt"][0] == "broken"
    assert "did you mean kart_serializers?" in states["misspelt"][1]
    assert states["csv"][0] == "ready"


def broken(plugin: Plugin, announced: dict[str, list[str]] | None = None) -> str:
    with pytest.raises(Fault) as fault:
        register(plugin, "test", announced)
    return str(fault.value)


def test_a_marked_method_of_any_other_name_is_a_fault() -> None:
    class Misnamed(Plugin):
        @hookimpl
        def serializers(self) -> list[Serializer]:
            return []

    assert "serializers is marked with @hookimpl" in broken(Misnamed())


def test_an_argument_that_the_hook_does_not_have_is_a_fault() -> None:
    class Wrong(Plugin):
        @hookimpl
        def kart_event(self, evnt: Event) -> None:  # type: ignore[override]  # pyright: ignore
            pass

    assert "evnt" in broken(Wrong())


def test_an_implementation_takes_only_the_arguments_that_it_wants() -> None:
    told: list[str] = []

    class Counting(Plugin):
        @hookimpl
        def kart_event(self) -> None:  # type: ignore[override]  # pyright: ignore
            told.append("told")

    listener = register(Counting(), "test", None).listener
    assert listener is not None
    listener(Event("run_started", run="r1", time=0.0))
    assert told == ["told"]


@pytest.mark.parametrize(
    ("gives", "fact"),
    [
        (lambda: None, "no such record"),
        (lambda: [None], "type NoneType among its records"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: 3, "type int"),
        (lambda: [Serializer("a", print, print), Serializer("a", print, print)], "two records for 'a'"),
        (lambda: [Serializer("", print, print)], "suffix is ''"),
        (lambda: [Serializer("a", print, print), Serializer("b", print, print)], "'b', which is not announced"),
    ],
)
def test_records_that_cannot_be_used_are_a_fault(gives: Callable[[], Any], fact: str) -> None:
    class Odd(Plugin):
        @hookimpl
        def kart_serializers(self) -> Any:
            return gives()

    assert fact in broken(Odd(), {"kart_serializers": ["a"]})


def test_a_listener_that_is_not_announced_is_a_fault_and_so_is_an_announced_one_that_is_none() -> None:
    class Listening(Plugin):
        @hookimpl
        def kart_event(self, event: Event) -> None:
            pass

    assert "kart_core.events" in broken(Listening(), {})
    assert "implements no kart_event" in broken(Plugin(), {"kart_event": ["any"]})


# -- rule 2: two that provide one name


def test_two_that_announce_one_scheme_are_an_error_that_names_both_and_the_way_out(ask: Ask) -> None:
    kind, message = ask("answer = told(lambda: host.storage('both'))")
    assert kind == "PluginError"
    for fact in ("kart-left 1.0", "kart-right 2.0", "both://", "[plugins.prefer]", 'both = "kart-left"', "disable"):
        assert fact in message


@pytest.mark.parametrize(
    "toml",
    [
        '[plugins.prefer]\nboth = "kart-right"',
        '[plugins]\nprefer = {both = "right"}',
        '[plugins]\nprefer = {both = "kart_right:Right"}',
        '[plugins]\ndisable = ["kart-left"]',
    ],
)
def test_the_configuration_settles_which_of_two_is_taken(ask: Ask, toml: str) -> None:
    assert ask("answer = [host.storage('both').open('both://').local_path('a'), host.used()]", toml) == [
        "/right/a",
        {"kart-right": "2.0"},
    ]


def test_an_ini_file_settles_it_with_the_same_line(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "base.ini").write_text(
        '[plugins.prefer]\nboth = "kart-left"\n[plugins]\ndisable = ["csv", kart-many]\n'
    )
    answer = ask(
        """
        from kart_core.config import add_config, current
        add_config("base.ini")
        host = Host(current())
        path = host.storage("both").open("both://").local_path("a")
        answer = [path, host.serializer("csv"), host.serializer("many1")]
        """
    )
    assert answer == ["/left/a", None, None]


def test_a_choice_that_cannot_be_taken_is_an_error(ask: Ask) -> None:
    code = "answer = told(lambda: host.storage('both'))"
    kind, message = ask(code, '[plugins.prefer]\nboth = "kart-middle"')
    assert kind == "PluginError"
    assert "kart-middle" in message
    assert "kart-left 1.0" in message


def test_nothing_takes_over_a_built_in_name_by_being_installed(ask: Ask) -> None:
    code = "answer = [host.serializer('json').dump.__module__, imported()]"
    assert ask(code) == ["kart_core.builtin.serializers", []]
    assert ask(code, '[plugins.prefer]\njson = "kart-core"') == ["kart_core.builtin.serializers", []]
    assert ask(code, '[plugins.prefer]\njson = "kart-takeover"')[1] == ["kart_takeover"]
    state, why = ask(STATES)["takeover"]
    assert state == "conflict"
    assert 'json = "kart-takeover"' in why


# -- rule 3: switched off, and without a package


@pytest.mark.parametrize(
    ("toml", "environment", "where"),
    [
        ('[plugins]\ndisable = ["csv"]', {}, "kart.toml [plugins] disable"),
        ('[plugins]\ndisable = ["kart-csv"]', {"KART_DISABLE_PLUGINS": "slow"}, "kart.toml [plugins] disable"),
        ("", {"KART_DISABLE_PLUGINS": "slow, csv"}, "KART_DISABLE_PLUGINS"),
    ],
)
def test_a_plugin_that_is_switched_off_is_not_imported(
    ask: Ask, toml: str, environment: dict[str, str], where: str
) -> None:
    code = """
        missing = told(lambda: (_ for _ in ()).throw(host.missing("kart_serializers", "csv")))
        states = {state.name: [state.state, state.why] for state in host.states()}
        answer = [host.serializer("csv"), imported(), missing[1], states["csv"]]
        """
    record, modules, missing, (state, why) = ask(code, toml, environment)
    assert (record, modules, state) == (None, [], "disabled")
    assert where in why
    assert "kart-csv 1.0" in missing
    assert where in missing


def test_a_plugin_is_switched_off_for_one_run(ask: Ask) -> None:
    assert ask("host = Host(load_default(), disable=['csv']); answer = host.serializer('csv')") is None


def test_what_is_switched_off_for_a_run_stays_so_with_further_plugins(ask: Ask) -> None:
    code = """
        here = Host(load_default(), disable=['csv']).with_plugins(['mine:MyYaml'], load_default())
        answer = [state.name for state in here.states() if state.state == "disabled"], here.importable()
        """
    assert ask(code) == [["csv"], ["mine:MyYaml"]]


def test_a_name_that_is_switched_off_and_that_nobody_bears_is_shown(ask: Ask) -> None:
    state, why = ask(STATES, '[plugins]\ndisable = ["cvs"]')["cvs"]
    assert state == "disabled"
    assert "no plugin of this name" in why


LOCAL = """
from kart_core.plugin import Plugin, Serializer, hookimpl

class MyYaml(Plugin):
    @hookimpl
    def kart_serializers(self):
        return [Serializer("yaml", dump=print, load=print)]

class MyJson(Plugin):
    @hookimpl
    def kart_serializers(self):
        return [Serializer("json", dump=print, load=print)]
"""


def test_a_plugin_of_the_project_needs_no_package(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(LOCAL)
    code = (
        "states = {state.name: state.state for state in host.states()}; "
        "answer = [states['my_yaml'], host.serializer('yaml').suffix, host.used(), host.importable()]"
    )
    expected = ["found", "yaml", {"local:mine.MyYaml": ""}, ["mine:MyYaml"]]
    assert ask(code, '[plugins]\nload = ["mine:MyYaml"]') == expected
    assert ask("host = Host(load_default(), ['mine:MyYaml']); " + code) == expected
    assert ask("import mine; host = Host(load_default(), [mine.MyYaml]); " + code) == expected


@pytest.mark.parametrize(
    ("load", "facts"),
    [
        ("nowhere:Mine", ["nowhere", "ModuleNotFoundError"]),
        ("mine:Nothing", ["the module mine has no Nothing"]),
        ("mine", ["module:Class"]),
    ],
)
def test_a_plugin_of_the_project_that_is_not_there_is_an_error(
    ask: Ask, tmp_path: Path, load: str, facts: list[str]
) -> None:
    (tmp_path / "mine.py").write_text(LOCAL)
    kind, message = ask("answer = told(lambda: host.serializer('yaml'))", f'[plugins]\nload = ["{load}"]')
    assert kind == "PluginError"
    for fact in facts:
        assert fact in message


def test_a_plugin_of_the_project_that_provides_a_built_in_name_is_a_choice_to_make(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(LOCAL)
    load = '[plugins]\nload = ["mine:MyJson"]\n'
    kind, message = ask("answer = told(lambda: host.serializer('json'))", load)
    assert kind == "PluginError"
    assert 'json = "mine:MyJson"' in message
    assert 'json = "kart-core"' in message
    code = "answer = host.serializer('json').dump.__module__"
    assert ask(code, load + '[plugins.prefer]\njson = "my_json"') == "builtins"
    assert ask(code, load + '[plugins.prefer]\njson = "kart-core"') == "kart_core.builtin.serializers"


def test_a_plugin_whose_import_asks_the_host_does_not_wait_for_itself(ask: Ask, tmp_path: Path) -> None:
    asking = "import kart_core.host\nassert kart_core.host.current().serializer('yaml') is None\n"
    (tmp_path / "mine.py").write_text(asking + LOCAL)
    toml = '[plugins]\nload = ["mine:MyYaml"]'
    assert ask("import kart_core.host; answer = kart_core.host.current().serializer('yaml').suffix", toml) == "yaml"


def test_an_installed_plugin_that_asks_for_itself_while_it_is_imported_is_told_so(ask: Ask, tmp_path: Path) -> None:
    info = tmp_path / "kart_narcissus-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kart-narcissus\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kart_core.serializers]\nme = narcissus:MyYaml\n")
    (tmp_path / "narcissus.py").write_text("import kart_core.host\nkart_core.host.current().serializer('me')\n" + LOCAL)
    kind, message = ask("from kart_core.host import current; answer = told(lambda: current().serializer('me'))")
    assert kind == "PluginError"
    assert "while it is being imported" in message


def test_two_plugins_of_one_name_cannot_be_told_apart(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(LOCAL)
    (tmp_path / "other.py").write_text(LOCAL)
    toml = '[plugins]\nload = ["mine:MyYaml", "other:MyYaml"]'
    states, (kind, message) = ask(STATES + "; answer = [answer, told(lambda: host.serializer('yaml'))]", toml)
    assert states["my_yaml"][0] == "conflict"
    assert kind == "PluginError"
    assert "mine:MyYaml" in message
    assert "other:MyYaml" in message


# -- rule 4: inspected in processes of their own


def test_a_check_tells_ready_from_broken_and_survives_crashes_and_sleepers(ask: Ask) -> None:
    answer = ask(
        """
        started = __import__("time").monotonic()
        states = host.check(timeout=2)
        seconds = __import__("time").monotonic() - started
        answer = [{state.name: [state.state, state.why, state.milliseconds] for state in states}, imported(), seconds]
        """,
        '[plugins]\ndisable = ["scratch"]\n[plugins.vault]\ntoken = "secret-1"',
    )
    states, modules, _seconds = answer
    assert modules == []
    assert states["csv"][:2] == ["ready", ""]
    assert states["csv"][2] > 0
    assert states["vault"][:2] == ["ready", ""]
    assert states["scratch"][0] == "disabled"
    assert states["left"][0] == "conflict"
    assert states["slow"][:2] == ["broken", "it was not ready after 2 s"]
    assert states["crash"][0] == "broken"
    assert "status 7" in states["crash"][1]
    for name in ("unimportable", "misspelt", "unmarked", "unannounced", "objects"):
        assert states[name][0] == "broken", name
        assert states[name][1], name


def test_a_check_shows_settings_that_are_missing_as_the_reason(ask: Ask) -> None:
    states = ask(STATES.replace("host.states()", "host.check(timeout=60)"), '[plugins]\ndisable = ["slow", "crash"]')
    assert states["vault"][0] == "broken"
    assert "KART_VAULT__TOKEN" in states["vault"][1]


# -- rule 6: settings

PATH = "answer = told(lambda: host.storage('vault').open('vault://a').local_path('b'))"


@pytest.mark.parametrize(
    ("toml", "environment"),
    [
        ('[plugins.vault]\ntoken = "secret-1"\nroot = "/from/file"', {}),
        ('[plugins.vault]\nroot = "/from/file"', {"KART_VAULT__TOKEN": "secret-1"}),
        ('[plugins.vault]\nroot = "/elsewhere"', {"KART_VAULT__TOKEN": "secret-1", "KART_VAULT__ROOT": "/from/file"}),
        ('[plugins.vault]\nroot = "/from/${WHERE}"\ntoken = "${T}"', {"WHERE": "file", "T": "secret-1"}),
    ],
)
def test_settings_come_from_files_and_the_environment(ask: Ask, toml: str, environment: dict[str, str]) -> None:
    assert ask(PATH, toml, environment) == "/from/file/a/b"


def test_settings_come_from_the_command_line(ask: Ask) -> None:
    code = """
        given = {"root": "/given", "token": "t", "retries": "4"}
        options = {("plugins.vault", key): value for key, value in given.items()}
        host = Host(load_default().with_options(options, origin="command line"))
        """
    toml = '[plugins.vault]\nroot = "/from/file"'
    assert ask(textwrap.dedent(code) + PATH, toml) == "/given/a/b"


@pytest.mark.parametrize(
    ("toml", "facts"),
    [
        ("", ["needs the setting token", "[plugins.vault] token", "KART_VAULT__TOKEN"]),
        ('[plugins.vault]\ntoken = "secret-1"\nretrys = 3', ["retrys", "did you mean retries?", "kart.toml"]),
        ('[plugins.vault]\ntoken = "secret-1"\nretries = "many"', ["retries", "int", "many", "kart.toml"]),
        ('[plugins.vault]\ntoken = "secret-1"\nretries = 10', ["retries", "10"]),
        ("[plugins.vault]\ntoken = 12345\nretries = 1.5", ["token", "a text", "retries", "1.5"]),
        ('[plugins.vault]\ntoken = "${UNSET_VARIABLE}"', ["UNSET_VARIABLE", "token"]),
    ],
)
def test_wrong_settings_are_told_all_at_once_and_secrets_never(ask: Ask, toml: str, facts: list[str]) -> None:
    kind, message = ask(PATH, toml)
    assert kind == "ConfigError"
    for fact in facts:
        assert fact in message
    assert "secret-1" not in message
    assert "12345" not in message


def test_a_plugin_without_settings_takes_none(ask: Ask) -> None:
    kind, message = ask("answer = told(lambda: host.serializer('csv'))", "[plugins.csv]\nsep = 1")
    assert kind == "ConfigError"
    assert "sep" in message
    assert "no settings" in message


def test_settings_are_listed_with_type_default_value_source_and_help_but_no_secret(ask: Ask) -> None:
    code = """
        answer = [[s.name, s.type, s.default, s.value, s.source, s.help, s.fault] for s in host.settings_of("vault")]
        """
    toml = '[plugins.vault]\ntoken = "secret-1"\nretries = "x"'
    token, root, retries, spare = ask(code, toml, {"KART_VAULT__ROOT": "/r"})
    assert token == ["token", "Secret", None, "***", "kart.toml [plugins.vault] token", "who you are", None]
    assert root == ["root", "str", "'/vault'", "'/r'", "environment KART_VAULT__ROOT", "where the files lie", None]
    assert retries[3] is None
    assert "int" in retries[6]
    assert spare == ["spare_token", "Secret | None", "None", "None", "default", "", None]


def test_the_settings_of_a_plugin_that_is_not_there_are_an_error(ask: Ask) -> None:
    kind, message = ask("answer = told(lambda: host.settings_of('vualt'))")
    assert kind == "PluginError"
    assert "did you mean vault?" in message


def test_a_secret_in_what_a_plugin_raises_is_hidden(ask: Ask, site: Path, tmp_path: Path) -> None:
    (tmp_path / "kart.toml").write_text('[plugins.vault]\ntoken = "raise"\n')
    done = run("answer = told(lambda: host.storage('vault'))", site, tmp_path)
    assert "cannot open with ***" in done.stdout
    done = run("host.storage('vault')", site, tmp_path)
    last = done.stderr.splitlines()[-1]
    assert "cannot open with ***" in last


# -- rule 7: workers


def test_a_worker_needs_the_plugins_that_were_used_in_the_same_versions(ask: Ask) -> None:
    answer = ask(
        """
        answer = [
            told(lambda: host.require({"kart-csv": "1.0"}, "the coordinating process")),
            told(lambda: host.require({"kart-csv": "1.1"}, "the coordinating process")),
            told(lambda: host.require({"kart-s3": "1.0"}, "the coordinating process")),
            imported(),
        ]
        """
    )
    same, other, absent, modules = answer
    assert same is None
    assert other[0] == "PluginError"
    for fact in ("kart-csv 1.1", "1.0", "the coordinating process"):
        assert fact in other[1]
    assert absent[0] == "PluginError"
    assert "kart-s3 1.0" in absent[1]
    assert modules == []


def test_only_plugins_that_can_be_imported_go_to_another_process() -> None:
    class Local(Plugin):
        pass

    with pytest.raises(PluginError, match="stands in a function"):
        Host(Config(), [Local]).importable()
    with pytest.raises(PluginError, match="as an instance"):
        Host(Config(), [Listening()]).importable()
    assert Host(Config(), [Listening]).importable() == [f"{__name__}:Listening"]


# -- listeners


class Listening(Plugin):
    @hookimpl
    def kart_event(self, event: Event) -> None:
        secret = Secret("sesame") if self.settings is None else self.settings
        raise RuntimeError(f"{event.kind} failed with {secret}")


def test_a_listener_that_fails_is_reported_once_and_told_no_more(caplog: pytest.LogCaptureFixture) -> None:
    kinds: list[str] = []

    class Hearing(Plugin):
        @hookimpl
        def kart_event(self, event: Event) -> None:
            kinds.append(event.kind)

    listeners = Host(Config(), [Listening, Hearing]).listeners()
    for kind in ("run_started", "task_started", "run_finished"):
        for listener in listeners:
            listener(Event(kind, run="r1", time=0.0))  # type: ignore[arg-type]  # pyright: ignore
    ours = [record.getMessage() for record in caplog.records if "Listening" in record.getMessage()]
    assert len(ours) == 1
    assert "run_started failed" in ours[0]
    assert "sesame" not in ours[0]
    assert kinds == ["run_started", "task_started", "run_finished"]


def test_an_installed_listener_that_is_broken_is_reported_and_the_run_goes_on(ask: Ask, tmp_path: Path) -> None:
    info = tmp_path / "kart_deaf-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kart-deaf\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kart_core.events]\nany = nowhere:Deaf\n")
    answer = ask(
        """
        import logging
        messages = []
        handler = logging.Handler()
        handler.emit = lambda record: messages.append(record.getMessage())
        logging.getLogger("kart_core").addHandler(handler)
        answer = [len(host.listeners()), messages]
        """
    )
    assert answer[0] == 1, "the listener of kart-many"
    (message,) = answer[1]
    assert "kart-deaf 1.0" in message
    assert "nowhere" in message


# -- rule 8: tracing


def test_tracing_prints_each_call_with_its_implementation_result_and_time(site: Path, tmp_path: Path) -> None:
    (tmp_path / "kart.toml").write_text('[plugins.vault]\ntoken = "secret-1"\n')
    code = """
        from kart_core.plugin import Event
        for listener in host.listeners():
            listener(Event("run_started", run="r1", time=0.0))
        host.storage("vault")
        answer = [host.serializer("csv").suffix, told(lambda: host.serializer("promised"))]
        """
    trace = run(code, site, tmp_path, {"KART_TRACE": "plugins"}).stderr
    assert "kart-csv 1.0: kart_serializers() by kart_csv.Csv.kart_serializers: [csv] in " in trace
    assert "kart-many 1.0: kart_event(run_started) by kart_many.SecondOfMany.kart_event: told in " in trace
    assert "kart-unannounced 1.0: kart_serializers() by kart_unannounced.Unannounced.kart_serializers: [given]" in trace
    assert "kart_unannounced:Unannounced loaded: broken" in trace
    assert "kart_vault:Vault loaded: ready" in trace
    assert "secret-1" not in trace
    assert run(code, site, tmp_path).stderr == ""


# -- names that nobody provides


@pytest.mark.parametrize(
    ("hook", "name", "message"),
    [
        ("kart_storages", "s3", "no plugin provides s3:// — pip install kart-s3"),
        ("kart_storages", "gcs", "no plugin provides gcs:// — pip install kart-gcs"),
        ("kart_executors", "dask", "no plugin provides the executor dask — pip install kart-dask"),
        ("kart_serializers", "jsn", "no plugin provides .jsn: did you mean .json?"),
    ],
)
def test_a_name_that_nobody_provides_says_what_to_do(hook: str, name: str, message: str) -> None:
    assert str(Host(Config()).missing(hook, name)) == message


def test_names_are_those_built_in_and_those_announced(ask: Ask) -> None:
    names = ask("answer = host.names('kart_serializers') + imported()")
    assert {"pkl", "json", "csv", "slow", "many1"} < set(names)


# -- the host in use


def test_a_host_is_made_once_for_a_configuration_and_another_can_be_put_in_its_place() -> None:
    host = current()
    assert current() is host
    other = Host(Config())
    with using(other):
        assert current() is other
    assert current() is host


def test_a_distribution_found_twice_is_that_which_python_would_import(ask: Ask, tmp_path: Path) -> None:
    first = tmp_path / "first"
    info = first / "kart_csv-9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kart-csv\nVersion: 9.9\n\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[kart_core.serializers]\ncsv2 = nowhere:Csv [extra]\n")
    answer = ask(
        f"""
        sys.path.insert(0, {str(first)!r})
        answer = [[s.version, s.target, s.provides] for s in host.states() if s.name == "csv"]
        """
    )
    assert answer == [["9.9", "nowhere:Csv", {"kart_serializers": ["csv2"]}]]


def test_a_zip_file_on_the_path_is_looked_into(ask: Ask, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as file:
        file.writestr("kart_zip-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: kart-zip\nVersion: 1.0\n")
        file.writestr("kart_zip-1.0.dist-info/entry_points.txt", "[kart_core.serializers]\nzipped = kart_zip:Zip\n")
    code = f"sys.path.append({str(tmp_path / 'zipped.zip')!r}); " + STATES
    assert ask(code)["zip"] == ["found", ""]
