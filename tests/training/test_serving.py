"""Tests that a loaded result reproduces the trainer's metrics and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tests.training.run_folders import FULL, LABEL_ROWS, LORA, create_run_folder, run_training
from training.artifacts import serving
from training.artifacts.result import ResultMetadata
from training.errors import TrainingError
from training.run_events import Result
from training.tasks.chat import Chat, Message
from training.tasks.chat_format.template import ChatTemplate
from training.tasks.text_classification import TextInput

pytestmark = pytest.mark.integration

INPUTS = [TextInput(text="apple apple"), TextInput(text="pear"), TextInput(text="apple", text_pair="pear")]
UPDATES = {"lora": LORA, "full": FULL, "dora": {**LORA, "dora": True}, "rslora": {**LORA, "rslora": True}}


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, chat_base: Path, encoder_base: Path
) -> dict[tuple[str, str], Any]:
    finished = {}
    for task, base in (("chat", chat_base), ("text-classification", encoder_base)):
        for name, update in UPDATES.items():
            folder = tmp_path_factory.mktemp("runs") / name
            rows = {"validation": LABEL_ROWS} if task == "text-classification" else {}
            hyper = {"n_epochs": 3, "learning_rate": 0.01}
            create_run_folder(folder, base, task, update, hyperparameters=hyper, **rows)
            finished[task, name] = (base, folder, run_training(folder).of_type(Result)[0])
    return finished


def compute_chat_logits(model: Any, tokenizer: Any) -> torch.Tensor:
    ids = Chat().encode_prompt([Message(role="user", content="What is number 3?")], ChatTemplate(tokenizer))
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[:, -1]
    return logits


@pytest.mark.parametrize("name", UPDATES)
def test_a_classifier_has_the_validation_accuracy_of_its_training(results: Any, name: str) -> None:
    base, folder, result = results["text-classification", name]
    served = serving.load(base, folder / "result", "text-classification")
    answers = serving.predict(served, [TextInput(text=row["text"]) for row in LABEL_ROWS], 5)
    correct = sum(answer["label"] == row["label"] for answer, row in zip(answers, LABEL_ROWS, strict=True))
    assert correct / len(LABEL_ROWS) == result.metrics["valid_accuracy"]
    for answer in answers:
        assert sum(answer["scores"].values()) == pytest.approx(1)
        assert answer["scores"][answer["label"]] == max(answer["scores"].values())


def test_single_and_batched_predictions_with_top_k(results: Any) -> None:
    base, folder, _ = results["text-classification", "full"]
    served = serving.load(base, folder / "result", "text-classification")
    together = serving.predict(served, INPUTS, 1)
    for item, answer in zip(INPUTS, together, strict=True):
        [alone] = serving.predict(served, [item], 1)
        assert len(alone["scores"]) == 1
        assert alone["label"] == answer["label"]
        assert alone["scores"][alone["label"]] == pytest.approx(answer["scores"][answer["label"]], rel=1e-5)


@pytest.mark.parametrize("name", ["lora", "dora", "rslora"])
@pytest.mark.parametrize("task", ["chat", "text-classification"])
def test_stock_peft_loads_an_adapter(results: Any, task: str, name: str) -> None:
    base, folder, _ = results[task, name]
    served = serving.load(base, folder / "result", task)
    if task == "chat":
        stock = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder / "result").eval()
        assert torch.equal(
            compute_chat_logits(stock, served.context.processor),
            compute_chat_logits(served.model, served.context.processor),
        )
        untuned = serving.load(base, None, task)
        assert not torch.allclose(
            compute_chat_logits(untuned.model, served.context.processor),
            compute_chat_logits(stock, served.context.processor),
        )
    else:
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
        stock = PeftModel.from_pretrained(model, folder / "result").eval()
        batch = served.context.processor(["apple apple"], return_tensors="pt")
        with torch.inference_mode():
            assert torch.equal(stock(**batch).logits, served.model(**batch).logits)


def test_stock_transformers_loads_a_full_result_with_its_tokenizer(results: Any) -> None:
    base, folder, _ = results["text-classification", "full"]
    served = serving.load(base, folder / "result", "text-classification")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "result").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "result")
    batch = tokenizer(["pear"], return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(model(**batch).logits, served.model(**batch).logits)
    assert model.config.id2label == {0: "apple", 1: "pear"}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("task", ["chat", "text-classification"])
def test_merged_and_unmerged_outputs_are_equal(results: Any, task: str, name: str, tmp_path: Path) -> None:
    base, folder, _ = results[task, name]
    serving.merge(base, folder / "result", tmp_path / "merged")
    served = serving.load(base, folder / "result", task)
    if task == "chat":
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
        left, right = compute_chat_logits(model, tokenizer), compute_chat_logits(served.model, served.context.processor)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
        batch = AutoTokenizer.from_pretrained(tmp_path / "merged")(["apple"], return_tensors="pt")
        with torch.inference_mode():
            left, right = model(**batch).logits, served.model(**batch).logits
    torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


def test_adapters_of_one_base_side_by_side(results: Any) -> None:
    base, first, _ = results["chat", "lora"]
    _, second, _ = results["chat", "rslora"]
    alone = []
    for folder in (first, second):
        served = serving.load(base, folder / "result", "chat")
        alone.append(compute_chat_logits(served.model, served.context.processor))
    shared = serving.load(base, None, "chat")
    model = serving.load_adapter(shared.model, first / "result", "one")
    model = serving.load_adapter(model, second / "result", "two")
    assert not any(weight.requires_grad for weight in model.parameters())
    for name, expected in zip(("one", "two", "one"), (*alone, alone[0]), strict=True):
        model.set_adapter(name)
        assert torch.equal(compute_chat_logits(model, shared.context.processor), expected)


def test_the_metadata_describes_a_result_and_names_no_path(results: Any) -> None:
    for (task, name), (base, folder, _) in results.items():
        metadata = ResultMetadata.read(folder / "result")
        assert (metadata.task, metadata.base) == (task, "tiny")
        assert metadata.update.type == ("full" if name == "full" else "lora")
        for path in (folder / "result").glob("*.json"):
            assert str(base.parent) not in path.read_text()


def test_unsuitable_bases_and_results_are_rejected(results: Any, encoder_base: Path) -> None:
    with pytest.raises(TrainingError, match="no labels"):
        serving.load(encoder_base, None, "text-classification")
    base, folder, _ = results["chat", "lora"]
    with pytest.raises(TrainingError, match="not 'text-classification'"):
        serving.load(base, folder / "result", "text-classification")
