"""Methods that a user names: with the plugin and without, installed and not."""

from __future__ import annotations

from typing import Any

import pytest

METHODS = {
    "numpy.random.seed": (
        "numpy",
        "import numpy as np",
        "[int(np.random.randint(0, 100)) for _ in range(3)]",
        [79, 86, 5],
    ),
    "torch.random.manual_seed": ("torch", "import torch", "torch.randperm(4).tolist()", None),
}
WITHOUT = {"KART_DISABLE_PLUGINS": "torch_seed"}


def task(method: str) -> list[str]:
    _, load, draw, _ = METHODS[method]
    return [
        "class Draw(kart.TaskOnKart[list]):",
        "    def run(self):",
        f"        {load}",
        f"        return {draw}",
        f"task = Draw(fix_random_seed_methods=[{method!r}], fix_random_seed_value=57)",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_without_the_plugin_the_methods_of_the_list_still_seed(ask: Any, method: str) -> None:
    pytest.importorskip(METHODS[method][0])
    answers = [
        ask("[kart.build(task, rerun=True), kart.build(task, rerun=True)]", *task(method), environment=environment)
        for environment in ({}, WITHOUT)
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == answers[0][1]
    assert METHODS[method][3] in (None, answers[0][0])


@pytest.mark.parametrize("method", METHODS)
def test_without_the_plugin_the_callers_generator_on_the_cpu_is_given_back(ask: Any, method: str) -> None:
    pytest.importorskip(METHODS[method][0])
    _, load, draw, _ = METHODS[method]
    before = [*task(method), f"import {METHODS[method][0]}", load, f"{method}(1)"]
    assert ask(f"[kart.build(task), {draw}][1]", *before, environment=WITHOUT) == ask(draw, *before)


@pytest.mark.parametrize("environment", [{}, WITHOUT], ids=["with the plugin", "without the plugin"])
@pytest.mark.parametrize("method", [*METHODS, "torch.use_deterministic_algorithms"])
def test_a_method_whose_library_is_not_installed_is_an_error_that_names_method_library_and_plugin(
    ask: Any, method: str, environment: dict[str, str]
) -> None:
    library = method.partition(".")[0]
    said = ask(
        "said",
        "class Gone:",
        "    def find_spec(self, name, path=None, target=None):",
        f"        if name == {library!r}: raise ModuleNotFoundError(name)",
        "sys.meta_path.insert(0, Gone())",
        "class Draw(kart.TaskOnKart[int]):",
        "    def run(self): return 1",
        "try:",
        f"    kart.build(Draw(fix_random_seed_methods=[{method!r}]))",
        "except kart.ConfigError as error:",
        "    said = str(error)",
        environment=environment,
    )
    assert all(name in said for name in (repr(method), f"{library} is not installed", "kart-torch-seed")), said


@pytest.mark.parametrize("method", ["torch.use_deterministic_algorithms", "torch.cuda.manual_seed_all"])
def test_what_needs_the_plugin_is_without_it_an_error_that_names_it(ask: Any, method: str) -> None:
    torch: Any = pytest.importorskip("torch")
    if "cuda" in method and torch.cuda.is_available():
        pytest.skip("with a CUDA device it can be called")
    said = ask(
        "said",
        "class Draw(kart.TaskOnKart[int]):",
        "    def run(self):",
        "        import torch",
        "        return 1",
        "try:",
        f"    kart.build(Draw(fix_random_seed_methods=[{method!r}]))",
        "except kart.BuildError as error:",
        "    said = str(error)",
        environment=WITHOUT,
    )
    assert method in said
    assert "kart-torch-seed" in said
