"""Tests for the task image-classification."""

from __future__ import annotations

import base64
import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score
from transformers import AutoModelForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.tiny_vision import (
    IMAGE_ROWS,
    IMAGE_SIZE,
    create_tiny_resnet_base,
    create_tiny_vit_base,
    encode_base64,
)
from tests.training.run_folders import FULL, LORA, create_run_folder, run_training
from training.artifacts import serving
from training.errors import InvalidDataset, TrainingError
from training.run_events import Metrics, Result
from training.tasks import TASKS
from training.tasks.base import LossSettings, RowIssue, TaskContext
from training.tasks.image_classification import ImageClassification, ImageExample

pytestmark = pytest.mark.integration

TASK = ImageClassification()
BASES = {"vit": create_tiny_vit_base, "resnet": create_tiny_resnet_base}
CIFAR = Path(__file__).parents[4] / "shared" / "data" / "cifar10_subset"


@pytest.fixture(scope="module", params=sorted(BASES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BASES[request.param](tmp_path_factory.mktemp("bases") / request.param)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_tiny_vit_base(tmp_path_factory.mktemp("bases") / "vit")


@pytest.fixture(autouse=True)
def _register_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, TASK.name, TASK)


def load_model_and_examples(base: Path, **objective: Any) -> tuple[Any, TaskContext, list[ImageExample]]:
    processor = TASK.load_processor(base)
    examples = TASK.encode([TASK.row_schema.model_validate(row) for row in IMAGE_ROWS[:5]], processor, 1 << 20)
    assert all(isinstance(example, ImageExample) for example in examples)
    ctx = TaskContext(processor, TASK.prepare(examples), LossSettings(**objective))  # type: ignore[arg-type]
    return TASK.load_model(base, ctx.state, torch.float32).eval(), ctx, examples  # type: ignore[return-value]


def test_the_size_is_that_of_the_models_input_and_not_of_the_file(base: Path, tmp_path: Path) -> None:
    _, _, examples = load_model_and_examples(base)
    assert {example.size for example in examples} == {(IMAGE_SIZE // 16) ** 2}
    ViTImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(tmp_path)
    [example] = TASK.encode([TASK.row_schema.model_validate(IMAGE_ROWS[0])], TASK.load_processor(tmp_path), 1)
    assert isinstance(example, ImageExample)
    assert (example.size, example.truncated) == (196, False)


def test_processors_without_a_fixed_shape_are_rejected(tmp_path: Path) -> None:
    ViTImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match="shape"):
        TASK.load_processor(tmp_path)


@pytest.mark.parametrize(
    ("objective", "weights"),
    [({}, [1, 1]), ({"label_smoothing": 0.2}, [1, 1]), ({"class_weights": {"red": 3.0}}, [1, 3])],
)
def test_the_loss_is_the_textbooks_on_the_processors_pixels(base: Path, objective: Any, weights: list[float]) -> None:
    model, ctx, examples = load_model_and_examples(base, **objective)
    images = [Image.open(io.BytesIO(base64.b64decode(row["image"]))) for row in IMAGE_ROWS[:5]]
    logits = model(**ctx.processor(images, return_tensors="pt")).logits
    targets = torch.tensor([ctx.state["labels"].index(row["label"]) for row in IMAGE_ROWS[:5]])
    smoothing = objective.get("label_smoothing", 0.0)
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    by_row = torch.tensor(weights, dtype=torch.float)[targets]
    loss = TASK.compute_loss(model, TASK.collate(examples, ctx), ctx)
    torch.testing.assert_close(loss.total, (losses * by_row).sum())
    assert int(loss.correct) == int((logits.argmax(-1) == targets).sum())
    assert sum(TASK.sum_weights(example, ctx) for example in examples) == float(by_row.sum())


def test_f1_is_scikit_learns(base: Path) -> None:
    model, ctx, examples = load_model_and_examples(base)
    outputs = TASK.compute_loss(model, TASK.collate(examples, ctx), ctx).outputs
    assert outputs is not None
    truth, predictions = (
        [example.label for example in examples],
        [ctx.state["labels"][row.argmax()] for row in outputs.int()],
    )
    scores = TASK.compute_metrics(examples, list(outputs), ctx)
    assert scores == {
        "f1_macro": pytest.approx(
            f1_score(truth, predictions, average="macro", labels=ctx.state["labels"], zero_division=0)
        ),
        "f1_micro": pytest.approx(f1_score(truth, predictions, average="micro")),
    }


def test_answers_are_the_models_scores_batched_or_alone(base: Path) -> None:
    model, ctx, examples = load_model_and_examples(base)
    together = TASK.answer(model, examples, ctx, 2)
    for answer, example in zip(together, examples, strict=True):
        [alone] = TASK.answer(model, [example], ctx, 2)
        assert alone["label"] == answer["label"] == max(answer["scores"], key=answer["scores"].get)
        assert alone["scores"] == pytest.approx(answer["scores"], abs=1e-5)
        assert sum(answer["scores"].values()) == pytest.approx(1)
    assert [len(answer["scores"]) for answer in TASK.answer(model, examples, ctx, 1)] == [1] * 5


UPDATES = [("vit", LORA), ("vit", FULL), ("vit", {"type": "head"}), ("vit", {"type": "layers", "last": 1})]
UPDATES += [("resnet", FULL), ("resnet", {"type": "head"}), ("resnet", {"type": "layers", "last": 1})]


@pytest.mark.parametrize(("name", "update"), UPDATES, ids=[f"{name}-{update['type']}" for name, update in UPDATES])
def test_it_learns_is_saved_and_answers(tmp_path: Path, name: str, update: dict[str, Any]) -> None:
    base = BASES[name](tmp_path / "base")
    hyper = {"n_epochs": 15, "learning_rate": 0.01, "batch_size": 8}
    files = {"training": IMAGE_ROWS, "validation": IMAGE_ROWS[:4]}
    folder = create_run_folder(tmp_path / "run", base, TASK.name, update, **files, hyperparameters=hyper)
    lines = run_training(folder)
    [result] = lines.of_type(Result)
    assert lines.of_type(Metrics)[-1].train_loss < 0.85 * lines.of_type(Metrics)[0].train_loss
    served = serving.load(base, folder / "result", TASK.name)
    inputs = [TASK.input_schema.model_validate({"image": row["image"]}) for row in IMAGE_ROWS[:4]]  # type: ignore[union-attr]
    answers = serving.predict(served, inputs, 2)
    assert [answer["label"] for answer in answers] == [row["label"] for row in IMAGE_ROWS[:4]]
    loss = -sum(np.log(answer["scores"][answer["label"]]) for answer in answers) / 4
    assert loss == pytest.approx(result.metrics["valid_loss"], rel=1e-3)
    assert result.metrics["valid_f1_macro"] == 1.0


def test_lora_is_rejected_for_convolutions(tmp_path: Path) -> None:
    base = create_tiny_resnet_base(tmp_path / "base")
    with pytest.raises(TrainingError) as caught:
        run_training(create_run_folder(tmp_path / "run", base, TASK.name, LORA, training=IMAGE_ROWS))
    assert (caught.value.code, caught.value.param) == ("base_model_unavailable", "update")


def test_a_classifier_of_other_labels_gets_a_new_head(tmp_path: Path, vit: Path) -> None:
    AutoModelForImageClassification.from_pretrained(vit, num_labels=7).save_pretrained(tmp_path)
    state = {"labels": ["a", "b", "c"], "counts": [1, 1, 1]}
    assert TASK.load_model(tmp_path, state, torch.float32).config.id2label == {0: "a", 1: "b", 2: "c"}
    assert TASK.load_base_state(tmp_path)["labels"] == [f"LABEL_{index}" for index in range(7)]
    with pytest.raises(TrainingError, match="labels"):
        TASK.load_base_state(vit)


def test_issues_name_line_field_and_remedy(tmp_path: Path, vit: Path) -> None:
    rows = [
        *IMAGE_ROWS,
        {"image": "cats/1.png", "label": "a"},
        {"image": encode_base64(b"hello"), "label": "a"},
        {"image": 3, "label": "a"},
        {"image": IMAGE_ROWS[0]["image"]},
        {"image": IMAGE_ROWS[0]["image"], "label": " "},
    ]
    folder = create_run_folder(tmp_path / "run", vit, TASK.name, FULL, training=rows)
    with pytest.raises(InvalidDataset) as caught:
        run_training(folder)
    errors = {error.line: (error.code, error.field) for error in caught.value.errors}
    first = len(IMAGE_ROWS) + 1
    assert errors == {
        first: ("wrong_value", "image"),
        first + 1: ("image", "image"),
        first + 2: ("wrong_type", "image"),
        first + 3: ("missing_field", "label"),
        first + 4: ("empty_content", "label"),
    }


def test_an_invalid_input_is_a_row_issue(vit: Path) -> None:
    _, ctx, _ = load_model_and_examples(vit)
    inputs = [
        TASK.input_schema.model_validate({"image": value}) for value in (encode_base64(b"no"), IMAGE_ROWS[0]["image"])
    ]  # type: ignore[union-attr]
    issue, example = TASK.encode_inputs(inputs, ctx.processor, 100)
    assert isinstance(issue, RowIssue)
    assert issue.field == "image"
    assert isinstance(example, ImageExample)


def test_unknown_labels_are_row_issues(vit: Path) -> None:
    _, ctx, examples = load_model_and_examples(vit)
    assert TASK.check_example(examples[0], ctx.state) is None
    issue = TASK.check_example(replace(examples[0], label="green"), ctx.state)
    assert issue is not None
    assert "green" in issue.message


def test_a_zip_of_cifar_folders_is_learned_from(tmp_path: Path, vit: Path) -> None:
    """Trains on real images in a zip and beats chance."""
    if not CIFAR.is_dir():
        pytest.skip("the CIFAR images are missing")
    folder = create_run_folder(
        tmp_path / "run",
        vit,
        TASK.name,
        FULL,
        validation="",
        hyperparameters={"n_epochs": 8, "learning_rate": 0.002, "batch_size": 16},
        training="",
    )
    for name, split, count in (("training", "train", 40), ("validation", "test", 25)):
        with zipfile.ZipFile(folder / f"{name}.data", "w") as archive:
            for label in ("airplane", "truck"):
                for path in sorted((CIFAR / split / label).iterdir())[:count]:
                    archive.write(path, f"{label}/{path.name}")
    lines = run_training(folder)
    assert lines.of_type(Result)[0].metrics["valid_accuracy"] > 0.6  # type: ignore[operator]
