"""Where configured values come from, which of them wins, and what is told of a fault."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kart_core import ConfigError, add_config, config
from kart_core.config import Config, Found
from kart_core.config.files import read_file
from kart_core.config.ini import read_ini
from kart_core.config.interpolation import interpolate

Make = Callable[..., Config]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a process that has read nothing yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "_default", config._Default())
    return tmp_path


def written(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def made(*files: str, **environment: str) -> Config:
    return Config([read_file(file) for file in files], environment)


# --- the order of authority ------------------------------------------------------------


def test_the_order_of_authority_step_by_step() -> None:
    sections = ["pipeline.Train", "Train", "Base", "TaskOnKart"]
    low, high = written("low.toml", "[TaskOnKart]\nn = 1"), written("high.toml", "[TaskOnKart]\nn = 2")
    steps = [
        (made(), None),
        (made(low), 1),
        (made(low, high), 2),
        (made(low, high, written("base.toml", "[Base]\nn = 3")), 3),
        (made(low, high, "base.toml", written("own.toml", "[Train]\nn = 4")), 4),
        (made(low, high, "base.toml", "own.toml", written("full.toml", '["pipeline.Train"]\nn = 5')), 5),
    ]
    full = ("low.toml", "own.toml", "full.toml")
    steps += [
        (made(*full, KART_N="6"), "6"),
        (made(*full, KART_N="6", KART_BASE__N="7"), "7"),
        (made(*full, KART_N="6", KART_BASE__N="7", KART_TRAIN__N="8"), "8"),
        (made(*full, KART_TRAIN__N="8", KART_PIPELINE_TRAIN__N="9"), "9"),
    ]
    top = made(*full, KART_PIPELINE_TRAIN__N="9")
    built = top.with_options({("TaskOnKart", "n"): 10}, origin="build")
    given = built.with_options({("TaskOnKart", "n"): "11"}, origin="command line")
    steps += [
        (built, 10),
        (built.with_options({("Train", "n"): 12}, origin="build"), 12),
        (given, "11"),
        (given.with_options({("Train", "n"): "13"}, origin="command line"), "13"),
        (given.with_options({("Train", "n"): 14}, origin="build"), "11"),
    ]
    for place, (conf, expected) in enumerate(steps):
        found = conf.find(sections, "n")
        assert (None if found is None else found.value) == expected, f"step {place}"


def test_what_one_class_is_given_says_nothing_of_another() -> None:
    conf = made(written("a.toml", "[Train]\nn = 1"), KART_TRAIN__M="2")
    assert conf.find(["Other", "TaskOnKart"], "n") is None
    assert conf.find(["Other", "TaskOnKart"], "m") is None


def test_each_value_tells_where_it_came_from() -> None:
    conf = made(
        written("kart.toml", "[Train]\na = 1\nb = 1\nc = 1\nd = 1"), KART_TRAIN__B="2", KART_WORKSPACE_DIRECTORY="w"
    )
    conf = conf.with_options({("Train", "c"): 3, ("TaskOnKart", "rerun"): True}, origin="build")
    conf = conf.with_options(
        {("Train", "d"): "4", ("TaskOnKart", "strict_check"): "yes", ("plugins.s3", "key"): "k"}, origin="command line"
    )
    general = ["Train", "TaskOnKart"]
    keys = ["a", "b", "c", "d", "workspace_directory", "rerun", "strict_check"]
    assert [conf.find(general, key).source for key in keys] == [  # type: ignore[union-attr]
        "kart.toml [Train] a",
        "environment KART_TRAIN__B",
        "build, [Train] c",
        "command line --Train-d",
        "environment KART_WORKSPACE_DIRECTORY",
        "build(rerun=…)",
        "command line --strict-check",
    ]
    assert conf.section("plugins.s3")["key"].source == "command line --set plugins.s3.key"


def test_only_text_is_left_to_parse() -> None:
    conf = made(
        written("a.toml", '[T]\ns = "3"\nn = 3\nv = "${N}"'), written("b.ini", "[T]\ni = 3"), KART_T__E="3", N="5"
    )
    conf = conf.with_options({("T", "c"): "3", ("T", "j"): None}, origin="command line")
    conf = conf.with_options({("T", "b"): "3"}, origin="build")
    texts = {key: conf.find(["T"], key).text for key in ("s", "n", "v", "i", "e", "c", "j", "b")}  # type: ignore[union-attr]
    # "${N}" in TOML is text once the variable stands in it: TOML has no other way to say an int
    assert texts == {"s": False, "n": False, "v": True, "i": True, "e": True, "c": True, "j": False, "b": False}


# --- variables --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "a"),
        ("x/${A}/${B}", "x/a/"),
        ("${B:-b}", "b"),
        ("${C:-}", ""),
        ("${C:-s3://x/y}", "s3://x/y"),
        ("$${A}", "${A}"),
        ("$A 5$", "$A 5$"),
    ],
)
def test_variables_are_replaced(text: str, value: str) -> None:
    assert interpolate(text, {"A": "a", "B": ""}, "here") == value


def test_variables_are_replaced_in_lists_and_tables() -> None:
    conf = made(written("a.toml", '[T]\nx = [{ p = "${A}/1" }, 2]'), A="a")
    assert conf.find(["T"], "x") == Found([{"p": "a/1"}, 2], text=False, source="a.toml [T] x")


def test_an_undefined_variable_stops_only_what_uses_it_and_is_named() -> None:
    conf = made(written("base.ini", "[Train]\nworkspace = ${MISSING_DIRECTORY}/x\nn = 3"))
    assert conf.find(["Train"], "n") == Found("3", text=True, source="base.ini [Train] n")
    assert [key for _, key, _ in conf.values()] == ["workspace", "n"]
    with pytest.raises(ConfigError) as caught:
        conf.find(["Train"], "workspace")
    for fact in ("base.ini", "[Train]", "workspace", "MISSING_DIRECTORY"):
        assert fact in str(caught.value)


@pytest.mark.parametrize("text", ["${", "${}", "${a.b}", "${A", "${section:key}"])
def test_what_looks_like_a_variable_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no variable"):
        interpolate(text, {}, "here")


def test_variables_of_the_environment_and_of_options_are_left_alone() -> None:
    conf = made(KART_T__A="${X}").with_options({("T", "b"): "${X}"}, origin="command line")
    assert [conf.find(["T"], key).value for key in "ab"] == ["${X}", "${X}"]  # type: ignore[union-attr]


# --- files -----------------------------------------------------------------------------


def test_the_same_settings_from_all_kinds_of_file() -> None:
    ini = written("base.ini", "# comment\n[TaskOnKart]\nworkspace_directory=./w\n[pipeline.Train]\nDepth : 3\n")
    toml = written("kart.toml", '[TaskOnKart]\nworkspace_directory = "./w"\n["pipeline.Train"]\nDepth = "3"\n')
    nested = written("nested.toml", '[TaskOnKart]\nworkspace_directory = "./w"\n[pipeline.Train]\nDepth = "3"\n')
    project = written(
        "pyproject.toml",
        '[tool.kart.TaskOnKart]\nworkspace_directory = "./w"\n[tool.kart."pipeline.Train"]\nDepth = "3"\n',
    )
    for file in (ini, toml, nested, project):
        values = [(section, key, found.value) for section, key, found in made(file).values()]
        assert values == [("TaskOnKart", "workspace_directory", "./w"), ("pipeline.Train", "Depth", "3")]


@pytest.mark.parametrize(
    "text",
    [
        "[tool.kart.T]\nn = 1",
        "[ tool . kart . T ]\nn = 1",
        '["tool"."kart".T]\nn = 1',
        "tool.'kart'.T.n = 1",
        "[tool]\nkart.T.n = 1",
        "[tool]\nkart\t= { T = { n = 1 } }",
        "tool = { kart = { T.n = 1 } }",
        "[tool.kart]\nT = { n = 1 }",
        '[tool."k\\u0061rt".T]\nn = 1',
        "\ufeff[tool.kart.T]\r\nn = 1\r\n",
    ],
)
def test_a_project_file_may_name_kart_in_every_way_of_toml(text: str) -> None:
    conf = made(written("pyproject.toml", '[project]\nname = "kart-user"\n' + text if text[0] == "[" else text))
    assert [(section, key, found.value) for section, key, found in conf.values()] == [("T", "n", 1)]


def test_a_project_file_that_does_not_name_kart_is_not_read_as_toml() -> None:
    assert made(written("pyproject.toml", '[project]\nname = "kart-user"\nnot = yet = finished\n')).sections() == ()


def test_a_table_in_the_table_of_a_class_is_a_value() -> None:
    conf = made(written("a.toml", "[Train.weights]\na = 1\n[pipeline.sub.Train]\nn = 1"))
    assert conf.find(["Train"], "weights") == Found({"a": 1}, text=False, source="a.toml [Train] weights")
    assert conf.sections() == ("Train", "pipeline.sub.Train")


def test_ini_values_may_go_on_over_indented_lines() -> None:
    sections, faults = read_ini("[T]\nnames = [\n    1,\n    2]\nempty =\n; comment\nurl = a=b:c # d\n")
    assert (sections, faults) == ({"T": {"names": "[\n1,\n2]", "empty": "", "url": "a=b:c # d"}}, [])


def test_all_faults_of_an_ini_file_are_told_at_once_with_their_lines() -> None:
    written("bad.ini", "early = 1\n[T]\nn = 1\nn = 2\nwhat\n[]\n[T]\n[DEFAULT]\nx = 1\n")
    with pytest.raises(ConfigError) as caught:
        add_config("bad.ini")
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [f"line {number}" for number in (1, 4, 5, 6, 7, 8)]
    assert all(line.startswith("bad.ini: ") for line in lines)


def test_all_faults_of_the_layout_of_a_toml_file_are_told_at_once() -> None:
    written("bad.toml", 'rerun = true\n[plugins]\ndisable = "a"\nload = 3\ns3 = 1\n')
    with pytest.raises(ConfigError) as caught:
        add_config("bad.toml")
    assert [word in str(caught.value) for word in ("rerun", "disable", "load", "s3")] == [True] * 4


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("bad.toml", b"[T\n", "line 1"),
        ("bad.toml", b"[T]\nn = 1\nn = 2\n", "not valid TOML"),
        ("bad.ini", b"[T]\nx = \xff\n", "cannot be read as text"),
        ("pyproject.toml", b"[tool]\nkart = 3\n", "tool.kart"),
        ("base.yaml", b"", ".toml, .ini or .cfg"),
    ],
)
def test_a_file_that_is_not_well_formed_is_refused(name: str, content: bytes, fact: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        add_config(name)
    assert name in str(caught.value)
    assert fact in str(caught.value)


def test_a_file_that_is_not_there_is_an_error_that_names_the_working_directory(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        add_config("base.ini")
    assert "base.ini" in str(caught.value)
    assert str(folder) in str(caught.value)


@given(st.text(alphabet=st.sampled_from("[]=:#; \n\tabT"), max_size=60))
def test_any_text_is_read_as_ini_or_refused(text: str) -> None:
    sections, faults = read_ini(text)
    assert all(fault.startswith("line ") for fault in faults)
    assert all(key and section for section, values in sections.items() for key in values)


@given(st.text(max_size=60))
def test_any_text_is_interpolated_or_refused(text: str) -> None:
    try:
        interpolate(text, {}, "here")
    except ConfigError as error:
        assert str(error).startswith("here: ")  # noqa: PT017 - or it is well formed


# --- plugins ---------------------------------------------------------------------------


def test_a_plugins_settings_come_from_files_environment_and_options() -> None:
    conf = made(
        written(
            "a.toml",
            '[plugins]\ndisable = ["x"]\nprefer = { yaml = "b" }\n[plugins.s3]\nendpoint_url = "u"\nregion = "r"',
        ),
        KART_S3__ENDPOINT_URL="v",
        KART_S3__NEW_KEY="w",
    )
    conf = conf.with_options({("plugins.s3", "region"): "q"}, origin="command line")
    values = {key: found.value for key, found in conf.section("plugins.s3").items()}
    assert values == {"endpoint_url": "v", "region": "q", "new_key": "w"}
    assert {key: found.value for key, found in conf.section("plugins").items()} == {
        "disable": ["x"],
        "prefer": {"yaml": "b"},
    }


def test_a_plugin_that_only_the_environment_configures_has_a_section() -> None:
    assert made(KART_GCS__CREDENTIAL="c").section("plugins.gcs")["credential"].value == "c"


def test_plugins_are_disabled_by_a_list_in_the_environment() -> None:
    found = made(KART_DISABLE_PLUGINS="a, b,").find(["plugins"], "disable")
    assert found == Found(["a", "b"], text=False, source="environment KART_DISABLE_PLUGINS")


def test_switches_are_no_configuration() -> None:
    assert list(made(KART_TRACE="plugins", HOME="h").values()) == []


# --- the process's own configuration ---------------------------------------------------


def test_files_of_the_working_directory_are_found_and_added_ones_win() -> None:
    written("pyproject.toml", "[tool.kart.T]\na = 1\nb = 1\nc = 1")
    written("kart.toml", "[T]\nb = 2\nc = 2")
    add_config(Path(written("extra.toml", "[T]\nc = 3")))
    assert {key: found.value for key, found in config.current().section("T").items()} == {"a": 1, "b": 2, "c": 3}


def test_a_file_added_again_takes_the_last_place() -> None:
    first, second = written("a.toml", "[T]\nn = 1"), written("b.toml", "[T]\nn = 2")
    for name in (first, second, first):
        add_config(name)
    assert [file.path for file in config.current().files] == ["b.toml", "a.toml"]


def test_the_configuration_remains_one_object_while_nothing_changes() -> None:
    written("kart.toml", "[T]\nn = 1")
    first = config.current()
    assert config.current() is first
    assert config.refresh() is first
    add_config(written("b.toml", "[T]\nn = 2"))
    assert config.current() is not first
    assert config.refresh() is config.current()


def test_a_refresh_sees_what_changed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert config.current().find(["T"], "n") is None
    monkeypatch.setenv("KART_T__N", "1")
    assert config.refresh().find(["T"], "n").value == "1"  # type: ignore[union-attr]
    monkeypatch.delenv("KART_T__N")
    written("kart.toml", "[T]\nn = 22")
    assert config.refresh().find(["T"], "n").value == 22  # type: ignore[union-attr]
    written("kart.toml", "[T]\nn = 333")
    assert config.refresh().find(["T"], "n").value == 333  # type: ignore[union-attr]
    (folder / "other").mkdir()
    monkeypatch.chdir(folder / "other")
    assert config.refresh().find(["T"], "n") is None


def test_an_added_file_stays_found_when_the_working_directory_changes(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    add_config(written("base.ini", "[T]\nn = 1"))
    (folder / "other").mkdir()
    monkeypatch.chdir(folder / "other")
    (folder / "base.ini").write_text("[T]\nn = 22")
    assert config.refresh().find(["T"], "n") == Found("22", text=True, source="base.ini [T] n")


def test_using_holds_within_its_block_and_its_thread() -> None:
    default = config.current()
    one, two = made(KART_A="1"), made(KART_A="2")
    seen: list[Config] = []
    with config.using(one):
        with config.using(two):
            assert config.current() is two
            assert config.refresh() is two
        assert config.current() is one
        thread = threading.Thread(target=lambda: seen.append(config.current()))
        thread.start()
        thread.join()
    assert config.current() is default
    assert seen == [default]


def test_a_configuration_can_be_sent_to_another_process() -> None:
    conf = made(written("a.toml", '[T]\nn = "${X}"'), X="1").with_options({("T", "m"): "2"}, origin="command line")
    back = pickle.loads(pickle.dumps(conf))
    assert [back.find(["T"], key).value for key in "nm"] == ["1", "2"]


def test_no_value_is_shown_by_the_configuration_itself() -> None:
    conf = made(written("a.toml", '[T]\nkey = "swordfish"'), KEY="swordfish")
    conf = conf.with_options({("T", "key"): "swordfish"}, origin="command line")
    assert "swordfish" not in repr(conf)


def test_the_nearest_name_is_offered_and_a_far_one_is_not() -> None:
    assert config.nearest("workspace_dir", ["rerun", "workspace_directory"]) == "workspace_directory"
    assert config.nearest("colour", ["rerun"]) is None


def test_reading_no_file_imports_no_parser() -> None:
    program = (
        "import sys; from kart_core import config; config.current(); "
        "assert not {'tomllib', 'tomli', 'configparser', 'difflib', 'cattrs'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_working_directory_that_was_deleted_is_named(project):
    code = "import os, kart_core\nos.rmdir(os.getcwd())\nkart_core.build()"
    (project.folder / "gone").mkdir()
    code = f"import os\nos.chdir('gone')\n{code}"
    done = project.python("-c", code)
    assert "ConfigError: the working directory was deleted" in done.err
