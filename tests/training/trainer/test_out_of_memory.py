"""Out of memory: a batch in smaller parts is the same batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.run_folders import FULL, LORA, Lines, Row, hashes, make_folder, trained
from tests.training.step_probe import assembled, assert_unbroken
from training.run_events import Checkpoint, Message, Metrics
from training.tasks.embedding import Embedding
from training.tasks.text_classification import TextClassification
from training.trainer import gradients
from training.trainer.checkpoint import Progress
from training.trainer.failures import as_failure
from training.trainer.state import Run

FULL_MEMORY: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError,
]
HYPER = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01}
NO_DROPOUT: Row = {"type": "lora", "rank": 4}


def folder_of(directory: Path, base: Path, update: Row = FULL, task: str = "text-classification", **hyper: Any) -> Path:
    return make_folder(directory, base, task, update, hyperparameters={**HYPER, **hyper})


@pytest.fixture
def full_above(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Memory that holds ``rows`` and no more, while training; the sizes of the parts that were tried."""

    def limit(rows: int, error: Callable[[], Exception] = FULL_MEMORY[0], task: Any = TextClassification) -> list[int]:
        tried: list[int] = []
        plain = task.loss

        def loss(self: Any, model: Any, batch: Any, kit: Any) -> Any:
            size = len(next(iter(batch.values())))
            if torch.is_grad_enabled():
                tried.append(size)
            # Late, when dropout has been drawn.
            found = plain(self, model, batch, kit)
            if torch.is_grad_enabled() and size > rows:
                raise error()
            return found

        monkeypatch.setattr(task, "loss", loss)
        return tried

    return limit


@pytest.mark.parametrize("error", FULL_MEMORY, ids=["cuda", "cpu", "python"])
def test_a_batch_is_computed_once_more_in_parts_of_half_the_size(
    tmp_path: Path, encoder_base: Path, full_above: Any, error: Callable[[], Exception]
) -> None:
    parted = trained(folder_of(tmp_path / "parted", encoder_base, gradient_accumulation_steps=2))
    tried = full_above(2, error)
    found = trained(folder_of(tmp_path / "found", encoder_base, gradient_accumulation_steps=1))
    assert tried == [4] + [2] * 16
    [told] = [line for line in found.of(Message) if line.level == "warn"]
    assert told.message == ("Out of memory at step 1; a batch is now computed in 2 parts. The result is the same.")
    # Its parts are those of a run that had as many from the beginning, dropout and all.
    for left, right in zip(found.of(Metrics), parted.of(Metrics), strict=True):
        assert left.train_loss == right.train_loss
        assert left.grad_norm == right.grad_norm
    assert _weights(tmp_path / "found") == _weights(tmp_path / "parted")


def _weights(folder: Path) -> str:
    return hashes(folder / "result")["model.safetensors"]


def test_the_gradient_is_the_whole_batchs(tmp_path: Path, encoder_base: Path, full_above: Any) -> None:
    run = assembled(folder_of(tmp_path / "run", encoder_base, NO_DROPOUT))
    run.model.eval()
    rows = run.rows.training[:4]
    whole = _gradient(run, rows, parts=1)
    full_above(1)
    halved = _gradient(run, rows, parts=2)
    torch.testing.assert_close(halved, whole, rtol=1e-5, atol=1e-6)


def _gradient(run: Run, rows: Any, parts: int) -> dict[str, torch.Tensor]:
    run.optimizer.zero_grad()
    gradients.gradients(run, rows, parts)
    return {name: weight.grad.clone() for name, weight in run.trained.items() if weight.grad is not None}


def test_what_the_parts_before_it_gave_is_not_counted_twice(
    tmp_path: Path, encoder_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first part has left its gradient when memory runs out in the second."""
    found, parted = (assembled(folder_of(tmp_path / name, encoder_base)) for name in ("found", "parted"))
    expected = _gradient(parted, parted.rows.training[:8], parts=4)
    plain, calls = TextClassification.loss, []

    def loss(*args: Any) -> Any:
        calls.append(len(args[2]["input_ids"]))
        if len(calls) == 2:
            raise FULL_MEMORY[0]()
        return plain(*args)

    monkeypatch.setattr(TextClassification, "loss", loss)
    given = _gradient(found, found.rows.training[:8], parts=2)
    assert calls == [4, 4, 2, 2, 2, 2]
    assert all(torch.equal(given[name], expected[name]) for name in expected)


def test_it_may_happen_again_at_a_later_step(tmp_path: Path, encoder_base: Path, full_above: Any) -> None:
    """Each time the parts are halved once."""
    run = assembled(folder_of(tmp_path / "run", encoder_base))
    rows = run.rows.training
    tried = full_above(4)
    assert gradients.gradients(run, rows[:8], 1).parts == 2
    assert gradients.gradients(run, rows[:16], 2).parts == 4
    assert tried == [8, 4, 4, 8, 4, 4, 4, 4]


def test_a_short_batch_halves_the_parts_of_the_long_ones_after_it(
    tmp_path: Path, encoder_base: Path, full_above: Any
) -> None:
    """Three rows in two parts, of two rows and one, ran out: four parts, though there are three rows."""
    run = assembled(folder_of(tmp_path / "run", encoder_base))
    full_above(1)
    assert gradients.gradients(run, run.rows.training[:3], 2).parts == 4


@pytest.mark.parametrize("error", FULL_MEMORY, ids=["cuda", "cpu", "python"])
def test_where_one_row_is_too_much_the_run_fails(
    tmp_path: Path, encoder_base: Path, full_above: Any, error: Callable[[], Exception]
) -> None:
    tried = full_above(0, error)
    folder = folder_of(tmp_path / "run", encoder_base, gradient_accumulation_steps=2)
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        trained(folder)
    assert tried == [2, 1]
    failure = as_failure(caught.value)
    assert failure is not None
    assert failure.code == "out_of_memory"
    assert "Lower batch_size" in failure.message


def test_a_batch_that_cannot_be_split_fails_at_once(tmp_path: Path, encoder_base: Path, full_above: Any) -> None:
    tried = full_above(0, task=Embedding)
    rows = [{"anchor": f"{word} one", "positive": f"two {word}"} for word in ("sun", "rain", "snow", "wind")]
    with pytest.raises(torch.OutOfMemoryError):
        trained(make_folder(tmp_path / "run", encoder_base, "embedding", FULL, training=rows, hyperparameters=HYPER))
    assert len(tried) == 1


def test_other_errors_are_not_tried_again(tmp_path: Path, encoder_base: Path, full_above: Any) -> None:
    tried = full_above(2, lambda: RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes") as caught:
        trained(folder_of(tmp_path / "run", encoder_base))
    assert tried == [4]
    assert as_failure(caught.value) is None


def test_what_was_learnt_of_memory_survives_a_resume(tmp_path: Path, encoder_base: Path, full_above: Any) -> None:
    def make(name: str) -> Path:
        return folder_of(tmp_path / name, encoder_base, LORA, gradient_accumulation_steps=1)

    tried = full_above(2)
    whole: Lines = trained(make("whole"))
    for step in (1, 4, 7):
        tried.clear()
        heard = assert_unbroken(make, step, whole)
        assert tried.count(4) == 1
        state = tmp_path / f"{step}-first" / heard.of(Checkpoint)[-1].path / "state/progress.json"
        assert Progress.model_validate_json(state.read_bytes()).parts == 2
