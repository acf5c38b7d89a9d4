"""Values of torch as parameters: equal values have one id, different ones have two."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kart_core as kart

torch: Any = pytest.importorskip("torch")


class Holds(kart.TaskOnKart[int]):
    value: Any

    def run(self) -> int:
        return 1


def id_of(value: Any) -> str:
    return Holds(value=value).unique_id


DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int8, torch.int64, torch.bool, torch.complex64]


def test_values_that_differ_have_ids_that_differ() -> None:
    square = torch.arange(4).reshape(2, 2)
    values = [
        *(torch.tensor([0, 1]).to(dtype) for dtype in DTYPES),
        square,
        square.T,
        square.reshape(4),
        square.reshape(1, 4),
        torch.tensor(0),
        torch.tensor([0]),
        torch.zeros(0),
        torch.zeros(0, 2),
        torch.tensor([0.0]),
        torch.tensor([-0.0]),
        torch.Size([0, 1]),
        (0, 1),
        *DTYPES,
        *map(str, DTYPES),
        torch.device("cpu"),
        torch.device("cuda", 1),
        "cpu",
    ]
    assert len({id_of(value) for value in values}) == len(values)


@given(st.lists(st.integers(-9, 9), min_size=6, max_size=6), st.sampled_from(DTYPES))
@settings(deadline=None, max_examples=30)
def test_equal_tensors_have_one_id_however_they_lie_in_memory(numbers: list[int], dtype: Any) -> None:
    tensor = torch.tensor(numbers).reshape(2, 3).to(dtype)
    others = [
        tensor.clone(),
        tensor.T.contiguous().T,
        torch.cat([tensor, tensor])[:2],
        torch.stack([tensor, tensor], dim=2)[:, :, 0],
    ]
    if dtype.is_floating_point:
        others.append(torch.nn.Parameter(tensor.clone()))
    if dtype.is_complex:
        others.append(tensor.conj().resolve_conj().conj())
    assert {id_of(other) for other in others} == {id_of(tensor)}


@pytest.mark.parametrize(
    "value",
    [torch.eye(2).to_sparse(), torch.empty(2, device="meta")],
    ids=["sparse", "meta"],
)
def test_a_tensor_without_canonical_form_is_an_error_that_names_the_field(value: Any) -> None:
    with pytest.raises(kart.IdentityError, match="'value'"):
        id_of(value)


def test_ids_are_the_same_in_another_process(ask: Any) -> None:
    class_ = ["import torch", "class Holds(kart.TaskOnKart[int]):", "    value: object"]
    values = ["torch.arange(4.0)", "torch.float16", "torch.tensor([1.5], dtype=torch.bfloat16)"]
    expression = f"[Holds(value=v).unique_id for v in ({', '.join(values)})]"
    assert ask(expression, *class_, environment={"PYTHONHASHSEED": "1"}) == ask(expression, *class_)


def test_a_task_with_tensors_runs_and_is_recorded() -> None:
    task = Holds(value={"weights": torch.arange(3.0), "dtype": torch.float32})
    assert kart.build(task) == 1
    assert kart.record(task).unique_id == task.unique_id
