"""Tests for the task text-regression."""

from __future__ import annotations

import json
import math
from array import array
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from sklearn import metrics
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.training.run_folders import FULL, LORA, create_run_folder, run_training
from training.artifacts import serving
from training.errors import TrainingError
from training.run_events import Metrics, Result
from training.tasks.base import TaskContext
from training.tasks.support.text import TextInput
from training.tasks.text_regression import RegressionExample, RegressionRow, TextRegression, compute_regression_metrics

pytestmark = pytest.mark.integration

TASK = TextRegression()
ROWS: list[dict[str, Any]] = [
    {"text": "very " * (number % 4) + "good", "target": 10.0 + 2.5 * (number % 4)} for number in range(16)
]
ROWS[3]["text_pair"] = "indeed"


@pytest.fixture
def ctx(encoder_base: Path) -> TaskContext:
    tokenizer = AutoTokenizer.from_pretrained(encoder_base)
    return TaskContext(tokenizer, TASK.prepare(encode_rows(tokenizer)))


def encode_rows(tokenizer: Any) -> list[Any]:
    return list(TASK.encode([RegressionRow.model_validate(row) for row in ROWS], tokenizer, 100))


def encode_inputs(ctx: TaskContext) -> list[Any]:
    return list(TASK.encode_inputs([TextInput.model_validate(row) for row in ROWS], ctx.processor, 100))


def test_the_loss_is_the_squared_error_in_standard_deviations(encoder_base: Path, ctx: TaskContext) -> None:
    model = TASK.load_model(encoder_base, ctx.state, torch.float32).eval()
    examples = encode_rows(ctx.processor)
    loss = TASK.compute_loss(model, TASK.collate(examples, ctx), ctx)
    targets = torch.tensor([row["target"] for row in ROWS])
    alone = torch.cat([model(**to_model_inputs(example)).logits[0] for example in examples])
    expected = torch.nn.functional.mse_loss(alone, (targets - targets.mean()) / targets.std(correction=0))
    assert loss.total.item() / len(ROWS) == pytest.approx(expected.item(), rel=1e-4)
    assert loss.correct == 0
    assert not TASK.has_accuracy


def to_model_inputs(example: RegressionExample) -> dict[str, torch.Tensor]:
    assert example.token_type_ids is not None
    return {"input_ids": torch.tensor([[*example.ids]]), "token_type_ids": torch.tensor([[*example.token_type_ids]])}


def test_single_and_batched_predictions_are_equal_and_in_the_unit_of_the_targets(
    encoder_base: Path, ctx: TaskContext
) -> None:
    model = TASK.load_model(encoder_base, ctx.state, torch.float32).eval()
    together = TASK.answer(model, encode_inputs(ctx), ctx, 1)
    for answer, example in zip(together, encode_inputs(ctx), strict=True):
        assert TASK.answer(model, [example], ctx, 1)[0]["value"] == pytest.approx(answer["value"], rel=1e-4)
        by_hand = model(**to_model_inputs(example)).logits.item() * ctx.state["deviation"] + ctx.state["mean"]
        assert answer["value"] == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_those_of_libraries(seed: int) -> None:
    chance = Random(seed)
    truth = [float(chance.randrange(6)) for _ in range(50)]
    predicted = [value + chance.gauss(0, 1 + seed) if chance.random() < 0.7 else 2.0 for value in truth]
    scores = compute_regression_metrics(torch.tensor(truth).double(), torch.tensor(predicted).double())
    assert scores["pearson"] == pytest.approx(stats.pearsonr(truth, predicted).statistic)
    assert scores["spearman"] == pytest.approx(stats.spearmanr(truth, predicted).statistic)
    assert scores["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
    assert scores["r2"] == pytest.approx(metrics.r2_score(truth, predicted))


def test_a_constant_correlates_with_nothing() -> None:
    varied, constant = torch.tensor([0.1, 0.2, 0.7]).double(), torch.full((3,), 0.1).double()
    for truth, predicted in ((varied, constant), (constant, varied)):
        scores = compute_regression_metrics(truth, predicted)
        assert scores["pearson"] == scores["spearman"] == 0.0
        assert math.isfinite(scores["r2"])


def test_rmse_has_the_unit_of_the_targets(ctx: TaskContext) -> None:
    examples = [RegressionExample(1, False, array("i", [1]), None, target) for target in (10.0, 17.5)]
    truth = [(example.target - ctx.state["mean"]) / ctx.state["deviation"] for example in examples]
    scores = TASK.compute_metrics(examples, [torch.tensor(value + 1.0) for value in truth], ctx)
    assert scores["rmse"] == pytest.approx(ctx.state["deviation"], rel=1e-5)
    assert set(scores) == set(TASK.metrics)


def test_constant_targets_are_rejected() -> None:
    examples = [RegressionExample(1, False, array("i", [1]), None, 0.1)] * 7
    with pytest.raises(TrainingError, match=r"Every row has the target 0\.1"):
        TASK.prepare(examples)


@pytest.mark.parametrize("target", ["nan", "inf", "many", "", None, 1e16])
def test_targets_are_finite_numbers(target: object) -> None:
    with pytest.raises(ValidationError):
        RegressionRow.model_validate({"text": "a", "target": target})


def test_a_csv_cell_is_read_and_blank_text_is_a_row_issue() -> None:
    row = RegressionRow.model_validate({"text": " ", "target": "3.8"})
    assert row.target == 3.8
    assert [issue.field for issue in TASK.check_row(row)] == ["text"]


def test_training_does_not_depend_on_the_unit(tmp_path: Path, encoder_base: Path) -> None:
    scaled = [row | {"target": 1e6 * row["target"] - 3e5} for row in ROWS]
    hyper = {"n_epochs": 2, "learning_rate": 1e-3}
    losses = [
        [line.train_loss for line in run_training(create_run_folder(tmp_path / name, encoder_base, TASK.name, FULL,
         training=rows, hyperparameters=hyper)).of_type(Metrics)]
        for name, rows in (("as_is", ROWS), ("scaled", scaled))
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("update", [LORA, FULL], ids=["lora", "full"])
def test_a_run_learns_and_its_result_answers(tmp_path: Path, encoder_base: Path, update: Any) -> None:
    hyper = {"n_epochs": 20, "batch_size": 8, "learning_rate": 0.01}
    folder = create_run_folder(
        tmp_path / "run", encoder_base, TASK.name, update, training=ROWS, validation=ROWS, hyperparameters=hyper
    )
    [result] = run_training(folder).of_type(Result)
    assert result.metrics["valid_pearson"] > 0.8
    served = serving.load(encoder_base, folder / "result", TASK.name)
    answers = serving.predict(served, [TextInput(text=ROWS[0]["text"]), TextInput(text=ROWS[2]["text"])], top_k=1)
    assert answers[0]["value"] < answers[1]["value"]
    if update is FULL:
        stock = AutoModelForSequenceClassification.from_pretrained(folder / "result")
        assert stock.config.target_mean == served.context.state["mean"]
        state = TASK.load_base_state(folder / "result")
        assert json.dumps(state) == json.dumps(served.context.state)


def test_a_base_without_a_number_cannot_answer(encoder_base: Path) -> None:
    with pytest.raises(TrainingError, match="does not predict numbers"):
        TASK.load_base_state(encoder_base)
