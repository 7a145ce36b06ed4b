"""Predictor: inputs are validated, batches are limited by tokens and inputs, and errors name their
input."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pydantic import BaseModel, Field

from inference.pooling import predictor
from inference.pooling.predictor import Predictor
from inference.protocol.errors import EngineError
from inference.protocol.pooling import PredictionRequest
from inference.serving.predictions import MAX_TEXT_CHARACTERS, build_probe, predict
from storage.threads import ThreadPool
from training.artifacts.serving import ServedModel
from training.models.base_model import BaseModelInfo as Base
from training.tasks.base import Example, RowIssue, Task, TaskContext

pytestmark = pytest.mark.anyio


class WeighInput(BaseModel):
    image: str
    weight: float = Field(default=1.0, gt=0)
    note: str | None = None


class WeighTask(Task[WeighInput, Example]):
    """Task that returns the length of an input and records the batches."""

    name = "weigh"
    route = "predictions"
    family = "vision"
    input_schema = WeighInput
    row_schema = WeighInput
    default_field = "image"
    file_field = "image"

    def __init__(self) -> None:
        self.passes: list[list[int]] = []

    def encode_inputs(self, inputs: Sequence[WeighInput], processor: Any, max_length: int) -> list[Any]:
        return [
            RowIssue("unreadable", "image", "This is not an image.")
            if row.image == "bad"
            else Example(len(row.image), False)
            for row in inputs
        ]

    def answer(self, model: Any, examples: Sequence[Example], context: TaskContext, top_k: int) -> list[dict[str, Any]]:
        self.passes.append([example.size for example in examples])
        return [{"size": example.size, "top_k": top_k} for example in examples]


def build_predictor(task: WeighTask, **state: Any) -> Predictor:
    base = cast(Base, type("Base", (), {"context_length": 100}))
    return Predictor(ServedModel(task, None, TaskContext(None, state), base, None), 50, ThreadPool("forward", 1))


def build_request(*inputs: Any, **fields: Any) -> PredictionRequest:
    return PredictionRequest(model="m", inputs=list(inputs), **fields)


async def test_outputs_are_in_input_order() -> None:
    response = await predict(build_predictor(WeighTask()), "weights", build_request("ccc", {"image": "a"}, "bb"))
    assert response == {
        "object": "list",
        "model": "weights",
        "data": [{"index": index, "size": size, "top_k": 1} for index, size in enumerate((3, 1, 2))],
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    }


@pytest.mark.parametrize(("labels", "top_k", "expected"), [(0, None, 1), (0, 5, 1), (3, None, 3), (3, 2, 2), (3, 9, 3)])
async def test_no_more_scores_than_labels(labels: int, top_k: int | None, expected: int) -> None:
    model = build_predictor(WeighTask(), labels=["a"] * labels)
    response = await predict(model, "m", build_request("x", top_k=top_k))
    assert response["data"][0]["top_k"] == expected


async def test_a_forward_pass_is_limited_by_tokens_and_by_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    task = WeighTask()
    monkeypatch.setattr(predictor, "MAX_BATCH_EXAMPLES", 3)
    monkeypatch.setattr(predictor, "MAX_BATCH_TOKENS", 10)
    response = await predict(
        build_predictor(task), "m", build_request("aaaaaa", "a", "a", "a", "a", "bbbb", "bbbb", "c" * 20)
    )
    assert task.passes == [[1, 1, 1], [1, 4], [4], [6], [20]]
    assert [entry["size"] for entry in response["data"]] == [6, 1, 1, 1, 1, 4, 4, 20]


@pytest.mark.parametrize(
    ("inputs", "param", "code"),
    [
        (["a", {"note": "b"}], "inputs.1.image", "missing_required_parameter"),
        (["a", {"image": ["b"]}], "inputs.1.image", "invalid_request"),
        ([{"image": "a", "weight": "-1"}], "inputs.0.weight", "invalid_request"),
        (["a", "bad"], "inputs.1.image", "invalid_request"),
        ([{"image": "a", "note": "n" * (MAX_TEXT_CHARACTERS + 1)}], "inputs.0.note", "invalid_request"),
    ],
)
async def test_an_invalid_input_is_named_and_fails_alone(inputs: list[Any], param: str, code: str) -> None:
    model = build_predictor(WeighTask())
    requests = [build_request("good"), build_request(*inputs)]
    results = await asyncio.gather(*(predict(model, "m", request) for request in requests), return_exceptions=True)
    assert isinstance(results[0], dict)
    assert isinstance(results[1], EngineError)
    assert (results[1].status, results[1].param, results[1].code) == (400, param, code)


async def test_a_file_may_be_longer_than_a_text() -> None:
    response = await predict(build_predictor(WeighTask()), "m", build_request("A" * (MAX_TEXT_CHARACTERS + 1)))
    assert response["data"][0]["size"] == MAX_TEXT_CHARACTERS + 1


async def test_a_probe_is_an_input_of_the_task() -> None:
    [row] = build_probe(WeighTask()).to_rows("image")
    assert row.keys() == {"image"}
    assert row["image"].startswith("iVBORw0KGgo"), "the probe must be a PNG"
    assert (await predict(build_predictor(WeighTask()), "m", build_probe(WeighTask())))["data"]
