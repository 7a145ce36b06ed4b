"""Tests for long texts that are trained as several examples: losses, counts, lines and splits."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.run_folders import LORA, EventRecorder, Row, create_run_folder, run_training
from tests.training.step_probe import compute_step, set_up_run
from training import preflight, run
from training.run_events import Failure, Message, Metrics, Preflight, PreviewRow, Result, Validated
from training.spec import PREVIEW_FILE, TrainSpec
from training.trainer.failures import to_failure
from training.trainer.prepare import prepare
from training.trainer.state import StopFlag

pytestmark = pytest.mark.integration

MAX_LENGTH = 32
HYPER: Row = {"max_length": MAX_LENGTH, "batch_size": 4, "n_epochs": 1, "learning_rate": 0.01}
# Byte-level tokens and an end token: 2 short rows, and rows of 100 and 53 tokens.
ROWS: list[Row] = [{"text": "short"}, {"text": "abcdefghi" * 11}, {"text": "also short"}, {"text": "z" * 52}]
PARTS = [1, 4, 1, 2]
"""Parts of each row: the first has 32 tokens, each later one repeats a token."""


def create_folder(directory: Path, base: Path, rows: Sequence[Row] = ROWS, **changes: Any) -> Path:
    values = {"hyperparameters": HYPER, **changes}
    return create_run_folder(directory, base, "completion", LORA, training=rows, **values)


def test_parts_that_are_packed_together_are_trained_as_if_alone(tmp_path: Path, chat_base: Path) -> None:
    """Attention never crosses a boundary, be it between rows or between the parts of one."""
    training_run = set_up_run(create_folder(tmp_path / "run", chat_base))
    assert training_run.context.packed
    training_run.model.eval()
    examples = list(training_run.splits.training)
    assert len(examples) == sum(PARTS)

    def compute(batches: list[list[Any]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        training_run.optimizer.zero_grad()
        total = torch.stack([training_run.compute_loss(batch, training_run.context).total for batch in batches]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total.detach(), [
            weight.grad.clone() for weight in training_run.trainable_parameters.values() if weight.grad is not None
        ]

    together, alone = compute([examples]), compute([[example] for example in examples])
    torch.testing.assert_close(together[0], alone[0], rtol=1e-6, atol=0.0)
    torch.testing.assert_close(together[1], alone[1], rtol=1e-3, atol=1e-4)
    # One row of the same tokens, whose attention crosses the boundaries.
    joined = replace(
        examples[0],
        size=sum(example.size for example in examples),
        ids=array("i", [token for example in examples for token in example.ids]),
        weights=array("f", [weight for example in examples for weight in example.weights]),
    )
    assert abs(compute([[joined]])[0] - alone[0]) > 1.0


def test_the_loss_of_parts_is_that_of_their_own_tokens(tmp_path: Path, chat_base: Path) -> None:
    """Compares packed parts with the model's logits for each part, padded and alone."""
    training_run = set_up_run(create_folder(tmp_path / "run", chat_base))
    examples = list(training_run.splits.training)
    total, count = 0.0, 0
    training_run.model.eval()
    for example in examples:
        ids = torch.tensor([list(example.ids)])
        labels = ids.masked_fill(torch.tensor([list(example.weights)]) == 0, -100)
        targets = int((labels != -100).sum())
        with torch.no_grad():
            total += training_run.model(input_ids=ids, labels=labels).loss.item() * targets
        count += targets
    # Every token of every text but its first, and every end token.
    assert count == sum(len(row["text"]) for row in ROWS)
    loss = training_run.compute_loss(examples, training_run.context).total.item()
    assert loss / count == pytest.approx(total / count, rel=1e-5)
    assert compute_step(training_run, examples)[0].loss == pytest.approx(total / count, rel=1e-2)


def test_a_job_counts_rows_and_parts(tmp_path: Path, chat_base: Path) -> None:
    folder = create_folder(tmp_path / "run", chat_base, ROWS * 3)
    events = EventRecorder()
    run.validate(folder, events)
    [validated] = events.of_type(Validated)
    assert (validated.rows, validated.examples, validated.total_steps) == (12, 24, 6)
    assert "6 rows of the training file were split into 18 parts of at most 32 tokens." in [
        event.message for event in events.of_type(Message)
    ]
    trained = run_training(folder)
    assert trained.of_type(Metrics)[-1].step == trained.of_type(Result)[0].step == 6
    assert trained.of_type(Result)[0].trained_tokens == validated.tokens
    preflight.preflight(folder, events, StopFlag())
    [report] = events.of_type(Preflight)
    file = report.files["training_file"]
    assert (file.rows, file.split_rows, file.split_parts, file.cut_rows) == (12, 6, 18, 0)
    assert report.plan.total_steps == 6


def test_lines_after_a_split_row_are_the_files(tmp_path: Path, chat_base: Path) -> None:
    rows = [*ROWS, {"prompt": "p" * 40, "completion": "c"}]
    folder = create_folder(tmp_path / "run", chat_base, rows)
    with pytest.raises(ValueError, match="begins after the limit") as error:
        run.train(folder, EventRecorder())
    failure = to_failure(error.value)
    assert isinstance(failure, Failure)
    assert [fault.line for fault in failure.faults] == [5]
    folder = create_folder(tmp_path / "valid", chat_base)
    (folder / PREVIEW_FILE).write_text('{"rows": 20}')
    events = EventRecorder()
    preflight.preview(folder, events, StopFlag())
    rows_shown = events.of_type(PreviewRow)
    assert [row.line for row in rows_shown] == [number + 1 for number in range(len(PARTS))]
    assert [len(row.sequences) for row in rows_shown] == list(PARTS)


def test_a_held_out_share_never_takes_a_part_of_a_training_row(tmp_path: Path, chat_base: Path) -> None:
    rows = [{"text": chr(ord("a") + number) * (20 + 5 * number)} for number in range(20)]
    folder = create_folder(
        tmp_path / "run", chat_base, rows, hyperparameters={**HYPER, "validation_share": 0.4}, seed=3
    )
    prepared = prepare(folder, TrainSpec.read(folder), StopFlag())
    letters = [{example.ids[1] for example in data.examples} for data in (prepared.training, prepared.validation)]
    assert [len(part) for part in letters] == [12, 8]
    assert letters[0].isdisjoint(letters[1])
    assert (prepared.training.num_rows, prepared.validation.num_rows) == (12, 8)
    assert prepared.training.num_examples > 12
