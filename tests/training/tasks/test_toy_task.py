"""A new task is one file and one line: this test writes the file and adds the line; nothing else knows of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from api.services.job_validation import check_update, learner
from deploy import docs_tables
from tests.training.run_folders import make_folder, trained
from training.artifacts import serving
from training.artifacts.serving_compat import servable_by
from training.run_events import Result
from training.tasks import TASKS

FILE = '''
"""How long a text is: ``{"text": "four"}`` teaches its number of letters, in thirds of ten."""

from __future__ import annotations

from dataclasses import dataclass

from training.tasks.base import Kit, Loss, Task, load_auto
from training.tasks.text import EncoderExample, Texts, encode_texts, text_inputs


@dataclass(frozen=True, slots=True)
class LengthExample(EncoderExample):
    length: float


class TextLength(Task[Texts, LengthExample]):
    name = "text-length"
    title = "How long a text is"
    row = Texts
    input = Texts
    route = "predictions"
    family = "discriminative"
    peft_type = "SEQ_CLS"
    measures = {"off_by": "mean distance from the true length"}

    def check(self, row):
        return iter(())

    def encode(self, rows, processor, max_length):
        texts = encode_texts(rows, processor, max_length)
        return [
            LengthExample(one.size, one.cut, one.ids, one.types, len(row.text) / 10)
            for row, one in zip(rows, texts, strict=True)
        ]

    encode_inputs = encode

    def load_model(self, directory, state, dtype):
        from transformers import AutoModelForSequenceClassification

        return load_auto(AutoModelForSequenceClassification, directory, dtype, num_labels=1)

    def collate(self, examples, kit: Kit):
        import torch

        return text_inputs(examples, kit.pad) | {"lengths_B": torch.tensor([one.length for one in examples])}

    def loss(self, model, batch, kit: Kit):
        lengths_B = batch.pop("lengths_B")
        off_B = model(**batch).logits[:, 0] - lengths_B
        return Loss(off_B.square().sum(), (off_B.abs() < 0.1).sum(), off_B.detach())

    def measure(self, examples, found, kit: Kit):
        return {"off_by": sum(abs(float(off)) for off in found) / len(found)}

    def answer(self, model, examples, kit: Kit, top_k):
        import torch

        with torch.inference_mode():
            return [{"length": float(length)} for length in model(**text_inputs(examples, kit.pad)).logits[:, 0]]
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = tmp_path / "text_length.py"
    path.write_text(FILE)
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
    folder = make_folder(
        tmp_path / "run",
        encoder_base,
        toy.name,
        {"type": "full"},
        training=rows,
        validation=rows[:6],
        hyperparameters={"n_epochs": 15, "learning_rate": 3e-3},
    )
    [result] = trained(folder).of(Result)
    assert result.metrics["valid_loss"] < 0.5 * result.metrics["valid_loss_before"]
    assert result.metrics["valid_off_by"] < 0.3
    served = serving.load(encoder_base, folder / "result", toy.name)
    short, long = serving.predict(served, [toy.input(text="a"), toy.input(text="a" * 9)], top_k=1)
    assert short["length"] + 0.3 < long["length"]


def test_the_api_and_the_docs_learn_of_it_by_themselves(toy: Any) -> None:
    assert learner("supervised", toy.name) is toy
    check_update("head", toy)
    assert servable_by(toy.name, {"type": "full"}) == ["luthier"]
    assert f"| `{toy.name}` | How long a text is |" in docs_tables.tasks_page()
