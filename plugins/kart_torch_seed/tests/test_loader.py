"""Data loaders with workers: each worker's numbers, and what is trained from them, are the same every time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import kart_torch_seed
import pytest

torch: Any = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def network(folder: Path) -> None:
    shutil.copy(Path(__file__).with_name("network.py"), folder)


def test_workers_draw_the_same_numbers_every_time_and_each_its_own(ask: Any) -> None:
    first, again, other = (
        ask(f"kart.build(Drawn({given}), rerun=True)", "import random", "from network import Drawn", before)
        for given, before in (("", ""), ("", "random.seed(5)"), ("fix_random_seed_value=1", ""))
    )
    assert sorted(first) == sorted(again)
    assert first == again, "and in the same order"
    assert {numbers[0] for numbers in first} == {0.0, 1.0}
    for kind in (1, 2, 3):
        assert len({numbers[kind] for numbers in first}) == 16, "two epochs and two workers have nothing in common"
    assert not {tuple(numbers) for numbers in first} & {tuple(numbers) for numbers in other}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_network_trained_twice_has_the_same_weights_to_the_bit(ask: Any, device: str) -> None:
    pytest.importorskip("sklearn")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    weights, losses = zip(
        *(
            ask(
                "[kart.build(task, rerun=True), kart.record(task).log['losses']]",
                "import random, numpy, torch",
                "from network import Train",
                f"random.seed({i}); numpy.random.seed({i}); torch.manual_seed({i})",
                f"task = Train(device={device!r})",
            )
            for i in range(2)
        ),
        strict=True,
    )
    assert weights[0] == weights[1]
    assert losses[0][1] < losses[0][0] < 2.3, "it learns"


def test_worker_init_outside_a_worker_is_an_error_that_says_so() -> None:
    with pytest.raises(RuntimeError, match="worker_init_fn"):
        kart_torch_seed.worker_init(0)
