"""Test that a new task needs only one file and one line in ``TASKS``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from api.services.job_validation import check_update, task_for_method
from deploy import docs_tables
from tests.training.run_folders import create_run_folder, run_training
from training.artifacts import serving
from training.artifacts.serving_compat import list_compatible_engines
from training.run_events import Result
from training.tasks import TASKS

pytestmark = pytest.mark.integration

TASK_SOURCE = '''
"""Length of a text: the target of ``{"text": "four"}`` is its number of letters divided by ten."""

from __future__ import annotations

from dataclasses import dataclass

from training.tasks.base import TaskContext, Loss, Task, load_pretrained
from training.tasks.support.text import EncoderExample, TextInput, encode_texts, collate_texts


@dataclass(frozen=True, slots=True)
class LengthExample(EncoderExample):
    length: float


class TextLength(Task[TextInput, LengthExample]):
    name = "text-length"
    title = "The length of a text"
    row_schema = TextInput
    input_schema = TextInput
    route = "predictions"
    family = "discriminative"
    peft_task_type = "SEQ_CLS"
    metrics = {"off_by": "mean distance from the true length"}

    def check_row(self, row):
        return iter(())

    def encode(self, rows, processor, max_length):
        texts = encode_texts(rows, processor, max_length)
        return [
            LengthExample(text.size, text.truncated, text.ids, text.token_type_ids, len(row.text) / 10)
            for row, text in zip(rows, texts, strict=True)
        ]

    encode_inputs = encode

    def load_model(self, directory, state, dtype):
        from transformers import AutoModelForSequenceClassification

        return load_pretrained(AutoModelForSequenceClassification, directory, dtype, num_labels=1)

    def collate(self, examples, ctx: TaskContext):
        import torch

        lengths_B = torch.tensor([example.length for example in examples])
        return collate_texts(examples, ctx.pad_token_id) | {"lengths_B": lengths_B}

    def compute_loss(self, model, batch, ctx: TaskContext):
        lengths_B = batch.pop("lengths_B")
        errors_B = model(**batch).logits[:, 0] - lengths_B
        return Loss(errors_B.square().sum(), (errors_B.abs() < 0.1).sum(), errors_B.detach())

    def compute_metrics(self, examples, outputs, ctx: TaskContext):
        return {"off_by": sum(abs(float(error)) for error in outputs) / len(outputs)}

    def answer(self, model, examples, ctx: TaskContext, top_k):
        import torch

        with torch.inference_mode():
            logits_B1 = model(**collate_texts(examples, ctx.pad_token_id)).logits
            return [{"length": float(length)} for length in logits_B1[:, 0]]
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = tmp_path / "text_length.py"
    path.write_text(TASK_SOURCE)
    spec = importlib.util.spec_from_file_location("text_length", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "text_length", module)
    spec.loader.exec_module(module)
    task = module.TextLength()
    monkeypatch.setitem(TASKS, task.name, task)
    return task


def test_a_toy_task_trains_saves_loads_and_answers(toy: Any, tmp_path: Path, encoder_base: Path) -> None:
    rows = [{"text": "a" * (1 + number % 9)} for number in range(24)]
    folder = create_run_folder(
        tmp_path / "run",
        encoder_base,
        toy.name,
        {"type": "full"},
        training=rows,
        validation=rows[:6],
        hyperparameters={"n_epochs": 15, "learning_rate": 3e-3},
    )
    [result] = run_training(folder).of_type(Result)
    assert result.metrics["valid_loss"] < 0.5 * result.metrics["valid_loss_before"]
    assert result.metrics["valid_off_by"] < 0.3
    served = serving.load(encoder_base, folder / "result", toy.name)
    short, long = serving.predict(served, [toy.input_schema(text="a"), toy.input_schema(text="a" * 9)], top_k=1)
    assert short["length"] + 0.3 < long["length"]


def test_the_api_and_the_docs_include_it(toy: Any) -> None:
    assert task_for_method("supervised", toy.name) is toy
    check_update("head", toy)
    assert list_compatible_engines(toy.name, {"type": "full"}) == ["luthier"]
    assert list_compatible_engines("chat", {"type": "lora"}) == ["luthier", "vllm"]
    assert list_compatible_engines("chat", {"type": "lora", "base_precision": "nf4"}) == ["luthier"]
    assert f"| `{toy.name}` | The length of a text |" in docs_tables.render_tasks_page()
